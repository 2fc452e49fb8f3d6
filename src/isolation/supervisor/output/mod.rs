//! What a job writes: from its pipes into files.
//!
//! A supervisor of one job moves it by itself, since it has given up its privileges by then. One that keeps them for the
//! jobs to come reads nothing that a job has written: that is for a process beside it, which has none ([`pump_process`]).

mod digest;
mod flood;
mod handed;
mod outlet;
mod own;
mod pump;
mod pump_process;

use rustix::event::{PollFd, PollFlags};

use crate::job::Output;

pub(super) use handed::Handed;
pub(super) use outlet::Outlet;
pub use outlet::{STDERR_FILE, STDOUT_FILE};
pub(super) use own::Own;
pub(super) use pump_process::await_pump;
pub use pump_process::{PumpIdentity, serve as serve_pump};

/// Standard output and standard error.
const STREAMS: usize = 2;
/// What a supervisor waits on for them at most.
pub(super) const SOURCES: usize = STREAMS + 1;

/// For each source that was waited on, what the kernel has told.
pub(super) type Ready = [PollFlags; SOURCES];

/// Both streams of a job.
#[derive(Debug)]
pub(super) enum Streams<'a> {
    Own(Box<Own>),
    Handed(Handed<'a>),
}

/// What there is to say of both when no process of the job is left.
#[derive(Debug)]
pub(super) struct Totals {
    pub(super) output: Output,
    /// Nobody has counted it to the end.
    pub(super) lost: bool,
}

impl Streams<'_> {
    /// What to wait on.
    pub(super) fn add_sources<'s>(&'s self, sources: &mut Vec<PollFd<'s>>) {
        match self {
            Self::Own(own) => own.add_sources(sources),
            Self::Handed(handed) => handed.add_sources(sources),
        }
    }

    /// What the kernel has told of the sources that [`Streams::add_sources`] gave.
    pub(super) fn ready(sources: &[PollFd<'_>]) -> Ready {
        let mut ready = [PollFlags::empty(); SOURCES];
        for (told, source) in ready.iter_mut().zip(sources) {
            *told = source.revents();
        }
        ready
    }

    /// Moves what has come.
    pub(super) fn turn(&mut self, ready: Ready) {
        match self {
            Self::Own(own) => own.turn(),
            Self::Handed(handed) => handed.turn(ready),
        }
    }

    /// More was written than is kept.
    pub(super) fn overflowed(&self) -> bool {
        match self {
            Self::Own(own) => own.overflowed(),
            Self::Handed(handed) => handed.overflowed(),
        }
    }

    /// Nobody moves them any more.
    pub(super) const fn are_lost(&self) -> bool {
        match self {
            Self::Own(_) => false,
            Self::Handed(handed) => handed.is_lost(),
        }
    }

    /// Moves what is left, when nobody writes any more.
    pub(super) fn finish(self) -> Totals {
        match self {
            Self::Own(own) => Totals {
                output: own.finish(),
                lost: false,
            },
            Self::Handed(handed) => handed.finish(),
        }
    }
}
