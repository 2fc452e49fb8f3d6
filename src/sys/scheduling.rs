//! Which CPU a child begins on, and when.

use rustix::process::Pid;
use rustix::thread::{sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Has a child that was forked a moment ago run on another CPU than this process, if there is one that it may use. The
/// kernel may leave it behind its parent for milliseconds, while another CPU has nothing to do.
pub fn run_beside(child: Pid) {
    let Ok(all) = sched_getaffinity(None) else {
        return;
    };
    let mut others = all;
    others.unset(sched_getcpu());
    // One that waits behind its parent is moved at once, one that runs elsewhere stays.
    if others.count() > 0 && sched_setaffinity(Some(child), &others).is_ok() {
        // The kernel lets no mask be widened beyond the cpuset, which held before, too.
        let _ = sched_setaffinity(Some(child), &all);
    }
}

/// Keeps the CPU of a thread from the children that it forks; see [`CpuHeld::by_this_thread`].
#[derive(Debug, Clone, Copy)]
pub struct CpuHeld {
    is_ours: bool,
}

impl CpuHeld {
    /// A child that is forked from here on waits for its turn, where the kernel would let it begin in its parent's stead,
    /// as it does half of the time: then both take as long as one after the other. It may move to another CPU meanwhile
    /// ([`run_beside`]). Both the thread and the child must [`release`](Self::release) it afterwards.
    ///
    /// This is the scheduling policy SCHED_BATCH (sched(7)). A thread that has another policy than SCHED_OTHER keeps it.
    pub fn by_this_thread() -> Self {
        // SAFETY: it takes no memory.
        let policy = unsafe { libc::sched_getscheduler(0) };
        Self {
            is_ours: policy == libc::SCHED_OTHER && has_set_policy(libc::SCHED_BATCH),
        }
    }

    pub fn release(self) {
        if self.is_ours {
            has_set_policy(libc::SCHED_OTHER);
        }
    }
}

fn has_set_policy(policy: i32) -> bool {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters live through the call.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn who_is_moved_to_another_cpu_may_come_back() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let pid = Pid::from_child(&child);
        run_beside(pid);
        let found = sched_getaffinity(Some(pid));
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert_eq!(found, sched_getaffinity(None));
    }

    #[test]
    fn a_thread_that_holds_its_cpu_goes_on_as_before() {
        // SAFETY: it takes no memory.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let before = policy();
        let held = CpuHeld::by_this_thread();
        if before == libc::SCHED_OTHER {
            assert_eq!(policy(), libc::SCHED_BATCH);
        }
        held.release();
        assert_eq!(policy(), before);
        assert!(has_set_policy(libc::SCHED_BATCH));
        CpuHeld::by_this_thread().release();
        assert_eq!(policy(), libc::SCHED_BATCH, "it was so before");
    }
}
