//! What SIGHUP reads again. The launcher reads it for the server, which has given up the right to: a key is its owner's
//! alone, as a rule, and so may be the configuration.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Config, GrpcServer};

/// No honest certificate, key or list of authorities is longer.
const LARGEST_PEM: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reread {
    /// Or why the file cannot be read.
    pub settings: Result<Settings, String>,
    /// Where the server speaks TLS.
    pub tls: Option<Result<Pems, String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub log_level: String,
    /// Something else has changed, too, which is not taken up.
    pub needs_restart: bool,
}

/// The TLS files of `[grpc_server]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pems {
    pub chain: Vec<u8>,
    pub key: Vec<u8>,
    pub client_ca: Option<Vec<u8>>,
}

/// A file of [`Pems`] that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct PemError {
    pub path: PathBuf,
    pub source: io::Error,
}

impl Reread {
    /// Of a process that was started with `config`. The TLS files are those of its start: who is told apart by them, and
    /// how, does not change while it runs.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let tls = config.grpc_server.use_tls.then(|| {
            let pems = Pems::read(&config.grpc_server);
            pems.map_err(|error| error.to_string())
        });
        let settings = match &config.source {
            Some(file) => Config::read(file).map_err(|error| error.to_string()),
            None => Ok(config.clone()),
        };
        let settings = settings.map(|new| Settings {
            needs_restart: !new.is_but_for_log(config),
            log_level: new.log.level,
        });
        Self { settings, tls }
    }
}

impl Pems {
    pub fn read(server: &GrpcServer) -> Result<Self, PemError> {
        Ok(Self {
            chain: read(&server.crt_file)?,
            key: read(&server.key_file)?,
            client_ca: server.client_ca_file.as_deref().map(read).transpose()?,
        })
    }
}

/// The key is nobody's to see.
impl fmt::Debug for Pems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pems").finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    let read = || {
        let mut content = Vec::new();
        File::open(path)?
            .take(LARGEST_PEM + 1)
            .read_to_end(&mut content)?;
        if content.len() as u64 > LARGEST_PEM {
            return Err(io::Error::other(format!("longer than {LARGEST_PEM} bytes")));
        }
        Ok(content)
    };
    read().map_err(|source| PemError {
        path: path.to_owned(),
        source,
    })
}
