//! Work that nobody waits for: the kernel does it with what others leave of the CPUs; SCHED_IDLE of sched(7).

use rustix::io::Errno;
use rustix::process::{WaitOptions, waitpid};

use super::clone::{Forked, check, clone_into};
use super::process::exit_now;

/// Of this process.
const SELF: i32 = 0;

/// Whether a process with the rights of this one gets back from leisure. Without CAP_SYS_NICE over the machine, as in most
/// containers, it would not. A process that somebody has given another policy keeps that.
///
/// # Safety
/// The process must have one thread.
#[must_use]
pub unsafe fn can_leave_leisure() -> bool {
    if policy() != i64::from(libc::SCHED_OTHER) {
        return false;
    }
    // SAFETY: the caller vouches for it.
    match unsafe { clone_into(0, None) } {
        Ok(Forked::Child) => {
            let gets_back = give_leisure(SELF).and_then(|()| end_leisure(SELF)).is_ok();
            exit_now(i32::from(!gets_back))
        }
        Ok(Forked::Parent(pid)) => waitpid(Some(pid), WaitOptions::empty())
            .is_ok_and(|found| found.is_some_and(|(_, status)| status.exit_status() == Some(0))),
        Err(_) => false,
    }
}

/// From now on the process with that number, and what it forks, waits for whoever else has something to do.
pub fn give_leisure(pid: i32) -> Result<(), Errno> {
    set_policy(pid, libc::SCHED_IDLE)
}

/// This process again takes its turn among all others.
pub fn leave_leisure() -> Result<(), Errno> {
    end_leisure(SELF)
}

/// As [`leave_leisure`], for the process with that number.
pub fn end_leisure(pid: i32) -> Result<(), Errno> {
    set_policy(pid, libc::SCHED_OTHER)
}

/// Of this process.
fn policy() -> i64 {
    // SAFETY: plain numbers.
    unsafe { libc::syscall(libc::SYS_sched_getscheduler, SELF) }
}

fn set_policy(pid: i32, policy: i32) -> Result<(), Errno> {
    let param = libc::sched_param { sched_priority: 0 };
    // Not by the C library's function, which in musl is none.
    // SAFETY: `param` is a whole sched_param.
    check(unsafe { libc::syscall(libc::SYS_sched_setscheduler, pid, policy, &raw const param) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leisure_is_taken_and_left() {
        // A thread's policy is its own: this test's ends with it.
        give_leisure(SELF).expect("anybody may");
        assert_eq!(policy(), i64::from(libc::SCHED_IDLE));
        if leave_leisure().is_ok() {
            assert_eq!(policy(), i64::from(libc::SCHED_OTHER));
        }
    }
}
