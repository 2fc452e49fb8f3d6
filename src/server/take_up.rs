//! The first words with a launcher: which jobs it has, and what of them is news to this server.

use tokio::sync::oneshot;

use crate::isolation::ipc::{Event, KnownJob, Order};
use crate::job::JobId;

use super::store::StoreError;
use super::{Server, ServerError};

/// Ids in one order, some 40 KiB.
const IDS: usize = 2048;

/// What has come of the launcher's answers.
///
/// Thousands of jobs may be kept whose end is long recorded: of them the names alone are told.
#[derive(Debug)]
pub(super) struct TakeUp {
    unsettled: Vec<JobId>,
    /// Orders to describe jobs that are not answered to the end.
    asked: usize,
    known: Vec<KnownJob>,
    /// What was told meanwhile of jobs that have been described, and are not known yet.
    later: Vec<Event>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

impl Server {
    /// Takes up the jobs of an earlier run. No request is served before.
    pub(super) async fn take_up(&self) -> Result<(), ServerError> {
        let (done, told) = oneshot::channel();
        *super::core::lock(&self.taking_up) = Some(TakeUp {
            unsettled: Vec::new(),
            asked: 0,
            known: Vec::new(),
            later: Vec::new(),
            done,
        });
        self.launcher.send(&Order::List);
        match tokio::time::timeout(super::core::LAUNCHER_ANSWERS_WITHIN, told).await {
            Ok(Ok(taken_up)) => Ok(taken_up?),
            _ => Err(ServerError::LauncherSilent),
        }
    }

    /// Keeps what is told of jobs until they are known. What can be done now is given back.
    pub(super) fn for_now(&self, event: Event) -> Option<Event> {
        match &mut *super::core::lock(&self.taking_up) {
            Some(take_up) if matches!(event, Event::Started { .. } | Event::Finished { .. }) => {
                take_up.later.push(event);
                None
            }
            _ => Some(event),
        }
    }

    pub(super) fn listed(&self, piece: &[JobId]) {
        let mut taking_up = super::core::lock(&self.taking_up);
        let Some(take_up) = &mut *taking_up else { return };
        for id in piece {
            match self.store.is_settled(*id) {
                Ok(true) => self.launcher.send(&Order::Recorded { id: *id }),
                Ok(false) => take_up.unsettled.push(*id),
                Err(error) => return drop(finish(&mut taking_up, Err(error))),
            }
        }
        if piece.is_empty() {
            let ids = std::mem::take(&mut take_up.unsettled);
            take_up.asked = ids.chunks(IDS).len();
            for piece in ids.chunks(IDS) {
                self.launcher.send(&Order::Describe { ids: piece.to_vec() });
            }
            if take_up.asked == 0 {
                let taken_up = self.jobs.take_up(Vec::new(), |id| self.outputs.kept(id));
                let later = finish(&mut taking_up, taken_up);
                drop(taking_up);
                later.into_iter().for_each(|event| self.handle(event));
            }
        }
    }

    /// The jobs are taken up in the turn of their last description: what the launcher tells next is of jobs that are known.
    /// One may have ended between its own description and the last.
    pub(super) fn known(&self, piece: Vec<KnownJob>) {
        let mut taking_up = super::core::lock(&self.taking_up);
        let Some(take_up) = &mut *taking_up else { return };
        if !piece.is_empty() {
            return take_up.known.extend(piece);
        }
        take_up.asked = take_up.asked.saturating_sub(1);
        if take_up.asked == 0 {
            let known = std::mem::take(&mut take_up.known);
            let taken_up = self.jobs.take_up(known, |id| self.outputs.kept(id));
            let later = finish(&mut taking_up, taken_up);
            drop(taking_up);
            later.into_iter().for_each(|event| self.handle(event));
        }
    }
}

/// Ends it; what is to be done now that the jobs are known.
fn finish(taking_up: &mut Option<TakeUp>, outcome: Result<(), StoreError>) -> Vec<Event> {
    let Some(take_up) = taking_up.take() else {
        return Vec::new();
    };
    // Nobody waits any more where the answer came too late.
    let _ = take_up.done.send(outcome);
    take_up.later
}
