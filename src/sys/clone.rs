//! clone3(2) used as a fork.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::process::Pid;

/// libc 0.2 has it as an i32, in which it is 0.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Namespaces to make; see clone(2).
pub type CloneFlags = u64;

/// Which side of the fork this is.
#[derive(Debug)]
pub enum Forked {
    Child,
    Parent(Pid),
}

/// Forks with new namespaces, the child in `cgroup` (a directory of the unified hierarchy) from its first
/// instruction: no moment outside its limits, and none of the grace periods that a move costs.
///
/// # Safety
/// The process must have one thread only: the child gets a copy of this thread alone, with the locks of all
/// others as they were.
pub unsafe fn clone_into(namespaces: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked, Errno> {
    let mut args = libc::clone_args {
        flags: namespaces,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).unwrap_or(u64::MAX);
    }
    // SAFETY: `args` is a whole clone_args; without CLONE_VM and a stack this is a fork, and the caller
    // vouches that no other thread exists.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match i32::try_from(result) {
        Ok(0) => Ok(Forked::Child),
        Ok(pid) if pid > 0 => Ok(Forked::Parent(Pid::from_raw(pid).expect("a positive pid"))),
        _ => Err(last_error()),
    }
}

pub(super) fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Turns a system call's result into a `Result`.
pub(super) fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 { Err(last_error()) } else { Ok(result) }
}
