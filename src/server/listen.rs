//! Opens what needs privileges, or must fail before anything else happens: sockets and TLS files.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::config::{Config, ListenAddr};

use super::ServerError;
use super::tls::{ClientTls, ServerTls};

/// All that the server brings along from before it gave up its privileges.
#[derive(Debug)]
pub struct Prepared {
    pub(super) listener: Listener,
    pub(super) tls: Option<ServerTls>,
    pub(super) scheduler_tls: Option<ClientTls>,
}

#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Binds the listener and reads the TLS files. Makes neither threads nor files, but for a Unix socket.
pub fn prepare(config: &Config) -> Result<Prepared, ServerError> {
    let server = &config.grpc_server;
    // Files first: a socket that is bound shows others that the server is coming.
    let (tls, scheduler_tls) = read_tls(config)?;
    let addr: ListenAddr = server
        .addr
        .parse()
        .map_err(|reason: String| ServerError::Listen {
            addr: server.addr.clone(),
            source: io::Error::new(ErrorKind::InvalidInput, reason),
        })?;
    let listener = bind(&addr, config)?;
    Ok(Prepared {
        listener,
        tls,
        scheduler_tls,
    })
}

/// Whether all TLS files that are named can be used.
pub fn check_tls(config: &Config) -> Result<(), ServerError> {
    read_tls(config).map(drop)
}

/// Towards clients, and towards the scheduler.
fn read_tls(config: &Config) -> Result<(Option<ServerTls>, Option<ClientTls>), ServerError> {
    let server = &config.grpc_server;
    let tls = server.use_tls.then(|| ServerTls::read(server)).transpose()?;
    let scheduler_tls = match &config.scheduler {
        Some(scheduler) if scheduler.use_tls => Some(ClientTls::read(scheduler)?),
        _ => None,
    };
    Ok((tls, scheduler_tls))
}

impl Prepared {
    /// The address that is really listened on, where the configuration left the port to the kernel.
    #[must_use]
    pub fn local_addr(&self) -> Option<std::net::SocketAddr> {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(..) => None,
        }
    }
}

impl Listener {
    /// The address as clients know it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .map(|addr| addr.to_string())
                .unwrap_or_default(),
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }
}

fn bind(addr: &ListenAddr, config: &Config) -> Result<Listener, ServerError> {
    let failed = |source| ServerError::Listen {
        addr: addr.to_string(),
        source,
    };
    match addr {
        ListenAddr::Tcp(addr) => {
            let listener = TcpListener::bind(addr).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            Ok(Listener::Tcp(listener))
        }
        ListenAddr::Unix(path) => {
            remove_stale(path)?;
            let listener = bind_unix(path, config).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            Ok(Listener::Unix(listener, path.clone()))
        }
    }
}

/// The socket appears under its name only with its final owner and mode.
fn bind_unix(path: &Path, config: &Config) -> io::Result<UnixListener> {
    let unfinished = path.with_extension(format!("new-{}", std::process::id()));
    let listener = UnixListener::bind(&unfinished)?;
    let finish = || {
        std::fs::set_permissions(&unfinished, PermissionsExt::from_mode(0o660))?;
        if rustix::process::geteuid().is_root() {
            let worker = &config.worker;
            chown(&unfinished, Some(worker.server_uid), Some(worker.server_gid))?;
        }
        std::fs::rename(&unfinished, path)
    };
    finish().inspect_err(|_| {
        let _ = std::fs::remove_file(&unfinished);
    })?;
    Ok(listener)
}

/// A socket that nobody listens on is left over from a process that died. Anything else stays.
fn remove_stale(path: &Path) -> Result<(), ServerError> {
    let occupied = |reason: &str| ServerError::Socket {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(occupied(&error.to_string())),
    };
    if !found.file_type().is_socket() {
        return Err(occupied("exists and is not a socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(occupied("another process listens on it")),
        // bind_unix replaces it.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(occupied(&error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(addr: &str) -> Config {
        let mut config = Config::default();
        addr.clone_into(&mut config.grpc_server.addr);
        config
    }

    fn unix(path: &Path) -> Config {
        config(&format!("unix:{}", path.display()))
    }

    #[test]
    fn tcp_of_both_families() {
        for addr in ["127.0.0.1:0", "[::1]:0"] {
            let prepared = prepare(&config(addr)).expect(addr);
            assert_ne!(prepared.local_addr().expect("address").port(), 0);
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("s.sock");
        let first = prepare(&unix(&path)).expect("first");
        assert!(matches!(prepare(&unix(&path)), Err(ServerError::Socket { .. })));
        drop(first);
        assert!(path.exists());
        let _second = prepare(&unix(&path)).expect("second");
        let mode = path.metadata().expect("socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let names: Vec<_> = std::fs::read_dir(dir.path()).expect("folder").collect();
        assert_eq!(names.len(), 1);
    }

    #[test]
    fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("file");
        std::fs::write(&path, "precious").expect("write");
        assert!(prepare(&unix(&path)).is_err());
        assert_eq!(std::fs::read(&path).expect("read"), b"precious");
    }
}
