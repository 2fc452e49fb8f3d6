//! Where the floor's jobs run: cgroups, and a root of read-only binds.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::pivot_root;

/// Shown to a job, read-only.
const SHOWN: [&str; 5] = ["/usr", "/bin", "/lib", "/lib64", "/sbin"];
const DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/urandom"];
/// The program of two instructions, in the root of the jobs.
pub(super) const PROGRAM: &str = "true";
const NOTHING: Option<&str> = None;

/// One folder in each hierarchy, with limits.
#[derive(Debug)]
pub(super) struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    /// Those of a launcher, by its pid, so that whoever started it can remove them.
    fn of(pid: u32, name: &str) -> Vec<(PathBuf, &'static str, &'static str)> {
        let at = |root: &str| Path::new(root).join(format!("floor.{pid}{name}"));
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            return vec![
                (at("/sys/fs/cgroup"), "memory.max", "268435456"),
                (at("/sys/fs/cgroup"), "pids.max", "128"),
            ];
        }
        vec![
            (at("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "268435456"),
            (at("/sys/fs/cgroup/pids"), "pids.max", "128"),
            (at("/sys/fs/cgroup/cpu"), "cpu.cfs_quota_us", "100000"),
        ]
    }

    /// Makes them. Where the launcher itself goes in, the CPU limit is left out: it would measure the limit.
    pub(super) fn make(name: &str, launcher_goes_in: bool) -> io::Result<Self> {
        let mut made = Vec::new();
        for (path, knob, value) in Self::of(std::process::id(), name) {
            if !made.contains(&path) {
                fs::create_dir(&path)?;
                made.push(path.clone());
            }
            if launcher_goes_in && knob.starts_with("cpu.") {
                continue;
            }
            match OpenOptions::new().write(true).open(path.join(knob)) {
                Ok(mut knob) => knob.write_all(value.as_bytes())?,
                // On v2 the controller is not given to this level: joining and leaving still costs.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self(made))
    }

    /// Puts this process into them.
    pub(super) fn enter(&self) -> io::Result<()> {
        self.0
            .iter()
            .try_for_each(|path| fs::write(path.join("cgroup.procs"), "0"))
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        self.0.iter().try_for_each(|path| remove(path))
    }

    /// What a launcher that is gone left behind.
    pub(super) fn remove_of(pid: u32) {
        for (path, ..) in Self::of(pid, "") {
            let _ = remove(&path);
        }
    }
}

/// A cgroup stays busy for a moment after its last process was reaped.
fn remove(path: &Path) -> io::Result<()> {
    for _ in 0..10_000 {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(std::time::Duration::from_micros(50));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => return done,
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Which /proc a root gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proc {
    /// The host's, for a template: a user namespace may mount a new one only where it sees a whole one.
    OfHost,
    /// Of this pid namespace.
    Own,
}

/// Turns this mount namespace into a job's, by mount(2) calls, one after the other.
pub(super) fn build_root(base: &Path, proc: Proc, program: &[u8]) -> nix::Result<()> {
    mount(
        NOTHING,
        "/",
        NOTHING,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        NOTHING,
    )?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        base,
        Some("tmpfs"),
        plain,
        Some("size=1m,mode=755"),
    )?;
    std::env::set_current_dir(base).map_err(|error| errno(&error))?;
    for name in ["proc", "tmp", "dev"] {
        fs::create_dir(name).map_err(|error| errno(&error))?;
    }
    fs::write(PROGRAM, program).map_err(|error| errno(&error))?;
    fs::set_permissions(PROGRAM, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(|error| errno(&error))?;
    for path in SHOWN.into_iter().filter(|path| Path::new(path).exists()) {
        let target = &path[1..];
        fs::create_dir(target).map_err(|error| errno(&error))?;
        mount(Some(path), target, NOTHING, MsFlags::MS_BIND, NOTHING)?;
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_RELATIME;
        mount(NOTHING, target, NOTHING, read_only | plain, NOTHING)?;
    }
    for path in DEVICES {
        fs::write(&path[1..], "").map_err(|error| errno(&error))?;
        mount(Some(path), &path[1..], NOTHING, MsFlags::MS_BIND, NOTHING)?;
    }
    mount(
        Some("tmpfs"),
        "tmp",
        Some("tmpfs"),
        plain,
        Some("size=16m,mode=1777"),
    )?;
    match proc {
        Proc::Own => mount(
            Some("proc"),
            "proc",
            Some("proc"),
            plain | MsFlags::MS_NOEXEC,
            NOTHING,
        )?,
        Proc::OfHost => mount(
            Some("/proc"),
            "proc",
            NOTHING,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            NOTHING,
        )?,
    }
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/").map_err(|error| errno(&error))
}

fn errno(error: &io::Error) -> nix::errno::Errno {
    nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL))
}
