//! The job's own /proc, with covers over what tells of the whole machine or of other jobs.

use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use super::parts::{PLAIN_FOLDER, write_file};
use crate::isolation::failure::{At, Failure};
use crate::job::{Proc, StartStep};
use rustix::fs::{CWD, Mode, OFlags, mkdir, open, openat};
use rustix::io::{Errno, pread, pwrite, write};
use rustix::mount::{MountFlags, OpenTreeFlags, mount, mount_bind, mount_remount, open_tree};

/// What of /proc tells of the whole machine or of other jobs; the runtime specification's default masked paths and more.
/// What programs read to fit themselves to the machine (cpuinfo, meminfo, version, filesystems) stays.
const MASKED: [&str; 52] = [
    "acpi",
    "asound",
    "buddyinfo",
    "bus",
    "cgroups",
    "cmdline",
    "config.gz",
    "consoles",
    "crypto",
    "diskstats",
    "dma",
    "driver",
    "execdomains",
    "fb",
    "fs",
    "interrupts",
    "iomem",
    "ioports",
    "irq",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "locks",
    "modules",
    "pagetypeinfo",
    "partitions",
    "sched_debug",
    "schedstat",
    "scsi",
    "slabinfo",
    "softirqs",
    "swaps",
    "timer_list",
    "zoneinfo",
    "mtrr",
    "pressure",
    "sysrq-trigger",
    "sysvipc",
    "vmallocinfo",
    "vmstat",
    // Counters of the whole machine, which one job can move and another read.
    "sys/fs/aio-nr",
    "sys/fs/dentry-state",
    "sys/fs/file-nr",
    "sys/fs/inode-nr",
    "sys/fs/inode-state",
    "sys/kernel/pty/nr",
    "sys/kernel/random/boot_id",
];

/// Which of them are folders on the kernels that we know: tried as such first.
const FOLDERS: [&str; 8] = [
    "acpi", "bus", "driver", "fs", "irq", "pressure", "scsi", "sysvipc",
];

/// Files of /proc that programs need in this form, while their figures are the whole machine's: jobs see these instead.
const SHOWN_INSTEAD: [&str; 2] = ["loadavg", "stat"];
const COVER_FILE: &str = "null";
const COVER_FOLDER: &str = "empty";
/// Beside the covers: for what must be mounted somewhere for a while, and have no name.
pub const OLD_ROOT: &str = "before";

/// What has to lie over one name of [`MASKED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    File,
    Folder,
    /// There was no such name when the template was built: it is looked for in each job's /proc, since a module may
    /// have brought it.
    NotYet,
}

/// The cover for each name of [`MASKED`], by what this process's own /proc has.
#[must_use]
pub fn find_covers() -> Vec<Cover> {
    let proc = Path::new("/proc");
    MASKED.iter().map(|name| cover_for(&proc.join(name))).collect()
}

/// Each is found out when it is laid.
#[must_use]
pub fn covers_unknown() -> Vec<Cover> {
    vec![Cover::NotYet; MASKED.len()]
}

fn cover_for(path: &Path) -> Cover {
    match fs::symlink_metadata(path) {
        Ok(kind) if kind.is_dir() => Cover::Folder,
        Ok(_) => Cover::File,
        Err(_) => Cover::NotYet,
    }
}

const FLAGS: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// Mounts one of this pid namespace at `target`.
pub fn mount_proc(kind: Proc, target: &str) -> Result<(), Failure> {
    let options = match kind {
        Proc::PidOnly => c"hidepid=2,subset=pid",
        Proc::Masked => c"hidepid=2",
    };
    mount("proc", target, "proc", FLAGS, Some(options)).at(StartStep::Proc, "mount")
}

/// Lays the covers over the /proc at `proc`. `folder` begins the names of the files that lie over it.
pub fn mask(kinds: &[Cover], folder: &str, proc: &str) -> Result<(), Failure> {
    let mut covers = Covers::none();
    while covers.lay_next(kinds, folder, proc)? {}
    Ok(())
}

/// In the root itself, where nobody can change them: /proc of a job lies over them.
pub(super) fn make_covers(base: &Path) -> Result<(), Failure> {
    let stat = fs::read_to_string("/proc/stat").at(StartStep::Rootfs, "/proc/stat")?;
    let proc = base.join("proc");
    match mkdir(&proc, PLAIN_FOLDER) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error).at(StartStep::Rootfs, "proc"),
    }
    for folder in [COVER_FOLDER, OLD_ROOT] {
        mkdir(proc.join(folder), PLAIN_FOLDER).at(StartStep::Rootfs, folder)?;
    }
    write_file(&proc.join(COVER_FILE), "").at(StartStep::Rootfs, COVER_FILE)?;
    let shown = ["0.00 0.00 0.00 1/1 1\n", &idle_stat(&stat)];
    for (name, content) in SHOWN_INSTEAD.iter().zip(shown) {
        write_file(&proc.join(name), content).at(StartStep::Rootfs, name)?;
    }
    Ok(())
}

/// /proc/stat with the CPUs and the boot time of the host, and all counters 0.
fn idle_stat(stat: &str) -> String {
    let keep = |line: &str| {
        let (key, rest) = line.split_once(' ')?;
        match key {
            "btime" => Some(format!("{line}\n")),
            "intr" | "softirq" => Some(format!("{key} 0\n")),
            _ => Some(format!(
                "{key} {}\n",
                vec!["0"; rest.split_whitespace().count()].join(" ")
            )),
        }
    };
    stat.lines().filter_map(keep).collect()
}

/// What lies over a /proc so far.
#[derive(Debug)]
pub struct Covers {
    laid: usize,
}

impl Covers {
    #[must_use]
    pub const fn none() -> Self {
        Self { laid: 0 }
    }

    /// Lays one more, as [`mask`] lays them all; false where none is left to be laid.
    pub fn lay_next(&mut self, kinds: &[Cover], folder: &str, proc: &str) -> Result<bool, Failure> {
        let shown = SHOWN_INSTEAD.iter().map(|name| (name, None));
        let masked = MASKED.iter().zip(kinds).map(|(name, kind)| (name, Some(kind)));
        let Some((name, kind)) = shown.chain(masked).nth(self.laid) else {
            return Ok(false);
        };
        let target = [proc, "/", name].concat();
        let lay = |source| mount_bind([folder, source].concat(), &target);
        match kind {
            None => lay(name),
            Some(Cover::File) => lay(COVER_FILE),
            Some(Cover::Folder) => lay(COVER_FOLDER),
            Some(Cover::NotYet) => {
                let (likely, other) = match FOLDERS.contains(name) {
                    true => (COVER_FOLDER, COVER_FILE),
                    false => (COVER_FILE, COVER_FOLDER),
                };
                match lay(likely) {
                    Err(Errno::NOENT) => Ok(()),
                    // A file does not cover a folder, nor a folder a file.
                    Err(Errno::NOTDIR) => lay(other),
                    laid => laid,
                }
            }
        }
        .at(StartStep::Proc, name)?;
        self.laid += 1;
        Ok(true)
    }
}

/// Makes all of /proc read-only, once its supervisor has written what it has to write there about the payload.
///
/// The kernel refuses it beside a write, and to note when a link was read counts as one for as long as that takes: a stub reads
/// links of its own meanwhile. An ordinary user's /proc cannot be mounted without access times.
pub fn seal() -> Result<(), Failure> {
    const TRIES: u32 = 10_000;
    let read_only = || mount_remount("/proc", FLAGS | MountFlags::BIND | MountFlags::RDONLY, "");
    let mut sealed = read_only();
    for _ in 1..TRIES {
        if sealed != Err(Errno::BUSY) {
            break;
        }
        rustix::thread::sched_yield();
        sealed = read_only();
    }
    sealed.at(StartStep::Proc, "read-only")
}

/// This process's /proc, to write to by [`write_of`].
pub fn open_own() -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open("/proc", flags, Mode::empty()).at(StartStep::Proc, "open")
}

/// Another view of /proc, which stays writable when that is sealed, and which only this descriptor leads to.
pub fn open_aside() -> Result<OwnedFd, Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, "/proc", flags).at(StartStep::Proc, "open_tree")
}

/// Writes to a file of the process `pid`.
pub fn write_of(proc: BorrowedFd<'_>, pid: i32, file: &str, value: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(proc, format!("{pid}/{file}"), flags, Mode::empty())?;
    write(&file, value.as_bytes()).map(drop)
}

/// The number in a file of the process `pid`.
pub fn number_of(proc: BorrowedFd<'_>, pid: i32, file: &str) -> Result<i32, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    number_in(&openat(proc, format!("{pid}/{file}"), flags, Mode::empty())?)
}

fn number_in(file: &OwnedFd) -> Result<i32, Errno> {
    let mut text = [0; 16];
    let count = pread(file, &mut text, 0)?;
    let text = str::from_utf8(&text[..count]).unwrap_or_default();
    text.trim().parse().map_err(|_| Errno::INVAL)
}

/// The number of the last process of this pid namespace.
#[derive(Debug)]
pub struct LastPid(OwnedFd);

impl LastPid {
    pub fn open(proc: BorrowedFd<'_>) -> Result<Self, Errno> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        openat(proc, "sys/kernel/ns_last_pid", flags, Mode::empty()).map(Self)
    }

    pub fn get(&self) -> Result<i32, Errno> {
        number_in(&self.0)
    }

    /// Has the next process be number 2, as in a new namespace. Only PID 1 may be left in it.
    pub fn reset(&self) -> Result<(), Errno> {
        pwrite(&self.0, b"1", 0).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_the_machine_are_hidden() {
        let stat = "cpu  10 20 30\ncpu0 10 20 30\nintr 100 5 6\nctxt 99\nbtime 1700000000\nprocs_running 7\n";
        let shown = "cpu 0 0 0\ncpu0 0 0 0\nintr 0\nctxt 0\nbtime 1700000000\nprocs_running 0\n";
        assert_eq!(idle_stat(stat), shown);
    }
}
