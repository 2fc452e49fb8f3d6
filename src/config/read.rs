//! Reads the file, and refuses what makes no sense or is not safe.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Config, Isolation, ListenAddr, Scheduler, Worker, log_level};

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
        match path.or_else(|| SEARCH.iter().map(Path::new).find(|path| !is_absent(path))) {
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
        match config.worker.make_absolute().err().or_else(|| config.fault()) {
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
        if server.max_connections == 0 {
            return fault("grpc_server.max_connections", "0 would never serve anybody");
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
        if worker.scripts_dir.as_ref().is_some_and(|dir| !dir.is_dir()) {
            return fault("worker.scripts_dir", "not a folder: no job could start");
        }
        if let Err(reason) = log_level::parse(&self.log.level) {
            return Some(("log.level", reason));
        }
        let scheduler = self.scheduler.as_ref();
        self.isolation
            .fault(worker)
            .or_else(|| scheduler.and_then(|scheduler| scheduler.fault(&listen)))
    }
}

/// One that cannot be read, or a link that leads nowhere, is there: whoever made it did not mean the defaults.
fn is_absent(path: &Path) -> bool {
    matches!(path.symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound)
}

impl Worker {
    /// Sandboxes are made by processes with another working directory, where a relative folder is another one or none.
    fn make_absolute(&mut self) -> Result<(), (&'static str, String)> {
        let folders = [
            ("worker.state_dir", Some(&mut self.state_dir)),
            ("worker.scripts_dir", self.scripts_dir.as_mut()),
            ("worker.policies_dir", self.policies_dir.as_mut()),
        ];
        for (field, folder) in folders {
            if let Some(folder) = folder {
                *folder = std::path::absolute(&*folder).map_err(|error| (field, error.to_string()))?;
            }
        }
        Ok(())
    }
}

impl Isolation {
    fn fault(&self, worker: &Worker) -> Option<(&'static str, String)> {
        let fault = |field, reason: &str| Some((field, reason.to_owned()));
        let is_name = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        if !self.cgroup.trim_matches('/').split('/').all(is_name) {
            return fault("isolation.cgroup", "not the name of a cgroup");
        }
        if self.first_host_id == 0 {
            return fault("isolation.first_host_id", "0 is root");
        }
        match self.host_ids() {
            None => fault("isolation.first_host_id", "leaves too few ids for jobs"),
            Some(ids) if ids.contains(&worker.server_uid) || ids.contains(&worker.server_gid) => fault(
                "isolation.first_host_id",
                "worker.server_uid or server_gid is among the ids of jobs",
            ),
            Some(_) => None,
        }
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
