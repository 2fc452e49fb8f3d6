//! `stockade run`, with policies of the test's own.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::process::finish;

/// A job to be. Its files are gone when this is.
#[derive(Debug)]
pub struct Job {
    folder: TempDir,
    policy: String,
    options: Vec<String>,
    command: Vec<String>,
    as_user: bool,
}

/// An ordinary user, and a group, that nobody is in.
pub const USER: u32 = 64_999;

/// What became of a job.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
    /// The record, as `--report` has it.
    pub report: Value,
}

impl Job {
    /// Under a policy that is built in.
    pub fn under(policy: &str) -> Self {
        Self {
            folder: tempfile::tempdir().expect("tempdir"),
            policy: policy.to_owned(),
            options: Vec::new(),
            command: Vec::new(),
            as_user: false,
        }
    }

    /// Under a policy of the test's own, of which this is the file.
    pub fn under_own(policy: &str) -> Self {
        let mut job = Self::under("own");
        let policies = job.folder.path().join("policies");
        fs::create_dir(&policies).expect("mkdir");
        fs::write(policies.join("own.toml"), policy).expect("policy");
        let config = job.folder.path().join("config.toml");
        fs::write(&config, format!("[worker]\npolicies_dir = {policies:?}\n")).expect("config");
        job.options = vec!["--config".into(), config.display().to_string()];
        job
    }

    /// Its launcher is an ordinary user's.
    pub const fn by_user(mut self) -> Self {
        self.as_user = true;
        self
    }

    pub fn options(mut self, options: &[&str]) -> Self {
        self.options
            .extend(options.iter().map(|option| (*option).to_owned()));
        self
    }

    pub fn bash(self, script: &str) -> Self {
        self.script_for(&["bash"], script)
    }

    pub fn python(self, script: &str) -> Self {
        self.script_for(&["python3"], script)
    }

    /// `interpreter` is a command with its options; the script's path comes after it.
    pub fn script_for(mut self, interpreter: &[&str], text: &str) -> Self {
        let path = self.folder.path().join("script");
        fs::write(&path, text).expect("script");
        self.options
            .extend(["--script".into(), path.display().to_string()]);
        self.command = interpreter.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The whole command line, for a test that starts it by itself.
    pub fn to_command(&self) -> Command {
        // Elsewhere where the test's own program was copied to another machine.
        let elsewhere = std::env::var_os("STOCKADE_TEST_BIN");
        let mut program = elsewhere.unwrap_or_else(|| env!("CARGO_BIN_EXE_stockade").into());
        if self.as_user {
            self.give_files();
            program = format!("/proc/self/fd/{}", shared_program(&program)).into();
        }
        let mut command = Command::new(program);
        if self.as_user {
            // Without supplementary groups: root's are dropped on the way.
            command.uid(USER).gid(USER);
        }
        command
            .args(["run", "--policy", &self.policy])
            .args(&self.options);
        command.arg("--report").arg(self.report_path());
        command
            .arg("--")
            .args(&self.command)
            .current_dir(self.folder.path());
        command.stdin(std::process::Stdio::null());
        command
    }

    /// All that the user's process has to read, and the folder that it writes to.
    fn give_files(&self) {
        let mut left = vec![self.folder.path().to_owned()];
        while let Some(path) = left.pop() {
            chown(&path, Some(USER), Some(USER)).expect("chown");
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path()));
        }
    }

    pub fn run(self) -> Finished {
        self.run_with(|_| {})
    }

    /// Runs it after `around` has changed what the launcher inherits.
    pub fn run_with(self, around: impl Fn(&mut Command)) -> Finished {
        let mut command = self.to_command();
        around(&mut command);
        let output = finish(&mut command);
        Finished {
            report: self.report(),
            status: output.status,
            stdout: output.stdout,
            stderr: output.stderr,
            took: output.took,
        }
    }

    /// The record of a job that has ended, `Null` if there is none.
    pub fn report(&self) -> Value {
        let text = fs::read_to_string(self.report_path()).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    fn report_path(&self) -> std::path::PathBuf {
        self.folder.path().join("report.json")
    }
}

/// A descriptor of the program, to execute it wherever its folder may be out of the user's reach.
fn shared_program(path: &OsStr) -> RawFd {
    static PROGRAM: OnceLock<fs::File> = OnceLock::new();
    let file = PROGRAM.get_or_init(|| fs::File::open(path).expect("the program"));
    file.as_raw_fd()
}

impl Finished {
    /// The word of the record.
    pub fn cause(&self) -> &str {
        self.report["cause"].as_str().unwrap_or_default()
    }
}
