//! What of a sandbox its jobs leave as it was: namespaces, a root that nobody writes to, /proc.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use caps::{CapSet, Capability};
use rustix::system::sethostname;

use super::Assembly;
use crate::isolation::failure::{At, Failure};
use crate::isolation::sandbox::network::NetworkNamespace;
use crate::isolation::sandbox::proc;
use crate::isolation::sandbox::receipt::{self, NamespaceIds};
use crate::isolation::sandbox::room::Room;
use crate::isolation::sandbox::rootfs;
use crate::isolation::timings::Timings;
use crate::job::{Network, StartStep};
use crate::sys::{self, SignalFd, fault_point};

#[derive(Debug)]
pub struct World {
    pub(super) signals: SignalFd,
    /// What could not be had, for the receipt.
    pub(super) weaker: Vec<String>,
    /// /proc is sealed already, and written to by this view of it.
    pub(super) proc_aside: Option<OwnedFd>,
    /// The namespaces of an init.
    pub(super) namespaces: Option<NamespaceIds>,
    /// Nobody waits for the next job's sandbox.
    pub(super) leisurely: bool,
}

impl World {
    /// Makes a fork of the launcher PID 1 of a world of its own. What is one job's alone is missing yet: its scratch
    /// space, and without a room all of its root.
    pub(super) fn enter(assembly: &Assembly<'_>, timings: &mut Timings) -> Result<Self, Failure> {
        let signals = prepare_process(assembly)?;
        timings.mark("process");
        fault_point!("supervisor.hostname").at(StartStep::Namespaces, "sethostname")?;
        sethostname(assembly.origin.sandbox.hostname.as_bytes()).at(StartStep::Namespaces, "sethostname")?;
        timings.mark("hostname");
        if assembly.laid.is_none() {
            fault_point!("supervisor.root").at(StartStep::Rootfs, "mount")?;
        }
        // Nothing here needs it, and OOM scores must not be set with it.
        caps::drop(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE)
            .map_err(|error| Failure::new(StartStep::Supervisor, 0, format!("CAP_SYS_RESOURCE: {error}")))?;
        let weaker = match assembly.room {
            Some(_) => rootfs::furnish(assembly.origin.sandbox, assembly.template)?,
            None => Vec::new(),
        };
        Ok(Self {
            signals,
            weaker,
            proc_aside: None,
            namespaces: None,
            leisurely: false,
        })
    }

    /// Finishes what is the same for all jobs to come.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        self.namespaces = Some(receipt::namespace_ids("self"));
        fault_point!("supervisor.proc").at(StartStep::Proc, "read-only")?;
        self.proc_aside = Some(proc::open_aside()?);
        proc::seal()
    }
}

/// Leaves behind what a fork of the launcher inherits: its environment, its descriptors, its signals.
fn prepare_process(assembly: &Assembly<'_>) -> Result<SignalFd, Failure> {
    // SAFETY: this is a fork of the launcher, and has one thread.
    unsafe { assembly.origin.launcher_start.erase() };
    fault_point!("supervisor.process").at(StartStep::Supervisor, "close_range")?;
    enter_namespaces(assembly)?;
    close_inherited(assembly).at(StartStep::Supervisor, "close_range")?;
    sys::block_all_but_faults().at(StartStep::Supervisor, "sigprocmask")?;
    SignalFd::all().at(StartStep::Supervisor, "signalfd")
}

/// Those that were not made by the clone.
fn enter_namespaces(assembly: &Assembly<'_>) -> Result<(), Failure> {
    fault_point!("supervisor.namespaces").at(StartStep::Namespaces, "mount namespace")?;
    match (assembly.network, assembly.origin.sandbox.network) {
        (Some(network), _) => {
            sys::enter_namespace(network, libc::CLONE_NEWNET).at(StartStep::Network, "setns")?;
        }
        // An ordinary user's launcher makes none ahead of time.
        (None, Network::None) => NetworkNamespace::enter_new()?,
        (None, Network::Host) => {}
    }
    if assembly.laid.is_some() {
        return Ok(());
    }
    let template = assembly.template.mount_namespace.as_ref().map(AsFd::as_fd);
    sys::copy_mount_namespace(assembly.room.map(Room::as_fd).or(template))
        .at(StartStep::Namespaces, "mount namespace")
}

/// The launcher holds descriptors of all jobs. With their sockets open here, no end of a peer would be seen.
fn close_inherited(assembly: &Assembly<'_>) -> Result<(), rustix::io::Errno> {
    let mut keep: Vec<RawFd> = assembly.origin.descriptors().collect();
    keep.extend(assembly.cgroup.descriptors().map(|fd| fd.as_raw_fd()));
    sys::close_all_but(&mut keep)
}
