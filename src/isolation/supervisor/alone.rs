//! The supervisor of a launcher that has one job (`stockade run`). It is forked before it is known which, and begins with
//! what all roots have; it lays the job's own in the mount namespace that the job gets, without a template to copy, while
//! the launcher makes the job's cgroup and network namespace: it needs them for the stub alone. /etc it leaves to the
//! launcher, and finds it written when it has its job.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};

use super::oom_score::OomScore;
use super::single::Place;
use super::world::{World, enter_network};
use super::{Assembly, Decided, Inherited, Origin, Report, Site, ToSupervisor, protocol};
use crate::isolation::cgroup::Handles;
use crate::isolation::failure::{At, Failure};
use crate::isolation::ipc::Channel;
use crate::isolation::sandbox::etc::Etc;
use crate::isolation::sandbox::namespaces::NamespaceIds;
use crate::isolation::sandbox::parts::Base;
use crate::isolation::sandbox::rootfs;
use crate::isolation::sandbox::template::Template;
use crate::isolation::timings::Timings;
use crate::job::StartStep;
use crate::sys::{self, fault_point};

/// What such a supervisor is forked with; the rest comes as [`ToSupervisor::Sandbox`] and [`ToSupervisor::Berth`].
#[derive(Debug, Clone, Copy)]
pub struct Alone<'a> {
    pub control: &'a Channel,
    pub by_user: bool,
}

/// What is the same whatever the job is.
struct Begun {
    base: Base,
    inherited: Inherited,
    score: OomScore,
    timings: Timings,
}

/// As [`super::single::supervise`], from an earlier point on.
pub fn supervise_alone(alone: &Alone<'_>) -> ! {
    // Without it all goes on as before, and costs a little more.
    let _ = sys::use_arena();
    // For who looks at processes.
    let _ = rustix::thread::set_name(c"stockade-super");
    if let Err(failure) = begin(alone).and_then(|begun| go_on(alone, begun)) {
        protocol::report(alone.control, &Report::Failed(failure));
    }
    sys::exit_now(0)
}

fn begin(alone: &Alone<'_>) -> Result<Begun, Failure> {
    let mut timings = Timings::start();
    // A launcher that has not read its command line takes signals as any program does.
    sys::default_all_signals();
    sys::block_all_but_faults().at(StartStep::Supervisor, "sigprocmask")?;
    if !alone.by_user {
        // Else root's own would go on in its job. A user's launcher cannot leave its groups.
        sys::set_supplementary_groups_empty().at(StartStep::Supervisor, "setgroups")?;
    }
    sys::close_all_but(&mut [alone.control.as_raw_fd()]).at(StartStep::Supervisor, "close_range")?;
    let inherited = Inherited::find()?;
    let score = OomScore::open(inherited.oom_score)?;
    fault_point!("supervisor.namespaces").at(StartStep::Namespaces, "mount namespace")?;
    sys::copy_mount_namespace(None).at(StartStep::Namespaces, "mount namespace")?;
    timings.mark("mount namespace");
    fault_point!("supervisor.base").at(StartStep::Rootfs, "tmpfs")?;
    let base = Base::lay()?;
    timings.mark("base of the root");
    Ok(Begun {
        base,
        inherited,
        score,
        timings,
    })
}

/// Returns where the launcher gave up.
fn go_on(alone: &Alone<'_>, begun: Begun) -> Result<(), Failure> {
    let Begun {
        base,
        inherited,
        score,
        mut timings,
    } = begun;
    let Some(kind) = wait_for(alone.control, Kind::of) else {
        return Ok(());
    };
    timings.mark("wait for the policy");
    let origin = kind.origin(alone, inherited);
    if sys::hard_limit(libc::RLIMIT_NOFILE).is_ok_and(|hard| hard < origin.limits.open_files) {
        // A job may have more than the launcher was given. Where it may not, its start fails with the reason.
        let _ = sys::raise_open_files();
    }
    let template = Template::build_here(origin.sandbox, base, alone.by_user, |etc, folder| {
        hand_over(alone.control, etc, &folder)
    })?;
    timings.mark("parts of the root");
    fault_point!("supervisor.root").at(StartStep::Rootfs, "mount")?;
    let entered = rootfs::assemble(
        origin.sandbox,
        &template,
        origin.limits,
        origin.ids.first,
        origin.user_namespace,
    )?;
    timings.mark("root");
    let site = Site {
        origin,
        template: &template,
        room: None,
    };
    let world = World::settle(&site, entered, score, &mut timings)?;
    let mut place = Place::prepare(world, &site)?;
    while alone.control.is_silent() && place.go_on(&site)? {}
    timings.mark("some of /proc covered");
    let Some(berth) = wait_for(alone.control, Berth::of) else {
        return Ok(());
    };
    timings.mark("wait for cgroup, network");
    let assembly = Assembly {
        site,
        network: berth.network.as_ref().map(AsFd::as_fd),
        cgroup: &berth.cgroup,
        launcher_namespaces: &berth.launcher_namespaces,
    };
    enter_network(&assembly)?;
    place.serve(&assembly, timings).map(drop)
}

/// Has the launcher write /etc: it waits anyway while the stub is at work.
fn hand_over(control: &Channel, etc: Etc, folder: &OwnedFd) -> Result<(), Failure> {
    let failed = |detail: String| Failure::new(StartStep::Rootfs, 0, format!("etc: {detail}"));
    match control.try_send_with(&Report::Etc(etc), &[folder.as_fd()]) {
        Ok(true) => Ok(()),
        Ok(false) => Err(failed("the launcher takes no message".to_owned())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Waits for what `of` makes something of; `None` where it will never come.
fn wait_for<T>(control: &Channel, of: impl Fn(ToSupervisor, Vec<OwnedFd>) -> Option<T>) -> Option<T> {
    loop {
        let _ = poll(&mut [PollFd::new(control, PollFlags::IN)], None);
        match control.try_receive_with() {
            Ok(Some((message, descriptors))) => return of(message, descriptors),
            Ok(None) => {}
            Err(_) => return None,
        }
    }
}

/// Which sandbox it is to be, with what came along.
struct Kind {
    decided: Decided,
    ids_lock: OwnedFd,
    user_namespace: Option<OwnedFd>,
}

impl Kind {
    fn of(message: ToSupervisor, descriptors: Vec<OwnedFd>) -> Option<Self> {
        let ToSupervisor::Sandbox(decided) = message else {
            return None;
        };
        let mut descriptors = descriptors.into_iter();
        let ids_lock = descriptors.next()?;
        let user_namespace = descriptors.next();
        (user_namespace.is_some() == decided.user_namespace).then_some(Self {
            decided: *decided,
            ids_lock,
            user_namespace,
        })
    }

    fn origin<'a>(&'a self, alone: &Alone<'a>, inherited: Inherited) -> Origin<'a> {
        Origin {
            control: alone.control,
            sandbox: &self.decided.sandbox,
            limits: &self.decided.limits,
            ids: self.decided.ids,
            ids_lock: self.ids_lock.as_fd(),
            user_namespace: self.user_namespace.as_ref().map(AsFd::as_fd),
            inherited,
            pump: None,
        }
    }
}

/// What the launcher has made meanwhile.
struct Berth {
    cgroup: Handles,
    /// Where the launcher makes one.
    network: Option<OwnedFd>,
    launcher_namespaces: NamespaceIds,
}

impl Berth {
    #[expect(clippy::needless_pass_by_value, reason = "as wait_for hands it over")]
    fn of(message: ToSupervisor, mut descriptors: Vec<OwnedFd>) -> Option<Self> {
        let ToSupervisor::Berth {
            cgroup,
            network,
            launcher_namespaces,
        } = message
        else {
            return None;
        };
        let network = match network {
            true => Some(descriptors.pop()?),
            false => None,
        };
        Some(Self {
            cgroup: Handles::from_parts(cgroup, descriptors)?,
            network,
            launcher_namespaces,
        })
    }
}
