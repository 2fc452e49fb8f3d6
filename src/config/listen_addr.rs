//! `grpc_server.addr`.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

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
