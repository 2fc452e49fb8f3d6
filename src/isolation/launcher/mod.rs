//! The privileged part: prepares what a job needs of the host, forks its supervisor, and cleans up after it.
//!
//! One thread, no network, no parsing of client text. What it can be asked for is [`crate::isolation::ipc::Order`]
//! and nothing else; what a job may have it decides itself, from its own policy files.

mod etc;
pub mod foreground;
mod ids;
pub mod job_dir;
mod spawn;
pub mod template;

pub use ids::IdPool;
pub use spawn::{Sandboxes, Slot};
