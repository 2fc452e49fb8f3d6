//! A worker in this process, with a launcher that does what the test says instead of making sandboxes.

// Each test binary uses a part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod jobs;
mod launcher;
mod worker;

pub use jobs::{command, ended, exit_record, job, offsets, start, text_of};
pub use launcher::FakeLauncher;
pub use worker::{Client, OldClient, TestWorker, eventually};

/// Held by tests that measure the memory of this process, and by those that take much of it.
pub static MEMORY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
