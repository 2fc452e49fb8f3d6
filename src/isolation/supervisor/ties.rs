//! What ties a stub and its supervisor together, and how the stub is made.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use super::Assembly;
use crate::isolation::failure::{At, Failure};
use crate::isolation::sandbox::identity;
use crate::isolation::sandbox::landlock;
use crate::isolation::sandbox::plan::{Plan, PlanMemory};
use crate::isolation::sandbox::stub::Stub;
use crate::job::{SandboxSpec, StartStep};
use crate::sys::{self, CloneFlags, fault_point};

/// The supervisor's ends.
#[derive(Debug)]
pub(super) struct Ties {
    pub(super) go: OwnedFd,
    pub(super) packets: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) plan: PlanMemory,
    pub(super) landlock_abi: u32,
}

/// The stub's ends, which nobody else must keep open once it is there.
#[derive(Debug)]
pub(super) struct StubEnds {
    go: OwnedFd,
    packets: OwnedFd,
    stdio: [OwnedFd; 3],
    plan: *mut Plan,
    landlock: Option<OwnedFd>,
}

/// Makes both for the root that this process has now.
pub(super) fn tie(sandbox: &SandboxSpec) -> Result<(Ties, StubEnds), Failure> {
    fault_point!("supervisor.landlock").at(StartStep::Landlock, "rules")?;
    let layer = landlock::prepare(sandbox.landlock, sandbox.root)?;
    fault_point!("supervisor.plan").at(StartStep::Supervisor, "memory")?;
    let plan = PlanMemory::map().at(StartStep::Supervisor, "memory")?;
    fault_point!("supervisor.pipes").at(StartStep::Output, "pipe")?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).at(StartStep::Output, "pipe");
    let (stubs_go, go) = pipe()?;
    // Not a pipe but a socket, which can carry a descriptor.
    let (packets, stubs_packets) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .at(StartStep::Supervisor, "socketpair")?;
    // Opened for each job: one can change the flags of what it has open, and the next must not see it.
    let stdin =
        open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at(StartStep::Stdin, "/dev/null")?;
    let (stdout, stubs_stdout) = pipe()?;
    let (stderr, stubs_stderr) = pipe()?;
    for reader in [&stdout, &stderr] {
        rustix::io::ioctl_fionbio(reader, true).at(StartStep::Output, "O_NONBLOCK")?;
    }
    let (landlock, landlock_abi) = layer.map_or((None, 0), |layer| (Some(layer.ruleset), layer.abi));
    let ends = StubEnds {
        go: stubs_go,
        packets: stubs_packets,
        stdio: [stdin, stubs_stdout, stubs_stderr],
        plan: plan.plan(),
        landlock,
    };
    let ties = Ties {
        go,
        packets,
        stdout,
        stderr,
        plan,
        landlock_abi,
    };
    Ok((ties, ends))
}

/// A stub formats nothing and calls little.
const STACK_BYTES: usize = 128 << 10;

impl StubEnds {
    /// Makes the stub, and gives its number in this pid namespace.
    ///
    /// It runs in the memory of this process until it executes its command: to copy that for a process that only drops it
    /// would cost more than all else that the stub does.
    pub(super) fn clone_stub(self, assembly: &Assembly<'_>) -> Result<i32, Failure> {
        let sandbox = assembly.origin.sandbox;
        let inside = identity::inside(sandbox.identity);
        // It stays where the stub finds it; the descriptors are the stub's own copies.
        let stub: &Stub<'_> = Box::leak(Box::new(Stub {
            attach: assembly.cgroup.attach(),
            user_namespace: assembly.origin.user_namespace,
            go: self.go.as_fd(),
            packets: self.packets.as_fd(),
            stdio: self.stdio.each_ref().map(AsFd::as_fd),
            plan: self.plan,
            uid: inside,
            gid: inside,
            keep_capabilities: identity::kept_capabilities(sandbox.identity),
            landlock: self.landlock.as_ref().map(AsFd::as_fd),
            seccomp: assembly.template.filter.as_deref(),
            filter_ahead: assembly.template.filter_ahead,
        }));
        let stack = sys::private_memory(STACK_BYTES).at(StartStep::Supervisor, "mmap")?;
        fault_point!("supervisor.clone").at(StartStep::Namespaces, "clone3")?;
        let (namespaces, cgroup) = (namespaces(assembly), assembly.cgroup.clone_into());
        // SAFETY: a supervisor has one thread; the stack and the stub are for nothing else, and never freed. While the stub
        // is at work this process writes to /proc, waits for it, or reads what it is told, without the C library; the one
        // call by that, for the stub's scheduling, has been tried before and does not fail.
        unsafe { sys::clone_sharing_memory(namespaces, cgroup, stack, Stub::run, stub) }
            .map(|pid| pid.as_raw_nonzero().get())
            .at(StartStep::Namespaces, "clone3")
    }
}

/// An IPC namespace; and a user namespace, where the stub does not join one that was made ahead of time.
fn namespaces(assembly: &Assembly<'_>) -> CloneFlags {
    let ipc = libc::CLONE_NEWIPC as CloneFlags;
    match assembly.origin.user_namespace {
        Some(_) => ipc,
        None => ipc | libc::CLONE_NEWUSER as CloneFlags,
    }
}
