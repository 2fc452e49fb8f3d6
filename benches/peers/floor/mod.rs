//! What the kernel itself charges for a launch: the least that any sandbox on this host can take.
//!
//! Three ways, each in a process of its own, since the launcher moves into cgroup and namespaces for good:
//! - `plain`: vfork and exec, no sandbox;
//! - `naive`: fork, every namespace anew, a tree of mount(2) calls, cgroups made and removed, a linear filter;
//! - `template`: vfork from a process that is in the cgroup, in an empty network namespace and in a template of the
//!   mounts already; only /tmp and /proc are mounted anew, the filter is a search tree, and the mount namespace is put
//!   away after the launch.

mod child;
mod elf;
pub(crate) mod filter;
mod launcher;
mod place;

use std::io::{BufRead, BufReader, Read as _, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use stockade::cli::bench::{BenchError, Interruption, Samples};
use tempfile::TempDir;

pub(crate) use elf::that_does_nothing;
pub(crate) use launcher::{WORD, become_launcher};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recipe {
    Plain,
    Naive,
    Template,
}

/// What is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// Two instructions, no loader and no C library.
    Static,
    /// /bin/true, as the other tools run it.
    True,
}

impl Recipe {
    const ALL: [(&'static str, Self); 3] = [
        ("plain", Self::Plain),
        ("naive", Self::Naive),
        ("template", Self::Template),
    ];

    pub(crate) fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, recipe)| *recipe == self)
            .map_or("", |(word, _)| word)
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, recipe)| *recipe)
    }
}

impl Program {
    const fn word(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::True => "true",
        }
    }
}

/// So many launches, one after the other, each after a rest.
pub(crate) fn latency(
    recipe: Recipe,
    program: Program,
    count: usize,
    rest: Duration,
) -> Result<Samples, BenchError> {
    let launcher = Launcher::spawn(
        recipe,
        program,
        &["count", &count.to_string(), &rest.as_micros().to_string()],
    )?;
    let nanos = launcher.run()?;
    Samples::new(nanos.into_iter().map(Duration::from_nanos).collect())
        .ok_or(BenchError::Incomplete("launches"))
}

/// Launches a second of several launchers.
pub(crate) fn throughput(
    recipe: Recipe,
    program: Program,
    launchers: usize,
    length: Duration,
    interruption: &Interruption,
) -> Result<f64, BenchError> {
    let length = length.as_millis().to_string();
    let launchers = (0..launchers)
        .map(|_| Launcher::spawn(recipe, program, &["time", &length, "0"]))
        .collect::<Result<Vec<_>, _>>()?;
    interruption.check()?;
    let began = std::time::Instant::now();
    let threads: Vec<_> = launchers
        .into_iter()
        .map(|launcher| std::thread::spawn(|| launcher.run()))
        .collect();
    let mut count = 0;
    for thread in threads {
        let counted = thread.join().map_err(|_| BenchError::Incomplete("launches"))??;
        count += counted.iter().sum::<u64>();
    }
    // Exact up to 2^53.
    #[allow(clippy::cast_precision_loss)]
    let count = count as f64;
    Ok(count / began.elapsed().as_secs_f64())
}

/// A process that launches. What it made of cgroups goes with this value.
struct Launcher {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<std::process::ChildStdout>,
    /// The launcher cannot remove it: it moves to another root.
    _scratch: TempDir,
}

impl Launcher {
    /// Starts it and waits until it is ready.
    fn spawn(recipe: Recipe, program: Program, how: &[&str]) -> Result<Self, BenchError> {
        let failed = |source| BenchError::Prepare {
            what: "the floor's launcher",
            source,
        };
        let scratch = tempfile::tempdir().map_err(failed)?;
        let mut process = Command::new(std::env::current_exe().map_err(failed)?)
            .args([WORD, recipe.word(), program.word()])
            .args(how)
            .arg(scratch.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stdin = process.stdin.take().ok_or(BenchError::Incomplete("pipe"))?;
        let stdout = process.stdout.take().ok_or(BenchError::Incomplete("pipe"))?;
        let mut launcher = Self {
            process,
            stdin,
            stdout: BufReader::new(stdout),
            _scratch: scratch,
        };
        let mut line = String::new();
        launcher.stdout.read_line(&mut line).map_err(failed)?;
        if line.trim() != launcher::READY {
            return Err(BenchError::Unfit(format!(
                "the floor ({}) cannot be measured here",
                recipe.word()
            )));
        }
        Ok(launcher)
    }

    /// Lets it go, and gives the numbers that it tells.
    fn run(mut self) -> Result<Vec<u64>, BenchError> {
        let failed = |source| BenchError::Prepare {
            what: "the floor's launcher",
            source,
        };
        self.stdin.write_all(b"go\n").map_err(failed)?;
        let mut numbers = Vec::new();
        for line in self.stdout.by_ref().lines() {
            match line.map_err(failed)?.trim().parse() {
                Ok(number) => numbers.push(number),
                Err(_) => return Err(BenchError::Incomplete("times")),
            }
        }
        Ok(numbers)
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        place::Cgroups::remove_of(self.process.id());
    }
}
