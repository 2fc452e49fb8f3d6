//! A sandbox: its supervisor, and what the launcher holds of it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::process::Pid;

use super::berth::Berth;
use crate::isolation::cgroup::{Handles, LimitError, MeterFiles, Version};
use crate::isolation::failure::{At, Failure};
use crate::isolation::ipc::Channel;
use crate::isolation::supervisor::{Again, Go, Report, ToSupervisor};
use crate::job::{Cause, Limits, Network, Receipt, Root, SandboxSpec, StartStep};
use crate::sys::fault_point;

/// A sandbox that waits for its job, or has it.
#[derive(Debug)]
pub(super) struct Slot {
    pub supervisor: Pid,
    /// What moves its output, where its supervisor does not; ends with that.
    pub pump: Option<Pid>,
    /// The supervisor has ended, and with it everything in its pid namespace.
    pub reaped: bool,
    pub control: Channel,
    /// Its supervisor was told something of its job after it was given that.
    pub told_more: bool,
    pub berth: Berth,
    pub sandbox: Arc<SandboxSpec>,
    /// What it lacks for the launcher's lack of privileges.
    pub weaker: Vec<String>,
}

impl Slot {
    #[must_use]
    pub(super) fn is_of(&self, kind: &Arc<SandboxSpec>) -> bool {
        Arc::ptr_eq(&self.sandbox, kind)
    }

    /// Its supervisor lives and has said nothing, so it is at work or waits.
    #[must_use]
    pub(super) fn is_waiting(&self) -> bool {
        self.control.is_silent()
    }

    /// Gives this sandbox its job. `outlets` are the descriptors of [`ToSupervisor::Go`].
    pub(super) fn go(&mut self, go: Go, limits: &Limits, outlets: &[&OwnedFd]) -> Result<(), Failure> {
        fault_point!("launcher.hand-over").at(StartStep::Supervisor, "send")?;
        let mut receipt = self.known_receipt();
        receipt.limits = self
            .berth
            .cgroup
            .apply(limits)
            .map_err(|error| limit_failure(&error))?
            .clone();
        let message = ToSupervisor::Go(Box::new(Go { receipt, ..go }));
        let outlets: Vec<_> = outlets.iter().map(AsFd::as_fd).collect();
        match self.control.try_send_with(&message, &outlets) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(
                StartStep::Supervisor,
                libc::EAGAIN,
                "the supervisor takes no message",
            )),
            // A supervisor that could not build the sandbox has said why, and gone.
            Err(error) => {
                let unheard = || Failure::new(StartStep::Supervisor, 0, error.to_string());
                Err(self.last_words().unwrap_or_else(unheard))
            }
        }
    }

    /// Tells its supervisor something of its job; false where it takes nothing.
    pub(super) fn tell(&mut self, order: &ToSupervisor) -> bool {
        let taken = matches!(self.control.try_send(order), Ok(true));
        self.told_more |= taken;
        taken
    }

    /// Tells its supervisor to make it ready for another job, with these limits.
    pub(super) fn again(&mut self, limits: &Limits, beside_many: bool) -> Result<(), Failure> {
        fault_point!("launcher.again").at(StartStep::Supervisor, "send")?;
        self.berth
            .cgroup
            .apply(limits)
            .map_err(|error| limit_failure(&error))?;
        let cgroup = self.berth.cgroup.new_handles();
        let message = ToSupervisor::Again(Again {
            limits: *limits,
            cgroup: cgroup.map(Handles::shape),
            beside_many,
        });
        let descriptors: Vec<_> = cgroup.into_iter().flat_map(Handles::descriptors).collect();
        match self.control.try_send_with(&message, &descriptors) {
            Ok(true) => {
                self.told_more = false;
                Ok(())
            }
            Ok(false) => Err(Failure::new(
                StartStep::Supervisor,
                libc::EAGAIN,
                "the supervisor takes no message",
            )),
            Err(error) => Err(Failure::new(StartStep::Supervisor, 0, error.to_string())),
        }
    }

    /// What a supervisor said before it ended. It tells more than that nobody takes the job.
    pub(super) fn last_words(&self) -> Option<Failure> {
        last_words(&self.control)
    }

    /// How a job has ended whose supervisor says no more. A supervisor shares its memory with the job's stub until that is
    /// the command: where the job's limit does not let it become that, the kernel kills both. One that was killed before it
    /// received its job, as one that waits is where the worker is short of memory, has begun nothing.
    pub(super) fn end_of_silent(&self, has_started: bool) -> Cause {
        let meter = self.berth.cgroup.handles().map(Handles::meter);
        if !has_started && meter.is_some_and(MeterFiles::has_run_out_unseen) {
            return Cause::OutOfMemory;
        }
        if !has_started && !self.told_more && self.control.has_left_unread() {
            let detail = "its sandbox was killed before it had received the job";
            return Failure::new(StartStep::Supervisor, 0, detail).into_cause();
        }
        Cause::lost_supervisor()
    }

    fn known_receipt(&self) -> Receipt {
        let seccomp = self.sandbox.seccomp.as_ref();
        let mut weaker = self.weaker.clone();
        if self.berth.cgroup.version() == Version::Absent {
            weaker.extend(LIMITS_WITHOUT_CGROUP.map(str::to_owned));
        }
        Receipt {
            weaker,
            cgroup_version: self.berth.cgroup.version().as_str().to_owned(),
            seccomp_profile: seccomp.map_or_else(String::new, |profile| profile.name.clone()),
            seccomp_hash: seccomp.map_or_else(String::new, |profile| profile.hash.clone()),
            seccomp_default_action: seccomp
                .map_or_else(String::new, |profile| profile.default_action.clone()),
            rootfs: match self.sandbox.root {
                Root::ReadOnly => "read-only overlay".to_owned(),
                Root::Writable => "writable overlay".to_owned(),
            },
            network: match self.sandbox.network {
                Network::None => "none".to_owned(),
                Network::Host => "host".to_owned(),
            },
            ..Receipt::default()
        }
    }
}

pub(super) fn last_words(control: &Channel) -> Option<Failure> {
    loop {
        match control.try_receive() {
            Ok(Some(Report::Failed(failure))) => return Some(failure),
            Ok(Some(Report::Etc(_))) => {}
            _ => return None,
        }
    }
}

/// What becomes of the limits that a cgroup would hold, under `limits = "best-effort"`.
const LIMITS_WITHOUT_CGROUP: [&str; 4] = [
    "limits.memory: no cgroup: each process alone is limited (RLIMIT_DATA)",
    "limits.pids: no cgroup: held by RLIMIT_NPROC",
    "limits.cpus: no cgroup: not limited",
    "limits.cpu_time: no cgroup: each process alone is limited (RLIMIT_CPU)",
];

pub(super) fn limit_failure(error: &LimitError) -> Failure {
    Failure::new(StartStep::CgroupLimit, error.errno(), error.to_string())
}
