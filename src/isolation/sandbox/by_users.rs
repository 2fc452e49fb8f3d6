//! What is different where the launcher is an ordinary user's: the kernel gives it mounts only as far as they uncover
//! nothing; see mount_namespaces(7), "Restrictions on mount namespaces".

use std::os::fd::OwnedFd;

use rustix::fs::CWD;
use rustix::mount::{MountFlags, OpenTreeFlags, mount_remount, open_tree};

use crate::isolation::failure::{At, Failure};
use crate::job::StartStep;

/// Who is not root may mount a /proc only where a whole one is mounted already; no job comes to see this one.
pub(super) fn detach_proc() -> Result<OwnedFd, Failure> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, "/proc", flags).at(StartStep::Rootfs, "proc")
}

/// Mounts of the host are locked to each other for who is not root.
pub(super) fn explain_layer(failure: Failure, by_user: bool) -> Failure {
    if by_user && failure.errno == libc::EINVAL {
        let detail = format!(
            "{}: something is mounted beneath it, which an ordinary user cannot leave out",
            failure.detail
        );
        return Failure { detail, ..failure };
    }
    failure
}

/// The kernel gives an ordinary user no whole /proc where only a part of one is in sight.
pub(super) fn explain_proc(failure: Failure, by_user: bool) -> Failure {
    if by_user && failure.errno == libc::EPERM {
        let detail = "something covers a part of the /proc here (in a container: --security-opt=systempaths=unconfined)";
        return Failure::new(failure.step, failure.errno, detail);
    }
    failure
}

/// Makes /run read-only once script and input are in it: to the job of an ordinary user's launcher they belong.
pub fn seal_run() -> Result<(), Failure> {
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount("/run", flags, "").at(StartStep::Scratch, "read-only /run")
}
