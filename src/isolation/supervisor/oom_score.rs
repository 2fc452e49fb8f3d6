//! Which processes the kernel kills first when the machine is out of memory; see proc_pid_oom_score_adj(5).

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, write};

use crate::isolation::failure::{At, Failure};
use crate::job::StartStep;

/// Jobs before anything else; where the worker is to die early itself, as in some containers, no later than that. A lower
/// score than its own the kernel need not let anybody give.
const OF_JOBS: i32 = 800;

/// A supervisor's own score, which is its job's for as long as they have one memory.
#[derive(Debug)]
pub(super) struct OomScore {
    file: OwnedFd,
    own: i32,
}

impl OomScore {
    /// `own` is what this process has now. To be opened where the launcher's /proc is seen yet: one that has a file open for
    /// writing cannot be made read-only, as the job's is to be.
    pub(super) fn open(own: i32) -> Result<Self, Failure> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = open("/proc/self/oom_score_adj", flags, Mode::empty())
            .at(StartStep::Identity, "oom_score_adj")?;
        Ok(Self { file, own })
    }

    /// Takes the score of jobs, for a stub that is cloned next to inherit. (Once there are two, the kernel would look
    /// through all processes of the machine for others with the same memory.) Who does must not have CAP_SYS_RESOURCE:
    /// else the kernel takes the score for the least that this process may have.
    pub(super) fn become_jobs(&self) -> Result<(), Failure> {
        self.set(OF_JOBS.max(self.own))
            .at(StartStep::Identity, "oom_score_adj")
    }

    /// Takes the own score again, once the stub has become the command.
    pub(super) fn take_back(&self) -> Result<(), Failure> {
        self.set(self.own).at(StartStep::Supervisor, "oom_score_adj")
    }

    fn set(&self, score: i32) -> Result<(), Errno> {
        write(&self.file, score.to_string().as_bytes()).map(drop)
    }
}

impl AsRawFd for OomScore {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
