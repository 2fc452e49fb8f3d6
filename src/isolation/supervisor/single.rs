//! The supervisor of one job.

use super::assemble::assemble;
use super::protocol::{self, Report};
use super::ties::{self, StubMemory};
use super::world::World;
use super::{Assembly, run_job, wait_for_go};
use crate::isolation::failure::Failure;
use crate::isolation::timings::Timings;
use crate::sys;

/// Its whole life: assemble, wait for the job, start it, watch it, record its end.
pub fn supervise(assembly: &Assembly<'_>) -> ! {
    if assembly.laid.is_none() {
        // Without it all goes on as before, and costs a little more.
        let _ = sys::use_arena();
    }
    // For who looks at processes.
    let _ = rustix::thread::set_name(c"stockade-super");
    match run(assembly) {
        Ok(true) => sys::exit_now(0),
        Ok(false) => {}
        Err(failure) => drop(protocol::report(
            assembly.origin.control,
            &Report::Failed(failure),
        )),
    }
    sys::exit_now(1)
}

/// Whether there was a job.
fn run(assembly: &Assembly<'_>) -> Result<bool, Failure> {
    let mut timings = assembly
        .laid
        .map_or_else(Timings::start, |laid| laid.timings.clone());
    let mut world = World::enter(assembly, &mut timings)?;
    let mut memory = StubMemory::map()?;
    let rules = ties::rules(assembly.origin.sandbox)?;
    let assembled = assemble(assembly, &mut world, &mut memory, rules, timings)?;
    let Some((go, outlets)) = wait_for_go(assembly.origin.control, None) else {
        return Ok(false);
    };
    run_job(assembled, &go, outlets, &assembly.origin);
    Ok(true)
}
