//! What is kept of jobs on disk: told to the server, and removed at its word.

use std::io;

use super::adopt;
use super::clean_up::Part;
use super::daemon::Daemon;
use super::job_dir::is_absence;
use crate::isolation::ipc::Event;
use crate::job::JobId;

/// Names in one message, some 40 KiB.
const NAMES: usize = 2048;
/// Records in one message, some 100 KiB.
const RECORDS: usize = 64;

impl Daemon {
    /// Names all jobs. A server that asks has just started, and knows nothing of what is being cleaned up either.
    pub(super) fn list(&mut self) {
        let ids = match self.dirs.all() {
            Ok(ids) => ids,
            Err(error) => return self.refuse_server(&error),
        };
        for piece in ids.chunks(NAMES) {
            self.server.send(&Event::Listed(piece.to_vec()));
        }
        self.server.send(&Event::Listed(Vec::new()));
        let leftovers = self.clean_up.leftovers();
        if !leftovers.is_empty() {
            self.server.send(&Event::CleanUp(leftovers));
        }
    }

    pub(super) fn describe(&mut self, ids: &[JobId]) {
        for piece in ids.chunks(RECORDS) {
            let known = piece
                .iter()
                .filter_map(|id| {
                    let ending = self.clean_up.owes(*id);
                    adopt::describe(&self.dirs, *id, self.jobs.get(id), ending, &self.unwritten).transpose()
                })
                .collect::<io::Result<Vec<_>>>();
            match known {
                Ok(known) if known.is_empty() => {}
                Ok(known) => self.server.send(&Event::Known(known)),
                Err(error) => return self.refuse_server(&error),
            }
        }
        self.server.send(&Event::Known(Vec::new()));
    }

    /// A server takes a job of which it is told nothing for lost: where nothing can be told, it had better ask again, as
    /// the next one does.
    fn refuse_server(&mut self, error: &io::Error) {
        eprintln!("stockade: launcher: the server has to start again: jobs cannot be read: {error}");
        self.hang_up(false);
    }

    /// The server has recorded how a job ended: what was for taking it over is of no more use.
    pub(super) fn recorded(&mut self, id: JobId) {
        self.unwritten.forget(id);
        match self.jobs.get_mut(&id) {
            // Its supervisor may be about to write the record.
            Some(job) => job.recorded = job.told,
            None => self.remove_part(id, Part::Control),
        }
    }

    /// Now, or as soon as the host lets it go.
    pub(super) fn remove_part(&mut self, id: JobId, part: Part) {
        if let Err(stuck) = part.remove(&self.dirs, id) {
            self.clean_up.add_folder(&self.dirs, id, part, stuck.to_string());
        }
    }

    pub(super) fn delete(&mut self, id: JobId) {
        let removed = match self.runs(id) || self.runs_for_another(id) {
            true => Err("its job runs".to_owned()),
            false => self.dirs.remove(id).map_err(|stuck| stuck.to_string()),
        };
        let answer = match removed {
            Ok(()) => {
                self.unwritten.forget(id);
                Event::Deleted { id }
            }
            Err(why) => {
                eprintln!("stockade: launcher: job {id}: its folder stays for now: {why}");
                self.clean_up.add_folder(&self.dirs, id, Part::All, why);
                // Whoever hears that it goes later finds it on the list.
                self.tell_leftovers();
                Event::DeletedLater { id }
            }
        };
        self.server.send(&answer);
    }

    pub(super) fn drop_output(&mut self, id: JobId) {
        let removed = match self.runs(id) {
            true => Err("its job runs".to_owned()),
            false => self.dirs.drop_output(id).map_err(|stuck| stuck.to_string()),
        };
        self.server.send(&match removed {
            Ok(()) => Event::OutputDropped { id },
            Err(why) => Event::OutputStays { id, why },
        });
    }

    /// Of a newer worker's job only the lock tells.
    fn runs_for_another(&self, id: JobId) -> bool {
        !self.jobs.contains_key(&id)
            && match self.dirs.existing(id) {
                Ok((_, alive)) => alive,
                Err(error) => !is_absence(&error),
            }
    }

    fn runs(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| !job.told)
    }

    /// Tries again what could not be removed.
    pub(super) fn clean_up(&mut self) {
        for name in self.sandboxes.berths().take_stuck() {
            self.clean_up.add(name, None);
        }
        let jobs = &self.jobs;
        let runs = |id| jobs.get(&id).is_some_and(|job| !job.told);
        let gone = self.clean_up.turn(&mut self.sandboxes, &self.dirs, runs);
        for (id, record) in gone.outcomes {
            self.finish(id, record, true);
        }
        for id in gone.jobs {
            self.server.send(&Event::Deleted { id });
        }
        self.tell_leftovers();
    }

    /// Tells what could not be removed, where that is news.
    fn tell_leftovers(&mut self) {
        if let Some(leftovers) = self.clean_up.news() {
            self.server.send(&Event::CleanUp(leftovers));
        }
    }
}
