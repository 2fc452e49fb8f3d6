//! Makes sandboxes: a supervisor in new namespaces, with a stub in a cgroup, ready for a job.

mod alone;

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::process::Pid;

use super::berth::{Berth, Berths};
use super::ids::{IdLease, IdPool};
use super::pumps::Pumps;
use super::slot::{Slot, limit_failure};
use super::standing::Standing;
use crate::isolation::cgroup::{CgroupTree, Version};
use crate::isolation::failure::{At, Failure};
use crate::isolation::ipc::{self, Channel};
use crate::isolation::sandbox::identity::{self, ids_needed};
use crate::isolation::sandbox::landlock;
use crate::isolation::sandbox::namespaces::{self, NamespaceIds};
use crate::isolation::sandbox::network::NetworkNamespace;
use crate::isolation::sandbox::proc;
use crate::isolation::sandbox::template::Template;
use crate::isolation::supervisor::{self, Assembly, Inherited, Origin, Site};
use crate::job::{Enforcement, IsolationCeiling, Limits, Root, SandboxSpec, StartStep};
use crate::sys::{self, Forked, fault_point};
pub(super) use alone::{Lone, write_etc};

/// What all sandboxes of one launcher are made from.
#[derive(Debug)]
pub(super) struct Sandboxes {
    standing: Standing,
    berths: Berths,
    /// Where supervisors are, apart from the jobs.
    supervisors: Option<OwnedFd>,
    ids: IdPool,
    /// Read when they are first asked for: a launcher of one job has forked its supervisor by then.
    own_namespaces: OnceCell<NamespaceIds>,
    /// Found when it is first asked for.
    inherited: OnceCell<Inherited>,
    pumps: Pumps,
    /// One for each kind of sandbox in use, the last used first.
    templates: VecDeque<(Arc<SandboxSpec>, Arc<Template>)>,
}

/// What no other living sandbox has.
struct Lease {
    ids: IdLease,
    /// Made ahead of time, where the root needs its id mapping.
    user_namespace: Option<OwnedFd>,
}

/// Kinds of sandbox whose template is kept.
const TEMPLATES: usize = 16;

impl Sandboxes {
    pub(super) fn new(standing: Standing, berths: Berths, supervisors: Option<OwnedFd>, ids: IdPool) -> Self {
        Self {
            standing,
            berths,
            supervisors,
            ids,
            own_namespaces: OnceCell::new(),
            inherited: OnceCell::new(),
            pumps: Pumps::default(),
            templates: VecDeque::new(),
        }
    }

    /// What no job here can have more of.
    #[must_use]
    pub(super) fn ceiling(&self) -> IsolationCeiling {
        IsolationCeiling {
            landlock_abi: landlock::usable_abi(),
            cgroups: self.cgroups().version() != Version::Absent,
        }
    }

    #[must_use]
    pub(super) const fn cgroups(&self) -> &CgroupTree {
        self.berths.cgroups()
    }

    /// For a launcher that knows them only now.
    pub(super) fn use_cgroups(&mut self, cgroups: CgroupTree) {
        self.berths.use_cgroups(cgroups);
    }

    /// Forks a supervisor that builds a sandbox of this kind with these limits.
    pub(super) fn spawn(&mut self, sandbox: &Arc<SandboxSpec>, limits: &Limits) -> Result<Slot, Failure> {
        self.check_limits(sandbox)?;
        let template = self.template(sandbox)?;
        // A network namespace made in this process could not be left again by an ordinary user.
        let own_network = !self.standing.is_user();
        let mut berth = self.berths.take(sandbox, &template, own_network)?;
        match self.fork_into(&mut berth, sandbox, limits, &template) {
            Ok(forked) => Ok(self.slot(forked, berth, sandbox)),
            Err(failure) => {
                self.berths.give_back(berth);
                Err(failure)
            }
        }
    }

    /// A sandbox with its supervisor, the pump that it may have, and the connection to it.
    fn slot(
        &self,
        (supervisor, pump, control): (Pid, Option<Pid>, Channel),
        berth: Berth,
        sandbox: &Arc<SandboxSpec>,
    ) -> Slot {
        Slot {
            supervisor,
            pump,
            reaped: false,
            control,
            told_more: false,
            berth,
            sandbox: Arc::clone(sandbox),
            weaker: self.standing.weaker(sandbox),
        }
    }

    /// Has a sandbox made ready for another job, of which its supervisor says that nothing of the last one is left in it.
    /// False where the launcher finds otherwise, or its supervisor does not listen.
    pub(super) fn ready_again(slot: &mut Slot, limits: &Limits, beside_many: bool) -> bool {
        slot.berth.renew() && slot.again(limits, beside_many).is_ok()
    }

    fn check_limits(&self, sandbox: &SandboxSpec) -> Result<(), Failure> {
        let unlimited = self.cgroups().version() == Version::Absent;
        if unlimited && sandbox.limits == Enforcement::FailClosed {
            return Err(no_limits());
        }
        Ok(())
    }

    fn fork_into(
        &mut self,
        berth: &mut Berth,
        sandbox: &SandboxSpec,
        limits: &Limits,
        template: &Template,
    ) -> Result<(Pid, Option<Pid>, Channel), Failure> {
        berth
            .cgroup
            .apply(limits)
            .map_err(|error| limit_failure(&error))?;
        let cgroup = berth.cgroup.handles().ok_or_else(files_closed)?;
        let inherited = self.inherited()?;
        let launcher_namespaces = self.own_namespaces()?;
        let lease = self.lease(sandbox)?;
        let pump = match berth.room {
            Some(_) => {
                let beside = self.supervisors.as_ref().map(AsFd::as_fd);
                Some(self.pumps.fork(&mut self.ids, beside, inherited.start)?)
            }
            None => None,
        };
        let (pump, pumps) = pump.unzip();
        let forked = fork(self.supervisors.as_ref().map(AsFd::as_fd), |control| {
            let origin = Origin {
                control,
                sandbox,
                limits,
                ids: lease.ids.ids,
                ids_lock: lease.ids.lock.as_fd(),
                user_namespace: lease.user_namespace.as_ref().map(AsFd::as_fd),
                inherited,
                pump: pumps.as_ref(),
            };
            let assembly = Assembly {
                site: Site {
                    origin,
                    template,
                    room: berth.room.as_ref(),
                },
                network: berth.network.as_ref().map(NetworkNamespace::as_fd),
                cgroup,
                launcher_namespaces: &launcher_namespaces,
            };
            if berth.room.is_some() {
                supervisor::series::serve(&assembly)
            } else {
                supervisor::single::supervise(&assembly)
            }
        });
        match forked {
            Ok((supervisor, control)) => Ok((supervisor, pump, control)),
            Err(failure) => {
                self.pumps.end(pump);
                Err(failure)
            }
        }
    }

    /// What a sandbox of this kind has to itself before it is made.
    fn lease(&mut self, sandbox: &SandboxSpec) -> Result<Lease, Failure> {
        let ids = self
            .ids
            .lease(ids_needed(sandbox.identity))
            .at(StartStep::Identity, "host ids")?;
        let user_namespace = match sandbox.root {
            // Its overlays show the host's files with the ids of the job's own user namespace.
            Root::Writable => {
                let proc = proc::open_own()?;
                let made = identity::make_namespaces(proc.as_fd(), sandbox.identity, ids.ids);
                Some(made?.user)
            }
            Root::ReadOnly => None,
        };
        Ok(Lease { ids, user_namespace })
    }

    fn inherited(&self) -> Result<Inherited, Failure> {
        if let Some(found) = self.inherited.get() {
            return Ok(*found);
        }
        let found = Inherited::find()?;
        Ok(*self.inherited.get_or_init(|| found))
    }

    fn own_namespaces(&self) -> Result<NamespaceIds, Failure> {
        if let Some(known) = self.own_namespaces.get() {
            return Ok(*known);
        }
        let known = namespaces::of_self()?;
        Ok(*self.own_namespaces.get_or_init(|| known))
    }

    /// Takes back what a sandbox has left, once its supervisor has been reaped.
    pub(super) fn take_back(&mut self, slot: Slot) {
        self.pumps.end(slot.pump);
        self.berths.give_back(slot.berth);
    }

    #[must_use]
    pub(super) const fn pumps(&mut self) -> &mut Pumps {
        &mut self.pumps
    }

    #[must_use]
    pub(super) const fn berths(&mut self) -> &mut Berths {
        &mut self.berths
    }

    /// Takes down what was kept for later.
    pub(super) fn close(&mut self) {
        self.berths.close();
    }

    fn template(&mut self, sandbox: &Arc<SandboxSpec>) -> Result<Arc<Template>, Failure> {
        let known = self
            .templates
            .iter()
            .position(|(spec, _)| Arc::ptr_eq(spec, sandbox) || **spec == **sandbox);
        let entry = match known.and_then(|index| self.templates.remove(index)) {
            Some(entry) => entry,
            None => {
                let template = Template::build(sandbox, self.standing.is_user())?;
                (Arc::clone(sandbox), Arc::new(template))
            }
        };
        let template = Arc::clone(&entry.1);
        self.templates.push_front(entry);
        self.templates.truncate(TEMPLATES);
        Ok(template)
    }
}

/// Forks a process for a sandbox, in the namespaces that it has from its birth. It ends with its `life`.
fn fork(cgroup: Option<BorrowedFd<'_>>, life: impl FnOnce(&Channel)) -> Result<(Pid, Channel), Failure> {
    fault_point!("launcher.channel").at(StartStep::Supervisor, "socketpair")?;
    let (control, supervisors_end) =
        ipc::pair().map_err(|error| Failure::new(StartStep::Supervisor, 0, error.to_string()))?;
    // SAFETY: the launcher has one thread.
    let forked = unsafe { sys::clone_into(NAMESPACES, cgroup) };
    match forked.at(StartStep::Namespaces, "clone3")? {
        Forked::Child => {
            life(&supervisors_end);
            sys::exit_now(0)
        }
        Forked::Parent(pid) => {
            fault_point!("launcher.forked").at(StartStep::Namespaces, "clone3")?;
            Ok((pid, control))
        }
    }
}

fn files_closed() -> Failure {
    Failure::new(StartStep::Cgroup, 0, "its files are closed")
}

fn no_limits() -> Failure {
    let detail =
        "this host has no cgroup hierarchy that can be used, and the policy's sandbox.limits is fail-closed";
    Failure::new(StartStep::Cgroup, 0, detail)
}

/// Those that a supervisor is cloned into. It makes its mount namespace itself, from a room or a template, and enters
/// a network namespace that was made ahead of time. An IPC namespace is its job's alone, and made for the job.
const NAMESPACES: sys::CloneFlags = (libc::CLONE_NEWPID | libc::CLONE_NEWUTS) as sys::CloneFlags;
