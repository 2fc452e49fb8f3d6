//! The supervisor of a launcher that has one job (`stockade run`): it lays the root at once in the mount namespace that
//! the job gets, without a template to copy, while the launcher makes the job's cgroup and network namespace.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, poll};

use super::{Assembly, Report, ToSupervisor, protocol, supervise};
use crate::isolation::cgroup::Handles;
use crate::isolation::failure::{At, Failure};
use crate::isolation::ipc::Channel;
use crate::isolation::sandbox::identity::HostIds;
use crate::isolation::sandbox::receipt::NamespaceIds;
use crate::isolation::sandbox::rootfs;
use crate::isolation::sandbox::template::Template;
use crate::isolation::timings::Timings;
use crate::job::{Limits, SandboxSpec, StartStep};
use crate::sys::{self, StartMemory, fault_point};

/// What such a supervisor is forked with; the rest comes as [`ToSupervisor::Berth`]. See [`Assembly`].
#[derive(Debug, Clone, Copy)]
pub struct Alone<'a> {
    pub control: &'a Channel,
    pub sandbox: &'a SandboxSpec,
    pub by_user: bool,
    pub limits: &'a Limits,
    pub ids: HostIds,
    pub ids_lock: BorrowedFd<'a>,
    pub user_namespace: Option<BorrowedFd<'a>>,
    pub launcher_namespaces: &'a NamespaceIds,
    pub cpus: u64,
    pub launcher_start: StartMemory,
}

/// A root that stands.
#[derive(Debug)]
pub struct Laid {
    /// What could not be had, for the receipt.
    pub weaker: Vec<String>,
    pub timings: Timings,
}

/// As [`supervise`], from an earlier point on.
pub fn supervise_alone(alone: &Alone<'_>) -> ! {
    match lay(alone) {
        Ok((template, laid)) => go_on(alone, &template, laid),
        Err(failure) => {
            protocol::report(alone.control, &Report::Failed(failure));
        }
    }
    sys::exit_now(0)
}

/// Returns where the launcher gave up.
fn go_on(alone: &Alone<'_>, template: &Template, mut laid: Laid) {
    laid.timings.skip();
    let Some((cgroup, network)) = wait_for_berth(alone.control) else {
        return;
    };
    laid.timings.mark("wait for cgroup, network");
    let assembly = Assembly {
        control: alone.control,
        sandbox: alone.sandbox,
        template,
        room: None,
        laid: Some(&laid),
        network: network.as_ref().map(AsFd::as_fd),
        limits: alone.limits,
        cgroup: &cgroup,
        ids: alone.ids,
        ids_lock: alone.ids_lock,
        user_namespace: alone.user_namespace,
        launcher_namespaces: alone.launcher_namespaces,
        cpus: alone.cpus,
        launcher_start: alone.launcher_start,
    };
    supervise(&assembly, None)
}

fn lay(alone: &Alone<'_>) -> Result<(Template, Laid), Failure> {
    let mut timings = Timings::start();
    close_inherited(alone).at(StartStep::Supervisor, "close_range")?;
    fault_point!("supervisor.namespaces").at(StartStep::Namespaces, "mount namespace")?;
    sys::copy_mount_namespace(None).at(StartStep::Namespaces, "mount namespace")?;
    timings.mark("mount namespace");
    let template = Template::build_here(alone.sandbox, alone.by_user)?;
    timings.mark("parts of the root");
    fault_point!("supervisor.root").at(StartStep::Rootfs, "mount")?;
    let weaker = rootfs::assemble(
        alone.sandbox,
        &template,
        alone.limits,
        alone.ids.first,
        alone.user_namespace,
    )?;
    timings.mark("root");
    Ok((template, Laid { weaker, timings }))
}

fn close_inherited(alone: &Alone<'_>) -> Result<(), rustix::io::Errno> {
    let mut keep: Vec<RawFd> = vec![alone.control.as_raw_fd(), alone.ids_lock.as_raw_fd()];
    keep.extend(alone.user_namespace.iter().map(AsRawFd::as_raw_fd));
    sys::close_all_but(&mut keep)
}

/// The cgroup and the network namespace, where the launcher makes one.
fn wait_for_berth(control: &Channel) -> Option<(Handles, Option<OwnedFd>)> {
    loop {
        let _ = poll(&mut [PollFd::new(control, PollFlags::IN)], None);
        match control.try_receive_with() {
            Ok(Some((ToSupervisor::Berth { cgroup, network }, mut descriptors))) => {
                let network = match network {
                    true => Some(descriptors.pop()?),
                    false => None,
                };
                return Some((Handles::from_parts(cgroup, descriptors)?, network));
            }
            Ok(Some(_) | None) => {}
            Err(_) => return None,
        }
    }
}
