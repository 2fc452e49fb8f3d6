//! The network-facing process: admission, store, output readers, and the connection to the launcher.
//!
//! It holds no privilege: [`prepare`] opens what needs one while the process is still root, then
//! [`drop_privileges`] gives everything up for good, then [`run`] serves.

#![forbid(unsafe_code)]

mod accept;
mod admission;
mod calls;
mod core;
mod error;
mod gather;
mod jobs;
mod launcher;
mod listen;
mod logging;
mod memory;
mod operations;
mod output;
mod places;
mod privileges;
mod process;
mod registration;
mod removal;
mod retention;
mod running;
mod scripts;
mod shares;
mod shutdown;
mod start;
mod store;
mod take_up;
mod tenant;
mod tls;
mod view;
mod watch;

pub use self::core::Server;
pub use accept::Connection;
pub use error::{Refusal, ServerError};
pub use listen::{Prepared, check_tls, prepare};
pub use operations::{ListedPage, Listing, TenantStatus, WorkerStatus};
pub use output::{OutputRequest, OutputStream, Part, StreamName};
pub use privileges::drop_privileges;
pub use process::run;
pub use running::Running;
pub use start::Accepted;
pub use store::StoreError;
pub use tenant::{Caller, Peer};
pub use view::{JobEvent, JobFacts, JobView};
pub use watch::EventStream;
