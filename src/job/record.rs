use serde::{Deserialize, Serialize};

use super::{Cause, Receipt, Timestamp};

/// How a job ended. The supervisor writes it where the job cannot reach; it outlives every process of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    pub cause: Cause,
    /// `None` where the command never ran.
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    pub usage: Usage,
    pub output: Output,
    pub stop: Option<Stop>,
    pub receipt: Receipt,
}

/// What the job used, from its cgroup's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    pub wall_ms: u64,
    pub cpu_user_us: u64,
    pub cpu_system_us: u64,
    pub memory_peak_bytes: u64,
    pub pids_peak: u64,
    pub io_read_bytes: u64,
    pub io_write_bytes: u64,
    pub oom_kills: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Output {
    pub stdout: StreamTotals,
    pub stderr: StreamTotals,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamTotals {
    /// All that the job wrote.
    pub total_bytes: u64,
    /// Of these, not kept: they are the last ones.
    pub dropped_bytes: u64,
    /// SHA-256 of what was kept, lower-case hexadecimal. Empty where it is not known (yet).
    pub sha256: String,
}

impl Output {
    /// More was written to one of the streams.
    #[must_use]
    pub const fn is_over(&self, limit: u64) -> bool {
        self.stdout.total_bytes > limit || self.stderr.total_bytes > limit
    }
}

impl StreamTotals {
    #[must_use]
    pub const fn kept_bytes(&self) -> u64 {
        self.total_bytes - self.dropped_bytes
    }

    /// Of a stream to which nothing was written.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self {
            sha256: SHA256_OF_NOTHING.to_owned(),
            ..Self::default()
        }
    }

    /// Of what was kept, nothing is any more.
    pub fn drop_all(&mut self) {
        self.dropped_bytes = self.total_bytes;
        SHA256_OF_NOTHING.clone_into(&mut self.sha256);
    }
}

const SHA256_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// How a stop went.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stop {
    pub by: String,
    pub reason: String,
    /// The grace period was over, or a limit was reached in it, and everything was killed.
    pub escalated: bool,
    /// Processes that had to be killed.
    pub killed: u32,
}

impl ExitRecord {
    /// The record of a job whose command never ran.
    #[must_use]
    pub fn without_run(cause: Cause) -> Self {
        Self {
            cause,
            started_at: None,
            finished_at: Timestamp::now(),
            usage: Usage::default(),
            output: Output::default(),
            stop: None,
            receipt: Receipt::default(),
        }
    }
}
