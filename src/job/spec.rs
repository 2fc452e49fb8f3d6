use std::fmt;

use serde::{Deserialize, Serialize};

use super::request::check_teller;
use super::{Blob, InputFile, InvalidField, Limits, Signal, bounds};

/// A job with everything decided: what the supervisor carries out, knowing no default.
///
/// The sandbox around it, the same for all jobs of one policy, is a [`SandboxSpec`](super::SandboxSpec).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The whole argument vector; its first word is looked up in the environment's PATH if it has no slash.
    pub argv: Vec<String>,
    /// `NAME=VALUE` words, all of them.
    pub env: Vec<String>,
    /// Absolute, inside the sandbox.
    pub working_dir: String,
    /// Put at [`crate::isolation::layout::SCRIPT`].
    pub script: Option<Blob>,
    pub files: Vec<InputFile>,
    pub stdin: Option<Blob>,
    pub limits: Limits,
    pub stop_signal: Signal,
    pub grace_ms: u64,
    pub on_output_limit: OnOutputLimit,
}

/// What happens when a stream has reached its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnOutputLimit {
    /// Keep the first bytes, drop and count the rest.
    Truncate,
    /// Kill the job.
    Kill,
}

/// An order to end a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOrder {
    /// `None`: the job's own stop signal.
    pub signal: Option<Signal>,
    /// `None`: the job's own grace period. 0 kills at once.
    pub grace_ms: Option<u64>,
    pub by: String,
    pub reason: String,
}

impl StopOrder {
    /// Refuses what no server sends: the order becomes part of the job's record.
    pub fn check(&self) -> Result<(), InvalidField> {
        check_teller("by", &self.by)?;
        if self.reason.len() > bounds::REASON_BYTES {
            return Err(InvalidField::new(
                "reason",
                format!("more than {} bytes", bounds::REASON_BYTES),
            ));
        }
        if self.grace_ms.is_some_and(|grace| grace > bounds::GRACE_MS) {
            return Err(InvalidField::new(
                "grace_ms",
                format!("more than {} (a day)", bounds::GRACE_MS),
            ));
        }
        Ok(())
    }

    /// An order of which nothing is known but that it was given.
    #[must_use]
    pub const fn nameless() -> Self {
        Self {
            signal: None,
            grace_ms: None,
            by: String::new(),
            reason: String::new(),
        }
    }
}

/// Hides environment values, script and input: they may be secrets.
impl fmt::Debug for JobSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self
            .env
            .iter()
            .map(|word| word.split('=').next().unwrap_or_default())
            .collect();
        f.debug_struct("JobSpec")
            .field("argv0", &self.argv.first())
            .field("args", &self.argv.len().saturating_sub(1))
            .field("env", &names)
            .field("working_dir", &self.working_dir)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
