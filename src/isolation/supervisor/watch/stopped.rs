//! What becomes of calls that the filter stops.

use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::Watch;
use crate::isolation::sandbox::seccomp::{self, Answer};
use crate::isolation::supervisor::evidence::Trigger;
use crate::sys::{self, StoppedCall};

/// A process that has SIGSYS coming has this long to die of it, before it is killed.
const SIGSYS_GRACE: Duration = Duration::from_millis(100);

impl Watch<'_> {
    /// A call that the filter kills for waits for an answer, and gets none.
    pub(super) fn handle_stopped_calls(&mut self, told: PollFlags) {
        let Some(listener) = &self.listener else { return };
        if told.contains(PollFlags::IN) {
            // An error: its thread was killed meanwhile.
            let Ok(call) = listener.take() else { return };
            let answer = self.filter.map_or(Answer::Kill, |filter| filter.answer(&call));
            let _ = match answer {
                Answer::Proceed if seccomp::makes_netlink(&call) => match self.netlink.another() {
                    true => listener.let_through(&call),
                    false => listener.refuse(&call, libc::ENFILE),
                },
                Answer::Proceed => {
                    // Before it is made.
                    self.made_ipc = true;
                    listener.let_through(&call)
                }
                Answer::Refuse(errno) => listener.refuse(&call, errno),
                Answer::Kill => {
                    self.deny(&call);
                    Ok(())
                }
            };
        } else if told.contains(PollFlags::HUP) {
            // No process with the filter is left.
            self.listener = None;
        }
    }

    /// As the kernel does for SECCOMP_RET_KILL_PROCESS: the process dies of SIGSYS. With the main process the
    /// job ends, and its record names the call.
    fn deny(&mut self, call: &StoppedCall) {
        if sys::is_thread_of(call.thread, self.main) {
            self.denied = Some(seccomp::describe(call));
            self.end_for(Trigger::SyscallDenied);
        } else {
            // It may block or catch SIGSYS, but not what follows.
            let _ = sys::signal_thread(call.thread, libc::SIGSYS);
            self.condemned.push((call.thread, Instant::now() + SIGSYS_GRACE));
        }
    }

    pub(super) fn kill_condemned(&mut self, now: Instant) {
        self.condemned.retain(|&(thread, at)| {
            if at <= now {
                // Gone in nearly all cases.
                let _ = sys::signal_thread(thread, libc::SIGKILL);
            }
            at > now
        });
    }
}
