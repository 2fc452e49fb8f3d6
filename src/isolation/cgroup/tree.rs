//! This worker's branch in each hierarchy of the host.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, Mode, OFlags};

use super::hierarchies::{CONTROLLERS, Mounts, delegated};
use super::job::JobCgroup;
use crate::sys::fault_point;

/// From the making of a cgroup to its first process it takes some milliseconds.
const ABOUT_TO_FILL: Duration = Duration::from_secs(10);
/// How many jobs' worth of CPU time a branch has beside others: to the kernel it is one group, however many jobs are in it.
/// With the weight of one, a job that starts while others run waits behind every process beside the branch in turn.
const WORTH_OF_JOBS: u64 = 8;
/// Of one group; see "cpu.weight" in the kernel's cgroup-v2.rst, and sched-design-CFS.rst for v1.
const USUAL_WEIGHT: u64 = 100;
const USUAL_SHARES: u64 = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V2,
    Hybrid,
    V1,
    /// No hierarchy can be used: there are no limits.
    Absent,
}

impl Version {
    /// The word of the receipt.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::Hybrid => "hybrid",
            Self::V1 => "v1",
            Self::Absent => "",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("no cgroup hierarchy with the controllers memory, pids and cpu is mounted")]
    NoHierarchy,
    #[error(
        "{path} is missing: CPU time cannot be measured; mount cpu and cpuacct together, or a cgroup2 hierarchy beside"
    )]
    NoCpuTime { path: PathBuf },
    #[error("{operation} {path}: {source}")]
    System {
        operation: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the controller {controller} cannot be enabled below {path}: {source}")]
    NotDelegated {
        controller: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
}

impl CgroupError {
    /// What a client is told, who is to learn no path of the host.
    #[must_use]
    pub fn without_path(&self) -> String {
        match self {
            Self::NoHierarchy => self.to_string(),
            Self::NoCpuTime { .. } => "CPU time cannot be measured".to_owned(),
            Self::System { operation, .. } => (*operation).to_owned(),
            Self::NotDelegated { controller, .. } => format!("the controller {controller} cannot be enabled"),
        }
    }

    /// The kernel's error number, 0 where it gave none.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::System { source, .. } | Self::NotDelegated { source, .. } => {
                source.raw_os_error().unwrap_or(0)
            }
            Self::NoHierarchy | Self::NoCpuTime { .. } => 0,
        }
    }
}

/// This worker's branch in every hierarchy.
#[derive(Debug, Clone)]
pub struct CgroupTree {
    version: Version,
    /// In the unified hierarchy.
    unified: Option<PathBuf>,
    /// In the v1 hierarchies of [`CONTROLLERS`], in their order.
    legacy: Option<[PathBuf; 3]>,
}

impl CgroupTree {
    /// Finds the hierarchies of this host and makes the branch `name` in each.
    ///
    /// A `name` that starts with `/` is a path from the root of the hierarchies.
    pub fn open(name: &str) -> Result<Self, CgroupError> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self::open_in(&mounts, name)
    }

    fn open_in(mountinfo: &str, name: &str) -> Result<Self, CgroupError> {
        let mounts = Mounts::parse(mountinfo);
        let branch = name.trim_matches('/');
        let legacy = mounts.legacy.map(|roots| roots.map(|root| root.join(branch)));
        let version = match (&mounts.unified, &legacy) {
            (Some(_), Some(_)) => Version::Hybrid,
            (None, Some(_)) => Version::V1,
            (Some(_), None) => Version::V2,
            (None, None) => return Err(CgroupError::NoHierarchy),
        };
        let unified = match mounts.unified {
            Some(root) if version == Version::V2 && !name.starts_with('/') => {
                Some(delegated(&root).unwrap_or(root).join(branch))
            }
            other => other.map(|root| root.join(branch)),
        };
        let tree = Self {
            version,
            unified,
            legacy,
        };
        tree.make_branch()?;
        Ok(tree)
    }

    /// In place of a branch where none can be had: its jobs have no limits.
    #[must_use]
    pub const fn absent() -> Self {
        Self {
            version: Version::Absent,
            unified: None,
            legacy: None,
        }
    }

    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// A branch of this branch, such as one worker's or one tenant's.
    pub fn child(&self, name: &str) -> Result<Self, CgroupError> {
        let child = Self {
            version: self.version,
            unified: self.unified.as_ref().map(|path| path.join(name)),
            legacy: self
                .legacy
                .as_ref()
                .map(|paths| paths.each_ref().map(|path| path.join(name))),
        };
        child.make_branch()?;
        Ok(child)
    }

    /// A cgroup of the unified hierarchy for processes of ours, without limits; `None` where there is no such hierarchy.
    pub fn make_leaf(&self, name: &str) -> Result<Option<OwnedFd>, CgroupError> {
        let Some(path) = self.unified.as_ref().map(|branch| branch.join(name)) else {
            return Ok(None);
        };
        make_dirs(&path)?;
        if self.version == Version::V2 {
            weigh(&path);
        }
        let opened = rustix::fs::open(&path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        opened.map(Some).map_err(|error| CgroupError::System {
            operation: "open",
            path,
            source: error.into(),
        })
    }

    /// Makes a job's cgroup, still without limits.
    pub fn make_job(&self, name: &str) -> Result<JobCgroup, CgroupError> {
        JobCgroup::make(self, name)
    }

    /// Names of the cgroups directly beneath this branch.
    #[must_use]
    pub fn children(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .branches()
            .flat_map(|branch| fs::read_dir(branch).into_iter().flatten().flatten())
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Kills what is in the cgroup `name` beneath this branch and removes it; true once it is gone.
    #[must_use]
    pub fn sweep(&self, name: &str) -> bool {
        let gone = |path: PathBuf| {
            if fault_point!("cgroup.rmdir").is_err() {
                return false;
            }
            let _ = fs::write(path.join("cgroup.kill"), "1");
            matches!(
                fs::remove_dir(&path).map_err(|error| error.kind()),
                Ok(()) | Err(ErrorKind::NotFound)
            )
        };
        self.branches()
            .map(|branch| gone(branch.join(name)))
            // Every branch is tried, whatever became of the one before.
            .filter(|gone| !gone)
            .count()
            == 0
    }

    /// Removes the cgroup `name` beneath this branch, where it is empty and not so new that somebody is about to fill it.
    pub fn remove_forgotten(&self, name: &str) {
        for branch in self.branches() {
            let path = branch.join(name);
            // The kernel may call an old one new, never the other way round.
            let made = fs::metadata(&path).and_then(|metadata| metadata.modified());
            let age = made.ok().and_then(|made| made.elapsed().ok());
            if age.is_some_and(|age| age > ABOUT_TO_FILL) {
                let _ = fs::remove_dir(path);
            }
        }
    }

    /// Removes this branch itself, where it is empty, and then the one that it is a child of.
    pub fn remove_with_parent(&self) {
        for branch in self.branches() {
            if fs::remove_dir(branch).is_ok()
                && let Some(parent) = branch.parent()
            {
                let _ = fs::remove_dir(parent);
            }
        }
    }

    /// Removes this branch itself, where it is empty.
    pub fn remove(&self) {
        for branch in self.branches() {
            let _ = fs::remove_dir(branch);
        }
    }

    /// Removes a cgroup of [`CgroupTree::make_leaf`], where it is empty.
    pub fn remove_leaf(&self, name: &str) {
        let leaf = self.unified.as_ref().map(|branch| branch.join(name));
        if let Some(leaf) = leaf {
            let _ = fs::remove_dir(leaf);
        }
    }

    pub(super) fn unified(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    pub(super) fn legacy(&self) -> Option<&[PathBuf; 3]> {
        self.legacy.as_ref()
    }

    fn branches(&self) -> impl Iterator<Item = &PathBuf> {
        self.unified.iter().chain(self.legacy.iter().flatten())
    }

    fn make_branch(&self) -> Result<(), CgroupError> {
        for branch in self.branches() {
            make_dirs(branch)?;
            // One that was there already may be another user's, or mounted read-only.
            rustix::fs::access(branch, Access::WRITE_OK).map_err(|error| CgroupError::System {
                operation: "write to",
                path: branch.clone(),
                source: error.into(),
            })?;
        }
        if let Some(branch) = &self.unified
            && self.version == Version::V2
        {
            enable_controllers(branch)?;
            weigh(branch);
        }
        if let Some([_, _, cpu]) = &self.legacy {
            let _ = fs::write(cpu.join("cpu.shares"), (WORTH_OF_JOBS * USUAL_SHARES).to_string());
        }
        Ok(())
    }
}

/// No limit: where it cannot be set, all goes on more slowly.
fn weigh(cgroup: &Path) {
    let _ = fs::write(
        cgroup.join("cpu.weight"),
        (WORTH_OF_JOBS * USUAL_WEIGHT).to_string(),
    );
}

/// Without those above it: where a hierarchy has been unmounted, folders of another file system are no cgroups.
pub(super) fn make_dir(path: &Path) -> Result<(), CgroupError> {
    let made = fault_point!("cgroup.mkdir")
        .map_err(std::io::Error::from)
        .and_then(|()| fs::create_dir(path));
    made.map_err(mkdir_failed(path))
}

fn make_dirs(path: &Path) -> Result<(), CgroupError> {
    fs::create_dir_all(path).map_err(mkdir_failed(path))
}

fn mkdir_failed(path: &Path) -> impl FnOnce(std::io::Error) -> CgroupError {
    move |source| CgroupError::System {
        operation: "mkdir",
        path: path.to_owned(),
        source,
    }
}

/// Enables the controllers for the children of `branch`, in each cgroup from the hierarchy's root down to it.
fn enable_controllers(branch: &Path) -> Result<(), CgroupError> {
    let inside = |path: &&Path| path.join("cgroup.controllers").exists();
    let mut line: Vec<&Path> = branch.ancestors().take_while(inside).collect();
    line.reverse();
    for cgroup in line {
        let enabled = fs::read_to_string(cgroup.join("cgroup.subtree_control")).unwrap_or_default();
        for controller in CONTROLLERS {
            if !enabled.split_whitespace().any(|word| word == controller) {
                enable(cgroup, controller).map_err(|source| CgroupError::NotDelegated {
                    controller,
                    path: cgroup.to_owned(),
                    source,
                })?;
            }
        }
    }
    Ok(())
}

fn enable(cgroup: &Path, controller: &str) -> std::io::Result<()> {
    let control = cgroup.join("cgroup.subtree_control");
    match fs::write(&control, format!("+{controller}")) {
        // A cgroup that is not the real root and has processes of its own cannot give controllers to children
        // ("no internal processes"): in a container, or a delegated service, they are moved to a leaf.
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            move_processes_to_leaf(cgroup)?;
            fs::write(&control, format!("+{controller}"))
        }
        result => result,
    }
}

fn move_processes_to_leaf(cgroup: &Path) -> std::io::Result<()> {
    let leaf = cgroup.join("init");
    fs::create_dir_all(&leaf)?;
    for pid in fs::read_to_string(cgroup.join("cgroup.procs"))?.split_whitespace() {
        match fs::write(leaf.join("cgroup.procs"), pid) {
            // It ended meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            result => result?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
