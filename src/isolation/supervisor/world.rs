//! What of a sandbox its jobs leave as it was: namespaces, a root that nobody writes to, /proc.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use caps::{CapSet, Capability};
use rustix::process::setsid;
use rustix::system::sethostname;

use super::assemble::leave_stdio;
use super::oom_score::OomScore;
use super::{Assembly, Origin, Site};
use crate::isolation::failure::{At, Failure};
use crate::isolation::sandbox::identity;
use crate::isolation::sandbox::namespaces::{self, SharedIds};
use crate::isolation::sandbox::network::NetworkNamespace;
use crate::isolation::sandbox::proc::{self, LastPid};
use crate::isolation::sandbox::rlimits;
use crate::isolation::sandbox::room::Room;
use crate::isolation::sandbox::rootfs::{self, Entered};
use crate::isolation::sandbox::seccomp::Filter;
use crate::isolation::timings::Timings;
use crate::job::{Network, StartStep};
use crate::sys::{self, CapabilitySets, SignalFd, fault_point};

#[derive(Debug)]
pub(super) struct World {
    pub(super) signals: SignalFd,
    pub(super) root: Entered,
    /// A view of /proc that can be written to. A supervisor of one job has it until it knows its stub: then that view, the
    /// job's own, becomes read-only.
    proc: Option<OwnedFd>,
    last_pid: Option<LastPid>,
    pub(super) score: OomScore,
    /// Resource limits that no job's can be above.
    pub(super) most: rlimits::Most,
    /// The user namespace of all jobs to come, where none of them can leave anything in it.
    pub(super) user_namespace: Option<OwnedFd>,
    /// The IPC namespace of the next job, where none before it can have left anything in it.
    pub(super) ipc_namespace: Option<OwnedFd>,
    /// Those that all jobs to come have; where there is one job, `None` before its stub.
    pub(super) namespaces: Option<SharedIds>,
}

impl World {
    /// Makes a fork of the launcher PID 1 of a world of its own. In a room, what is one job's alone is missing yet: its
    /// scratch space.
    pub(super) fn enter(
        assembly: &Assembly<'_>,
        score: OomScore,
        timings: &mut Timings,
    ) -> Result<Self, Failure> {
        fault_point!("supervisor.namespaces").at(StartStep::Namespaces, "mount namespace")?;
        enter_network(assembly)?;
        enter_mount_namespace(&assembly.site)?;
        close_inherited(assembly, &score).at(StartStep::Supervisor, "close_range")?;
        let signals = prepare_process(&assembly.site, timings)?;
        let root = lay_root(&assembly.site)?;
        timings.mark("root of the namespace");
        Self::furnish(&assembly.site, signals, root, score, timings)
    }

    /// As [`World::enter`], for a process that has entered its root, and has no descriptors of others.
    pub(super) fn settle(
        site: &Site<'_>,
        root: Entered,
        score: OomScore,
        timings: &mut Timings,
    ) -> Result<Self, Failure> {
        let signals = prepare_process(site, timings)?;
        Self::furnish(site, signals, root, score, timings)
    }

    fn furnish(
        site: &Site<'_>,
        signals: SignalFd,
        root: Entered,
        score: OomScore,
        timings: &mut Timings,
    ) -> Result<Self, Failure> {
        leave_stdio()?;
        timings.mark("standard streams");
        // The kernel has the close of a view that is mounted nowhere wait for a grace period. With one job the last who closes
        // it would be the stub, on its way to its command.
        let proc = match site.room {
            Some(_) => proc::open_aside()?,
            None => proc::open_own()?,
        };
        let mut world = Self {
            signals,
            root,
            score,
            proc: Some(proc),
            last_pid: None,
            most: rlimits::Most::find()?,
            user_namespace: None,
            ipc_namespace: None,
            namespaces: None,
        };
        if site.room.is_some() {
            world.prepare_for_many(site)?;
        }
        give_up_calls(site)?;
        Ok(world)
    }

    fn prepare_for_many(&mut self, site: &Site<'_>) -> Result<(), Failure> {
        self.make_namespaces(site)?;
        if let Some(proc) = &self.proc {
            let last_pid = LastPid::open(proc.as_fd()).at(StartStep::Proc, "ns_last_pid")?;
            last_pid.reset().at(StartStep::Proc, "ns_last_pid")?;
            self.last_pid = Some(last_pid);
        }
        seal()
    }

    /// Makes anew what stubs join.
    pub(super) fn make_namespaces(&mut self, site: &Site<'_>) -> Result<(), Failure> {
        let (Origin { sandbox, ids, .. }, template) = (site.origin, site.template);
        if let Some(proc) = &self.proc
            && !template.keeps_keys
        {
            fault_point!("supervisor.maps").at(StartStep::Identity, "uid_map")?;
            let made = identity::make_namespaces(proc.as_fd(), sandbox.identity, ids)?;
            self.user_namespace = Some(made.user);
            self.ipc_namespace = template.tells_ipc.then_some(made.ipc);
        }
        let [user, ipc] =
            [&self.user_namespace, &self.ipc_namespace].map(|made| made.as_ref().map(AsFd::as_fd));
        self.namespaces = Some(namespaces::of_all_stubs(user, ipc)?);
        Ok(())
    }

    /// Writes to /proc of a stub. Whoever has no other job gives up to do so.
    pub(super) fn with_proc(
        &mut self,
        write: impl FnOnce(BorrowedFd<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Some(proc) = &self.proc else {
            return Err(Failure::new(StartStep::Proc, 0, "sealed"));
        };
        write(proc.as_fd())?;
        if self.namespaces.is_none() {
            self.proc = None;
            seal()?;
        }
        Ok(())
    }

    /// Does a little of what [`World::finish_root`] is for, rather than wait; false where there is nothing like that to do.
    pub(super) fn go_on_with_root(&mut self, site: &Site<'_>) -> Result<bool, Failure> {
        match &mut self.root.unfinished {
            Some(unfinished) => unfinished.cover_more(site.origin.sandbox, site.template),
            None => Ok(false),
        }
    }

    /// From here on no mount of the host's is left in it, and /proc shows nothing that jobs are not to see.
    pub(super) fn finish_root(&mut self, site: &Site<'_>) -> Result<(), Failure> {
        fault_point!("supervisor.finish-root").at(StartStep::PivotRoot, "detach the old root")?;
        match self.root.unfinished.take() {
            Some(unfinished) => unfinished.finish(site.origin.sandbox, site.template),
            None => Ok(()),
        }
    }

    /// Once the stub has become the command, `main`.
    pub(super) fn settle_score(&self, main: i32) -> Result<(), Failure> {
        let view = self.proc.as_ref().map(AsFd::as_fd).zip(self.last_pid.as_ref());
        fault_point!("supervisor.score").at(StartStep::Identity, "oom_score_adj")?;
        self.score.after_exec(main, view)
    }

    /// Has the next process be number 2 again.
    pub(super) fn reset_pids(&self) -> bool {
        let reset = |last_pid: &LastPid| last_pid.reset().is_ok();
        self.last_pid.as_ref().is_some_and(reset)
    }
}

/// From here on nobody here writes to /proc but by a view of it that is mounted nowhere, or the launcher's.
fn seal() -> Result<(), Failure> {
    fault_point!("supervisor.proc").at(StartStep::Proc, "read-only")?;
    proc::seal()
}

/// Calls that no stub's filter looks at any more.
fn give_up_calls(site: &Site<'_>) -> Result<(), Failure> {
    let filter = site.template.filter.as_ref().and_then(Filter::of_supervisor);
    fault_point!("supervisor.seccomp").at(StartStep::Seccomp, "supervisor's filter")?;
    filter
        .map_or(Ok(()), sys::install_seccomp)
        .at(StartStep::Seccomp, "supervisor's filter")
}

/// What making a sandbox ready and supervising one job after another takes; of those that the launcher has. Not
/// CAP_SYS_RESOURCE, as OOM scores must not be set with it.
const KEPT: [Capability; 7] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_KILL,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_ADMIN,
];

fn keep_capabilities() -> Result<(), Failure> {
    let had = caps::read(None, CapSet::Permitted).map_err(caps_failed)?;
    let kept = KEPT
        .iter()
        .filter(|capability| had.contains(capability))
        .fold(0, |set, capability| set | 1_u64 << capability.index());
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: 0,
    };
    sys::set_capabilities(sets).at(StartStep::Supervisor, "capset")
}

#[allow(clippy::needless_pass_by_value)]
fn caps_failed(error: caps::errors::CapsError) -> Failure {
    Failure::new(StartStep::Supervisor, 0, error.to_string())
}

fn lay_root(site: &Site<'_>) -> Result<Entered, Failure> {
    let origin = site.origin;
    fault_point!("supervisor.root").at(StartStep::Rootfs, "mount")?;
    if site.room.is_some() {
        return rootfs::furnish(origin.sandbox, site.template).map(Entered::new);
    }
    // Files of a writable root belong to the first id of the job's range, which is its root.
    rootfs::assemble(
        origin.sandbox,
        site.template,
        origin.limits,
        origin.ids.first,
        origin.user_namespace,
    )
}

/// Leaves behind what a fork of the launcher inherits: its environment, its session, its signals, its host's name, and
/// privileges that are of no use here.
fn prepare_process(site: &Site<'_>, timings: &mut Timings) -> Result<SignalFd, Failure> {
    // SAFETY: this is a fork of the launcher, and has one thread.
    unsafe { site.origin.inherited.start.erase() };
    fault_point!("supervisor.process").at(StartStep::Supervisor, "setsid")?;
    setsid().at(StartStep::Supervisor, "setsid")?;
    rlimits::forbid_cores()?;
    sys::block_all_but_faults().at(StartStep::Supervisor, "sigprocmask")?;
    let signals = SignalFd::all().at(StartStep::Supervisor, "signalfd")?;
    timings.mark("process");
    fault_point!("supervisor.hostname").at(StartStep::Namespaces, "sethostname")?;
    sethostname(site.origin.sandbox.hostname.as_bytes()).at(StartStep::Namespaces, "sethostname")?;
    timings.mark("hostname");
    if site.room.is_some() {
        keep_capabilities()?;
    } else {
        // Nothing here needs it, and OOM scores must not be set with it.
        caps::drop(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE).map_err(caps_failed)?;
    }
    Ok(signals)
}

/// Enters the network namespace of its jobs.
pub(super) fn enter_network(assembly: &Assembly<'_>) -> Result<(), Failure> {
    match (assembly.network, assembly.site.origin.sandbox.network) {
        (Some(network), _) => {
            sys::enter_namespace(network, libc::CLONE_NEWNET).at(StartStep::Network, "setns")?;
        }
        // An ordinary user's launcher makes none ahead of time.
        (None, Network::None) => NetworkNamespace::enter_new()?,
        (None, Network::Host) => {}
    }
    Ok(())
}

fn enter_mount_namespace(site: &Site<'_>) -> Result<(), Failure> {
    let template = site.template.mount_namespace.as_ref().map(AsFd::as_fd);
    sys::copy_mount_namespace(site.room.map(Room::as_fd).or(template))
        .at(StartStep::Namespaces, "mount namespace")
}

/// The launcher holds descriptors of all jobs. With their sockets open here, no end of a peer would be seen.
fn close_inherited(assembly: &Assembly<'_>, score: &OomScore) -> Result<(), rustix::io::Errno> {
    let mut keep: Vec<RawFd> = assembly.site.origin.descriptors().collect();
    keep.push(score.as_raw_fd());
    keep.extend(assembly.cgroup.descriptors().map(|fd| fd.as_raw_fd()));
    sys::close_all_but(&mut keep)
}
