//! Control groups: where they are on this host, and one for each job with its limits.
//!
//! Three kinds of host: `v2` (all controllers in the unified hierarchy), `hybrid` (controllers in v1, beside an
//! empty v2) and `v1`. On a hybrid host a job has a v1 cgroup for each controller for its limits *and* a unified
//! one, since that one alone can be cloned into, tells when it is empty and kills in one write.

mod controllers;
mod handles;
mod hierarchies;
mod job;
mod meter;
mod tree;

pub use controllers::{CPU_PERIOD_US, LimitError};
pub use handles::{Handles, Shape};
pub use job::JobCgroup;
pub use meter::{Meter, MeterFiles};
pub use tree::{CgroupError, CgroupTree, Version};
