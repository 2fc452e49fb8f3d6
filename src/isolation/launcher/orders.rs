//! The orders that concern one job; for the others see `server_orders`.

use std::os::fd::OwnedFd;

use rustix::process::{Signal as ProcessSignal, pidfd_send_signal};

use super::daemon::{Daemon, Keeper};
use super::job_dir::{FORMAT, JobFile, is_absence, write_job_file, write_stop_order};
use super::slot::Slot;
use crate::isolation::failure::{At, Failure};
use crate::isolation::ipc::{Event, Launch};
use crate::isolation::supervisor::{FORWARD_SIGNAL, Go, ToSupervisor};
use crate::job::{ExitRecord, JobId, JobRequest, Receipt, Signal, StartStep, StopOrder};
use crate::policy::{Resolved, Tenant};
use crate::sys::{self, fault_point};

/// Jobs beyond so many, the longest running first, are kept with as few descriptors as can be: each fork copies all of
/// them. Their sandboxes serve no other job.
const WHOLE: usize = 64;

impl Daemon {
    /// Starts a job. Whatever goes wrong is the job's outcome, told like any other.
    pub(super) fn launch(&mut self, launch: Launch) {
        let id = launch.id;
        if self.jobs.contains_key(&id) {
            return;
        }
        let mut made = false;
        if let Err(failure) = self.try_launch(launch, &mut made) {
            // A folder that was there before is another job's, and so is the record in it.
            self.finish(id, ExitRecord::without_run(failure.into_cause()), made);
        }
    }

    /// `made` tells whether the job's folder is this launch's own.
    fn try_launch(&mut self, launch: Launch, made: &mut bool) -> Result<(), Failure> {
        launch
            .check()
            .map_err(|invalid| Failure::new(StartStep::Policy, 0, invalid.to_string()))?;
        if self.is_full() {
            let detail = "as many jobs run as this worker's max_running";
            return Err(Failure::new(StartStep::Policy, libc::EAGAIN, detail));
        }
        let tenant = Tenant {
            name: launch.tenant.clone(),
        };
        let resolved = self
            .policies
            .resolve(&launch.request, &self.site, &tenant)
            .map_err(|denial| Failure::new(StartStep::Policy, 0, denial.to_string()))?;
        let dir = self
            .dirs
            .make(launch.id)
            .at(StartStep::StateDir, "the job's folder")?;
        *made = true;
        let mut slot = match self.parked.take(&resolved.sandbox, &mut self.clean_up) {
            Some(slot) => slot,
            None => self.sandboxes.spawn(&resolved.sandbox, &resolved.spec.limits)?,
        };
        self.parked.wanted(&resolved.sandbox, &resolved.spec.limits);
        let id = launch.id;
        let watched = self.watch(&slot.control);
        let handed_over = watched.and_then(|token| {
            hand_over(&mut slot, launch, resolved, &dir, self.dirs.outputs()).map(|()| token)
        });
        match handed_over {
            Ok(token) => {
                self.launched += 1;
                self.keep(id, token, Keeper::Own(Box::new(slot)));
                self.shed_for(id);
                Ok(())
            }
            Err(failure) => {
                let failure = slot.last_words().unwrap_or(failure);
                // Its end would wake this process without a pause, until it is reaped.
                self.unwatch(&slot.control);
                // Its supervisor, hung up on before it has a job, ends; then its cgroup can go.
                self.clean_up.add_slot(slot, None);
                Err(failure)
            }
        }
    }

    /// Has an old job hold less, now that `id` runs.
    fn shed_for(&mut self, id: JobId) {
        self.whole.push_back(id);
        if self.whole.len() > WHOLE
            && let Some(oldest) = self.whole.pop_front()
            && let Some(Keeper::Own(slot)) = self.jobs.get_mut(&oldest).map(|job| &mut job.keeper)
        {
            slot.berth.shed();
        }
    }

    /// The server keeps within the limit by itself; one that is taken over might not.
    fn is_full(&self) -> bool {
        let most = self.config.worker.max_running as usize;
        self.jobs.len() >= most && self.jobs.values().filter(|job| !job.told).count() >= most
    }

    pub(super) fn stop(&mut self, id: JobId, order: &StopOrder) {
        if let Err(invalid) = order.check() {
            return eprintln!("stockade: launcher: job {id}: stop order: {invalid}");
        }
        match self.jobs.get_mut(&id).map(|job| &mut job.keeper) {
            Some(Keeper::Own(slot)) => {
                // After it: an order that is noted is not given again.
                if slot.tell(&ToSupervisor::Stop(order.clone())) {
                    self.note_stop(id, order);
                }
            }
            Some(Keeper::Adopted { pidfd, dir, .. }) => {
                if let Err(error) = write_stop_order(dir, order) {
                    eprintln!("stockade: launcher: job {id}: stop order: {error}");
                }
                let _ = fault_point!("launcher.stop-noted");
                let _ = pidfd_send_signal(pidfd, ProcessSignal::TERM);
            }
            None => self.tell_unknown(id),
        }
    }

    /// For a server that starts anew. Of a job that has just ended there is nothing to note.
    fn note_stop(&self, id: JobId, order: &StopOrder) {
        let noted = match self.dirs.existing_unlocked(id) {
            Ok(dir) => write_stop_order(dir, order),
            Err(error) if is_absence(&error) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            eprintln!("stockade: launcher: job {id}: stop order: {error}");
        }
    }

    pub(super) fn signal(&mut self, id: JobId, signal: Signal) {
        match self.jobs.get_mut(&id).map(|job| &mut job.keeper) {
            Some(Keeper::Own(slot)) => {
                slot.tell(&ToSupervisor::Signal(signal));
            }
            Some(Keeper::Adopted { pidfd, .. }) => {
                use std::os::fd::AsFd;
                let _ = sys::queue_signal(pidfd.as_fd(), FORWARD_SIGNAL, signal.number());
            }
            None => self.tell_unknown(id),
        }
    }

    /// But one whose end is about to be told.
    fn tell_unknown(&mut self, id: JobId) {
        if !self.clean_up.owes(id) {
            self.server.send(&Event::Unknown { id });
        }
    }

    /// Makes sandboxes for the next jobs while nobody waits for one.
    pub(super) fn prepare_ahead(&mut self) {
        if self.parked.is_unused() {
            let request = JobRequest {
                argv: vec!["true".to_owned()],
                ..JobRequest::default()
            };
            let tenant = Tenant { name: String::new() };
            if let Ok(resolved) = self.policies.resolve(&request, &self.site, &tenant) {
                self.parked.wanted(&resolved.sandbox, &resolved.spec.limits);
            }
        }
        if let Err(failure) = self.parked.fill_one(&mut self.sandboxes, &mut self.clean_up) {
            eprintln!("stockade: launcher: prepare a sandbox: {failure}");
        }
    }
}

/// Gives a sandbox its job. After an error the supervisor has none.
fn hand_over(
    slot: &mut Slot,
    launch: Launch,
    resolved: Resolved,
    dir: &OwnedFd,
    outputs: &OwnedFd,
) -> Result<(), Failure> {
    // Before the job runs: a launcher that dies after this line leaves a job that can be taken over.
    write_job_file(dir, &job_file(&launch, &resolved.policy, slot)).at(StartStep::StateDir, "job file")?;
    let limits = resolved.spec.limits;
    slot.go(go(resolved, launch), &limits, &[dir, outputs])?;
    fault_point!("launcher.handed-over").at(StartStep::Supervisor, "hand over")
}

fn go(resolved: Resolved, launch: Launch) -> Go {
    Go {
        output_folder: Some(launch.id.to_string()),
        spec: resolved.spec,
        receipt: Receipt::default(),
        require: launch.request.require,
        ends_with_launcher: false,
    }
}

/// What is written beside a job before it is let go.
fn job_file(launch: &Launch, policy: &str, slot: &Slot) -> JobFile {
    JobFile {
        format: FORMAT,
        tenant: launch.tenant.clone(),
        policy: policy.to_owned(),
        created_at: launch.created_at,
        idempotency_key: launch.idempotency_key.clone(),
        supervisor_pid: slot.supervisor.as_raw_nonzero().get(),
        cgroup: slot.berth.cgroup_name.clone(),
    }
}
