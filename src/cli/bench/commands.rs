//! Programs that run one job and end: timed from the spawn to the wait.
//!
//! The standard library spawns by vfork or posix_spawn, which execute at once: other threads do no harm.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags, open};
use tokio::sync::oneshot;

use super::{BenchError, Interruption, Progress, Samples};

/// In arguments, what is different for each launch.
pub const EACH: &str = "{}";
/// A `cgroup2` beside the controllers of v1.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// A command that is launched again and again.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    pub program: PathBuf,
    /// [`EACH`] in one becomes a name of its own for each launch.
    pub args: Vec<OsString>,
    /// A file that the program reads from a descriptor; its number replaces the argument "FD".
    pub file: Option<PathBuf>,
    /// In a mount namespace without the `cgroup2` beside v1: some runtimes refuse that pair.
    pub hide_unified: bool,
}

impl Launch {
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, args: &[&str]) -> Self {
        Self {
            program: program.into(),
            args: args.iter().map(OsString::from).collect(),
            ..Self::default()
        }
    }

    /// One launch, which must succeed.
    pub fn once(&self, name: &str) -> Result<Duration, BenchError> {
        let spawn_error = |source| BenchError::Spawn {
            program: self.program.display().to_string(),
            source,
        };
        // Its flags let the child inherit it; a descriptor of its own, as its offset is the reader's.
        let file = self
            .file
            .as_deref()
            .map(inheritable)
            .transpose()
            .map_err(spawn_error)?;
        let mut command = Command::new(&self.program);
        command
            .args(self.args.iter().map(|arg| fill(arg, name, file.as_ref())))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let before = Instant::now();
        let child = command.spawn().map_err(spawn_error)?;
        let output = child.wait_with_output().map_err(spawn_error)?;
        let time = before.elapsed();
        if output.status.success() {
            return Ok(time);
        }
        let message = String::from_utf8_lossy(&output.stderr);
        Err(BenchError::Failed {
            program: self.program.display().to_string(),
            status: output.status,
            message: message.trim().lines().next_back().unwrap_or_default().to_owned(),
        })
    }

    /// So many launches, one after the other, each after a rest.
    pub async fn latency(
        &self,
        name: &str,
        count: usize,
        rest: Duration,
        progress: &Arc<Progress>,
        interruption: &Interruption,
    ) -> Result<Samples, BenchError> {
        let (launch, name) = (self.clone(), name.to_owned());
        let (progress, interruption) = (Arc::clone(progress), interruption.clone());
        in_thread(self.hide_unified, move || {
            let id = |n: usize| format!("bench-{}-{n}", std::process::id());
            launch.once(&id(count))?;
            let mut times = Vec::with_capacity(count);
            for done in 0..count {
                interruption.check()?;
                if !rest.is_zero() {
                    std::thread::sleep(rest);
                }
                times.push(launch.once(&id(done))?);
                progress.step(&name, done, count);
            }
            Samples::new(times).ok_or(BenchError::Incomplete("launches"))
        })
        .await
    }

    /// Launches a second with several at one time.
    pub async fn throughput(
        &self,
        clients: usize,
        length: Duration,
        interruption: &Interruption,
    ) -> Result<f64, BenchError> {
        let began = Instant::now();
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                let (launch, interruption) = (self.clone(), interruption.clone());
                in_thread(self.hide_unified, move || {
                    let mut count = 0_u32;
                    while began.elapsed() < length {
                        interruption.check()?;
                        launch.once(&format!("bench-{}-{client}-{count}", std::process::id()))?;
                        count += 1;
                    }
                    Ok(count)
                })
            })
            .collect();
        let mut count = 0;
        for thread in threads {
            count += thread.await?;
        }
        Ok(f64::from(count) / began.elapsed().as_secs_f64())
    }
}

/// Off the runtime's thread, which must go on to see signals, and in a thread that ends with its mount namespace.
fn in_thread<T: Send + 'static>(
    hide_unified: bool,
    work: impl FnOnce() -> Result<T, BenchError> + Send + 'static,
) -> impl Future<Output = Result<T, BenchError>> {
    let (tell, result) = oneshot::channel();
    std::thread::spawn(move || {
        let hidden = if hide_unified { hide() } else { Ok(()) };
        let hidden = hidden.map_err(BenchError::prepare("hiding the cgroup2 beside v1"));
        // Nobody listens any more where the benchmark was interrupted.
        let _ = tell.send(hidden.and_then(|()| work()));
    });
    async move {
        result
            .await
            .map_err(|_| BenchError::Unfit("a measurement panicked".to_owned()))?
    }
}

/// For this thread alone.
fn hide() -> io::Result<()> {
    if !Path::new(UNIFIED).exists() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)?;
    let nothing: Option<&str> = None;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )?;
    Ok(umount2(UNIFIED, MntFlags::MNT_DETACH)?)
}

fn inheritable(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlags::RDONLY, Mode::empty())?)
}

fn fill(arg: &OsString, name: &str, file: Option<&OwnedFd>) -> OsString {
    use std::os::fd::AsRawFd;
    match (arg.to_str(), file) {
        (Some(EACH), _) => name.into(),
        (Some("FD"), Some(file)) => file.as_raw_fd().to_string().into(),
        _ => arg.clone(),
    }
}
