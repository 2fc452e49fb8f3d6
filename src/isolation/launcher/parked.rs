//! Sandboxes that wait for a job, each for one at a time: what takes the kernel milliseconds is done while nobody waits.
//!
//! Some are made ahead of time; others have served a job, and their supervisor is making them ready for the next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{WaitOptions, waitpid};

use super::clean_up::CleanUp;
use super::slot::Slot;
use super::spawn::Sandboxes;
use crate::isolation::failure::Failure;
use crate::job::{Limits, SandboxSpec};

/// How many wait on a quiet worker, of the kind that was asked for last.
const PARKED: usize = 8;
/// Below so many, more are made even while jobs come.
const FEW: usize = 3;
/// Of all kinds, while jobs come.
const MOST: usize = 32;
/// Kinds of sandbox that are kept.
const KINDS: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Parked {
    /// The longest waiting first.
    slots: VecDeque<Slot>,
    /// The kinds that jobs ask for, the last first, with the limits that they mostly have.
    kinds: VecDeque<(Arc<SandboxSpec>, Limits)>,
    /// Making one has failed, or keeping it.
    failure: Option<Failed>,
}

/// Not tried again before the next job, or before a while has passed.
#[derive(Debug, Clone, Copy)]
struct Failed {
    again: Instant,
    pause: Duration,
}

impl Failed {
    const FIRST_PAUSE: Duration = Duration::from_secs(1);
    const LAST_PAUSE: Duration = Duration::from_secs(60);

    fn after(earlier: Option<Self>) -> Self {
        let pause = earlier.map_or(Self::FIRST_PAUSE, |earlier| {
            (2 * earlier.pause).min(Self::LAST_PAUSE)
        });
        Self {
            again: Instant::now() + pause,
            pause,
        }
    }
}

impl Parked {
    /// A sandbox of this kind, if one waits.
    pub(super) fn take(&mut self, kind: &Arc<SandboxSpec>, clean_up: &mut CleanUp) -> Option<Slot> {
        // The oldest first: the most likely to be finished.
        while let Some(index) = self.slots.iter().position(|slot| slot.is_of(kind)) {
            let slot = self.slots.remove(index)?;
            if slot.is_waiting() {
                return Some(slot);
            }
            // It has failed meanwhile, and says so.
            clean_up.add_slot(slot, None);
        }
        None
    }

    /// Notes what kind of sandbox jobs ask for.
    pub(super) fn wanted(&mut self, kind: &Arc<SandboxSpec>, limits: &Limits) {
        self.failure = None;
        let known = self.kinds.iter().position(|(known, _)| Arc::ptr_eq(known, kind));
        if known == Some(0) {
            return;
        }
        let entry = known
            .and_then(|index| self.kinds.remove(index))
            .unwrap_or_else(|| (Arc::clone(kind), *limits));
        self.kinds.push_front(entry);
        self.kinds.truncate(KINDS);
    }

    /// Takes one in that has served a job and of which nothing of it is left, or has it ended.
    pub(super) fn take_in(&mut self, mut slot: Slot, beside_many: bool, clean_up: &mut CleanUp) {
        let kind = self.kinds.iter().find(|(kind, _)| slot.is_of(kind));
        let room = self.slots.len() < MOST;
        match kind {
            Some((_, limits)) if room && Sandboxes::ready_again(&mut slot, limits, beside_many) => {
                self.slots.push_back(slot);
            }
            _ => clean_up.add_slot(slot, None),
        }
    }

    pub(super) fn is_unused(&self) -> bool {
        self.kinds.is_empty()
    }

    /// How soon some are to be made while nobody waits; `None` where there are enough.
    pub(super) fn next_fill(&self) -> Option<Duration> {
        let short = self.waiting().is_some_and(|waiting| waiting < PARKED);
        let wait = |failed: &Failed| failed.again.saturating_duration_since(Instant::now());
        short.then(|| self.failure.as_ref().map_or(Duration::ZERO, wait))
    }

    /// Whether some are to be made even while jobs come.
    pub(super) fn is_nearly_out(&self) -> bool {
        self.waiting().is_some_and(|waiting| waiting < FEW)
    }

    /// How many of the kind that was asked for last.
    fn waiting(&self) -> Option<usize> {
        let (kind, _) = self.kinds.front()?;
        Some(self.slots.iter().filter(|slot| slot.is_of(kind)).count())
    }

    /// Makes one, if too few wait.
    pub(super) fn fill_one(
        &mut self,
        sandboxes: &mut Sandboxes,
        clean_up: &mut CleanUp,
    ) -> Result<(), Failure> {
        if self.next_fill().is_none_or(|wait| !wait.is_zero()) {
            return Ok(());
        }
        let Some((kind, limits)) = self.kinds.front().cloned() else {
            return Ok(());
        };
        if self.slots.len() >= MOST {
            self.end_one(|slot| !slot.is_of(&kind), clean_up);
        }
        match sandboxes.spawn(&kind, &limits) {
            Ok(slot) => self.slots.push_back(slot),
            Err(failure) => {
                self.failure = Some(Failed::after(self.failure));
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Whether more wait than a quiet worker needs.
    pub(super) fn has_spare(&self) -> bool {
        self.slots.len() > PARKED
    }

    /// Ends one that a quiet worker does not need.
    pub(super) fn trim(&mut self, clean_up: &mut CleanUp) {
        if self.has_spare() {
            let last = self.kinds.front().map(|(kind, _)| Arc::clone(kind));
            let other = |slot: &Slot| last.as_ref().is_none_or(|kind| !slot.is_of(kind));
            if !self.end_one(other, clean_up) {
                self.end_one(|_| true, clean_up);
            }
        }
    }

    fn end_one(&mut self, which: impl Fn(&Slot) -> bool, clean_up: &mut CleanUp) -> bool {
        let found = self.slots.iter().position(which);
        let slot = found.and_then(|index| self.slots.remove(index));
        let ended = slot.is_some();
        if let Some(slot) = slot {
            clean_up.add_slot(slot, None);
        }
        ended
    }

    /// A child has ended. If it was the supervisor of one of these, that is of no use any more.
    pub(super) fn reaped(&mut self, pid: i32, clean_up: &mut CleanUp) {
        let of_child = |slot: &Slot| slot.supervisor.as_raw_nonzero().get() == pid;
        let found = self.slots.iter().position(of_child);
        let Some(mut slot) = found.and_then(|index| self.slots.remove(index)) else {
            return;
        };
        if let Some(failure) = slot.last_words() {
            eprintln!("stockade: launcher: a sandbox that waited: {failure}");
        }
        // What has failed it may fail the next one as well.
        self.failure = Some(Failed::after(self.failure));
        slot.reaped = true;
        clean_up.add_slot(slot, None);
    }

    /// Ends those that wait, and forgets the kinds.
    pub(super) fn release(&mut self, sandboxes: &mut Sandboxes) {
        self.kinds.clear();
        for slot in self.slots.drain(..) {
            // A supervisor whose launcher hangs up before it has a job ends.
            let _ = rustix::net::shutdown(&slot.control, rustix::net::Shutdown::Both);
            if !slot.reaped {
                let _ = waitpid(Some(slot.supervisor), WaitOptions::empty());
            }
            sandboxes.take_back(slot);
        }
    }
}
