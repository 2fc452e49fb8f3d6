//! What /proc tells of processes.

use std::fs;
use std::time::Duration;

/// Clock ticks a second, on every architecture that we run on.
const TICKS: u64 = 100;

/// KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) rss: u64,
    pub(crate) pss: u64,
}

pub(crate) fn memory(pid: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    Memory {
        rss: of("Rss:"),
        pss: of("Pss:"),
    }
}

pub(crate) fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// What keeps one job: a supervisor, and the pump of its output.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox([u32; 2]);

impl Sandbox {
    /// KiB of both.
    pub(crate) fn memory(&self) -> Memory {
        let each = self.0.iter().map(|pid| memory(*pid));
        each.fold(Memory::default(), |sum, of| Memory {
            rss: sum.rss + of.rss,
            pss: sum.pss + of.pss,
        })
    }
}

/// A worker's processes.
#[derive(Debug, Clone)]
pub(crate) struct Processes {
    pub(crate) launcher: u32,
    pub(crate) server: u32,
    /// With jobs, and waiting for one.
    pub(crate) sandboxes: Vec<Sandbox>,
}

impl Processes {
    pub(crate) fn of(launcher: u32) -> Option<Self> {
        let named = |name: &str| -> Vec<u32> {
            let children = children(launcher).into_iter();
            children.filter(|pid| comm(*pid) == name).collect()
        };
        let (supervisors, pumps) = (named("stockade-super"), named("stockade-pump"));
        let sandboxes = supervisors.into_iter().zip(pumps);
        Some(Self {
            launcher,
            server: *named(&comm(launcher)).first()?,
            sandboxes: sandboxes
                .map(|(supervisor, pump)| Sandbox([supervisor, pump]))
                .collect(),
        })
    }

    fn all(&self) -> impl Iterator<Item = u32> {
        let keepers = self.sandboxes.iter().flat_map(|sandbox| &sandbox.0);
        keepers.chain([&self.launcher, &self.server]).copied()
    }

    /// KiB of all of them.
    pub(crate) fn pss(&self) -> u64 {
        self.all().map(|pid| memory(pid).pss).sum()
    }

    /// CPU that these and all their children that are over have used.
    pub(crate) fn cpu(&self) -> Duration {
        self.all().map(cpu).sum()
    }

    /// How often threads of theirs gave up the CPU to wait for something.
    pub(crate) fn wake_ups(&self) -> u64 {
        self.all()
            .flat_map(threads)
            .filter_map(|thread| field(thread, "status", "voluntary_ctxt_switches:"))
            .sum()
    }
}

fn comm(pid: u32) -> String {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    comm.trim_end().to_owned()
}

fn threads(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .collect()
}

fn field(pid: u32, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// utime, stime, cutime and cstime of proc_pid_stat(5).
fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return Duration::ZERO;
    };
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}
