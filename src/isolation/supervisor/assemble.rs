//! From a fork to a finished sandbox with a stub in it that waits for its job.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{getpid, set_child_subreaper};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::pump;
use super::stub_link::StubLink;
use super::world::World;
use super::{Assembly, Origin};
use crate::isolation::cgroup::MeterFiles;
use crate::isolation::failure::{At, Failure};
use crate::isolation::sandbox::identity::{self, HostIds};
use crate::isolation::sandbox::landlock;
use crate::isolation::sandbox::plan::PlanMemory;
use crate::isolation::sandbox::proc;
use crate::isolation::sandbox::receipt;
use crate::isolation::sandbox::rootfs;
use crate::isolation::sandbox::stub::Stub;
use crate::isolation::timings::Timings;
use crate::job::{Identity, Limits, Receipt, StartStep};
use crate::sys::{self, Forked, SignalFd, fault_point};

/// Jobs are killed before anything else when the machine is out of memory.
const OOM_SCORE_ADJ: &str = "800";

/// A sandbox in which nothing of a job runs yet.
#[derive(Debug)]
pub(super) struct Assembled<'a> {
    pub timings: Timings,
    /// In this pid namespace.
    pub stub: i32,
    pub plan: PlanMemory,
    pub link: StubLink,
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
    timings.mark("root");
    fault_point!("supervisor.landlock").at(StartStep::Landlock, "rules")?;
    let layer = landlock::prepare(sandbox.landlock, sandbox.root)?;
    timings.mark("landlock rules");
    let landlock_abi = layer.as_ref().map_or(0, |layer| layer.abi);
    weaker.extend(landlock::weaker(sandbox.landlock, landlock_abi));
    fault_point!("supervisor.plan").at(StartStep::Supervisor, "shared memory")?;
    let plan = PlanMemory::map().at(StartStep::Supervisor, "shared memory")?;
    let pipes = Pipes::make()?;
    let stub = fork_stub(
        assembly,
        &pipes,
        &plan,
        layer.as_ref().map(|layer| &layer.ruleset),
    )?;
    timings.mark("stub fork");
    introduce(assembly, stub, &mut world)?;
    timings.mark("id maps");
    let mut link = StubLink::new(pipes.go.1, pipes.failure.0);
    // Its own end of the packets must be the only one, or no end would be seen.
    drop(pipes.failure.1);
    link.confine()?;
    timings.mark("stub confined");
    let read_back = assembly
        .template
        .filter_ahead
        .then(|| receipt::read_back(stub, assembly.origin.launcher_namespaces));
    timings.mark("receipt");
    Ok(Assembled {
        timings,
        stub,
        plan,
        link,
        read_back,
        stdout: pipes.stdout.0,
        stderr: pipes.stderr.0,
        buffer: pump::buffer().at(StartStep::Output, "mmap")?,
        meter: assembly.cgroup.meter(),
        ids: assembly.origin.ids,
        cpus: assembly.origin.cpus,
        limits: *assembly.origin.limits,
        in_cgroup: assembly.cgroup.in_cgroup(),
        landlock_abi,
        weaker,
        own_run: assembly.template.by_user && sandbox.identity == Identity::Unprivileged,
        signals: world.signals,
    })
}

/// What the supervisor of one job must not share with those before it.
fn leave_init() -> Result<(), Failure> {
    fault_point!("supervisor.namespaces").at(StartStep::Namespaces, "ipc namespace")?;
    // What the job leaves behind comes to this process, not to PID 1.
    set_child_subreaper(Some(getpid())).at(StartStep::Supervisor, "PR_SET_CHILD_SUBREAPER")?;
    // SAFETY: a new IPC namespace touches no memory and no descriptor.
    unsafe { unshare_unsafe(UnshareFlags::NEWIPC) }.at(StartStep::Namespaces, "ipc namespace")
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

/// Tells the kernel of the stub what takes privileges over it. From then on, /proc is read-only.
fn introduce(assembly: &Assembly<'_>, stub: i32, world: &mut World) -> Result<(), Failure> {
    fault_point!("supervisor.maps").at(StartStep::Identity, "uid_map")?;
    let aside = world.proc_aside.take();
    let sealed = aside.is_some();
    let proc = match aside {
        Some(aside) => aside,
        None => proc::open_own()?,
    };
    if assembly.origin.user_namespace.is_none() {
        identity::write_maps(
            proc.as_fd(),
            stub,
            assembly.origin.sandbox.identity,
            assembly.origin.ids,
        )?;
    }
    proc::write_of(proc.as_fd(), stub, "oom_score_adj", OOM_SCORE_ADJ)
        .at(StartStep::Identity, "oom_score_adj")?;
    if !sealed {
        fault_point!("supervisor.proc").at(StartStep::Proc, "read-only")?;
        // Not earlier: to an ordinary user the /proc files of a process that is not dumpable, and of its forks, are
        // the host's root's, and cannot be written. The stub becomes dumpable, or not, by its exec.
        sys::set_not_dumpable().at(StartStep::Supervisor, "PR_SET_DUMPABLE")?;
        proc::seal()?;
    }
    Ok(())
}

/// (read end, write end)
type Pipe = (OwnedFd, OwnedFd);

struct Pipes {
    go: Pipe,
    /// Not a pipe but a socket, which can carry a descriptor.
    failure: Pipe,
    stdout: Pipe,
    stderr: Pipe,
}

impl Pipes {
    fn make() -> Result<Self, Failure> {
        fault_point!("supervisor.pipes").at(StartStep::Output, "pipe")?;
        let pipe = || pipe_with(PipeFlags::CLOEXEC).at(StartStep::Output, "pipe");
        let failure = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .at(StartStep::Supervisor, "socketpair")?;
        let pipes = Self {
            go: pipe()?,
            failure,
            stdout: pipe()?,
            stderr: pipe()?,
        };
        for reader in [&pipes.stdout.0, &pipes.stderr.0] {
            rustix::io::ioctl_fionbio(reader, true).at(StartStep::Output, "O_NONBLOCK")?;
        }
        Ok(pipes)
    }
}

/// Forks the stub with its standard descriptors in place.
fn fork_stub(
    assembly: &Assembly<'_>,
    pipes: &Pipes,
    plan: &PlanMemory,
    ruleset: Option<&OwnedFd>,
) -> Result<i32, Failure> {
    let sandbox = assembly.origin.sandbox;
    let null =
        open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at(StartStep::Stdin, "/dev/null")?;
    dup2_stdin(&null).at(StartStep::Stdin, "dup2")?;
    dup2_stdout(&pipes.stdout.1).at(StartStep::Output, "dup2")?;
    dup2_stderr(&pipes.stderr.1).at(StartStep::Output, "dup2")?;
    let inside = identity::inside(sandbox.identity);
    let stub = Stub {
        attach: assembly.cgroup.attach(),
        user_namespace: assembly.origin.user_namespace,
        go: pipes.go.0.as_fd(),
        failure: pipes.failure.1.as_fd(),
        plan: plan.plan(),
        uid: inside,
        gid: inside,
        keep_capabilities: identity::kept_capabilities(sandbox.identity),
        landlock: ruleset.map(AsFd::as_fd),
        seccomp: assembly.template.filter.as_deref(),
        filter_ahead: assembly.template.filter_ahead,
    };
    fault_point!("supervisor.clone").at(StartStep::Namespaces, "clone3")?;
    let namespaces = if assembly.origin.user_namespace.is_some() {
        0
    } else {
        libc::CLONE_NEWUSER
    };
    let namespaces = u64::try_from(namespaces).unwrap_or(0);
    // SAFETY: the supervisor has one thread.
    match unsafe { sys::clone_into(namespaces, assembly.cgroup.clone_into()) }
        .at(StartStep::Namespaces, "clone3")?
    {
        Forked::Child => stub.run(),
        Forked::Parent(pid) => {
            dup2_stdout(&null).at(StartStep::Output, "dup2")?;
            dup2_stderr(&null).at(StartStep::Output, "dup2")?;
            Ok(pid.as_raw_nonzero().get())
        }
    }
}
