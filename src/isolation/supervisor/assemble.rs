//! From a fork to a finished sandbox with a stub in it that waits for its job.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{getpid, set_child_subreaper};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::oom_score::OomScore;
use super::pump;
use super::stub_link::StubLink;
use super::ties;
use super::world::World;
use super::{Assembly, Origin};
use crate::isolation::cgroup::MeterFiles;
use crate::isolation::failure::{At, Failure};
use crate::isolation::sandbox::identity::{self, HostIds};
use crate::isolation::sandbox::landlock;
use crate::isolation::sandbox::plan::PlanMemory;
use crate::isolation::sandbox::proc;
use crate::isolation::sandbox::receipt::{self, NamespaceIds};
use crate::isolation::sandbox::rootfs;
use crate::isolation::timings::Timings;
use crate::job::{Identity, Limits, Receipt, StartStep};
use crate::sys::{self, SignalFd, fault_point};

/// A sandbox in which nothing of a job runs yet.
#[derive(Debug)]
pub(super) struct Assembled<'a> {
    pub timings: Timings,
    /// In this pid namespace.
    pub stub: i32,
    pub plan: PlanMemory,
    pub link: StubLink,
    pub score: OomScore,
    /// What was read back of the stub; `None` where its filter comes only with the job.
    pub read_back: Option<Receipt>,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    pub buffer: &'static mut [u8],
    pub meter: &'a MeterFiles,
    pub ids: HostIds,
    pub cpus: u64,
    pub limits: Limits,
    /// It is in a cgroup of its own.
    pub in_cgroup: bool,
    pub landlock_abi: u32,
    /// What was asked for at best effort and is missing.
    pub weaker: Vec<String>,
    /// /run is to be taken from the job, whose id the launcher shares.
    pub own_run: bool,
    pub signals: SignalFd,
    /// Of its init.
    pub namespaces: Option<NamespaceIds>,
}

/// `world` is one that an init has entered for this job among others; without one, this process enters its own.
pub(super) fn assemble<'a>(assembly: &Assembly<'a>, world: Option<World>) -> Result<Assembled<'a>, Failure> {
    let sandbox = assembly.origin.sandbox;
    let mut timings = assembly
        .laid
        .map_or_else(Timings::start, |laid| laid.timings.clone());
    let mut world = match world {
        Some(world) => {
            leave_init()?;
            world
        }
        None => World::enter(assembly, &mut timings)?,
    };
    let mut weaker = std::mem::take(&mut world.weaker);
    weaker.extend(complete_root(assembly)?);
    if assembly.room.is_none() {
        // Init has done that, too.
        leave_stdio()?;
    }
    timings.mark("root");
    let (ties, ends) = ties::tie(sandbox)?;
    weaker.extend(landlock::weaker(sandbox.landlock, ties.landlock_abi));
    timings.mark("landlock rules, pipes");
    let sealed = world.proc_aside.is_some();
    let proc = world.proc_aside.take().map_or_else(proc::open_aside, Ok)?;
    let score = OomScore::of_job(proc.as_fd(), assembly.origin.oom_score)?;
    let stub = ends.clone_stub(assembly)?;
    if world.leisurely {
        // A job takes its turn among all others.
        sys::end_leisure(stub).at(StartStep::Supervisor, "SCHED_OTHER")?;
    }
    timings.mark("stub");
    introduce(assembly, stub, proc.as_fd())?;
    // Only init may write to it from here on.
    drop(proc);
    if !sealed {
        fault_point!("supervisor.proc").at(StartStep::Proc, "read-only")?;
        proc::seal()?;
    }
    timings.mark("id maps");
    let mut link = StubLink::new(ties.go, ties.packets);
    link.confine()?;
    timings.mark("stub confined");
    let read_back = assembly.template.filter_ahead.then(|| {
        let launcher = assembly.origin.launcher_namespaces;
        receipt::read_back(stub, launcher, world.namespaces.as_ref())
    });
    // Not earlier: to an ordinary user the /proc files of a process that is not dumpable are the host's root's, and neither
    // told nor written; and the stub is one with this process. Not only where init has done it: the stub's change of
    // credentials may have undone it.
    sys::set_not_dumpable().at(StartStep::Supervisor, "PR_SET_DUMPABLE")?;
    timings.mark("receipt");
    if world.leisurely {
        sys::leave_leisure().at(StartStep::Supervisor, "SCHED_OTHER")?;
    }
    Ok(Assembled {
        timings,
        stub,
        plan: ties.plan,
        link,
        score,
        read_back,
        stdout: ties.stdout,
        stderr: ties.stderr,
        buffer: pump::buffer().at(StartStep::Output, "mmap")?,
        meter: assembly.cgroup.meter(),
        ids: assembly.origin.ids,
        cpus: assembly.origin.cpus,
        limits: *assembly.origin.limits,
        in_cgroup: assembly.cgroup.in_cgroup(),
        landlock_abi: ties.landlock_abi,
        weaker,
        own_run: assembly.template.by_user && sandbox.identity == Identity::Unprivileged,
        signals: world.signals,
        namespaces: world.namespaces,
    })
}

/// What the supervisor of one job must not share with those before it.
fn leave_init() -> Result<(), Failure> {
    fault_point!("supervisor.namespaces").at(StartStep::Namespaces, "subreaper")?;
    // What the job leaves behind comes to this process, not to PID 1.
    set_child_subreaper(Some(getpid())).at(StartStep::Supervisor, "PR_SET_CHILD_SUBREAPER")
}

/// Whatever this process was started with, it reads and writes none of it.
pub(super) fn leave_stdio() -> Result<(), Failure> {
    let null =
        open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at(StartStep::Stdin, "/dev/null")?;
    dup2_stdin(&null).at(StartStep::Stdin, "dup2")?;
    dup2_stdout(&null).at(StartStep::Output, "dup2")?;
    dup2_stderr(&null).at(StartStep::Output, "dup2")
}

/// Gives what could not be had, for the receipt.
fn complete_root(assembly: &Assembly<'_>) -> Result<Vec<String>, Failure> {
    let Origin {
        sandbox,
        limits,
        user_namespace,
        ..
    } = assembly.origin;
    // Files of a writable root belong to the first id of the job's range, which is its root.
    let owner = assembly.origin.ids.first;
    if let Some(laid) = assembly.laid {
        return Ok(laid.weaker.clone());
    }
    if assembly.room.is_some() {
        // Init has added what was missing.
        Ok(Vec::new())
    } else {
        rootfs::assemble(sandbox, assembly.template, limits, owner, user_namespace)
    }
}

/// Tells the kernel which ids the stub has, where it has made its user namespace itself.
fn introduce(assembly: &Assembly<'_>, stub: i32, proc: BorrowedFd<'_>) -> Result<(), Failure> {
    fault_point!("supervisor.maps").at(StartStep::Identity, "uid_map")?;
    match assembly.origin.user_namespace {
        Some(_) => Ok(()),
        None => identity::write_maps(proc, stub, assembly.origin.sandbox.identity, assembly.origin.ids),
    }
}
