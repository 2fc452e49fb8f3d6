//! strace(1) on a worker, and whose the calls in its log are.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
/// With no call for so long, a worker has nothing left to do.
const REST: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Launcher,
    Server,
    /// PID 1 of a sandbox.
    Supervisor,
    /// What moves the output of a sandbox.
    Pump,
    /// A job's first process until its command is executed.
    Stub,
    Job,
}

impl Role {
    const fn of_child(self, is_pump: bool) -> Self {
        match self {
            Self::Launcher if is_pump => Self::Pump,
            Self::Launcher => Self::Supervisor,
            Self::Server | Self::Pump => self,
            Self::Supervisor => Self::Stub,
            Self::Stub | Self::Job => Self::Job,
        }
    }
}

/// What a clone makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Birth {
    Process,
    Thread,
}

/// Traces a launcher, its server, the sandboxes that wait, and all that they fork from then on.
pub(crate) struct Tracer {
    strace: Child,
    dir: TempDir,
    server: u32,
    /// Those that were there when the tracer came.
    first: HashMap<u32, Role>,
}

/// How often each role made each call.
#[derive(Debug, Default)]
pub(crate) struct Counts(BTreeMap<(Role, String), u32>);

impl Counts {
    /// Every call.
    pub(crate) const ALL: &[&str] = &[];

    pub(crate) fn of(&self, role: Role, calls: &[&str]) -> f64 {
        let wanted =
            |(of, call): &(Role, String)| *of == role && (calls.is_empty() || calls.contains(&&**call));
        let counts = self.0.iter().filter(|(key, _)| wanted(key));
        f64::from(counts.map(|(_, count)| *count).sum::<u32>())
    }

    pub(crate) fn print_for_each(&self, jobs: usize) {
        let jobs = u32::try_from(jobs).expect("few");
        for ((role, call), count) in &self.0 {
            if *count >= jobs / 2 {
                println!("{role:?} {call}: {:.1}", f64::from(*count) / f64::from(jobs));
            }
        }
    }
}

impl Tracer {
    pub(crate) fn is_there() -> bool {
        let version = Command::new("strace")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        version.is_ok_and(|status| status.success())
    }

    /// `None` where the kernel does not let it, as in many containers.
    pub(crate) fn attach(launcher: u32) -> Option<Self> {
        let server = server_of(launcher);
        let mut first = descendants(launcher);
        // A worker that has just begun makes sandboxes ahead: one that is made meanwhile would not be traced.
        loop {
            std::thread::sleep(REST);
            let now = descendants(launcher);
            if now == first {
                break;
            }
            first = now;
        }
        first.insert(server, Role::Server);
        let dir = tempfile::tempdir().expect("tempdir");
        let mut strace = Command::new("strace")
            .args([
                "--follow-forks",
                "--decode-pids=pidns",
                "--quiet=all",
                "--string-limit=0",
                "--signal=none",
            ])
            .arg("--output")
            .arg(dir.path().join("log"))
            .args(
                first
                    .keys()
                    .flat_map(|pid| ["--attach".to_owned(), pid.to_string()]),
            )
            .stdin(Stdio::null())
            .spawn()
            .expect("strace");
        let deadline = Instant::now() + PATIENCE;
        while first.keys().any(|pid| !is_traced(*pid)) {
            if matches!(strace.try_wait(), Ok(Some(_))) {
                return None;
            }
            assert!(Instant::now() < deadline, "strace does not attach");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Self {
            strace,
            dir,
            server,
            first,
        })
    }

    /// The length of the log once nothing happens any more.
    pub(crate) fn at_rest(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        let mut length = 0;
        loop {
            std::thread::sleep(REST);
            let now = self.log().len();
            if now == length {
                return now;
            }
            assert!(Instant::now() < deadline, "the worker never rests");
            length = now;
        }
    }

    /// What was called within a part of the log.
    pub(crate) fn counts(&self, part: Range<usize>) -> Counts {
        let log = self.log();
        let roles = self.roles(&log);
        let mut counts = Counts::default();
        let mut executed: HashMap<u32, bool> = HashMap::new();
        let mut at = 0;
        for line in log.split_inclusive('\n') {
            let within = part.contains(&at);
            at += line.len();
            let Some((pid, call)) = call_in(line) else {
                continue;
            };
            let role = match roles.get(&pid) {
                Some(Role::Stub) if executed.get(&pid) == Some(&true) => Role::Job,
                Some(role) => *role,
                // Born before the tracer came.
                None => continue,
            };
            if role == Role::Stub && call == "execve" {
                executed.insert(pid, true);
            }
            if within {
                *counts.0.entry((role, call.to_owned())).or_default() += 1;
            }
        }
        counts
    }

    /// What each role has made so far, itself or its threads.
    pub(crate) fn births(&self) -> Vec<(Role, Birth)> {
        let log = self.log();
        let roles = self.roles(&log);
        let births = log.lines().filter_map(|line| {
            let (pid, call) = call_in(line)?;
            let birth = match call {
                "fork" | "vfork" => Birth::Process,
                "clone" | "clone3" if line.contains("CLONE_THREAD") => Birth::Thread,
                "clone" | "clone3" => Birth::Process,
                _ => return None,
            };
            Some((*roles.get(&pid)?, birth))
        });
        births.collect()
    }

    fn log(&self) -> String {
        let bytes = fs::read(self.dir.path().join("log")).expect("strace's log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// By descent, which the results of fork and clone tell.
    fn roles(&self, log: &str) -> HashMap<u32, Role> {
        let mut roles = self.first.clone();
        for thread in fs::read_dir(format!("/proc/{}/task", self.server))
            .into_iter()
            .flatten()
            .flatten()
        {
            if let Some(thread) = thread.file_name().to_str().and_then(|name| name.parse().ok()) {
                roles.insert(thread, Role::Server);
            }
        }
        // A supervisor begins a pid namespace; the end of a call may be in another line than its beginning.
        let mut begins_namespace = HashMap::new();
        for line in log.lines() {
            if let Some((thread, "clone3" | "clone")) = call_in(line) {
                begins_namespace.insert(thread, line.contains("CLONE_NEWPID"));
            }
            if let Some((parent, child)) = birth_in(line)
                && let Some(role) = roles.get(&parent)
            {
                let is_pump = begins_namespace.get(&parent) == Some(&false);
                let of_child = role.of_child(is_pump);
                roles.insert(child, of_child);
            }
        }
        roles
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // SIGINT has it let go of those that still run.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.strace.id()).expect("a pid"));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
        let _ = self.strace.wait();
    }
}

/// The thread and the name of a call that begins in this line of the log.
fn call_in(line: &str) -> Option<(u32, &str)> {
    let (pid, rest) = line.split_once(' ')?;
    let (call, _) = rest.trim_start().split_once('(')?;
    let is_name = !call.is_empty()
        && call
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    Some((pid.parse().ok()?, call)).filter(|_| is_name)
}

/// Parent and child, as the tracer numbers them.
fn birth_in(line: &str) -> Option<(u32, u32)> {
    let (pid, rest) = line.split_once(' ')?;
    let rest = rest.trim_start();
    let names = ["clone", "fork", "vfork", "<... clone", "<... fork", "<... vfork"];
    if !names.iter().any(|name| rest.starts_with(name)) {
        return None;
    }
    let (_, result) = rest.rsplit_once(" = ")?;
    let number = match result.split_once("/* ") {
        // In the parent's own pid namespace it has another number.
        Some((_, outside)) => outside.split(' ').next(),
        None => result.split(' ').next(),
    };
    Some((pid.parse().ok()?, number?.trim().parse().ok()?))
}

fn children(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn descendants(launcher: u32) -> HashMap<u32, Role> {
    let mut roles = HashMap::from([(launcher, Role::Launcher)]);
    add_children(launcher, Role::Launcher, &mut roles);
    roles
}

fn add_children(parent: u32, role: Role, to: &mut HashMap<u32, Role>) {
    for child in children(parent) {
        let of_child = role.of_child(comm(child) == "stockade-pump");
        to.insert(child, of_child);
        add_children(child, of_child, to);
    }
}

fn comm(pid: u32) -> String {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    comm.trim_end().to_owned()
}

fn server_of(launcher: u32) -> u32 {
    // The others have names of their own.
    let is_server = |pid: &u32| comm(*pid) == comm(launcher);
    children(launcher).into_iter().find(is_server).expect("a server")
}

/// Or has ended meanwhile.
fn is_traced(pid: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

#[test]
fn the_log_is_understood() {
    let call = call_in("17  openat(AT_FDCWD, \"\"..., O_RDONLY <unfinished ...>");
    assert_eq!(call, Some((17, "openat")));
    assert_eq!(call_in("17  <... openat resumed>) = 3"), None);
    assert_eq!(call_in("17  +++ exited with 0 +++"), None);
    assert_eq!(birth_in("17  clone3({flags=0}, 88) = 18"), Some((17, 18)));
    let nested = "18 <... clone3 resumed>) = 2 /* 20 in strace's PID NS */";
    assert_eq!(birth_in(nested), Some((18, 20)));
    assert_eq!(birth_in("17 clone3({flags=0}, 88 <unfinished ...>"), None);
}
