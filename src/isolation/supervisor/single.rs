//! The supervisor of one job.

use super::assemble::assemble;
use super::oom_score::OomScore;
use super::protocol::{self, Report};
use super::ties::{self, StubMemory};
use super::world::World;
use super::{Assembly, run_job, wait_for_go};
use crate::isolation::failure::Failure;
use crate::isolation::timings::Timings;
use crate::sys;

/// Its whole life: assemble, wait for the job, start it, watch it, record its end.
pub fn supervise(assembly: &Assembly<'_>) -> ! {
    // Without it all goes on as before, and costs a little more.
    let _ = sys::use_arena();
    match OomScore::open(assembly.origin.inherited.oom_score) {
        Ok(score) => supervise_from(assembly, score, Timings::start()),
        Err(failure) => fail(assembly, failure),
    }
}

/// What comes after the root, where that is laid early.
pub(super) fn supervise_from(assembly: &Assembly<'_>, score: OomScore, timings: Timings) -> ! {
    // For who looks at processes.
    let _ = rustix::thread::set_name(c"stockade-super");
    match run(assembly, score, timings) {
        Ok(true) => sys::exit_now(0),
        Ok(false) => sys::exit_now(1),
        Err(failure) => fail(assembly, failure),
    }
}

fn fail(assembly: &Assembly<'_>, failure: Failure) -> ! {
    protocol::report(assembly.origin.control, &Report::Failed(failure));
    sys::exit_now(1)
}

/// Whether there was a job.
fn run(assembly: &Assembly<'_>, score: OomScore, mut timings: Timings) -> Result<bool, Failure> {
    let mut world = World::enter(assembly, score, &mut timings)?;
    let mut memory = StubMemory::map()?;
    let rules = ties::rules(assembly.origin.sandbox)?;
    let assembled = assemble(assembly, &mut world, &mut memory, rules, timings)?;
    let Some((go, outlets)) = wait_for_go(assembly.origin.control, None, || {}) else {
        return Ok(false);
    };
    run_job(assembled, &go, outlets, assembly);
    Ok(true)
}
