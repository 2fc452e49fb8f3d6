//! A real worker: launcher, server and all, on a Unix socket in a folder of its own.

#[path = "../../support/needs.rs"]
pub(crate) mod needs;
pub(crate) mod traces;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use stockade::proto::jobscheduler::worker_client::WorkerClient as OldWorkerClient;
use stockade::proto::v1::worker_client::WorkerClient;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use traces::{SUPERVISOR, branches_of, children, named, uid};

const SERVER_UID: &str = "64901";
/// For everything that should take a moment.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Whether workers can be run here.
pub(crate) fn able() -> bool {
    needs::needs_sandboxes()
}

/// What is special about a worker.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    /// Lines of the configuration's section `worker`.
    pub(crate) worker: String,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// A shell's words before the worker takes the shell's place.
    pub(crate) before: String,
}

pub(crate) struct Worker {
    pub(crate) dir: TempDir,
    process: Child,
    setup: Setup,
}

impl Worker {
    pub(crate) fn start() -> Self {
        Self::start_in(|_| {})
    }

    /// Starts in a folder that `prepare` may change before.
    pub(crate) fn start_in(prepare: impl FnOnce(&Path)) -> Self {
        Self::start_as(Setup::default(), prepare)
    }

    pub(crate) fn start_as(setup: Setup, prepare: impl FnOnce(&Path)) -> Self {
        Self::start_configured(setup, prepare, |config| config)
    }

    /// Starts with a configuration that `change` has the last word on.
    pub(crate) fn start_with(change: impl FnOnce(String) -> String) -> Self {
        Self::start_configured(Setup::default(), |_| {}, change)
    }

    /// Starts on TCP with TLS for certificates of `ca.pem`; `prepare` writes the files, `limits` are of `[worker]`.
    pub(crate) fn start_on_tcp(addr: &str, prepare: impl FnOnce(&Path), limits: &str) -> Self {
        let path = std::cell::OnceCell::new();
        let prepare = |dir: &Path| {
            let _ = path.set(dir.to_owned());
            prepare(dir);
        };
        let change = |config: String| {
            let dir = path.get().expect("prepared").display();
            let tls = format!(
                "addr = \"{addr}\"\nuse_tls = true\ncrt_file = \"{dir}/server.pem\"\nkey_file = \"{dir}/server.key\"\n\
                 client_ca_file = \"{dir}/ca.pem\""
            );
            config
                .replace(&format!("addr = \"unix:{dir}/socket\""), &tls)
                .replace("[worker]\n", &format!("[worker]\n{limits}"))
        };
        Self::start_configured(Setup::default(), prepare, change)
    }

    fn start_configured(
        setup: Setup,
        prepare: impl FnOnce(&Path),
        change: impl FnOnce(String) -> String,
    ) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        prepare(dir.path());
        // The server is another user, and must reach its socket's folder.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(dir.path(), open).expect("chmod");
        let scripts = dir.path().join("scripts");
        fs::create_dir(&scripts).expect("mkdir");
        let config = format!(
            "[grpc_server]\naddr = \"unix:{0}/socket\"\n[worker]\nstate_dir = \"{0}/state\"\nscripts_dir = \"{0}/scripts\"\n\
             durability = \"process\"\non_shutdown = \"stop\"\n{1}\n[log]\nlevel = \"warn\"\n",
            dir.path().display(),
            setup.worker
        );
        fs::write(dir.path().join("config.toml"), change(config)).expect("config");
        let process = spawn(dir.path(), &setup);
        let worker = Self { dir, process, setup };
        worker.wait_until_it_serves();
        worker
    }

    /// Starts it again after its death, on the same state.
    pub(crate) fn start_again(&mut self) {
        let _ = self.process.wait();
        let socket = self.socket();
        // The old server notices the end of its launcher, and nobody shall talk to it meanwhile.
        eventually("the old server has gone", || {
            std::os::unix::net::UnixStream::connect(&socket).is_err()
        });
        self.process = spawn(self.dir.path(), &self.setup);
        self.wait_until_it_serves();
    }

    fn wait_until_it_serves(&self) {
        let socket = self.socket();
        let tcp = self.tcp_addr();
        eventually("the worker serves", || match &tcp {
            Some(addr) => std::net::TcpStream::connect(addr).is_ok(),
            None => std::os::unix::net::UnixStream::connect(&socket).is_ok(),
        });
        // It listens while it is root still.
        eventually("its server is known", || self.server().is_some());
    }

    fn tcp_addr(&self) -> Option<String> {
        let config = fs::read_to_string(self.dir.path().join("config.toml")).expect("config");
        let addr = config.lines().find_map(|line| line.strip_prefix("addr = "))?;
        let addr = addr.trim_matches('"');
        (!addr.starts_with("unix:")).then(|| addr.to_owned())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    pub(crate) fn launcher(&self) -> u32 {
        self.process.id()
    }

    /// The launcher's child that is not root.
    pub(crate) fn server(&self) -> Option<u32> {
        children(self.launcher())
            .into_iter()
            .find(|pid| uid(*pid).as_deref() == Some(SERVER_UID))
    }

    pub(crate) async fn channel(&self) -> Channel {
        channel_to(self.socket()).await
    }

    pub(crate) async fn client(&self) -> WorkerClient<Channel> {
        WorkerClient::new(self.channel().await)
    }

    pub(crate) async fn old_client(&self) -> OldWorkerClient<Channel> {
        OldWorkerClient::new(self.channel().await)
    }

    /// Kills server and launcher, and starts the worker again after `meanwhile`.
    pub(crate) fn die_and_start_again(&mut self, meanwhile: impl FnOnce(&Path)) {
        let server = self.server().expect("a server");
        kill(self.launcher(), libc::SIGKILL);
        kill(server, libc::SIGKILL);
        let _ = self.process.wait();
        meanwhile(&self.dir.path().join("state"));
        self.start_again();
    }

    /// Its exit status, once it has ended.
    pub(crate) fn exit_status(&mut self) -> std::process::ExitStatus {
        self.process.wait().expect("wait")
    }

    /// Folders of jobs that the worker would take over after a restart.
    pub(crate) fn control_folders(&self) -> usize {
        fs::read_dir(self.control()).map_or(0, Iterator::count)
    }

    /// The folder of these folders.
    pub(crate) fn control(&self) -> PathBuf {
        let bases = ["/run", "/dev/shm"].map(|base| Path::new(base).join("stockade").join(self.name()));
        let found = bases.iter().find(|folder| folder.exists());
        found.unwrap_or(&bases[0]).clone()
    }

    /// What its cgroups and its folder in memory are named.
    pub(crate) fn name(&self) -> String {
        use sha2::{Digest, Sha256};
        let state = fs::canonicalize(self.dir.path().join("state")).expect("state");
        let digest = Sha256::digest(state.as_os_str().as_encoded_bytes());
        let name: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("worker-{name}")
    }

    /// Ends it in order.
    pub(crate) fn shut_down(self) {
        self.shut_down_and(|| {});
    }

    /// Ends it in order, and does what is to be done before its folder is removed.
    pub(crate) fn shut_down_and(mut self, then: impl FnOnce()) {
        let branches = branches_of(self.launcher());
        kill(self.launcher(), libc::SIGTERM);
        let status = self.process.wait().expect("wait");
        then();
        assert!(status.success(), "{status}");
        assert!(!self.log().contains("panicked"), "{}", self.log());
        assert!(
            !branches.iter().any(|branch| branch.exists()),
            "cgroups are left: {branches:?}"
        );
    }

    /// What all its processes have said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

pub(crate) async fn channel_to(path: PathBuf) -> Channel {
    let dial = move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Endpoint::from_static("http://worker")
            .connect_with_connector(service_fn(dial.clone()))
            .await
        {
            Ok(channel) => return channel,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the worker's log:\n{}", self.log());
        }
        if matches!(self.process.try_wait(), Ok(None)) {
            if std::thread::panicking() {
                // Whatever it was told to do with jobs when it ends: none is to run on.
                for supervisor in named(self.launcher(), SUPERVISOR) {
                    kill(supervisor, libc::SIGKILL);
                }
                unmount_below(self.dir.path());
            }
            kill(self.launcher(), libc::SIGTERM);
            let _ = self.process.wait();
        }
    }
}

/// What a test has mounted there and could not take away again.
fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    for place in places.filter(|place| Path::new(place).starts_with(dir)) {
        let _ = rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH);
    }
}

fn spawn(dir: &Path, setup: &Setup) -> Child {
    let log = || {
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(dir.join("log"));
        log.expect("log")
    };
    Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("{}\nexec \"$@\"", setup.before))
        .args(["sh", env!("CARGO_BIN_EXE_stockade"), "serve", "--config"])
        .arg(dir.join("config.toml"))
        .envs(setup.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log())
        .stderr(log())
        .spawn()
        .expect("stockade serve")
}

pub(crate) fn kill(pid: u32, signal: i32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::try_from(signal).expect("a signal"));
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
