//! The supervisor of a launcher that has one job (`stockade run`): it lays the root at once in the mount namespace that
//! the job gets, without a template to copy, while the launcher makes the job's cgroup and network namespace.

use std::os::fd::{AsFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, poll};

use super::oom_score::OomScore;
use super::single::supervise_from;
use super::{Assembly, Origin, Report, ToSupervisor, protocol};
use crate::isolation::cgroup::Handles;
use crate::isolation::failure::{At, Failure};
use crate::isolation::ipc::Channel;
use crate::isolation::sandbox::receipt::NamespaceIds;
use crate::isolation::sandbox::rootfs;
use crate::isolation::sandbox::template::Template;
use crate::isolation::timings::Timings;
use crate::job::StartStep;
use crate::sys::{self, fault_point};

/// What such a supervisor is forked with; the rest comes as [`ToSupervisor::Berth`]. See [`Assembly`].
#[derive(Debug, Clone, Copy)]
pub struct Alone<'a> {
    pub origin: Origin<'a>,
    pub by_user: bool,
}

/// A root that stands.
struct Laid {
    template: Template,
    /// What could not be had, for the receipt.
    weaker: Vec<String>,
    score: OomScore,
    timings: Timings,
}

/// As [`super::single::supervise`], from an earlier point on.
pub fn supervise_alone(alone: &Alone<'_>) -> ! {
    // Without it all goes on as before, and costs a little more.
    let _ = sys::use_arena();
    match lay(alone) {
        Ok(laid) => go_on(alone, laid),
        Err(failure) => {
            protocol::report(alone.origin.control, &Report::Failed(failure));
        }
    }
    sys::exit_now(0)
}

/// Returns where the launcher gave up.
fn go_on(alone: &Alone<'_>, laid: Laid) {
    let Laid {
        template,
        weaker,
        score,
        mut timings,
    } = laid;
    timings.skip();
    let Some(berth) = wait_for_berth(alone.origin.control) else {
        return;
    };
    timings.mark("wait for cgroup, network");
    let assembly = Assembly {
        origin: alone.origin,
        template: &template,
        room: None,
        laid: Some(&weaker),
        network: berth.network.as_ref().map(AsFd::as_fd),
        cgroup: &berth.cgroup,
        launcher_namespaces: &berth.launcher_namespaces,
    };
    supervise_from(&assembly, score, timings)
}

fn lay(alone: &Alone<'_>) -> Result<Laid, Failure> {
    let mut timings = Timings::start();
    let mut keep: Vec<RawFd> = alone.origin.descriptors().collect();
    sys::close_all_but(&mut keep).at(StartStep::Supervisor, "close_range")?;
    let score = OomScore::open(alone.origin.oom_score)?;
    fault_point!("supervisor.namespaces").at(StartStep::Namespaces, "mount namespace")?;
    sys::copy_mount_namespace(None).at(StartStep::Namespaces, "mount namespace")?;
    timings.mark("mount namespace");
    let template = Template::build_here(alone.origin.sandbox, alone.by_user)?;
    timings.mark("parts of the root");
    fault_point!("supervisor.root").at(StartStep::Rootfs, "mount")?;
    let weaker = rootfs::assemble(
        alone.origin.sandbox,
        &template,
        alone.origin.limits,
        alone.origin.ids.first,
        alone.origin.user_namespace,
    )?;
    timings.mark("root");
    Ok(Laid {
        template,
        weaker,
        score,
        timings,
    })
}

/// What the launcher has made meanwhile.
struct Berth {
    cgroup: Handles,
    /// Where the launcher makes one.
    network: Option<OwnedFd>,
    launcher_namespaces: NamespaceIds,
}

fn wait_for_berth(control: &Channel) -> Option<Berth> {
    loop {
        let _ = poll(&mut [PollFd::new(control, PollFlags::IN)], None);
        match control.try_receive_with() {
            Ok(Some((
                ToSupervisor::Berth {
                    cgroup,
                    network,
                    launcher_namespaces,
                },
                mut descriptors,
            ))) => {
                let network = match network {
                    true => Some(descriptors.pop()?),
                    false => None,
                };
                return Some(Berth {
                    cgroup: Handles::from_parts(cgroup, descriptors)?,
                    network,
                    launcher_namespaces,
                });
            }
            Ok(Some(_) | None) => {}
            Err(_) => return None,
        }
    }
}
