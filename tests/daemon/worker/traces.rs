//! What there is of a worker on this host: processes, descriptors, mounts, cgroups.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{fmt, fs};

use super::Worker;

pub(crate) fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Of the launcher's children, those of this name.
pub(crate) fn named(launcher: u32, name: &str) -> Vec<u32> {
    let is_named = |pid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    };
    children(launcher).into_iter().filter(is_named).collect()
}

/// The process that moves the output which is kept in this file.
pub(crate) fn pump_of(launcher: u32, stdout: &Path) -> Option<u32> {
    let writes = |pid: &u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
        let mut open = open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        open.any(|path| path == stdout)
    };
    named(launcher, PUMP).into_iter().find(writes)
}

pub(crate) const SUPERVISOR: &str = "stockade-super";
pub(crate) const PUMP: &str = "stockade-pump";

pub(super) fn uid(pid: u32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next().map(str::to_owned)
}

/// What a worker holds of the host, beside the sandboxes that wait for jobs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Holdings {
    descriptors: usize,
    mount_namespace: PathBuf,
    mounts: usize,
    cgroups: usize,
}

impl Holdings {
    /// As [`Holdings::of`], once nothing changes: the launcher visits other mount namespaces while it forks.
    pub(crate) fn at_rest(worker: &Worker) -> Self {
        let mut last = Self::of(worker);
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = Self::of(worker);
            if now == last {
                return now;
            }
            last = now;
        }
    }

    /// Those of the launcher, with the mounts in folders of its own: in others anybody mounts, as other tests do.
    pub(crate) fn of(worker: &Worker) -> Self {
        let pid = worker.launcher();
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        let mount_namespace = fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap_or_default();
        let own = [worker.dir.path().to_owned(), worker.control()];
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))
            .unwrap_or_default()
            .lines()
            .filter(|line| own.iter().any(|folder| mount_point(line).starts_with(folder)))
            .count();
        Self {
            descriptors,
            mount_namespace,
            mounts,
            cgroups: cgroups_of(pid),
        }
    }
}

/// Of a line of mountinfo(5).
fn mount_point(line: &str) -> &Path {
    Path::new(line.split(' ').nth(4).unwrap_or_default())
}

/// The folders of a worker's cgroups, in every hierarchy.
pub(crate) fn branches_of(launcher: u32) -> Vec<PathBuf> {
    let supervisor = children(launcher)
        .into_iter()
        .find(|pid| uid(*pid).as_deref() == Some("0"));
    let membership = supervisor
        .and_then(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok())
        .unwrap_or_default();
    let own = membership.lines().find_map(|line| line.strip_prefix("0::/"));
    let Some(branch) = own.and_then(|own| Path::new(own).parent()) else {
        return Vec::new();
    };
    let roots = fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten();
    let roots = roots
        .map(|entry| entry.path())
        .chain([PathBuf::from("/sys/fs/cgroup")]);
    roots
        .map(|root| root.join(branch))
        .filter(|path| path.exists())
        .collect()
}

/// How many cgroups there are beside the one of the launcher's server: those of jobs and of waiting sandboxes.
fn cgroups_of(launcher: u32) -> usize {
    let branches = branches_of(launcher);
    // None in the moment in which the process that it was read from ends: to be looked at again.
    let Some(branch) = branches.iter().find(|path| path.join("supervisors").exists()) else {
        return 0;
    };
    fs::read_dir(branch)
        .expect("the branch")
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .count()
}

/// Processes anywhere on this machine with `marker` in their command line.
pub(crate) fn marked(marker: &str) -> usize {
    let marked = |line: &Vec<u8>| line.windows(marker.len()).any(|part| part == marker.as_bytes());
    command_lines().filter(marked).count()
}

/// A time to sleep that nobody else on this machine sleeps, neither for another test nor since an earlier one: it finds
/// those who do.
#[derive(Debug)]
pub(crate) struct Nap(String);

impl Nap {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("3600.{:07}{number:03}", std::process::id()))
    }

    /// Processes anywhere on this machine with it as one of their words.
    pub(crate) fn sleepers(&self) -> usize {
        let words = |line: &Vec<u8>| {
            line.split(|byte| *byte == 0)
                .any(|word| word == self.0.as_bytes())
        };
        command_lines().filter(words).count()
    }
}

impl fmt::Display for Nap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn command_lines() -> impl Iterator<Item = Vec<u8>> {
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
}
