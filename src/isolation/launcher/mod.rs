//! The privileged part: prepares what a job needs of the host, forks its supervisor, and cleans up after it.
//!
//! One thread, no network, no parsing of client text. What it can be asked for is [`crate::isolation::ipc::Order`]
//! and nothing else; what a job may have it decides itself, from its own policy files.

mod adopt;
mod berth;
mod clean_up;
mod daemon;
pub mod foreground;
mod ids;
mod in_use;
pub mod job_dir;
mod kept;
mod opening;
mod orders;
mod parked;
mod pumps;
mod removal;
mod reports;
mod run_dir;
mod server_link;
mod server_orders;
mod shrinking;
mod slot;
mod spawn;
mod standing;
mod tail;
mod unread;
mod unwritten;

pub use daemon::run;
pub use server_link::CANNOT_START;
pub(crate) use standing::{is_ordinary_user, is_privileged};
