//! Sandboxes made ahead of time, each for one job: what takes the kernel milliseconds is done while nobody waits.

use std::sync::Arc;

use rustix::process::{WaitOptions, waitpid};

use super::clean_up::CleanUp;
use super::slot::Slot;
use super::spawn::Sandboxes;
use crate::isolation::failure::Failure;
use crate::job::{Limits, SandboxSpec};

/// How many wait at one time, of the kind that was asked for last.
const PARKED: usize = 8;
/// Of all kinds: those of a kind that nobody asks for any more make room.
const MOST: usize = 2 * PARKED;

#[derive(Debug, Default)]
pub(super) struct Parked {
    slots: Vec<Slot>,
    /// The kind to make, with the limits that its jobs mostly have.
    kind: Option<(Arc<SandboxSpec>, Limits)>,
    /// Making one has failed: not tried again before the next job.
    failed: bool,
}

impl Parked {
    /// A sandbox of this kind, if one waits.
    pub(super) fn take(&mut self, kind: &Arc<SandboxSpec>, clean_up: &mut CleanUp) -> Option<Slot> {
        // One that has failed meanwhile says so, and is of no use.
        for slot in self.slots.extract_if(.., |slot| !slot.is_waiting()) {
            clean_up.add_slot(slot, None);
        }
        // The oldest first: the most likely to be finished.
        let index = self
            .slots
            .iter()
            .position(|slot| Arc::ptr_eq(&slot.sandbox, kind))?;
        Some(self.slots.remove(index))
    }

    /// Notes what kind of sandbox jobs ask for.
    pub(super) fn wanted(&mut self, kind: &Arc<SandboxSpec>, limits: &Limits) {
        self.failed = false;
        if !self
            .kind
            .as_ref()
            .is_some_and(|(known, _)| Arc::ptr_eq(known, kind))
        {
            self.kind = Some((Arc::clone(kind), *limits));
        }
    }

    pub(super) const fn is_unused(&self) -> bool {
        self.kind.is_none()
    }

    pub(super) fn is_short(&self) -> bool {
        let waiting = |kind: &Arc<SandboxSpec>| {
            self.slots
                .iter()
                .filter(|slot| Arc::ptr_eq(&slot.sandbox, kind))
                .count()
        };
        !self.failed && self.kind.as_ref().is_some_and(|(kind, _)| waiting(kind) < PARKED)
    }

    /// Makes one, if too few wait.
    pub(super) fn fill_one(
        &mut self,
        sandboxes: &mut Sandboxes,
        clean_up: &mut CleanUp,
    ) -> Result<(), Failure> {
        let Some((kind, limits)) = self.kind.clone().filter(|_| self.is_short()) else {
            return Ok(());
        };
        if self.slots.len() >= MOST
            && let Some(oldest) = self
                .slots
                .iter()
                .position(|slot| !Arc::ptr_eq(&slot.sandbox, &kind))
        {
            let slot = self.slots.remove(oldest);
            clean_up.add_slot(slot, None);
        }
        match sandboxes.spawn(&kind, &limits) {
            Ok(slot) => self.slots.push(slot),
            Err(failure) => {
                self.failed = true;
                return Err(failure);
            }
        }
        Ok(())
    }

    /// A child has ended. If it was one of these, its sandbox is found useless when it is looked at.
    pub(super) fn reaped(&mut self, pid: i32) {
        for slot in &mut self.slots {
            slot.reaped |= slot.supervisor.as_raw_nonzero().get() == pid;
        }
    }

    /// Ends those that wait, and forgets the kind.
    pub(super) fn release(&mut self, sandboxes: &mut Sandboxes) {
        self.kind = None;
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
