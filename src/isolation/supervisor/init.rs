//! PID 1 of a sandbox that serves several jobs, one after another.
//!
//! It lays what jobs leave as it was, forks a supervisor for each job, and after each makes sure that nothing is left:
//! no process in its pid namespace, nothing that uses the scratch space. It never touches anything of a job itself, so
//! it keeps the privileges that the next sandbox takes to make, and each supervisor gives its copy of them up. Where
//! anything is out of order it ends, and the kernel kills whatever is left with it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::assemble::leave_stdio;
use super::protocol::{self, Again, Report, ToSupervisor};
use super::world::World;
use super::{Assembly, FORWARD_SIGNAL, Origin, supervise};
use crate::isolation::cgroup::Handles;
use crate::isolation::failure::{At, Failure};
use crate::isolation::ipc::Channel;
use crate::isolation::sandbox::{proc, rootfs};
use crate::isolation::timings::Timings;
use crate::job::StartStep;
use crate::sys::{self, Forked, Reaped, fault_point};

/// A supervisor that nobody waits for makes its sandbox with what others leave of the CPUs, for no longer than this: where
/// they leave nothing, it takes its turn.
const LEISURE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 4_000_000,
};

/// Serves jobs until one leaves something behind, or the launcher has no more for it.
pub fn serve(assembly: &Assembly<'_>) -> ! {
    if let Err(failure) = try_serve(assembly) {
        protocol::report(assembly.origin.control, &Report::Failed(failure));
    }
    sys::exit_now(0)
}

fn try_serve(assembly: &Assembly<'_>) -> Result<(), Failure> {
    rustix::thread::set_name(c"stockade-init").at(StartStep::Supervisor, "PR_SET_NAME")?;
    let mut world = World::enter(assembly, &mut Timings::start())?;
    sys::set_not_dumpable().at(StartStep::Supervisor, "PR_SET_DUMPABLE")?;
    world.finish()?;
    leave_stdio()?;
    let mut limits = *assembly.origin.limits;
    let mut received: Option<Handles> = None;
    loop {
        rootfs::add_scratch(assembly.origin.sandbox, &limits, assembly.origin.ids.first)?;
        fault_point!("init.fork").at(StartStep::Supervisor, "clone3")?;
        // SAFETY: this is a fork of the launcher, and has one thread.
        let supervisor = match unsafe { sys::clone_into(0, None) }.at(StartStep::Supervisor, "clone3")? {
            Forked::Child => {
                let cgroup = received.as_ref().unwrap_or(assembly.cgroup);
                let limits = &limits;
                let origin = Origin {
                    limits,
                    ..assembly.origin
                };
                let assembly = Assembly {
                    origin,
                    cgroup,
                    ..*assembly
                };
                supervise(&assembly, Some(world))
            }
            Forked::Parent(pid) => pid,
        };
        if !ended_in_order(supervisor, &world) || !is_as_new(&world) {
            return Ok(());
        }
        if !protocol::report(assembly.origin.control, &Report::Vacant) {
            return Ok(());
        }
        let Some((again, handles)) = wait_for_again(assembly.origin.control) else {
            return Ok(());
        };
        (limits, world.leisurely) = (again.limits, again.leisurely);
        received = handles.or(received);
    }
}

/// Waits until the supervisor has ended. True if it says that its job is over, and the kernel that no process is left.
fn ended_in_order(supervisor: Pid, world: &World) -> bool {
    let pid = supervisor.as_raw_nonzero().get();
    // Not by itself: it could come to that after its leisure has ended.
    let at_leisure = world.leisurely && sys::give_leisure(pid).is_ok();
    let mut leisure = at_leisure.then_some(&LEISURE);
    let mut status = None;
    loop {
        let heard = poll(&mut [PollFd::new(&world.signals, PollFlags::IN)], leisure);
        if heard == Ok(0) && leisure.take().is_some() {
            // It may have a job to start by now.
            let _ = sys::end_leisure(pid);
        }
        while let Ok(Some(came)) = world.signals.next() {
            // From a launcher that has no socket to the supervisor.
            match came.signal {
                libc::SIGTERM if came.from_above => drop(kill_process(supervisor, Signal::TERM)),
                FORWARD_SIGNAL => {
                    if let Ok(pidfd) = pidfd_open(supervisor, PidfdFlags::empty()) {
                        let _ = sys::queue_signal(pidfd.as_fd(), FORWARD_SIGNAL, came.value);
                    }
                }
                _ => {}
            }
        }
        loop {
            match sys::reap() {
                Ok(Reaped::Child {
                    pid: child,
                    status: of,
                }) => {
                    if child == pid {
                        status = Some(of);
                    }
                }
                Ok(Reaped::NoneYet) if status.is_none() => break,
                Ok(Reaped::NoChildren) => return status == Some(0),
                Ok(Reaped::NoneYet) | Err(_) => return false,
            }
        }
    }
}

/// The scratch space goes, which it does not while anything uses it, and process numbers begin anew.
fn is_as_new(world: &World) -> bool {
    let reset = |proc: &OwnedFd| proc::reset_pids(proc.as_fd()).is_ok();
    fault_point!("init.clear").is_ok()
        && rootfs::clear_scratch().is_ok()
        && world.proc_aside.as_ref().is_some_and(reset)
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
