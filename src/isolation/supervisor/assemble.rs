//! From a fork to a finished sandbox with a stub in it that waits for its job.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, open};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::stub_link::StubLink;
use super::ties::{self, StubMemory};
use super::world::World;
use super::{Assembly, Origin};
use crate::isolation::cgroup::Meter;
use crate::isolation::failure::{At, Failure};
use crate::isolation::sandbox::identity::{self, HostIds};
use crate::isolation::sandbox::landlock::{self, Layer};
use crate::isolation::sandbox::namespaces::{self, NamespaceIds};
use crate::isolation::sandbox::plan::PlanMemory;
use crate::isolation::sandbox::receipt;
use crate::isolation::sandbox::seccomp::Filter;
use crate::isolation::timings::Timings;
use crate::job::{Identity, Limits, Receipt, StartStep};
use crate::sys::{self, fault_point};

/// A sandbox in which nothing of a job runs yet.
#[derive(Debug)]
pub(super) struct Assembled<'a> {
    pub timings: Timings,
    /// In this pid namespace.
    pub stub: i32,
    pub plan: &'a mut PlanMemory,
    pub link: StubLink,
    pub filter: Option<&'a Filter>,
    /// What was read back of the stub; `None` where its filter comes only with the job.
    pub read_back: Option<Receipt>,
    /// Of the stub, and of the command that it becomes.
    pub namespaces: NamespaceIds,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    /// It counts from here on: a stub that waits uses nothing.
    pub meter: Meter<'a>,
    pub ids: HostIds,
    pub limits: Limits,
    /// It is in a cgroup of its own.
    pub in_cgroup: bool,
    pub landlock_abi: u32,
    /// What was asked for at best effort and is missing.
    pub weaker: Vec<String>,
    /// /run is to be taken from the job, whose id the launcher shares.
    pub own_run: bool,
    pub world: &'a World,
}

/// Ties a stub to this process, in a world whose root is laid.
pub(super) fn assemble<'a>(
    assembly: &Assembly<'a>,
    world: &'a mut World,
    memory: &'a mut StubMemory,
    rules: Option<Arc<Layer>>,
    mut timings: Timings,
) -> Result<Assembled<'a>, Failure> {
    let sandbox = assembly.site.origin.sandbox;
    let (ties, ends) = ties::tie(rules)?;
    let mut weaker = world.root.weaker.clone();
    weaker.extend(landlock::weaker(sandbox.landlock, ties.landlock_abi));
    timings.mark("landlock rules, pipes");
    world.score.before_stub()?;
    let ipc = world.ipc_namespace.as_ref().map(AsFd::as_fd);
    let stub = ends.clone_stub(assembly, ipc, memory)?;
    timings.mark("stub");
    let mut link = StubLink::new(ties.go, ties.packets);
    world.with_proc(|proc| introduce(assembly, stub, proc, &link))?;
    timings.mark("id maps");
    // While the stub is at work.
    world.finish_root(&assembly.site)?;
    let shared = match world.namespaces {
        Some(shared) => shared,
        None => *world.namespaces.insert(namespaces::of_all_stubs(
            assembly.site.origin.user_namespace,
            None,
        )?),
    };
    link.confine()?;
    timings.mark("stub confined");
    let own = memory.namespaces(&shared)?;
    let read_back = match assembly.site.template.filter_ahead {
        true => Some(receipt::read_back(stub, assembly.launcher_namespaces, &own)?),
        false => None,
    };
    // Not earlier: to an ordinary user the /proc files of a process that is not dumpable are the host's root's, and neither
    // told nor written; and the stub is one with this process. For each job, since the stub's change of credentials may have
    // undone it.
    sys::set_not_dumpable().at(StartStep::Supervisor, "PR_SET_DUMPABLE")?;
    timings.mark("read back");
    let meter = Meter::start(assembly.cgroup.meter()).at(StartStep::Cgroup, "counters")?;
    timings.mark("counters");
    Ok(Assembled {
        timings,
        stub,
        plan: &mut memory.plan,
        link,
        filter: assembly.site.template.filter.as_ref(),
        read_back,
        namespaces: own,
        stdout: ties.stdout,
        stderr: ties.stderr,
        meter,
        ids: assembly.site.origin.ids,
        limits: *assembly.site.origin.limits,
        in_cgroup: assembly.cgroup.in_cgroup(),
        landlock_abi: ties.landlock_abi,
        weaker,
        own_run: assembly.site.template.by_user && sandbox.identity == Identity::Unprivileged,
        world,
    })
}

/// Whatever this process was started with, it reads and writes none of it.
pub(super) fn leave_stdio() -> Result<(), Failure> {
    let null =
        open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at(StartStep::Stdin, "/dev/null")?;
    dup2_stdin(&null).at(StartStep::Stdin, "dup2")?;
    dup2_stdout(&null).at(StartStep::Output, "dup2")?;
    dup2_stderr(&null).at(StartStep::Output, "dup2")
}

/// Tells the kernel which ids the stub has, where it has made its user namespace itself.
fn introduce(
    assembly: &Assembly<'_>,
    stub: i32,
    proc: BorrowedFd<'_>,
    link: &StubLink,
) -> Result<(), Failure> {
    let Origin {
        sandbox,
        ids,
        user_namespace: None,
        ..
    } = assembly.site.origin
    else {
        return Ok(());
    };
    fault_point!("supervisor.maps").at(StartStep::Identity, "uid_map")?;
    identity::write_maps(proc, stub, sandbox.identity, ids)?;
    link.tell_mapped();
    Ok(())
}
