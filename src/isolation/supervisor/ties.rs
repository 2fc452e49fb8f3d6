//! What ties a stub and its supervisor together, and how the stub is made.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, fchmod, open};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use super::Assembly;
use crate::isolation::failure::{At, Failure};
use crate::isolation::sandbox::identity;
use crate::isolation::sandbox::landlock::{self, Layer};
use crate::isolation::sandbox::namespaces::{NamespaceIds, Noted, SharedIds};
use crate::isolation::sandbox::plan::PlanMemory;
use crate::isolation::sandbox::stub::{Inherited, MOST_ATTACH, Stub};
use crate::job::{SandboxSpec, StartStep};
use crate::sys::{self, ChildStack, CloneFlags, fault_point};

/// The supervisor's ends.
#[derive(Debug)]
pub(super) struct Ties {
    pub(super) go: OwnedFd,
    pub(super) packets: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) landlock_abi: u32,
}

/// The stub's ends, which nobody else must keep open once it is there.
#[derive(Debug)]
pub(super) struct StubEnds {
    go: OwnedFd,
    packets: OwnedFd,
    stdio: [OwnedFd; 3],
    landlock: Option<Arc<Layer>>,
}

/// What of a supervisor's memory is its stub's: one after another has it, each until it is the command or has ended.
#[derive(Debug)]
pub(super) struct StubMemory {
    pub(super) plan: PlanMemory,
    stack: ChildStack,
    stub: Option<Box<Stub>>,
}

/// A stub formats nothing and calls little.
const STACK_BYTES: usize = 128 << 10;

impl StubMemory {
    pub(super) fn map() -> Result<Self, Failure> {
        fault_point!("supervisor.plan").at(StartStep::Supervisor, "memory")?;
        Ok(Self {
            plan: PlanMemory::map().at(StartStep::Supervisor, "memory")?,
            stack: ChildStack::map(STACK_BYTES).at(StartStep::Supervisor, "memory")?,
            stub: None,
        })
    }

    /// Those of the stub, once it is confined. `shared`: of all stubs.
    pub(super) fn namespaces(&self, shared: &SharedIds) -> Result<NamespaceIds, Failure> {
        let none = || Failure::new(StartStep::Supervisor, 0, "no stub");
        self.stub.as_ref().ok_or_else(none)?.namespaces.complete(shared)
    }
}

/// Rules for the root that this process has now, as long as it and its scratch space are there.
pub(super) fn rules(sandbox: &SandboxSpec) -> Result<Option<Arc<Layer>>, Failure> {
    fault_point!("supervisor.landlock").at(StartStep::Landlock, "rules")?;
    Ok(landlock::prepare(sandbox.landlock, sandbox.root)?.map(Arc::new))
}

/// Makes both.
pub(super) fn tie(layer: Option<Arc<Layer>>) -> Result<(Ties, StubEnds), Failure> {
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
    for writer in [&stubs_stdout, &stubs_stderr] {
        // The job opens them again as /dev/stdout and /dev/stderr, to write; whatever its id. Nobody else has a path to them.
        fchmod(writer, Mode::from_raw_mode(0o622)).at(StartStep::Output, "fchmod")?;
    }
    for reader in [&stdout, &stderr] {
        rustix::io::ioctl_fionbio(reader, true).at(StartStep::Output, "O_NONBLOCK")?;
    }
    let landlock_abi = layer.as_ref().map_or(0, |layer| layer.abi);
    let ends = StubEnds {
        go: stubs_go,
        packets: stubs_packets,
        stdio: [stdin, stubs_stdout, stubs_stderr],
        landlock: layer,
    };
    let ties = Ties {
        go,
        packets,
        stdout,
        stderr,
        landlock_abi,
    };
    Ok((ties, ends))
}

impl StubEnds {
    /// Makes the stub, and gives its number in this pid namespace.
    ///
    /// It runs in the memory of this process until it executes its command: to copy that for a process that only drops it
    /// would cost more than all else that the stub does.
    pub(super) fn clone_stub(
        self,
        assembly: &Assembly<'_>,
        ipc_namespace: Option<BorrowedFd<'_>>,
        memory: &mut StubMemory,
    ) -> Result<i32, Failure> {
        let sandbox = assembly.site.origin.sandbox;
        let inside = identity::inside(sandbox.identity);
        let attach = assembly.cgroup.attach();
        if attach.len() > MOST_ATTACH {
            return Err(Failure::new(
                StartStep::Cgroup,
                0,
                "more hierarchies than are known",
            ));
        }
        let stub = memory.stub.insert(Box::new(Stub {
            attach: std::array::from_fn(|index| attach.get(index).map(|tasks| tasks.as_fd().into())),
            user_namespace: assembly.site.origin.user_namespace.map(Inherited::from),
            ipc_namespace: ipc_namespace.map(Inherited::from),
            go: self.go.as_fd().into(),
            packets: self.packets.as_fd().into(),
            stdio: self.stdio.each_ref().map(|fd| fd.as_fd().into()),
            plan: memory.plan.plan(),
            uid: inside,
            gid: inside,
            namespaces: Noted::default(),
            keep_capabilities: identity::kept_capabilities(sandbox.identity),
            own_keyring: assembly.site.template.keeps_keys,
            landlock: self.landlock.as_ref().map(|layer| layer.ruleset.as_fd().into()),
            seccomp: assembly
                .site
                .template
                .filter
                .as_ref()
                .map(|filter| std::ptr::from_ref(filter.of_stub())),
            filter_ahead: assembly.site.template.filter_ahead,
        }));
        fault_point!("supervisor.clone").at(StartStep::Namespaces, "clone3")?;
        let (namespaces, cgroup) = (namespaces(assembly), assembly.cgroup.clone_into());
        let mut clone = || {
            // SAFETY: a supervisor has one thread; no stub is left when the next one is made. While one is at work this
            // process writes to /proc, waits for it, or reads what it is told, without the C library.
            unsafe { sys::clone_sharing_memory(namespaces, cgroup, &mut memory.stack, Stub::run, &**stub) }
        };
        let cloned = match assembly.site.origin.user_namespace {
            Some(_) => clone(),
            None => identity::owned_by(assembly.site.origin.ids.first, &mut clone),
        };
        cloned
            .map(|pid| pid.as_raw_nonzero().get())
            .at(StartStep::Namespaces, "clone3")
    }
}

/// A user namespace and, owned by it, an IPC namespace; where the stub joins a user namespace, it makes the other there.
fn namespaces(assembly: &Assembly<'_>) -> CloneFlags {
    match assembly.site.origin.user_namespace {
        Some(_) => 0,
        None => (libc::CLONE_NEWIPC | libc::CLONE_NEWUSER) as CloneFlags,
    }
}
