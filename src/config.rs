//! `config.toml`: what an operator decides. Every field has a default; unknown keys are refused.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use crate::units::Bytes;

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
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
#[derive(Debug, Clone, Deserialize)]
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
}

/// The scheduler that this worker registers with.
#[derive(Debug, Clone, Deserialize)]
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
#[derive(Debug, Clone, Deserialize)]
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
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Isolation {
    /// Name of the cgroup under which this worker makes its own, beneath the worker's own cgroup's parent.
    pub cgroup: String,
    /// First of the host ids that jobs are given. The range must be free of users: 65536 single ids, then
    /// blocks of 65536 for jobs that are root in a user namespace of their own.
    pub first_host_id: u32,
}

/// Whose jobs a client's are, and how much of the worker each tenant may have.
#[derive(Debug, Clone, Default, Deserialize)]
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

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A `tracing` filter, such as "info" or "stockade=debug".
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

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    /// The message of the parser names line and column.
    #[error("{path}: {source}")]
    Parse {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("{path}: {field}: {reason}")]
    Invalid {
        path: PathBuf,
        field: &'static str,
        reason: String,
    },
}

/// Where a worker without `--config` looks, in this order.
pub const SEARCH: [&str; 2] = ["config.toml", "/etc/stockade/config.toml"];

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for ListenAddr {
    type Err = String;

    /// Asks no resolver: what a worker listens on must not depend on one.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = Path::new(path);
            return if path.is_absolute() && path.file_name().is_some() {
                Ok(Self::Unix(path.to_owned()))
            } else {
                Err("the path after unix: is not absolute, or names no file".to_owned())
            };
        }
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None if text.starts_with(':') => format!("[::]{text}"),
            None => text.to_owned(),
        };
        numeric
            .parse()
            .map(Self::Tcp)
            .map_err(|_| "neither IP:PORT, localhost:PORT, :PORT nor unix:/path".to_owned())
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Config {
    /// Whether there can be more tenants than one.
    #[must_use]
    pub fn tells_tenants_apart(&self) -> bool {
        self.tenants.from == TenantsFrom::Certificate && self.grpc_server.client_ca_file.is_some()
    }

    /// Reads `path`, or the first file of [`SEARCH`], or takes the defaults.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        match path.or_else(|| SEARCH.iter().map(Path::new).find(|path| path.exists())) {
            Some(path) => Self::read(path),
            None => Ok(Self::default()),
        }
    }

    /// Reads one file and checks it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        config.source = Some(path.to_owned());
        match config.fault() {
            Some((field, reason)) => Err(ConfigError::Invalid {
                path: path.to_owned(),
                field,
                reason,
            }),
            None => Ok(config),
        }
    }

    /// The first field that makes no sense, or none that is safe, and why.
    fn fault(&self) -> Option<(&'static str, String)> {
        let fault = |field, reason: &str| Some((field, reason.to_owned()));
        let server = &self.grpc_server;
        let listen = match server.addr.parse() {
            Ok(listen) => listen,
            Err(reason) => return Some(("grpc_server.addr", reason)),
        };
        if let ListenAddr::Tcp(addr) = &listen
            && !addr.ip().is_loopback()
            && !server.use_tls
            && !server.allow_plaintext
        {
            return fault(
                "grpc_server.addr",
                "beyond loopback needs use_tls = true, or allow_plaintext = true",
            );
        }
        // A certificate that nobody asks for would look like a check of clients, and be none.
        if server.client_ca_file.is_some() && !server.use_tls {
            return fault("grpc_server.client_ca_file", "needs use_tls = true");
        }
        // Names that nothing proves would look like a bound, and be none.
        if !self.tenants.operators.is_empty() && !self.tells_tenants_apart() {
            return fault(
                "tenants.operators",
                "needs grpc_server.client_ca_file, and from = \"certificate\"",
            );
        }
        let worker = &self.worker;
        if worker.server_uid == 0 || worker.server_gid == 0 {
            return fault(
                "worker.server_uid",
                "the network-facing server never runs as root",
            );
        }
        if worker.max_running == 0 {
            return fault("worker.max_running", "0 would never run a job");
        }
        self.scheduler
            .as_ref()
            .and_then(|scheduler| scheduler.fault(&listen))
    }
}

impl Scheduler {
    fn fault(&self, listen: &ListenAddr) -> Option<(&'static str, String)> {
        let fault = |field, reason: &str| Some((field, reason.to_owned()));
        let port = self.addr.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            return fault("scheduler.addr", "not HOST:PORT");
        }
        if self.advertise.is_none() && matches!(listen, ListenAddr::Unix(_)) {
            return fault(
                "scheduler.advertise",
                "needed where grpc_server.addr is a Unix socket",
            );
        }
        if self.crt_file.is_some() != self.key_file.is_some() {
            return fault(
                "scheduler.crt_file",
                "crt_file and key_file are given together or not at all",
            );
        }
        if !self.use_tls && (self.ca_file.is_some() || self.crt_file.is_some() || self.server_name.is_some())
        {
            return fault(
                "scheduler.use_tls",
                "false, but ca_file, crt_file or server_name is given",
            );
        }
        None
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
