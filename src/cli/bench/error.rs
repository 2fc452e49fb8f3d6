use std::io;

use tonic::Status;

use crate::cli::client::{ConnectError, describe};

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("cannot run {program}: {source}")]
    Spawn { program: String, source: io::Error },
    #[error("{program} ended with {status}: {message}")]
    Failed {
        program: String,
        status: std::process::ExitStatus,
        message: String,
    },
    #[error("{what}: {source}")]
    Prepare { what: &'static str, source: io::Error },
    #[error("the worker for the benchmark {0}")]
    Worker(String),
    #[error("{0}")]
    Connect(String),
    #[error("{}", describe(.0))]
    Rpc(#[from] Status),
    #[error("the worker's answer lacks its {0}")]
    Incomplete(&'static str),
    #[error("a job of the benchmark failed: {0}")]
    Job(String),
    #[error("{0}")]
    Unfit(String),
    #[error("interrupted")]
    Interrupted,
}

impl BenchError {
    pub(super) fn prepare(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Prepare { what, source }
    }
}

impl From<ConnectError> for BenchError {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error.to_string())
    }
}
