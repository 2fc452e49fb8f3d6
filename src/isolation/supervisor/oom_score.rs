//! Which processes the kernel kills first when the machine is out of memory; see proc_pid_oom_score_adj(5).
//!
//! Jobs before anything else, and their supervisors as late as the launcher; a sandbox that waits for a job as early as
//! jobs, since nothing is lost with it. A stub has its supervisor's memory, and the kernel sees to it that all who share one
//! have one score: from where a supervisor receives a job both have its own, and the job is given another when it has a
//! memory of its own. A supervisor of one job cannot write to the job's /proc any more by then: it has the job's score until
//! that is a command.
//!
//! To set the score of a process whose memory was ever shared makes the kernel look through all processes of the machine.
//! Where they are many a supervisor keeps its own, waiting or not.

use std::cell::Cell;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{Dir, Mode, OFlags, open, openat};
use rustix::io::{Errno, write};

use crate::isolation::failure::{At, Failure};
use crate::isolation::sandbox::proc::{LastPid, number_of, write_of};
use crate::job::StartStep;
use crate::sys::{self, fault_point};

/// Where the worker is to die early itself, as in some containers, no earlier than that. A lower score than its own the
/// kernel need not let anybody give.
const OF_JOBS: i32 = 800;
/// How often all processes of a job are looked at, at most; and how often while they go on.
const LOOKS: u32 = 100;
const LOOKS_AT_MOVING: u32 = 10;
const FILE: &str = "oom_score_adj";

/// The supervisor's, and what its jobs get.
#[derive(Debug)]
pub(super) struct OomScore {
    file: OwnedFd,
    own: i32,
    of_jobs: i32,
    /// For the next stub.
    pub(super) beside_many: bool,
    /// This process has the score of jobs.
    is_shared: Cell<bool>,
}

impl OomScore {
    /// `own` is what this process has now. To be opened where the launcher's /proc is seen yet: one that has a file open for
    /// writing cannot be made read-only, as the job's is to be.
    pub(super) fn open(own: i32) -> Result<Self, Failure> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = open("/proc/self/oom_score_adj", flags, Mode::empty()).at(StartStep::Identity, FILE)?;
        Ok(Self {
            file,
            own,
            of_jobs: OF_JOBS.max(own),
            beside_many: false,
            is_shared: Cell::new(false),
        })
    }

    /// Before a stub is cloned. Who does must not have CAP_SYS_RESOURCE: else the kernel takes the score for the least that
    /// this process may have.
    pub(super) fn before_stub(&self) -> Result<(), Failure> {
        if self.beside_many {
            return Ok(());
        }
        self.set(self.of_jobs).at(StartStep::Identity, FILE)?;
        self.is_shared.set(true);
        Ok(())
    }

    /// Before a job is received that [`Self::after_exec`] can give its score by a view of /proc. Without effect the job
    /// would be lost where the kernel is short of memory right then, and no other time.
    pub(super) fn before_job(&self) {
        if self.is_shared.get() && self.set(self.own).is_ok() {
            self.is_shared.set(false);
        }
    }

    /// Once the stub has become the command, `main`. `view` is the job's /proc, and the number of the last process in it, of
    /// who has one job after another.
    pub(super) fn after_exec(
        &self,
        main: i32,
        view: Option<(BorrowedFd<'_>, &LastPid)>,
    ) -> Result<(), Failure> {
        match view {
            Some((proc, last_pid)) if !self.is_shared.get() => give(self.of_jobs, main, proc, last_pid),
            _ => self.set(self.own).inspect(|()| self.is_shared.set(false)),
        }
        .at(StartStep::Identity, FILE)
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

fn give(score: i32, main: i32, proc: BorrowedFd<'_>, last_pid: &LastPid) -> Result<(), Errno> {
    write_of(proc, main, FILE, &score.to_string())?;
    if last_pid.get()? == main {
        return Ok(());
    }
    // It has made others meanwhile, each of which has the score that its parent had, and may make more.
    for _ in 0..LOOKS_AT_MOVING {
        if all_have(score, proc)? {
            return Ok(());
        }
    }
    // No look may ever find those that fork and exit, and nobody forks who is stopped.
    for _ in LOOKS_AT_MOVING..LOOKS {
        sys::signal_all_others(libc::SIGSTOP)?;
        if all_have(score, proc)? {
            return sys::signal_all_others(libc::SIGCONT);
        }
    }
    Err(Errno::AGAIN)
}

/// Gives it to those that do not have it. Whether all had it, as far as can be told: one that has gone may have made another.
fn all_have(score: i32, proc: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut all = true;
    let found = processes(proc)?;
    fault_point!("supervisor.scores")?;
    for pid in found {
        match number_of(proc, pid, FILE) {
            Ok(found) if found == score => continue,
            Ok(_) => all = false,
            Err(error) if is_gone(error) => {
                all = false;
                continue;
            }
            Err(error) => return Err(error),
        }
        match write_of(proc, pid, FILE, &score.to_string()) {
            Err(error) if !is_gone(error) => return Err(error),
            _ => {}
        }
    }
    Ok(all)
}

/// Those of the job.
fn processes(proc: BorrowedFd<'_>) -> Result<Vec<i32>, Errno> {
    const SUPERVISOR: i32 = 1;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut found = Vec::new();
    for entry in Dir::new(openat(proc, ".", flags, Mode::empty())?)? {
        match entry?.file_name().to_str().unwrap_or_default().parse() {
            Ok(SUPERVISOR) | Err(_) => {}
            Ok(pid) => found.push(pid),
        }
    }
    Ok(found)
}

fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::SRCH)
}
