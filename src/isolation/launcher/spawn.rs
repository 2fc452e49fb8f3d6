//! Makes sandboxes: a supervisor in new namespaces, with a stub in a cgroup of its own, ready for a job.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, chroot, fchdir};

use super::ids::{IdLease, IdPool};
use crate::isolation::cgroup::{CgroupTree, JobCgroup, LimitError};
use crate::isolation::failure::{At, Failure};
use crate::isolation::ipc::{self, Channel};
use crate::isolation::sandbox::identity::{self, ids_needed};
use crate::isolation::sandbox::receipt::{self, NamespaceIds};
use crate::isolation::sandbox::template::Template;
use crate::isolation::supervisor::{self, Assembly, Go, Report, ToSupervisor};
use crate::job::{Limits, Network, Receipt, Root, SandboxSpec, StartStep};
use crate::sys::{self, Forked, StartMemory, fault_point};

/// What all sandboxes of one launcher are made from.
#[derive(Debug)]
pub(super) struct Sandboxes {
    cgroups: CgroupTree,
    /// Where supervisors are, apart from the jobs.
    supervisors: Option<OwnedFd>,
    ids: IdPool,
    home: Home,
    own_namespaces: NamespaceIds,
    own_start: StartMemory,
    /// One for each kind of sandbox in use, the last used first.
    templates: VecDeque<(Arc<SandboxSpec>, Arc<Template>)>,
    next_name: u64,
    /// Begins the names of the cgroups.
    prefix: String,
}

/// Kinds of sandbox whose template is kept.
const TEMPLATES: usize = 16;

/// A sandbox that waits for its job, or has it.
#[derive(Debug)]
pub(super) struct Slot {
    pub supervisor: Pid,
    pub control: Channel,
    pub cgroup: JobCgroup,
    pub cgroup_name: String,
    pub sandbox: Arc<SandboxSpec>,
    /// Holds the job's host ids for as long as this or the supervisor's copy is open.
    _ids: IdLease,
}

/// The launcher's own place, to come back to from a template's mount namespace.
#[derive(Debug)]
struct Home {
    mount_namespace: OwnedFd,
    root: OwnedFd,
    working_dir: OwnedFd,
}

impl Home {
    fn remember() -> Result<Self, Failure> {
        let folder = |path: &str| {
            open(
                path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .at(StartStep::Supervisor, "open the launcher's own folders")
        };
        let namespace = open(
            "/proc/self/ns/mnt",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        Ok(Self {
            mount_namespace: namespace.at(StartStep::Supervisor, "/proc/self/ns/mnt")?,
            root: folder("/")?,
            working_dir: folder(".")?,
        })
    }

    /// setns(2) leaves root and working directory at the namespace's own root, which is not ours after a chroot.
    fn come_back(&self) -> Result<(), rustix::io::Errno> {
        sys::enter_namespace(self.mount_namespace.as_fd(), libc::CLONE_NEWNS)?;
        fchdir(&self.root)?;
        chroot(".")?;
        fchdir(&self.working_dir)
    }
}

impl Sandboxes {
    /// `prefix` begins the names of the cgroups made in `cgroups`.
    pub(super) fn new(
        cgroups: CgroupTree,
        supervisors: Option<OwnedFd>,
        ids: IdPool,
        prefix: &str,
    ) -> Result<Self, Failure> {
        // Most hosts give it enough already, or do not let it have more.
        let _ = sys::raise_open_files();
        Ok(Self {
            cgroups,
            supervisors,
            ids,
            home: Home::remember()?,
            own_namespaces: receipt::namespace_ids("self"),
            own_start: StartMemory::find().at(StartStep::Supervisor, "/proc/self/stat")?,
            templates: VecDeque::new(),
            next_name: 0,
            prefix: prefix.to_owned(),
        })
    }

    #[must_use]
    pub(super) const fn cgroups(&self) -> &CgroupTree {
        &self.cgroups
    }

    /// Builds what sandboxes of this kind have in common, if it is not there yet.
    pub(super) fn prepare(&mut self, sandbox: &Arc<SandboxSpec>) -> Result<(), Failure> {
        self.template(sandbox).map(drop)
    }

    /// Forks a supervisor that builds a sandbox of this kind with these limits.
    pub(super) fn spawn(&mut self, sandbox: &Arc<SandboxSpec>, limits: &Limits) -> Result<Slot, Failure> {
        let template = self.template(sandbox)?;
        let cgroup_name = format!("{}{}", self.prefix, self.next_name);
        self.next_name += 1;
        let mut cgroup = self
            .cgroups
            .make_job(&cgroup_name)
            .map_err(|error| Failure::new(StartStep::Cgroup, 0, error.to_string()))?;
        let result = self.fork_supervisor(sandbox, limits, &template, &mut cgroup);
        match result {
            Ok((supervisor, control, ids)) => Ok(Slot {
                supervisor,
                control,
                cgroup,
                cgroup_name,
                sandbox: Arc::clone(sandbox),
                _ids: ids,
            }),
            Err(failure) => {
                let _ = cgroup.remove();
                Err(failure)
            }
        }
    }

    fn fork_supervisor(
        &mut self,
        sandbox: &Arc<SandboxSpec>,
        limits: &Limits,
        template: &Template,
        cgroup: &mut JobCgroup,
    ) -> Result<(Pid, Channel, IdLease), Failure> {
        cgroup.apply(limits).map_err(|error| limit_failure(&error))?;
        let meter = cgroup
            .meter_files()
            .map_err(|error| Failure::new(StartStep::Cgroup, 0, error.to_string()))?;
        let ids = self
            .ids
            .lease(ids_needed(sandbox.identity))
            .at(StartStep::Identity, "host ids")?;
        let user_namespace = match sandbox.root {
            // Its overlays show the host's files with the ids of the job's own user namespace.
            Root::Writable => Some(identity::make_user_namespace(sandbox.identity, ids.ids)?),
            Root::ReadOnly => None,
        };
        let (control, supervisors_end) =
            ipc::pair().map_err(|error| Failure::new(StartStep::Supervisor, 0, error.to_string()))?;
        fault_point!("launcher.channel").at(StartStep::Supervisor, "socketpair")?;
        sys::enter_namespace(template.mount_namespace.as_fd(), libc::CLONE_NEWNS)
            .at(StartStep::Rootfs, "template")?;
        // SAFETY: the launcher has one thread.
        let forked =
            unsafe { sys::clone_into(namespaces(sandbox), self.supervisors.as_ref().map(AsFd::as_fd)) };
        if let Ok(Forked::Child) = forked {
            supervisor::supervise(Assembly {
                control: &supervisors_end,
                sandbox,
                template,
                limits,
                attach: cgroup.attach(),
                clone_into: cgroup.clone_into(),
                meter,
                ids: ids.ids,
                ids_lock: ids.lock.as_fd(),
                user_namespace: user_namespace.as_ref().map(AsFd::as_fd),
                launcher_namespaces: &self.own_namespaces,
                launcher_start: self.own_start,
            })
        }
        self.home
            .come_back()
            .at(StartStep::Supervisor, "leave the template")?;
        fault_point!("launcher.forked").at(StartStep::Namespaces, "clone3")?;
        match forked.at(StartStep::Namespaces, "clone3")? {
            Forked::Parent(pid) => Ok((pid, control, ids)),
            Forked::Child => sys::exit_now(125),
        }
    }

    fn template(&mut self, sandbox: &Arc<SandboxSpec>) -> Result<Arc<Template>, Failure> {
        let known = self
            .templates
            .iter()
            .position(|(spec, _)| Arc::ptr_eq(spec, sandbox) || **spec == **sandbox);
        let entry = match known.and_then(|index| self.templates.remove(index)) {
            Some(entry) => entry,
            None => (Arc::clone(sandbox), Arc::new(Template::build(sandbox)?)),
        };
        let template = Arc::clone(&entry.1);
        self.templates.push_front(entry);
        self.templates.truncate(TEMPLATES);
        Ok(template)
    }
}

impl Slot {
    /// Its supervisor lives and has said nothing, so it is at work or waits.
    #[must_use]
    pub(super) fn is_waiting(&self) -> bool {
        let mut look = [PollFd::new(&self.control, PollFlags::IN)];
        matches!(
            poll(
                &mut look,
                Some(&Timespec {
                    tv_sec: 0,
                    tv_nsec: 0
                })
            ),
            Ok(0)
        )
    }

    /// Gives this sandbox its job. `outlets` are stdout, stderr and, for a job with state, its folder.
    pub(super) fn go(&mut self, go: Go, limits: &Limits, outlets: &[&OwnedFd]) -> Result<(), Failure> {
        fault_point!("launcher.hand-over").at(StartStep::Supervisor, "send")?;
        let mut receipt = self.known_receipt();
        receipt.limits = self
            .cgroup
            .apply(limits)
            .map_err(|error| limit_failure(&error))?
            .clone();
        let message = ToSupervisor::Go(Box::new(Go { receipt, ..go }));
        let bytes = postcard::to_stdvec(&message)
            .map_err(|error| Failure::new(StartStep::Supervisor, 0, error.to_string()))?;
        let outlets: Vec<_> = outlets.iter().map(AsFd::as_fd).collect();
        match self.control.try_send_with(&bytes, &outlets) {
            Ok(true) => Ok(()),
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
        match self.control.try_receive() {
            Ok(Some(Report::Failed(failure))) => Some(failure),
            _ => None,
        }
    }

    fn known_receipt(&self) -> Receipt {
        let seccomp = self.sandbox.seccomp.as_ref();
        Receipt {
            cgroup_version: self.cgroup.version().as_str().to_owned(),
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

fn limit_failure(error: &LimitError) -> Failure {
    Failure::new(StartStep::CgroupLimit, error.errno(), error.to_string())
}

fn namespaces(sandbox: &SandboxSpec) -> sys::CloneFlags {
    let always = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    let network = match sandbox.network {
        Network::None => libc::CLONE_NEWNET,
        Network::Host => 0,
    };
    u64::try_from(always | network).unwrap_or(0)
}

/// The folder for what is shared by all workers of this machine while it is up.
pub fn run_dir() -> std::io::Result<&'static Path> {
    use std::os::unix::fs::DirBuilderExt;
    let path = Path::new("/run/stockade");
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(path),
    }
}
