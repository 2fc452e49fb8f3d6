use std::fmt;
use std::path::PathBuf;

use crate::job::InvalidField;

/// Why a request gets no job.
#[derive(Debug, thiserror::Error)]
pub enum Denial {
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// The policy's rule that says no, such as `maximum.memory`.
    #[error("policy {policy}: {rule}: {reason}")]
    Forbidden {
        policy: String,
        rule: String,
        reason: String,
    },
}

/// Why a policy or a seccomp profile cannot be used. For operators: it names files.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    /// The file is malformed, or contradicts itself or what it inherits.
    #[error("{path}{}: {reason}", Suffix(*position))]
    File {
        path: PathBuf,
        position: Option<Position>,
        reason: String,
    },
}

/// A place in a text file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    /// In characters.
    pub column: usize,
}

impl Position {
    /// Where the byte `offset` of `text` is.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

struct Suffix(Option<Position>);

impl fmt::Display for Suffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(Position { line, column }) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// A value that is missing or wrong: its key, and why. Which file it stands in is known further out.
pub(super) struct Fault(pub(super) String, pub(super) String);

pub(super) fn refused<T>(key: impl Into<String>, reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault(key.into(), reason.into()))
}

pub(super) fn required<T>(key: &str, value: Option<T>) -> Result<T, Fault> {
    value.map_or_else(|| refused(key, "is nowhere set"), Ok)
}
