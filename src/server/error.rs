use std::path::PathBuf;
use std::time::Duration;

use crate::isolation::ipc::TransportError;
use crate::job::{InvalidField, State};
use crate::policy::{Denial, PolicyError};

use super::store::StoreError;

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("listening on {addr}: {source}")]
    Listen { addr: String, source: std::io::Error },
    #[error("{path}: {reason}")]
    Socket { path: PathBuf, reason: String },
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("TLS: {path}: {reason}")]
    Tls { path: PathBuf, reason: String },
    #[error("dropping privileges: {operation}: {reason}")]
    Privileges { operation: &'static str, reason: String },
    #[error("policies: {0}")]
    Policy(#[from] PolicyError),
    #[error("database: {0}")]
    Store(#[from] StoreError),
    #[error("connection to the launcher: {0}")]
    Launcher(#[from] TransportError),
    #[error("the launcher did not tell which jobs it has")]
    LauncherSilent,
    #[error("{operation}: {source}")]
    System {
        operation: &'static str,
        source: std::io::Error,
    },
    #[error("serving: {0}")]
    Serve(#[from] tonic::transport::Error),
}

impl ServerError {
    pub(super) fn system(operation: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { operation, source }
    }
}

/// Why a request is not carried out. The messages reach clients: no host path, no other tenant's name.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    #[error("job not found")]
    NotFound,
    #[error("the idempotency key was used with another request")]
    KeyTaken,
    #[error("{what}, try again later")]
    Exhausted {
        what: &'static str,
        retry_after: Duration,
    },
    #[error("a request of more than {0} bytes")]
    TooLong(usize),
    #[error("the request was not there within {} s", .0.as_secs())]
    RequestLate(Duration),
    /// The policy's rule that says no.
    #[error("policy {policy}: {rule}: {reason}")]
    Forbidden {
        policy: String,
        rule: String,
        reason: String,
    },
    /// No job of this policy on this host can meet the client's floor.
    #[error("policy {policy} cannot give the demanded isolation here: {unmet}")]
    Unattainable { policy: String, unmet: String },
    #[error("only an operator of this worker may do this")]
    OperatorsOnly,
    #[error("path: the script cannot be read by jobs")]
    ScriptUnreadable,
    #[error("this worker is draining and takes no jobs")]
    Draining,
    #[error("this worker is shutting down")]
    ShuttingDown,
    #[error("the job is {0}")]
    WrongState(State),
    /// A fault of this worker; what it was is in its log.
    #[error("{0}")]
    Unavailable(&'static str),
}

impl Refusal {
    /// Logs what a client must not read, and tells it only what failed.
    pub(super) fn unavailable(what: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "{what}");
        Self::Unavailable(what)
    }

    pub(crate) fn invalid(field: &str, reason: impl Into<String>) -> Self {
        Self::Invalid(InvalidField::new(field, reason))
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Invalid(invalid) => Self::Invalid(invalid),
            Denial::Forbidden { policy, rule, reason } => Self::Forbidden { policy, rule, reason },
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::unavailable("the job store failed", &error)
    }
}
