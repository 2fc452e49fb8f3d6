//! One job's cgroup: a directory in each hierarchy, one life.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open, openat};

use super::controllers::{self, LimitError};
use super::meter::MeterFiles;
use super::tree::{CgroupError, CgroupTree, Version, make_dir};
use crate::job::Limits;
use crate::sys::fault_point;

#[derive(Debug)]
pub struct JobCgroup {
    version: Version,
    unified: Option<Directory>,
    /// memory, pids, cpu.
    legacy: Option<[Directory; 3]>,
    /// `tasks` of the v1 directories: written "0" by the one thread that moves itself in. A thread that moves itself
    /// cannot change meanwhile, so the kernel takes no lock of all forks for it; the same by `cgroup.procs` waits for
    /// a grace period of RCU, 7 to 20 ms on a quiet machine.
    attach: Vec<OwnedFd>,
    /// The limits that the kernel has now, and how it names them.
    applied: Option<(Limits, BTreeMap<String, String>)>,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    fd: OwnedFd,
}

impl Directory {
    fn make(parent: &Path, name: &str) -> Result<Self, CgroupError> {
        let path = parent.join(name);
        make_dir(&path)?;
        let fd = open(&path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|error| {
            CgroupError::System {
                operation: "open",
                path: path.clone(),
                source: error.into(),
            }
        })?;
        Ok(Self { path, fd })
    }
}

impl JobCgroup {
    pub(super) fn make(tree: &CgroupTree, name: &str) -> Result<Self, CgroupError> {
        let unified = tree
            .unified()
            .map(|parent| Directory::make(parent, name))
            .transpose()?;
        let legacy = match tree.legacy() {
            Some([memory, pids, cpu]) => Some([
                Directory::make(memory, name)?,
                Directory::make(pids, name)?,
                Directory::make(cpu, name)?,
            ]),
            None => None,
        };
        let mut attach = Vec::new();
        for directory in legacy.iter().flatten() {
            let file = openat(
                &directory.fd,
                "tasks",
                OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::empty(),
            );
            attach.push(file.map_err(|error| CgroupError::System {
                operation: "open",
                path: directory.path.join("tasks"),
                source: error.into(),
            })?);
        }
        Ok(Self {
            version: tree.version(),
            unified,
            legacy,
            attach,
            applied: None,
        })
    }

    /// Sets the limits and reads each back. What the kernel has not taken exactly is an error.
    ///
    /// A cgroup whose limits are already these is not written again.
    pub fn apply(&mut self, limits: &Limits) -> Result<&BTreeMap<String, String>, LimitError> {
        if self.applied.as_ref().is_none_or(|(now, _)| now != limits) {
            self.applied = None;
            let read_back = match (&self.unified, &self.legacy) {
                (_, Some([memory, pids, cpu])) => {
                    controllers::apply_legacy(&memory.path, &pids.path, &cpu.path, limits)?
                }
                (Some(unified), None) => controllers::apply_unified(&unified.path, limits)?,
                (None, None) => BTreeMap::new(),
            };
            self.applied = Some((*limits, read_back));
        }
        Ok(self
            .applied
            .as_ref()
            .map(|(_, read_back)| read_back)
            .expect("set above"))
    }

    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The directory to clone into.
    #[must_use]
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|directory| directory.fd.as_fd())
    }

    /// The `tasks` files that a process of one thread writes "0" to after the clone.
    #[must_use]
    pub fn attach(&self) -> &[OwnedFd] {
        &self.attach
    }

    /// The files by which a supervisor measures and kills, without any path.
    pub fn meter_files(&self) -> Result<MeterFiles, CgroupError> {
        let in_unified = self
            .unified
            .as_ref()
            .map(|directory| (directory.fd.as_fd(), directory.path.as_path()));
        let in_legacy = self.legacy.as_ref().map(|directories| {
            directories
                .each_ref()
                .map(|directory| (directory.fd.as_fd(), directory.path.as_path()))
        });
        MeterFiles::open(in_unified, in_legacy)
    }

    /// Removes the cgroup; `Ok(false)` while something is still in it.
    pub fn remove(&self) -> Result<bool, CgroupError> {
        if fault_point!("cgroup.rmdir").is_err() {
            return Ok(false);
        }
        for directory in self.unified.iter().chain(self.legacy.iter().flatten()) {
            match fs::remove_dir(&directory.path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::ResourceBusy => return Ok(false),
                Err(source) => {
                    return Err(CgroupError::System {
                        operation: "rmdir",
                        path: directory.path.clone(),
                        source,
                    });
                }
            }
        }
        Ok(true)
    }
}
