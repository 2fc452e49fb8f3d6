//! The supervisor of one job.

use std::sync::Arc;

use super::assemble::assemble;
use super::oom_score::OomScore;
use super::protocol::{self, Report};
use super::ties::{self, StubMemory};
use super::world::World;
use super::{Assembly, Site, run_job, wait_for_go};
use crate::isolation::failure::Failure;
use crate::isolation::sandbox::landlock::Layer;
use crate::isolation::sandbox::rootfs;
use crate::isolation::timings::Timings;
use crate::sys;

/// Its whole life: assemble, wait for the job, start it, watch it, record its end.
pub fn supervise(assembly: &Assembly<'_>) -> ! {
    // Without it all goes on as before, and costs a little more.
    let _ = sys::use_arena();
    // For who looks at processes.
    let _ = rustix::thread::set_name(c"stockade-super");
    match supervise_one(assembly) {
        Ok(true) => sys::exit_now(0),
        Ok(false) => sys::exit_now(1),
        Err(failure) => {
            protocol::report(assembly.site.origin.control, &Report::Failed(failure));
            sys::exit_now(1)
        }
    }
}

fn supervise_one(assembly: &Assembly<'_>) -> Result<bool, Failure> {
    let score = OomScore::open(assembly.site.origin.inherited.oom_score)?;
    let mut timings = Timings::start();
    let world = World::enter(assembly, score, &mut timings)?;
    Place::prepare(world, &assembly.site)?.serve(assembly, timings)
}

/// All that the stub of the one job needs, but what its launcher may still be making.
pub(super) struct Place {
    world: World,
    memory: StubMemory,
    rules: Option<Arc<Layer>>,
}

impl Place {
    pub(super) fn prepare(world: World, site: &Site<'_>) -> Result<Self, Failure> {
        Ok(Self {
            world,
            memory: StubMemory::map()?,
            rules: ties::rules(site.origin.sandbox)?,
        })
    }

    /// Does a little of what the job needs done, rather than wait; false where there is nothing like that to do.
    pub(super) fn go_on(&mut self, site: &Site<'_>) -> Result<bool, Failure> {
        self.world.go_on_with_root(site)
    }

    /// Ties the stub, waits for the job and runs it to its end. Whether there was a job.
    pub(super) fn serve(&mut self, assembly: &Assembly<'_>, timings: Timings) -> Result<bool, Failure> {
        let Self { world, memory, rules } = self;
        let assembled = assemble(assembly, world, memory, rules.take(), timings)?;
        let Some((go, outlets)) = wait_for_go(assembly.site.origin.control, None, || {}) else {
            return Ok(false);
        };
        rootfs::seal(assembly.site.template)?;
        run_job(assembled, &go, outlets, assembly);
        Ok(true)
    }
}
