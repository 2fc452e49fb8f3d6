//! The parts of a sandbox that outlast its job, and serve another if they are as new.
//!
//! Making and taking down a network namespace, cgroups and overlays costs the kernel several times what a process
//! costs. A berth is one job's at a time. It is given to another only after the kernel has told PID 1 of the last that
//! no process is left, or has taken down its pid namespace: so no descriptor and no lock is left either; and only if
//! the cgroup and the network namespace show nothing of it. Everything that a job can write to is never part of a berth.

use std::sync::Arc;

use crate::isolation::cgroup::{CgroupTree, JobCgroup};
use crate::isolation::failure::{At, Failure};
use crate::isolation::sandbox::network::NetworkNamespace;
use crate::isolation::sandbox::room::Room;
use crate::isolation::sandbox::template::Template;
use crate::job::{Network, SandboxSpec, StartStep};
use crate::sys::fault_point;

/// How many wait for their next job at most.
const MOST_IDLE: usize = 32;

#[derive(Debug)]
pub(super) struct Berth {
    pub cgroup: JobCgroup,
    pub cgroup_name: String,
    /// `None` where the job shares the host's network, where it keeps its own for good, or where its supervisor makes it.
    pub network: Option<NetworkNamespace>,
    /// `None` where jobs write to their root.
    pub room: Option<Room>,
    /// `None` where no other job comes.
    template: Option<Arc<Template>>,
    /// Everything in the cgroup was killed at once.
    pub killed: bool,
}

impl Berth {
    /// Lets go of descriptors that a running job does not need: it is not used again.
    pub(super) fn shed(&mut self) {
        self.cgroup.close();
        self.network = None;
        self.room = None;
    }

    /// Makes it ready for another job; false if it shows anything of the last one.
    pub(super) fn renew(&mut self) -> bool {
        let network = self.network.as_ref().is_none_or(NetworkNamespace::is_as_new);
        let renewed = network && matches!(self.cgroup.renew(self.killed), Ok(true));
        // One that could not be made anew is looked at once more, and must not pass for one that nobody killed.
        self.killed &= !renewed;
        renewed
    }
}

#[derive(Debug)]
pub(super) struct Berths {
    cgroups: CgroupTree,
    /// Of jobs that are over, not looked at yet.
    used: Vec<Berth>,
    stuck: Vec<String>,
    next_name: u64,
    /// Begins the names of the cgroups.
    prefix: String,
    /// Whether more than one job comes.
    reuse: bool,
}

impl Berths {
    pub(super) fn new(cgroups: CgroupTree, prefix: &str, reuse: bool) -> Self {
        Self {
            cgroups,
            used: Vec::new(),
            stuck: Vec::new(),
            next_name: 0,
            prefix: prefix.to_owned(),
            reuse,
        }
    }

    pub(super) fn use_cgroups(&mut self, cgroups: CgroupTree) {
        self.cgroups = cgroups;
    }

    #[must_use]
    pub(super) const fn cgroups(&self) -> &CgroupTree {
        &self.cgroups
    }

    /// One that no job has, for a sandbox of this kind. Without `own_network` the supervisor makes that.
    pub(super) fn take(
        &mut self,
        sandbox: &SandboxSpec,
        template: &Arc<Template>,
        own_network: bool,
    ) -> Result<Berth, Failure> {
        while let Some(index) = self.used.iter().position(|berth| {
            berth
                .template
                .as_ref()
                .is_some_and(|known| Arc::ptr_eq(known, template))
        }) {
            let mut berth = self.used.swap_remove(index);
            if berth.renew() {
                return Ok(berth);
            }
            self.discard(&berth);
        }
        self.make(sandbox, Some(template), own_network)
    }

    /// One whose root its supervisor lays.
    pub(super) fn make_bare(&mut self, sandbox: &SandboxSpec, own_network: bool) -> Result<Berth, Failure> {
        self.make(sandbox, None, own_network)
    }

    fn make(
        &mut self,
        sandbox: &SandboxSpec,
        template: Option<&Arc<Template>>,
        own_network: bool,
    ) -> Result<Berth, Failure> {
        let network = match sandbox.network {
            Network::None if own_network => {
                fault_point!("launcher.network").at(StartStep::Network, "unshare")?;
                let mut network = NetworkNamespace::make()?;
                if self.reuse {
                    network.remember()?;
                }
                Some(network)
            }
            Network::None | Network::Host => None,
        };
        let room = match template {
            Some(template) if self.reuse && Room::fits(sandbox) => {
                fault_point!("launcher.room").at(StartStep::Rootfs, "room")?;
                Some(Room::lay(template)?)
            }
            _ => None,
        };
        let cgroup_name = format!("{}{}", self.prefix, self.next_name);
        self.next_name += 1;
        let cgroup = self.cgroups.make_job(&cgroup_name).map_err(|error| {
            // For the operator; a client gets the failure.
            eprintln!("stockade: launcher: {error}");
            Failure::new(StartStep::Cgroup, error.errno(), error.without_path())
        })?;
        Ok(Berth {
            cgroup,
            cgroup_name,
            network,
            room,
            template: template.cloned(),
            killed: false,
        })
    }

    /// Takes one back whose last process is gone.
    pub(super) fn give_back(&mut self, berth: Berth) {
        if !self.reuse {
            self.discard(&berth);
            return;
        }
        if self.used.len() >= MOST_IDLE {
            let oldest = self.used.remove(0);
            self.discard(&oldest);
        }
        self.used.push(berth);
    }

    /// Whether some wait for a job.
    #[must_use]
    pub(super) fn idle(&self) -> bool {
        !self.used.is_empty()
    }

    /// Takes one down that waits for a job.
    pub(super) fn trim(&mut self) {
        if let Some(berth) = self.used.pop() {
            self.discard(&berth);
        }
    }

    /// Takes down all that no job has.
    pub(super) fn close(&mut self) {
        for berth in std::mem::take(&mut self.used) {
            self.discard(&berth);
        }
    }

    /// Names of cgroups that could not be removed at once.
    pub(super) fn take_stuck(&mut self) -> Vec<String> {
        std::mem::take(&mut self.stuck)
    }

    fn discard(&mut self, berth: &Berth) {
        if !matches!(berth.cgroup.remove(), Ok(true)) && !self.cgroups.sweep(&berth.cgroup_name) {
            self.stuck.push(berth.cgroup_name.clone());
        }
    }
}
