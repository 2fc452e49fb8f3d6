//! What can go wrong on the command line's side.

use std::io;
use std::path::PathBuf;

use super::inputs::InputError;
use crate::job::InvalidField;

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
    Read {
        option: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl CliError {
    pub(super) fn option(option: &'static str, reason: impl Into<String>) -> Self {
        Self::Option {
            option,
            reason: reason.into(),
        }
    }

    pub(super) fn read(option: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { option, path, source }
    }
}
