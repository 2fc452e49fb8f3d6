//! Everyday programs as jobs: they notice nothing of the sandbox.

// What it shares with the containment tests is more than it uses.
#![allow(dead_code, unreachable_pub)]

#[path = "../containment/harness/able.rs"]
mod able;
#[path = "../containment/harness/job.rs"]
mod job;
mod matrix;
#[path = "../containment/harness/process.rs"]
mod process;
mod tools;

use able::able;
