//! What server and launcher say to each other. Only typed, bounded values cross: the launcher never parses
//! a client's text, and takes from the server nothing but ids, a request and orders.

use serde::{Deserialize, Serialize};

use crate::job::{ExitRecord, JobId, JobRequest, Receipt, Signal, StopOrder, Timestamp};

/// Server to launcher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// Start this job. The launcher resolves the policy by itself, from its own files.
    Launch(Box<Launch>),
    Stop {
        id: JobId,
        order: StopOrder,
    },
    Signal {
        id: JobId,
        signal: Signal,
    },
    /// How a job ended is recorded: the launcher need not keep it for a restart.
    Recorded {
        id: JobId,
    },
    /// Remove what is kept of a finished job: answered by `Deleted` or `DeletedLater`.
    Delete {
        id: JobId,
    },
    /// Remove a finished job's output and keep the rest: answered by `OutputDropped` or `OutputStays`.
    DropOutput {
        id: JobId,
    },
    /// Name all jobs that have something on disk: answered by `Listed`.
    List,
    /// Tell what is on disk of these jobs: answered by `Known`.
    Describe {
        ids: Vec<JobId>,
    },
    /// Read the policy files again: answered by `Reloaded`.
    Reload,
    /// The host's abilities: answered by `Host`.
    Probe,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    pub id: JobId,
    pub tenant: String,
    pub created_at: Timestamp,
    pub request: JobRequest,
    /// Kept beside the job, so that a server that lost its database row can make it again.
    pub idempotency_key: Option<String>,
}

/// Launcher to server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The command was executed.
    Started {
        id: JobId,
        started_at: Timestamp,
        receipt: Box<Receipt>,
    },
    /// The job is over and nothing of it is left running.
    Finished {
        id: JobId,
        record: Box<ExitRecord>,
    },
    /// A stop, a signal or a delete for a job that the launcher does not have (any more).
    Unknown {
        id: JobId,
    },
    Deleted {
        id: JobId,
    },
    /// The host does not let it go now; it is on the clean-up list, and `Deleted` follows when it is gone.
    DeletedLater {
        id: JobId,
    },
    OutputDropped {
        id: JobId,
    },
    OutputStays {
        id: JobId,
        why: String,
    },
    /// In pieces, since a worker may keep more jobs than fit one message; an empty piece is the last.
    Listed(Vec<JobId>),
    /// What is known of the jobs asked for, in pieces; an empty piece is the last.
    Known(Vec<KnownJob>),
    /// All that could not be removed yet, whenever that changes.
    CleanUp(Vec<Leftover>),
    Reloaded {
        policies: Vec<String>,
        error: Option<String>,
    },
    Host {
        abilities: Vec<HostAbility>,
    },
}

/// A job of which something is on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownJob {
    pub id: JobId,
    pub tenant: String,
    pub policy: String,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    /// Of a job that runs.
    pub receipt: Option<Box<Receipt>>,
    pub idempotency_key: Option<String>,
    /// `None` while it runs.
    pub record: Option<ExitRecord>,
    pub origin: Origin,
}

/// Whose job it is that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A job that was let go.
    Launched,
    /// Its launch failed before anything was written of it but how: tenant, policy and times are empty.
    NeverLaunched,
    /// A newer worker's, whose format this one does not know. It is left alone.
    Newer,
}

/// What could not be removed yet and is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// In words, without any host path.
    pub what: String,
    /// Whose it is, where that is known.
    pub tenant: Option<String>,
}

/// One line of what the host can isolate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostAbility {
    pub name: String,
    pub status: AbilityStatus,
    /// Why, in words.
    pub detail: String,
    /// The exact command or flag that mends it; empty where nothing is to mend.
    pub mend: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AbilityStatus {
    Ok,
    Weaker,
    Missing,
}
