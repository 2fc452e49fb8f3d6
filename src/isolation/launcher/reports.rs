//! What supervisors say, and what their silence tells.

use super::clean_up::Part;
use super::daemon::{Daemon, Keeper};
use super::slot::Slot;
use crate::isolation::ipc::Event;
use crate::isolation::supervisor::Report;
use crate::job::{Cause, ExitRecord, JobId};
use crate::sys::fault_point;

/// Beside more jobs, supervisors do without what makes the kernel look through all processes of the machine.
const MANY: usize = 128;

impl Daemon {
    pub(super) fn handle_job(&mut self, token: u64) {
        let Some(id) = self.job_of(token) else {
            return;
        };
        loop {
            let Some(job) = self.jobs.get_mut(&id) else {
                return;
            };
            let Keeper::Own(slot) = &mut job.keeper else {
                self.adopted_ended(id);
                return;
            };
            match slot.control.try_receive::<Report>() {
                Ok(Some(Report::Started {
                    started_at, receipt, ..
                })) => {
                    if let Some(job) = self.jobs.get_mut(&id) {
                        job.started = Some((started_at, receipt.clone()));
                    }
                    self.server.send(&Event::Started {
                        id,
                        started_at,
                        receipt,
                    });
                }
                Ok(Some(Report::Finished {
                    record,
                    killed,
                    written,
                })) => {
                    slot.berth.killed |= killed;
                    if !written {
                        self.unwritten.add(id, (*record).clone());
                    }
                    self.finish(id, *record, false);
                }
                // Of a job that is over only its sandbox can fail, which then ends.
                Ok(Some(Report::Failed(_))) if job.told => {}
                Ok(Some(Report::Failed(failure))) => {
                    self.finish(id, ExitRecord::without_run(failure.into_cause()), true);
                }
                Ok(Some(Report::Vacant)) if job.told => {
                    self.vacated(id);
                    return;
                }
                // It says nothing of its job, and gets no other.
                Ok(Some(Report::Vacant | Report::Etc(_))) => {
                    self.supervisor_gone(id);
                    return;
                }
                Ok(None) => return,
                Err(_) => {
                    self.supervisor_gone(id);
                    return;
                }
            }
        }
    }

    /// Tells the server. `write`: the supervisor has not written the record itself.
    pub(super) fn finish(&mut self, id: JobId, mut record: ExitRecord, write: bool) {
        if write {
            record.output = self.dirs.kept_output(id);
            match self.dirs.write_outcome(id, &record) {
                Ok(None) => {}
                Ok(Some(written)) => record = written,
                Err(_) => self.unwritten.add(id, record.clone()),
            }
        }
        let _ = fault_point!("launcher.finished");
        if let Some(job) = self.jobs.get_mut(&id) {
            job.told = true;
        }
        self.server.send(&Event::Finished {
            id,
            record: Box::new(record),
        });
    }

    /// A supervisor ends after its last report, or dies: then the kernel has killed its job with it.
    fn supervisor_gone(&mut self, id: JobId) {
        if self.tell_written(id)
            && let Some((slot, outcome)) = self.take_leave(id)
        {
            self.clean_up.add_slot(slot, outcome.map(|record| (id, record)));
        }
    }

    /// Nothing is left of a job in its sandbox, which can have another.
    fn vacated(&mut self, id: JobId) {
        if let Some((slot, _)) = self.take_leave(id) {
            let beside_many = self.jobs.len() > MANY;
            self.parked.take_in(slot, beside_many, &mut self.clean_up);
        }
    }

    /// Forgets a job that its supervisor is done with. Gives its sandbox, and the outcome if that has not been told.
    fn take_leave(&mut self, id: JobId) -> Option<(Slot, Option<ExitRecord>)> {
        let job = self.forget(id)?;
        let Keeper::Own(slot) = job.keeper else {
            return None;
        };
        self.unwatch(&slot.control);
        if job.recorded {
            self.remove_part(id, Part::Control);
        }
        let outcome = (!job.told).then(|| ExitRecord::without_run(slot.end_of_silent(job.started.is_some())));
        Some((*slot, outcome))
    }

    fn adopted_ended(&mut self, id: JobId) {
        if !self.tell_written(id) {
            return;
        }
        let Some(job) = self.forget(id) else { return };
        let Keeper::Adopted { pidfd, cgroup, .. } = job.keeper else {
            return;
        };
        self.unwatch(&pidfd);
        let outcome = (!job.told).then(|| (id, ExitRecord::without_run(Cause::lost_supervisor())));
        self.clean_up.add(cgroup, outcome);
    }

    /// Tells the record of a supervisor that has ended between writing and telling it, as one of an earlier launcher always
    /// does. False where it cannot be told now whether there is one: the job stays, and is looked at again.
    fn tell_written(&mut self, id: JobId) -> bool {
        let Some(job) = self.jobs.get(&id).filter(|job| !job.told) else {
            return true;
        };
        match self.dirs.outcome(id) {
            Ok(Some(record)) => self.finish(id, record, false),
            Ok(None) => {}
            Err(error) => {
                // Its end would wake the launcher without a pause.
                match &job.keeper {
                    Keeper::Own(slot) => self.unwatch(&slot.control),
                    Keeper::Adopted { pidfd, .. } => self.unwatch(pidfd),
                }
                if self.unread.add(id) {
                    eprintln!("stockade: launcher: job {id}: its record cannot be read now: {error}");
                }
                return false;
            }
        }
        true
    }

    /// Looks again at jobs whose record could not be read.
    pub(super) fn look_again(&mut self) {
        for id in self.unread.due() {
            match self.jobs.get(&id).map(|job| &job.keeper) {
                Some(Keeper::Own(_)) => self.supervisor_gone(id),
                Some(Keeper::Adopted { .. }) => self.adopted_ended(id),
                None => {}
            }
            if !self.jobs.contains_key(&id) {
                self.unread.remove(id);
            }
        }
    }
}
