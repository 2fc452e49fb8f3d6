//! What a job can write to: one tmpfs with its workspace, /tmp, /dev/shm and /run.

use std::ffi::CString;
use std::os::unix::fs::chown;
use std::path::Path;

use rustix::fs::{Mode, OFlags, Stat, fstat, mkdir, open, stat, statfs};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, UnmountFlags, mount as mount_file_system, mount_bind, mount_move, mount_remount, unmount,
};
use rustix::process::{chdir, umask};
use rustix::time::{ClockId, clock_gettime};

use crate::isolation::failure::{At, Failure};
use crate::isolation::layout;
use crate::job::{Identity, Limits, SandboxSpec, StartStep};

/// The folders of a scratch space, and where a job sees them.
const FOLDERS: [(&str, &str); 4] = [
    ("workspace", layout::WORKSPACE),
    ("tmp", "/tmp"),
    ("shm", "/dev/shm"),
    ("run", "/run"),
];

/// Mounts one at `scratch`. `owner` is the job's uid and gid on the host.
pub(super) fn mount(scratch: &str, spec: &SandboxSpec, limits: &Limits, owner: u32) -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let options = format!("mode=0755,{}", options(limits));
    let options = CString::new(options).unwrap_or_default();
    mount_file_system("tmpfs", scratch, "tmpfs", flags, Some(options.as_c_str()))
        .at(StartStep::Scratch, "tmpfs")?;
    let scratch = Path::new(scratch);
    let usual = umask(Mode::empty());
    [
        ("workspace", 0o700),
        ("tmp", 0o1777),
        ("shm", 0o1777),
        ("run", 0o755),
    ]
    .into_iter()
    .try_for_each(|(name, mode)| {
        mkdir(scratch.join(name), Mode::from_raw_mode(mode)).at(StartStep::Scratch, name)
    })?;
    umask(usual);
    // The script and the input in /run are not an unprivileged job's to change.
    let own: &[&str] = match spec.identity {
        Identity::Unprivileged => &["workspace"],
        Identity::Root => &["workspace", "run"],
    };
    own.iter()
        .try_for_each(|name| chown(scratch.join(name), Some(owner), Some(owner)).at(StartStep::Scratch, name))
}

/// Binds its folders from `scratch` to where a job sees them beneath `root`.
pub(super) fn bind(scratch: &str, root: &str) -> Result<(), Failure> {
    for (name, target) in FOLDERS {
        mount_bind(format!("{scratch}/{name}"), format!("{root}{target}")).at(StartStep::Scratch, target)?;
    }
    Ok(())
}

fn options(limits: &Limits) -> String {
    format!("size={},nr_inodes={}", limits.disk_bytes, limits.inodes)
}

/// Changes the scratch space's limits to those of the job.
pub fn resize(limits: &Limits) -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount(layout::WORKSPACE, flags, options(limits).as_str()).at(StartStep::Scratch, "resize")
}

/// Size in bytes and inodes of the scratch space, as the kernel has them.
pub fn limits() -> Result<(u64, u64), Failure> {
    let stat = statfs(layout::WORKSPACE).at(StartStep::Scratch, "statfs")?;
    Ok((
        stat.f_blocks * u64::try_from(stat.f_bsize).unwrap_or(0),
        stat.f_files,
    ))
}

/// Where the scratch space of a job in a room is mounted: its folders are bound from there, and the last of them lies
/// over it.
const IN_ROOM: &str = "/run";

/// The scratch space of a room, and what it shows as long as nobody has used it.
///
/// One that a job has used goes with it. Many jobs use none of it, and mounting one takes the kernel about as long as it
/// takes to start a job: so it stays where it shows, to the tick of a clock and the number of an inode, that nothing was
/// ever made, changed or listed in it.
#[derive(Debug)]
pub struct Scratch {
    untouched: Shown,
    /// The number that the next inode gets.
    next_inode: u64,
    /// When it was looked at. What happens in the same tick of the kernel's clock leaves the same times.
    looked: Moment,
    /// The mounts may be marked by [`are_unused`], and go at the next such look.
    marked: bool,
}

/// Seconds and nanoseconds of the clock that file times come from.
pub type Moment = (i64, i64);

/// The folders, and the free blocks and inodes.
type Shown = ([Folder; FOLDERS.len()], (u64, u64));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Folder {
    times: [Moment; 3],
    owner: (u32, u32),
    mode: u32,
    links: u64,
    bytes: i64,
}

impl From<Stat> for Folder {
    #[allow(clippy::unnecessary_fallible_conversions, clippy::useless_conversion)]
    fn from(stat: Stat) -> Self {
        let nanoseconds = |nanoseconds| i64::try_from(nanoseconds).unwrap_or(0);
        Self {
            times: [
                (stat.st_atime, nanoseconds(stat.st_atime_nsec)),
                (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
                (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
            ],
            owner: (stat.st_uid, stat.st_gid),
            mode: stat.st_mode,
            links: u64::from(stat.st_nlink),
            bytes: stat.st_size,
        }
    }
}

/// Now, by that clock.
#[must_use]
pub fn now() -> Moment {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    (now.tv_sec, now.tv_nsec)
}

impl Scratch {
    /// Adds to a furnished room what is one job's alone. This process's working directory is the only way to the mount
    /// that the folders are bound from: none leads there by name.
    pub fn add(spec: &SandboxSpec, limits: &Limits, owner: u32) -> Result<Self, Failure> {
        mount(IN_ROOM, spec, limits, owner)?;
        chdir(IN_ROOM).at(StartStep::Scratch, "chdir")?;
        bind(".", "")?;
        Ok(Self {
            untouched: show().at(StartStep::Scratch, "stat")?,
            next_inode: next_inode().at(StartStep::Scratch, "O_TMPFILE")? + 1,
            looked: now(),
            marked: false,
        })
    }

    /// Whether no job has used it, of which the first began at `began`, and nobody can any more.
    #[must_use]
    pub fn is_as_new(&mut self, began: Moment) -> bool {
        if began <= self.looked || show() != Ok(self.untouched) {
            return false;
        }
        // A file without a name shows nowhere else.
        let as_new = next_inode() == Ok(self.next_inode);
        self.next_inode += 1;
        self.marked = true;
        as_new && are_unused().is_ok()
    }

    /// Takes away what [`Scratch::add`] has added. What is still in use cannot be: no open file, no working directory and
    /// no mapping may be left in it.
    ///
    /// Each umount(2) waits for a grace period of RCU. So the folders' mounts are only asked whether they are in use, and
    /// then put back to where they were bound from, for one umount(2) that takes the whole tree.
    pub fn clear(self) -> Result<(), Errno> {
        if self.marked {
            show()?;
        }
        are_unused()?;
        for (name, target) in FOLDERS {
            mount_move(target, name)?;
        }
        unmount(".", UnmountFlags::DETACH)?;
        chdir("/")
    }
}

fn show() -> Result<Shown, Errno> {
    let mut folders = [None; FOLDERS.len()];
    for (folder, (_, target)) in folders.iter_mut().zip(FOLDERS) {
        *folder = Some(Folder::from(stat(target)?));
    }
    let free = statfs(layout::WORKSPACE)?;
    let folders = folders.map(|folder| folder.expect("all were looked at"));
    Ok((folders, (free.f_bfree, free.f_ffree)))
}

/// Takes a number. They are counted for each tmpfs alone.
fn next_inode() -> Result<u64, Errno> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(fstat(open(layout::WORKSPACE, flags, Mode::empty())?)?.st_ino)
}

/// By umount(2) with MNT_EXPIRE: a mount that anything uses is busy, and any other is told to come again. To look at its
/// folder takes the mark off again that it leaves.
fn are_unused() -> Result<(), Errno> {
    FOLDERS.into_iter().try_for_each(|(_, target)| {
        match unmount(target, UnmountFlags::EXPIRE | UnmountFlags::NOFOLLOW) {
            Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error),
            // Marked earlier, which nobody has: it is gone, and no sandbox.
            Ok(()) => Err(Errno::INVAL),
        }
    })
}
