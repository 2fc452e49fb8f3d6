//! What supervisors say, and what their silence tells.

use super::clean_up::Part;
use super::daemon::{Daemon, Keeper};
use super::slot::Slot;
use crate::isolation::ipc::Event;
use crate::isolation::supervisor::{Report, read_exit_record, write_exit_record};
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
                Ok(Some(Report::Vacant)) => {
                    self.vacated(id);
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
        if write && let Ok(dir) = self.dirs.existing_unlocked(id) {
            record.output = self.dirs.kept_output(id);
            if write_exit_record(&dir, &record).is_err() {
                self.unwritten.add(id, record.clone());
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
        let Some((slot, outcome)) = self.take_leave(id) else {
            return;
        };
        self.clean_up.add_slot(slot, outcome.map(|record| (id, record)));
    }

    /// Nothing is left of a job in its sandbox, which can have another.
    fn vacated(&mut self, id: JobId) {
        match self.take_leave(id) {
            Some((slot, None)) => {
                let beside_many = self.jobs.len() > MANY;
                self.parked.take_in(slot, beside_many, &mut self.clean_up);
            }
            Some((slot, Some(record))) => self.clean_up.add_slot(slot, Some((id, record))),
            None => {}
        }
    }

    /// Forgets a job whose supervisor has ended. Gives its sandbox, and the outcome if that has not been told.
    fn take_leave(&mut self, id: JobId) -> Option<(Slot, Option<ExitRecord>)> {
        let job = self.forget(id)?;
        let Keeper::Own(slot) = job.keeper else {
            return None;
        };
        self.unwatch(&slot.control);
        let mut told = job.told;
        // It may have died between writing its record and telling.
        if !told
            && let Ok(dir) = self.dirs.existing_unlocked(id)
            && let Ok(Some(record)) = read_exit_record(&dir)
        {
            self.finish(id, record, false);
            told = true;
        }
        if job.recorded {
            self.remove_part(id, Part::Control);
        }
        let outcome = (!told).then(|| ExitRecord::without_run(slot.end_of_silent(job.started.is_some())));
        Some((*slot, outcome))
    }

    fn adopted_ended(&mut self, id: JobId) {
        let Some(job) = self.forget(id) else { return };
        let Keeper::Adopted { pidfd, dir, cgroup } = job.keeper else {
            return;
        };
        self.unwatch(&pidfd);
        match read_exit_record(&dir) {
            Ok(Some(record)) => {
                self.finish(id, record, false);
                self.clean_up.add(cgroup, None);
            }
            _ => self.clean_up.add(
                cgroup,
                Some((id, ExitRecord::without_run(Cause::lost_supervisor()))),
            ),
        }
    }
}
