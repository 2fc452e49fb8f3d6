//! What a job is: pure data, no system call and no default value.
//!
//! A [`JobRequest`] is what a client asked for; together with a policy it becomes a [`JobSpec`], in which
//! everything is explicit; how it ended is an [`ExitRecord`].

#![forbid(unsafe_code)]

pub mod bounds;
mod cause;
mod id;
mod limits;
mod receipt;
mod record;
mod request;
mod sandbox;
mod signal;
mod spec;
mod state;
mod time;

pub use cause::{Cause, StartStep};
pub use id::{InvalidJobId, JobId};
pub use limits::{Limit, Limits, LimitsRequest};
pub use receipt::{IsolationCeiling, IsolationFloor, Receipt};
pub use record::{ExitRecord, Output, Stop, StreamTotals, Usage};
pub use request::{Blob, InputFile, InvalidField, JobRequest};
pub(crate) use request::{check_labels, check_teller, is_unprintable};
pub use sandbox::{
    Enforcement, Identity, LandlockMode, Mount, Network, Proc, Root, SandboxSpec, SeccompProfile,
};
pub use signal::{Signal, UnknownSignal};
pub use spec::{JobSpec, OnOutputLimit, StopOrder};
pub use state::State;
pub use time::Timestamp;
