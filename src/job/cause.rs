use serde::{Deserialize, Serialize};

use super::Signal;

/// Why a job is over, each variant from the kernel's own evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Cause {
    /// The main process exited: wait status.
    Exited { code: i32 },
    /// A signal that none of our deadlines sent ended the main process: wait status.
    Signaled { signal: i32, core_dumped: bool },
    /// The memory cgroup's oom_kill count grew.
    OutOfMemory,
    /// The cgroup's CPU usage reached the limit.
    CpuTime,
    /// The monotonic clock reached the limit.
    WallTime,
    /// A stream reached its limit under `on_output_limit = kill`.
    OutputLimit,
    /// The seccomp filter reported the call.
    SyscallDenied { name: String },
    /// StopJob, before the main process had ended by itself.
    Stopped { signal: Option<i32>, code: Option<i32> },
    /// The command never ran: what the failing step reported.
    StartFailed {
        step: StartStep,
        errno: i32,
        detail: String,
    },
    /// How it ended cannot be known.
    Lost { why: String },
}

/// The steps of a launch, so that a failure names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartStep {
    Policy,
    StateDir,
    Cgroup,
    CgroupLimit,
    Namespaces,
    Network,
    Identity,
    Rootfs,
    Scratch,
    Proc,
    PivotRoot,
    Files,
    Script,
    Stdin,
    Output,
    WorkingDir,
    Rlimits,
    Credentials,
    Capabilities,
    NoNewPrivs,
    Landlock,
    Seccomp,
    Session,
    Exec,
    Supervisor,
}

impl StartStep {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::StateDir => "state-dir",
            Self::Cgroup => "cgroup",
            Self::CgroupLimit => "cgroup-limit",
            Self::Namespaces => "namespaces",
            Self::Network => "network",
            Self::Identity => "identity",
            Self::Rootfs => "rootfs",
            Self::Scratch => "scratch",
            Self::Proc => "proc",
            Self::PivotRoot => "pivot-root",
            Self::Files => "files",
            Self::Script => "script",
            Self::Stdin => "stdin",
            Self::Output => "output",
            Self::WorkingDir => "working-dir",
            Self::Rlimits => "rlimits",
            Self::Credentials => "credentials",
            Self::Capabilities => "capabilities",
            Self::NoNewPrivs => "no-new-privs",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::Session => "session",
            Self::Exec => "exec",
            Self::Supervisor => "supervisor",
        }
    }
}

impl std::fmt::Display for StartStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Cause {
    #[must_use]
    pub fn lost_supervisor() -> Self {
        Self::Lost {
            why: "its supervisor was killed".to_owned(),
        }
    }

    /// The word of the interface.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Exited { .. } => "EXITED",
            Self::Signaled { .. } => "SIGNALED",
            Self::OutOfMemory => "OUT_OF_MEMORY",
            Self::CpuTime => "CPU_TIME",
            Self::WallTime => "WALL_TIME",
            Self::OutputLimit => "OUTPUT_LIMIT",
            Self::SyscallDenied { .. } => "SYSCALL_DENIED",
            Self::Stopped { .. } => "STOPPED",
            Self::StartFailed { .. } => "START_FAILED",
            Self::Lost { .. } => "LOST",
        }
    }

    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Exited { code: 0 })
    }

    /// The exit status of `stockade run` and `stockade wait`.
    #[must_use]
    pub const fn exit_status(&self) -> i32 {
        match self {
            Self::Exited { code } => *code,
            Self::Signaled { signal, .. } => 128 + *signal,
            Self::OutOfMemory => 137,
            Self::CpuTime | Self::WallTime => 124,
            Self::OutputLimit => 128 + 9,
            Self::SyscallDenied { .. } => 128 + 31,
            Self::Stopped {
                signal: Some(signal), ..
            } => 128 + *signal,
            Self::Stopped { code: Some(code), .. } => *code,
            Self::Stopped { .. } => 128 + 9,
            Self::StartFailed {
                step: StartStep::Exec,
                errno,
                ..
            } if *errno == libc::ENOENT => 127,
            Self::StartFailed {
                step: StartStep::Exec,
                ..
            } => 126,
            Self::StartFailed { .. } | Self::Lost { .. } => 125,
        }
    }

    /// Why this is no success, in words; empty for one.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Exited { code: 0 }
            | Self::Stopped {
                signal: None,
                code: Some(0),
            } => String::new(),
            Self::Exited { code }
            | Self::Stopped {
                signal: None,
                code: Some(code),
            } => format!("exit status {code}"),
            Self::Signaled { signal, .. }
            | Self::Stopped {
                signal: Some(signal), ..
            } => Signal::try_from(*signal).map_or_else(
                |_| format!("signal {signal}"),
                |known| format!("killed by {known}"),
            ),
            Self::Stopped { .. } => "stopped before it had started".to_owned(),
            Self::OutOfMemory => "out of memory".to_owned(),
            Self::CpuTime => "CPU time used up".to_owned(),
            Self::WallTime => "wall time used up".to_owned(),
            Self::OutputLimit => "output limit reached".to_owned(),
            Self::SyscallDenied { name } => format!("system call denied: {name}"),
            Self::StartFailed {
                step: StartStep::Exec,
                errno: libc::ENOENT,
                detail,
            } => {
                format!("{detail}: not found in the sandbox")
            }
            Self::StartFailed {
                step: StartStep::Exec,
                errno,
                detail,
            } => {
                format!(
                    "{detail}: cannot be executed: {}",
                    std::io::Error::from_raw_os_error(*errno)
                )
            }
            Self::StartFailed {
                step,
                errno: 0,
                detail,
            } => format!("start failed at {step}: {detail}"),
            Self::StartFailed { step, errno, detail } => {
                format!(
                    "start failed at {step}: {detail}: {}",
                    std::io::Error::from_raw_os_error(*errno)
                )
            }
            Self::Lost { why } => format!("lost: {why}"),
        }
    }
}
