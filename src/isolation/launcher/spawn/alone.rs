//! The supervisor of a launcher that has one job: forked before it is known which, and told afterwards.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::{Sandboxes, files_closed, fork};
use crate::isolation::failure::{At, Failure};
use crate::isolation::ipc::Channel;
use crate::isolation::launcher::berth::Berth;
use crate::isolation::launcher::slot::{Slot, last_words};
use crate::isolation::sandbox::namespaces::NamespaceIds;
use crate::isolation::sandbox::network::NetworkNamespace;
use crate::isolation::supervisor::{self, Alone, Decided, Report, ToSupervisor};
use crate::job::{Limits, Root, SandboxSpec, StartStep};
use crate::sys::{self, fault_point};

/// A supervisor that knows no job yet. Dropped, it ends.
#[derive(Debug)]
pub(in crate::isolation::launcher) struct Lone {
    pid: Pid,
    /// `None` once it is a slot's.
    control: Option<Channel>,
}

impl Lone {
    /// Forks it, before it is known which job it gets: it begins with what all sandboxes have.
    pub(in crate::isolation::launcher) fn fork(by_user: bool) -> Result<Self, Failure> {
        let cpu = sys::CpuHeld::by_this_thread();
        let forked = fork(None, |control| {
            cpu.release();
            supervisor::supervise_alone(&Alone { control, by_user })
        });
        // From here on both are at work.
        if let Ok((pid, _)) = forked {
            sys::run_beside(pid);
        }
        cpu.release();
        let (pid, control) = forked?;
        Ok(Self {
            pid,
            control: Some(control),
        })
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        if let Some(control) = self.control.take() {
            // It waits for what will not come.
            drop(control);
            let _ = waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}

impl Sandboxes {
    /// As [`Sandboxes::spawn`], for a launcher of one job: its supervisor lays the root by itself, and meanwhile this
    /// process makes what the job has of cgroups and network, once `prepare` has found it those.
    pub(in crate::isolation::launcher) fn spawn_alone(
        &mut self,
        mut lone: Lone,
        sandbox: &Arc<SandboxSpec>,
        limits: &Limits,
        prepare: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<Slot, Failure> {
        let Some(control) = lone.control.take() else {
            return Err(Failure::new(StartStep::Supervisor, 0, "it has its job"));
        };
        let berth = self
            .send_kind(sandbox, limits, &control)
            .and_then(|()| prepare(self))
            .and_then(|()| self.check_limits(sandbox))
            .and_then(|()| self.send_berth(sandbox, &control));
        match berth {
            Ok(berth) => Ok(self.slot((lone.pid, None, control), berth, sandbox)),
            Err(failure) => {
                lone.control = Some(control);
                Err(failure)
            }
        }
    }

    /// The lock that holds the ids is the supervisor's alone from here on.
    fn send_kind(
        &mut self,
        sandbox: &SandboxSpec,
        limits: &Limits,
        control: &Channel,
    ) -> Result<(), Failure> {
        let lease = self.lease(sandbox)?;
        let message = ToSupervisor::Sandbox(Box::new(Decided {
            sandbox: sandbox.clone(),
            limits: *limits,
            ids: lease.ids.ids,
            user_namespace: lease.user_namespace.is_some(),
        }));
        let mut descriptors = vec![lease.ids.lock.as_fd()];
        descriptors.extend(lease.user_namespace.as_ref().map(AsFd::as_fd));
        tell(control, &message, &descriptors)
    }

    /// Its limits are set when it gets its job; see [`Slot::go`].
    fn send_berth(&mut self, sandbox: &SandboxSpec, control: &Channel) -> Result<Berth, Failure> {
        let own_network = !self.standing.is_user();
        let own_namespaces = self.own_namespaces()?;
        let berth = self.berths.make_bare(sandbox, own_network)?;
        match tell_berth(&berth, &own_namespaces, control) {
            Ok(()) => Ok(berth),
            Err(failure) => {
                self.berths.give_back(berth);
                Err(failure)
            }
        }
    }
}

fn tell_berth(berth: &Berth, launcher_namespaces: &NamespaceIds, control: &Channel) -> Result<(), Failure> {
    let cgroup = berth.cgroup.handles().ok_or_else(files_closed)?;
    let mut descriptors: Vec<_> = cgroup.descriptors().collect();
    descriptors.extend(berth.network.as_ref().map(NetworkNamespace::as_fd));
    let message = ToSupervisor::Berth {
        cgroup: cgroup.shape(),
        network: berth.network.is_some(),
        launcher_namespaces: *launcher_namespaces,
    };
    tell(control, &message, &descriptors)
}

/// Writes /etc of a root that its supervisor lays in place.
pub(in crate::isolation::launcher) fn write_etc(slot: &Slot) -> Result<(), Failure> {
    let control = &slot.control;
    if slot.sandbox.root == Root::Writable {
        return Ok(());
    }
    fault_point!("launcher.etc").at(StartStep::Rootfs, "etc")?;
    loop {
        match control.try_receive_with() {
            Ok(Some((Report::Etc(etc), folder))) => {
                let folder = folder
                    .first()
                    .ok_or_else(|| unheard("no folder for etc".to_owned()))?;
                return etc.write(folder).at(StartStep::Rootfs, "etc");
            }
            Ok(Some((Report::Failed(failure), _))) => return Err(failure),
            Ok(Some(_)) => {}
            Ok(None) => {
                let _ = poll(&mut [PollFd::new(control, PollFlags::IN)], None);
            }
            Err(error) => return Err(unheard(error.to_string())),
        }
    }
}

/// Tells a supervisor what it is forked without.
fn tell(control: &Channel, message: &ToSupervisor, descriptors: &[BorrowedFd<'_>]) -> Result<(), Failure> {
    match control.try_send_with(message, descriptors) {
        Ok(true) => Ok(()),
        Ok(false) => Err(unheard("the supervisor takes no message".to_owned())),
        // One that could not lay the root has said why, and gone.
        Err(error) => Err(last_words(control).unwrap_or_else(|| unheard(error.to_string()))),
    }
}

fn unheard(detail: String) -> Failure {
    Failure::new(StartStep::Supervisor, 0, detail)
}
