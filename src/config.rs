//! `config.toml`: what an operator decides. Every field has a default; unknown keys are refused.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub grpc_server: GrpcServer,
    /// Absent: the worker registers nowhere.
    pub scheduler: Option<Scheduler>,
    pub worker: Worker,
    pub isolation: Isolation,
    pub log: Log,
}

/// Where and how clients reach this worker.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcServer {
    /// `host:port`, or `unix:/path`.
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
            state_dir: PathBuf::from("/var/lib/stockade"),
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

impl Config {
    /// Reads `path`, or the first file of [`SEARCH`], or takes the defaults.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        match path.or_else(|| SEARCH.iter().map(Path::new).find(|path| path.exists())) {
            Some(path) => Self::read(path),
            None => Ok(Self::default()),
        }
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let config: Self = toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        config.check(path)?;
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let invalid = |field, reason: &str| {
            Err(ConfigError::Invalid {
                path: path.to_owned(),
                field,
                reason: reason.to_owned(),
            })
        };
        let server = &self.grpc_server;
        if !server.addr.starts_with("unix:") {
            let Ok(addr) = server.addr.parse::<SocketAddr>() else {
                return invalid("grpc_server.addr", "neither IP:PORT nor unix:/path");
            };
            if !addr.ip().is_loopback() && !server.use_tls && !server.allow_plaintext {
                return invalid(
                    "grpc_server.addr",
                    "beyond loopback needs use_tls = true, or allow_plaintext = true",
                );
            }
        }
        if self.worker.server_uid == 0 || self.worker.server_gid == 0 {
            return invalid(
                "worker.server_uid",
                "the network-facing server never runs as root",
            );
        }
        Ok(())
    }
}
