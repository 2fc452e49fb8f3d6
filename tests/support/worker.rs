use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use stockade::config::{Config, Durability};
use stockade::grpc;
use stockade::proto::jobscheduler::worker_client::WorkerClient as OldWorkerClient;
use stockade::proto::v1::worker_client::WorkerClient;
use stockade::server::{Running, ServerError, prepare};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint, Uri};

use super::FakeLauncher;

pub type Client = WorkerClient<Channel>;
pub type OldClient = OldWorkerClient<Channel>;

/// One worker on a Unix socket in a folder of its own.
pub struct TestWorker {
    pub launcher: FakeLauncher,
    pub config: Config,
    dir: TempDir,
    alive: Option<Alive>,
}

/// A server in a runtime of its own, so that it can end as suddenly as a process.
struct Alive {
    runtime: Runtime,
    running: Running,
    /// Ends with the connection to the server.
    launcher: JoinHandle<()>,
}

impl TestWorker {
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// Starts with a changed configuration.
    pub fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut worker = Self::stopped(change);
        worker.revive();
        worker
    }

    pub fn stopped(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut config = Config::default();
        config.grpc_server.addr = format!("unix:{}", dir.path().join("worker.sock").display());
        config.worker.state_dir = dir.path().join("state");
        // No test pulls the plug.
        config.worker.durability = Durability::Process;
        std::fs::create_dir_all(config.worker.state_dir.join("server")).expect("server folder");
        change(&mut config);
        Self {
            launcher: FakeLauncher::new(&config),
            config,
            dir,
            alive: None,
        }
    }

    /// Starts the server (again), in the state that its predecessor left.
    pub fn revive(&mut self) {
        self.try_revive().expect("server starts");
    }

    pub fn try_revive(&mut self) -> Result<(), ServerError> {
        let prepared = prepare(&self.config)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("runtime");
        let (channel, launcher) = self.launcher.connect();
        let start = Running::start(self.config.clone(), prepared, channel, grpc::routes);
        match elsewhere(|| runtime.block_on(start)) {
            Ok(running) => {
                self.alive = Some(Alive {
                    runtime,
                    running,
                    launcher,
                });
                Ok(())
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Ends the server without any farewell.
    pub fn kill(&mut self) {
        let alive = self.alive.take();
        let launcher = alive.map(|alive| {
            // Drops every task where it stands, and waits only for that.
            elsewhere(|| alive.runtime.shutdown_timeout(Duration::from_secs(5)));
            drop(alive.running);
            alive.launcher
        });
        self.end_connection(launcher);
    }

    /// Ends the server as SIGTERM does.
    pub fn shut_down(&mut self) {
        let alive = self.alive.take();
        let launcher = alive.map(|alive| {
            elsewhere(|| {
                alive.runtime.block_on(alive.running.shut_down());
                alive.runtime.shutdown_timeout(Duration::from_secs(5));
            });
            alive.launcher
        });
        self.end_connection(launcher);
    }

    /// The launcher outlives it; a new connection will be made. What it was told last it does first: it would write into
    /// a folder that is being removed.
    fn end_connection(&self, launcher: Option<JoinHandle<()>>) {
        self.launcher.die();
        if let Some(launcher) = launcher {
            let ended = launcher.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the launcher panicked");
        }
    }

    pub fn running(&self) -> &Running {
        &self.alive.as_ref().expect("alive").running
    }

    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub async fn channel(&self) -> Channel {
        let path = self.dir.path().join("worker.sock");
        Endpoint::from_static("http://worker.test")
            .connect_with_connector(tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
            }))
            .await
            .expect("connect")
    }

    pub async fn client(&self) -> Client {
        WorkerClient::new(self.channel().await).max_decoding_message_size(64 << 20)
    }

    pub async fn old_client(&self) -> OldClient {
        OldWorkerClient::new(self.channel().await)
    }
}

impl Drop for TestWorker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// On a thread of its own: the test's own thread belongs to the test's runtime.
fn elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().expect("no panic"))
}

/// Waits for something that another process or thread brings about.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
