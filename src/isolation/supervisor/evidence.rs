//! From what the kernel said to the cause of a job's end.

use crate::isolation::failure::Failure;
use crate::job::Cause;

/// What a supervisor ended a job for. The first one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    OutOfMemory,
    CpuTime,
    WallTime,
    OutputLimit,
    SyscallDenied,
    Stop,
    /// The launcher of a foreground job has gone.
    Abandoned,
    /// Nobody moves its output any more.
    OutputLost,
    /// A step that can only be taken once the command runs has failed.
    Failed,
}

/// What is known when nothing of a job is left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    /// As wait(2) gave it.
    pub wait_status: i32,
    pub trigger: Option<Trigger>,
    pub oom_kills: u64,
    /// The call that the filter ended the job for.
    pub denied: Option<&'a str>,
    /// What has failed since the command runs.
    pub failed: Option<&'a Failure>,
}

impl Evidence<'_> {
    pub(super) fn cause(self) -> Cause {
        let status = self.wait_status;
        let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
        let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
        match self.trigger {
            Some(Trigger::CpuTime) => Cause::CpuTime,
            Some(Trigger::WallTime) => Cause::WallTime,
            Some(Trigger::OutputLimit) => Cause::OutputLimit,
            Some(Trigger::SyscallDenied) => Cause::SyscallDenied {
                name: self.denied.unwrap_or_default().to_owned(),
            },
            Some(Trigger::Stop) => Cause::Stopped { signal, code },
            Some(Trigger::Abandoned) => Cause::Lost {
                why: "its launcher has gone".to_owned(),
            },
            Some(Trigger::OutputLost) => Cause::Lost {
                why: "the process that moves its output was killed".to_owned(),
            },
            Some(Trigger::Failed) => Cause::Lost {
                why: match self.failed {
                    Some(failure) => format!("killed, since this failed when it ran: {failure}"),
                    None => "killed, since a step failed when it ran".to_owned(),
                },
            },
            Some(Trigger::OutOfMemory) => Cause::OutOfMemory,
            // With oom.group the kernel kills the whole job; in v1 a job may end by itself just after the kill of a part.
            None if self.oom_kills > 0 => Cause::OutOfMemory,
            None => match (code, signal) {
                (Some(code), _) => Cause::Exited { code },
                (None, Some(signal)) => Cause::Signaled {
                    signal,
                    core_dumped: libc::WCOREDUMP(status),
                },
                (None, None) => Cause::Lost {
                    why: format!("wait status {status}"),
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(wait_status: i32, trigger: Option<Trigger>, oom_kills: u64) -> Cause {
        Evidence {
            wait_status,
            trigger,
            oom_kills,
            denied: None,
            failed: None,
        }
        .cause()
    }

    #[test]
    fn the_wait_status_counts_where_nothing_else_does() {
        assert_eq!(cause(3 << 8, None, 0), Cause::Exited { code: 3 });
        assert_eq!(
            cause(11, None, 0),
            Cause::Signaled {
                signal: 11,
                core_dumped: false
            }
        );
        assert_eq!(
            cause(11 | 0x80, None, 0),
            Cause::Signaled {
                signal: 11,
                core_dumped: true
            }
        );
    }

    #[test]
    fn a_kill_by_the_kernel_is_no_success() {
        assert_eq!(cause(0, None, 1), Cause::OutOfMemory);
        assert_eq!(cause(9, None, 1), Cause::OutOfMemory);
    }

    #[test]
    fn the_first_trigger_counts() {
        assert_eq!(cause(9, Some(Trigger::WallTime), 1), Cause::WallTime);
        assert_eq!(
            cause(0, Some(Trigger::Stop), 0),
            Cause::Stopped {
                signal: None,
                code: Some(0)
            }
        );
        assert_eq!(
            cause(15, Some(Trigger::Stop), 0),
            Cause::Stopped {
                signal: Some(15),
                code: None
            }
        );
    }
}
