//! The supervisor of one job after another, in one sandbox.
//!
//! It lays what jobs leave as it was, runs a job, and after each makes sure that nothing is left: no process in its pid
//! namespace, nothing that uses the scratch space. It keeps the privileges that the next job takes. So it never touches a
//! byte that a job has written, which is for the pump beside it; all that it hears of a job is what the kernel tells. Where
//! anything is out of order it ends, and the kernel kills whatever is left with it.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};

use super::assemble::assemble;
use super::oom_score::OomScore;
use super::output::await_pump;
use super::protocol::{self, Again, Report, ToSupervisor};
use super::ties::{self, StubMemory};
use super::world::World;
use super::{Assembly, Origin, Ran, Site, run_job, wait_for_go};
use crate::isolation::cgroup::Handles;
use crate::isolation::failure::{At, Failure};
use crate::isolation::ipc::Channel;
use crate::isolation::sandbox::landlock::Layer;
use crate::isolation::sandbox::scratch::{self, Scratch};
use crate::isolation::timings::Timings;
use crate::job::StartStep;
use crate::sys::{self, Reaped, fault_point};

/// Serves jobs until one leaves something behind, or the launcher has no more for it.
pub fn serve(assembly: &Assembly<'_>) -> ! {
    if let Err(failure) = try_serve(assembly) {
        protocol::report(assembly.site.origin.control, &Report::Failed(failure));
    }
    sys::exit_now(0)
}

fn try_serve(first: &Assembly<'_>) -> Result<(), Failure> {
    rustix::thread::set_name(c"stockade-super").at(StartStep::Supervisor, "PR_SET_NAME")?;
    let score = OomScore::open(first.site.origin.inherited.oom_score)?;
    let mut world = World::enter(first, score, &mut Timings::start())?;
    first.site.origin.pump.map_or(Ok(()), await_pump)?;
    let mut user_namespace = world.user_namespace.take();
    let mut memory = StubMemory::map()?;
    let mut limits = *first.site.origin.limits;
    let mut received: Option<Handles> = None;
    let mut place = None;
    loop {
        let origin = Origin {
            limits: &limits,
            user_namespace: user_namespace.as_ref().map(AsFd::as_fd),
            ..first.site.origin
        };
        let assembly = Assembly {
            site: Site { origin, ..first.site },
            cgroup: received.as_ref().unwrap_or(first.cgroup),
            ..*first
        };
        let ran = serve_one(&assembly, &mut world, &mut memory, &mut place)?;
        if !ran.is_over {
            return Ok(());
        }
        if ran.made_ipc {
            // No failure of the job's, which is over and told.
            if fault_point!("supervisor.renew").is_err() || world.make_namespaces(&assembly.site).is_err() {
                return Ok(());
            }
            user_namespace = world.user_namespace.take();
        }
        if !world.reset_pids() {
            return Ok(());
        }
        if !protocol::report(first.site.origin.control, &Report::Vacant) {
            return Ok(());
        }
        let Some((again, handles)) = wait_for_again(first.site.origin.control) else {
            return Ok(());
        };
        if !again.limits.have_same_scratch(&limits)
            && let Some(Place { scratch, .. }) = place.take()
            && scratch.clear().is_err()
        {
            return Ok(());
        }
        limits = again.limits;
        world.score.beside_many = again.beside_many;
        received = handles.or(received);
        // What was sent to the last job's supervisor is not meant for the next one's.
        while let Ok(Some(_)) = world.signals.next() {}
    }
}

/// What stays as long as no job has used it.
struct Place {
    scratch: Scratch,
    /// They name the folders of the scratch space.
    rules: Option<Arc<Layer>>,
}

/// What there is to do after a job.
struct Served {
    /// There can be another.
    is_over: bool,
    /// Something may be in its IPC namespace.
    made_ipc: bool,
}

impl Served {
    /// There can be no other job.
    const LAST: Self = Self {
        is_over: false,
        made_ipc: false,
    };
}

/// `kept` is what no job has used.
fn serve_one(
    assembly: &Assembly<'_>,
    world: &mut World,
    memory: &mut StubMemory,
    kept: &mut Option<Place>,
) -> Result<Served, Failure> {
    let Origin {
        sandbox, limits, ids, ..
    } = assembly.site.origin;
    let mut place = match kept.take() {
        Some(place) => place,
        None => Place {
            scratch: Scratch::add(sandbox, limits, ids.first)?,
            rules: ties::rules(sandbox)?,
        },
    };
    let assembled = assemble(assembly, world, memory, place.rules.clone(), Timings::start())?;
    let before = || assembled.world.score.before_job();
    let Some((go, outlets)) = wait_for_go(assembly.site.origin.control, assembly.site.origin.pump, before)
    else {
        return Ok(Served::LAST);
    };
    let began = scratch::now();
    let (is_over, made_ipc) = match run_job(assembled, &go, outlets, assembly) {
        Ran::ToItsEnd { made_ipc } => (true, made_ipc),
        Ran::Never => (end_stub(), false),
        Ran::Last => (false, false),
    };
    memory.plan.clear();
    if !is_over || fault_point!("supervisor.clear").is_err() {
        return Ok(Served::LAST);
    }
    let is_over = if go.spec.limits.have_same_scratch(limits) && place.scratch.is_as_new(began) {
        *kept = Some(place);
        true
    } else {
        place.scratch.clear().is_ok()
    };
    Ok(Served { is_over, made_ipc })
}

/// Ends a stub that never became its command; true once no process is left.
fn end_stub() -> bool {
    let _ = sys::kill_all_others();
    loop {
        match sys::reap_next() {
            Ok(Reaped::NoChildren) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

/// Blocks until the launcher has this sandbox made ready for another job; `None` when it will not.
fn wait_for_again(control: &Channel) -> Option<(Again, Option<Handles>)> {
    loop {
        let _ = poll(&mut [PollFd::new(control, PollFlags::IN)], None);
        match control.try_receive_with() {
            Ok(Some((ToSupervisor::Again(again), descriptors))) => {
                let handles = match again.cgroup {
                    Some(shape) => Some(Handles::from_parts(shape, descriptors)?),
                    None => None,
                };
                return Some((again, handles));
            }
            // For the last job, which had ended meanwhile.
            Ok(Some(_) | None) => {}
            Err(_) => return None,
        }
    }
}
