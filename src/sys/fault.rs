//! Places where a test makes a step fail, end its process or wait. There only with the feature `fault-points`: without it
//! a place is `Ok(())` and leaves nothing in the binary, not even its name.
//!
//! The crate `fail` does this within one process. Here a rule counts across all forks of a worker, and a stub may
//! neither take a lock nor allocate.

#[cfg(feature = "fault-points")]
mod rules;

#[cfg(feature = "fault-points")]
pub(crate) use rules::hit;

/// What the environment asks of the place with this name: `Ok(())`, an error number, or no return at all.
#[cfg(feature = "fault-points")]
macro_rules! fault_point {
    ($name:literal) => {
        $crate::sys::fault::hit($name)
    };
}

/// Nothing.
#[cfg(not(feature = "fault-points"))]
macro_rules! fault_point {
    ($name:literal) => {
        Ok::<(), rustix::io::Errno>(())
    };
}

pub(crate) use fault_point;

/// Reads the rules. To be called before the first fork, so that all processes count together.
pub fn start() {
    #[cfg(feature = "fault-points")]
    rules::start();
}
