//! Which processes the kernel kills first when the machine is out of memory; see proc_pid_oom_score_adj(5).

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::write;

use crate::isolation::failure::{At, Failure};
use crate::isolation::sandbox::proc;
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
    /// Gives the stub the score of jobs. Who does must not have CAP_SYS_RESOURCE: else the kernel takes the score for the
    /// least that this process may have, too. `own` is what it had before.
    pub(super) fn give(proc: BorrowedFd<'_>, stub: i32, own: i32) -> Result<Self, Failure> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(proc, "self/oom_score_adj", flags, Mode::empty())
            .at(StartStep::Identity, "oom_score_adj")?;
        let of_job = OF_JOBS.max(own).to_string();
        proc::write_of(proc, stub, "oom_score_adj", &of_job).at(StartStep::Identity, "oom_score_adj")?;
        Ok(Self { file, own })
    }

    /// Takes the own score again, once the stub has become the command.
    pub(super) fn take_back(self) -> Result<(), Failure> {
        write(&self.file, self.own.to_string().as_bytes())
            .map(drop)
            .at(StartStep::Supervisor, "oom_score_adj")
    }
}
