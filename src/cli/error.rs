//! What can go wrong on the command line's side.

use std::io;
use std::path::PathBuf;

use tonic::Status;

use super::bench::BenchError;
use super::client::{ConnectError, describe};
use super::inputs::InputError;
use crate::config::ConfigError;
use crate::job::InvalidField;
use crate::policy::PolicyError;

#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// An option whose value cannot be used.
    #[error("{option}: {reason}")]
    Option { option: &'static str, reason: String },
    #[error(transparent)]
    Request(#[from] InvalidField),
    #[error(transparent)]
    Input(#[from] InputError),
    /// A file that an option names.
    #[error("{option} {}: {source}", path.display())]
    File {
        option: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The worker refused, or the connection broke.
    #[error("{}", describe(.0))]
    Rpc(#[from] Status),
    #[error("the worker's answer lacks its {0}")]
    Incomplete(&'static str),
    #[error("{} is not over after {} ms", .id, .after_ms)]
    Timeout { id: String, after_ms: u64 },
    #[error("writing the result: {0}")]
    Output(io::Error),
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("there is no policy {name}; there are {names}")]
    NoPolicy { name: String, names: String },
    #[error("starting the client: {0}")]
    Runtime(io::Error),
    /// Several things were asked for and some failed; each has been told.
    #[error("{failed} of {all} failed")]
    Some { failed: usize, all: usize },
}

impl CliError {
    pub(super) fn option(option: &'static str, reason: impl Into<String>) -> Self {
        Self::Option {
            option,
            reason: reason.into(),
        }
    }

    pub(super) fn file(option: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { option, path, source }
    }

    /// Whoever read our output has gone: there is nobody to tell.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// 2 for what the command line itself got wrong, 1 for all else.
    pub(super) const fn exit_status(&self) -> u8 {
        match self {
            Self::Option { .. } | Self::Request(_) | Self::Input(InputError::Taken { .. }) => {
                super::args::USAGE
            }
            _ => 1,
        }
    }
}
