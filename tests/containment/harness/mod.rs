//! Runs a probe as a job, where it must be contained, and where a layer is missing, where it must not be.

// A toolbox: not every boundary needs every tool.
#![allow(dead_code, unused_imports)]

mod job;
mod plant;
mod probe;
mod process;

pub use job::Job;
pub use plant::{Canary, marked_processes, unique};
pub use probe::{Probe, Setting};

/// Whether sandboxes can be made here at all.
///
/// Nearly every test of this suite needs root, since it looks at the host's side as well.
pub fn able() -> bool {
    let able = nix::unistd::geteuid().is_root();
    if !able {
        println!("skipped: needs root");
        assert!(
            std::env::var_os("STOCKADE_TEST_REQUIRE").is_none(),
            "root is required"
        );
    }
    able
}
