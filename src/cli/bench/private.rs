//! A worker for the benchmark alone: this very binary, on a Unix socket in a temporary folder.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chown};
use tempfile::TempDir;

use super::BenchError;
use crate::{config, sys};

const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// Longer than [`JOBS_END_WITHIN`].
const ENDS_WITHIN: Duration = Duration::from_secs(90);
/// Thousands of sleeping jobs may have to be stopped.
const JOBS_END_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// As `worker.durability`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    Process,
    Power,
}

impl Durability {
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Power => "power",
        }
    }
}

/// What differs from the built-in configuration.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    pub durability: Durability,
    pub max_running: usize,
    /// Shown to all jobs.
    pub scripts_dir: Option<&'a Path>,
}

/// Ends with this value, and leaves nothing behind.
#[derive(Debug)]
pub struct PrivateWorker {
    process: Child,
    dir: TempDir,
}

impl PrivateWorker {
    /// Starts `program serve` and waits until it serves. It is told to end when this thread ends, should that be killed.
    pub fn start(program: &Path, settings: Settings<'_>) -> Result<Self, BenchError> {
        let dir = tempfile::Builder::new()
            .prefix("stockade-bench-")
            .tempdir()
            .map_err(BenchError::prepare("a temporary folder"))?;
        open_to_server(dir.path()).map_err(BenchError::prepare("a temporary folder"))?;
        let config = dir.path().join("config.toml");
        let text = configuration(dir.path(), settings);
        std::fs::write(&config, text).map_err(BenchError::prepare("the worker's configuration"))?;
        let mut command = Command::new(program);
        command
            .args(["serve", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // The terminal's Ctrl-C is for us, who end it in order.
            .process_group(0);
        sys::end_with_parent(&mut command);
        let process = command.spawn().map_err(|source| BenchError::Spawn {
            program: program.display().to_string(),
            source,
        })?;
        let mut worker = Self { process, dir };
        worker.wait_until_it_serves()?;
        Ok(worker)
    }

    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// The launcher, whose child is the server.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends it in order, jobs included.
    pub fn stop(mut self) -> Result<(), BenchError> {
        self.end()
    }

    fn wait_until_it_serves(&mut self) -> Result<(), BenchError> {
        let deadline = Instant::now() + STARTS_WITHIN;
        while UnixStream::connect(self.socket()).is_err() {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(BenchError::Worker(format!("did not start ({status})")));
            }
            if Instant::now() > deadline {
                return Err(BenchError::Worker("does not serve".to_owned()));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), BenchError> {
        if let Ok(Some(_)) = self.process.try_wait() {
            return Ok(());
        }
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap_or(i32::MAX));
        let _ = kill(pid, Signal::SIGTERM);
        let deadline = Instant::now() + ENDS_WITHIN;
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.process.kill();
                let _ = self.process.wait();
                return Err(BenchError::Worker("did not end in time".to_owned()));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

impl Drop for PrivateWorker {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// The server, another user than root, must get at its socket and its database; nobody else.
fn open_to_server(dir: &Path) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let group = config::Worker::default().server_gid;
        chown(dir, None, Some(group.into()))?;
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o710))?;
    }
    Ok(())
}

fn configuration(dir: &Path, settings: Settings<'_>) -> String {
    // A path in TOML, whatever is in it.
    let path = |name: &str| toml::Value::from(dir.join(name).to_string_lossy().into_owned());
    let socket = toml::Value::from(format!("unix:{}", dir.join("socket").display()));
    let scripts_dir = settings.scripts_dir.map_or_else(String::new, |dir| {
        let dir = toml::Value::from(dir.to_string_lossy().into_owned());
        format!("scripts_dir = {dir}\n")
    });
    format!(
        "[grpc_server]\naddr = {socket}\n\n[worker]\n{scripts_dir}state_dir = {}\ndurability = \"{}\"\nmax_running = {}\n\
         on_shutdown = \"stop\"\nshutdown_timeout_s = {}\n\n[log]\nlevel = \"error\"\n",
        path("state"),
        settings.durability.word(),
        settings.max_running,
        JOBS_END_WITHIN.as_secs(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_configuration_is_one() {
        let folder = tempfile::tempdir().expect("tempdir");
        let odd = folder.path().join("a \"b\\");
        std::fs::create_dir(&odd).expect("mkdir");
        let settings = Settings {
            durability: Durability::Process,
            max_running: 7,
            scripts_dir: Some(&odd),
        };
        let file = odd.join("config.toml");
        std::fs::write(&file, configuration(&odd, settings)).expect("write");
        let config = Config::read(&file).expect("a configuration");
        assert_eq!(config.worker.durability, config::Durability::Process);
        assert_eq!(config.worker.max_running, 7);
        assert_eq!(config.worker.state_dir, odd.join("state"));
        assert_eq!(config.worker.scripts_dir, Some(odd));
    }
}
