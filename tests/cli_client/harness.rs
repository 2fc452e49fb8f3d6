//! Serves a [`Fake`] and runs the real binary against it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use stockade::proto::v1::worker_server::WorkerServer;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::{Server, ServerTlsConfig};

use super::fake::Fake;

/// A served worker; dropping it ends the service.
#[derive(Debug)]
pub(crate) struct Served {
    runtime: Runtime,
    pub(crate) endpoint: String,
    pub(crate) address: Option<SocketAddr>,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

impl Served {
    pub(crate) fn on_tcp(fake: &Fake) -> Self {
        Self::tcp("http", fake, Server::builder())
    }

    pub(crate) fn with_tls(fake: &Fake, tls: ServerTlsConfig) -> Self {
        let server = Server::builder().tls_config(tls).expect("a TLS configuration");
        Self::tcp("https", fake, server)
    }

    fn tcp(scheme: &str, fake: &Fake, mut server: Server) -> Self {
        let runtime = runtime();
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = server.add_service(WorkerServer::new(fake.clone()));
        runtime.spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        Self {
            runtime,
            endpoint: format!("{scheme}://localhost:{}", address.port()),
            address: Some(address),
        }
    }

    pub(crate) fn on_unix(fake: &Fake, path: &Path) -> Self {
        let runtime = runtime();
        let listener = runtime
            .block_on(async { UnixListener::bind(path) })
            .expect("a socket");
        let router = Server::builder().add_service(WorkerServer::new(fake.clone()));
        runtime.spawn(router.serve_with_incoming(UnixListenerStream::new(listener)));
        Self {
            runtime,
            endpoint: format!("unix:{}", path.display()),
            address: None,
        }
    }

    /// A connection to this worker that the test can break.
    pub(crate) fn proxy(&self) -> Proxy {
        let target = self.address.expect("a TCP worker");
        let listener = self
            .runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let connections = Connections::default();
        let kept = Arc::clone(&connections);
        self.runtime.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                kept.lock().expect("the lock").spawn(async move {
                    let mut server = TcpStream::connect(target).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Proxy {
            endpoint: format!("http://localhost:{port}"),
            connections,
        }
    }

    pub(crate) fn stockade(&self, words: &[&str]) -> Outcome {
        stockade(&self.endpoint, words)
    }
}

type Connections = Arc<Mutex<JoinSet<std::io::Result<(u64, u64)>>>>;

/// Passes bytes on until it is cut.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    connections: Connections,
}

impl Proxy {
    /// Breaks all connections; new ones are taken.
    pub(crate) fn cut(&self) {
        self.connections.lock().expect("the lock").abort_all();
    }
}

/// What the binary printed and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().expect("no signal ends it"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

impl Outcome {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).expect("JSON on stdout")
    }

    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.status, 0, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn failed(self, status: i32, message: &str) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.stderr.contains(message), "{self:?}");
        self
    }
}

/// The binary, with none of the caller's settings.
pub(crate) fn command(endpoint: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    command
        .args(words)
        .env_clear()
        .env("STOCKADE_ENDPOINT", endpoint)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub(crate) fn stockade(endpoint: &str, words: &[&str]) -> Outcome {
    command(endpoint, words).output().expect("the binary runs").into()
}
