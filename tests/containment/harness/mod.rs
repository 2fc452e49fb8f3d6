//! Runs a probe as a job, where it must be contained, and where a layer is missing, where it must not be.

// A toolbox: not every boundary needs every tool.
#![allow(dead_code, unused_imports)]

mod able;
mod job;
mod plant;
mod probe;
mod process;

pub use able::{able, able_as_user};
pub use job::{Finished, Job, USER};
pub use plant::{Canary, marked_process, marked_processes, unique};
pub use probe::{Probe, Setting};
