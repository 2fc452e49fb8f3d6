//! `config.toml`: what an operator decides. Every field has a default; unknown keys are refused.

mod listen_addr;
pub(crate) mod log_level;
mod read;
mod reread;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;

pub use listen_addr::ListenAddr;
pub use read::{ConfigError, SEARCH};
pub use reread::{PemError, Pems, Reread, Settings};

use crate::units::Bytes;

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub grpc_server: GrpcServer,
    /// Absent: the worker registers nowhere.
    pub scheduler: Option<Scheduler>,
    pub worker: Worker,
    pub isolation: Isolation,
    pub tenants: Tenants,
    pub retention: Retention,
    pub log: Log,
    /// The file that this was read from, to read it again on SIGHUP.
    #[serde(skip)]
    pub source: Option<PathBuf>,
}

/// Where and how clients reach this worker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcServer {
    /// `IP:PORT`, `localhost:PORT`, `:PORT` for all addresses of the host, or `unix:/path`.
    pub addr: String,
    pub use_tls: bool,
    /// PEM, the certificate chain and its key.
    pub crt_file: PathBuf,
    pub key_file: PathBuf,
    /// PEM: only clients with a certificate of these authorities are served.
    pub client_ca_file: Option<PathBuf>,
    /// Without TLS the worker listens on loopback and Unix sockets alone, unless this says otherwise.
    pub allow_plaintext: bool,
    /// Open at one time, those included that are still shaking hands; more wait in the kernel's queue.
    pub max_connections: u32,
}

/// The scheduler that this worker registers with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduler {
    /// `host:port` of the scheduler's gRPC server.
    pub addr: String,
    /// The address that the scheduler dials back. Default: `grpc_server.addr`.
    pub advertise: Option<String>,
    #[serde(default)]
    pub use_tls: bool,
    /// PEM: the authority of the scheduler's certificate. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM: this worker's own certificate and key, where the scheduler asks for one.
    pub crt_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// The name in the scheduler's certificate. Default: the host of `addr`.
    pub server_name: Option<String>,
    #[serde(default)]
    pub on_loss: OnLoss,
    /// How long the scheduler must be gone before `on_loss` is done, in seconds.
    #[serde(default = "default_loss_timeout")]
    pub loss_timeout_s: u64,
}

/// What becomes of jobs whose scheduler has gone. Their outcomes are kept for its return in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLoss {
    /// Nothing: they go on, and so does admission.
    #[default]
    Keep,
    /// Those that run and wait are stopped.
    Stop,
    /// They go on, but no job is admitted until it is back.
    Drain,
}

const fn default_loss_timeout() -> u64 {
    300
}

/// The worker as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Worker {
    /// Records and output of jobs.
    pub state_dir: PathBuf,
    /// Scripts that a request can name by `path`; jobs see it read-only at /scripts.
    pub scripts_dir: Option<PathBuf>,
    /// Policy files that add to the built-in ones, or replace them by name.
    pub policies_dir: Option<PathBuf>,
    pub default_policy: String,
    /// Jobs that run at one time; more wait.
    pub max_running: u32,
    /// Jobs that wait at one time; more are refused.
    pub max_pending: u32,
    /// uid and gid of the network-facing server. They own its database and can read the jobs' output.
    pub server_uid: u32,
    pub server_gid: u32,
    pub durability: Durability,
    pub on_shutdown: OnShutdown,
    /// How long a shutdown waits for jobs under `on_shutdown = "wait"` and `"stop"`, in seconds.
    pub shutdown_timeout_s: u64,
}

/// What has happened to a job's record before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It survives a loss of power.
    Power,
    /// It survives the death of any process.
    Process,
}

/// What becomes of running jobs on SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnShutdown {
    /// They run on; the next start adopts them.
    Leave,
    Wait,
    Stop,
}

/// What the launcher needs of the host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Isolation {
    /// Name of the cgroup under which this worker makes its own, beneath the worker's own cgroup's parent.
    pub cgroup: String,
    /// First of the host ids that jobs are given. The range must be free of users.
    pub first_host_id: u32,
}

impl Isolation {
    /// Single ids, of jobs that are nobody in particular.
    pub const SINGLE_IDS: u32 = 1 << 16;
    /// Ids of a job that is root in a user namespace of its own.
    pub const BLOCK_IDS: u32 = 1 << 16;
    /// Such blocks, after the single ids.
    pub const BLOCKS: u32 = 4096;

    /// The ids of jobs on the host; `None` where there are not so many from the first on.
    #[must_use]
    pub fn host_ids(&self) -> Option<Range<u32>> {
        let end = self
            .first_host_id
            .checked_add(Self::SINGLE_IDS + Self::BLOCKS * Self::BLOCK_IDS)?;
        Some(self.first_host_id..end)
    }
}

/// Whose jobs a client's are, and how much of the worker each tenant may have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tenants {
    pub from: TenantsFrom,
    /// Tenants who may also do what concerns all the others: drain the worker.
    pub operators: Vec<String>,
    /// Of each tenant that has none of its own.
    pub quota: Quota,
    pub quotas: BTreeMap<String, Quota>,
}

/// What names a tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantsFrom {
    /// The common name in the subject of the client's certificate, where clients show one.
    #[default]
    Certificate,
    /// All clients are one tenant.
    None,
}

/// Bounds of one tenant; 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Jobs that run at one time; more wait.
    pub max_running: u32,
    /// Jobs that wait at one time; more are refused.
    pub max_pending: u32,
    /// Memory limits of the jobs that run, all together; more wait.
    #[serde(deserialize_with = "bytes")]
    pub max_memory: u64,
}

/// How long finished jobs and their output are kept. 0 is no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Seconds since the job's end.
    pub max_age_s: u64,
    /// Finished jobs; the oldest go first.
    pub max_jobs: u64,
    pub max_jobs_per_tenant: u64,
    /// Output of finished jobs; that of the oldest goes first, their records stay.
    #[serde(deserialize_with = "bytes")]
    pub max_bytes: u64,
    #[serde(deserialize_with = "bytes")]
    pub max_bytes_per_tenant: u64,
}

/// A text such as "10G", or a number.
fn bytes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Bytes::deserialize(deserializer).map(|bytes| bytes.0)
}

impl Tenants {
    #[must_use]
    pub fn of(&self, tenant: &str) -> Quota {
        self.quotas.get(tenant).copied().unwrap_or(self.quota)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A level, and modules with levels of their own, such as "info,stockade::server=debug".
    pub level: String,
}

impl Default for GrpcServer {
    fn default() -> Self {
        Self {
            addr: "127.0.0.1:50000".to_owned(),
            use_tls: false,
            crt_file: PathBuf::from("server.pem"),
            key_file: PathBuf::from("server.key"),
            client_ca_file: None,
            allow_plaintext: false,
            max_connections: 8192,
        }
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            state_dir: default_state_dir(),
            scripts_dir: None,
            policies_dir: None,
            default_policy: "default".to_owned(),
            max_running: 1024,
            max_pending: 4096,
            server_uid: 64_901,
            server_gid: 64_901,
            durability: Durability::Power,
            on_shutdown: OnShutdown::Leave,
            shutdown_timeout_s: 30,
        }
    }
}

impl Default for Isolation {
    fn default() -> Self {
        Self {
            cgroup: "stockade".to_owned(),
            first_host_id: 1_500_000_000,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
        }
    }
}

impl Config {
    /// Whether it differs from `other` in nothing but the log.
    fn is_but_for_log(&self, other: &Self) -> bool {
        let log = self.log.clone();
        *self == Self { log, ..other.clone() }
    }

    /// Whether there can be more tenants than one.
    #[must_use]
    pub fn tells_tenants_apart(&self) -> bool {
        self.tenants.from == TenantsFrom::Certificate && self.grpc_server.client_ca_file.is_some()
    }
}

/// The system's place for root, the user's own for everybody else.
fn default_state_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/stockade");
    }
    let home = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute())
    };
    match (home("XDG_STATE_HOME"), home("HOME")) {
        (Some(state), _) => state.join("stockade"),
        (None, Some(home)) => home.join(".local/state/stockade"),
        (None, None) => PathBuf::from("/var/lib/stockade"),
    }
}

#[cfg(test)]
mod tests;
