//! One job's cgroup: a directory in each hierarchy.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open, openat};

use super::controllers::{self, LimitError};
use super::handles::Handles;
use super::meter::MeterFiles;
use super::tree::{CgroupError, CgroupTree, Version, make_dir};
use crate::job::Limits;
use crate::sys::fault_point;

/// What an earlier job may have left charged, for the cgroup to be given to another: what the kernel keeps in stock for
/// each CPU alone comes to half a MiB.
const LEFT_OVER: u64 = 2 << 20;

#[derive(Debug)]
pub struct JobCgroup {
    version: Version,
    /// In the unified hierarchy.
    unified: Option<PathBuf>,
    /// memory, pids, cpu.
    legacy: Option<[PathBuf; 3]>,
    /// The limits that the kernel has now, and how it names them.
    applied: Option<(Limits, BTreeMap<String, String>)>,
    /// The directory of the pids controller is another than the limits were applied to.
    pids_new: bool,
    /// Some descriptors are others than a sandbox has that was made with this cgroup.
    reopened: bool,
    /// `None` while nobody needs them: a launcher of thousands of jobs would have tens of thousands.
    open: Option<Handles>,
}

impl JobCgroup {
    pub(super) fn make(tree: &CgroupTree, name: &str) -> Result<Self, CgroupError> {
        let unified = tree.unified().map(|parent| parent.join(name));
        let legacy = tree
            .legacy()
            .map(|parents| parents.each_ref().map(|parent| parent.join(name)));
        let mut made = Self {
            version: tree.version(),
            unified,
            legacy,
            applied: None,
            pids_new: false,
            reopened: false,
            open: None,
        };
        let directories = made.directories().try_for_each(|path| make_dir(path));
        let result = directories.and_then(|()| made.open());
        if let Err(error) = result {
            // One that is half made is of no use, and nobody else would know of it.
            let _ = made.remove();
            return Err(error);
        }
        Ok(made)
    }

    fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.unified.iter().chain(self.legacy.iter().flatten())
    }

    fn open(&mut self) -> Result<(), CgroupError> {
        let unified = self.unified.as_deref().map(open_directory).transpose()?;
        let legacy = match &self.legacy {
            Some([memory, pids, cpu]) => Some([
                open_directory(memory)?,
                open_directory(pids)?,
                open_directory(cpu)?,
            ]),
            None => None,
        };
        let mut attach = Vec::new();
        for (directory, path) in legacy.iter().flatten().zip(self.legacy.iter().flatten()) {
            attach.push(open_file(directory, path, "tasks", OFlags::WRONLY)?);
        }
        let in_legacy = legacy.as_ref().zip(self.legacy.as_ref()).map(
            |([memory, pids, cpu], [memory_path, pids_path, cpu_path])| {
                [
                    (memory.as_fd(), memory_path.as_path()),
                    (pids.as_fd(), pids_path.as_path()),
                    (cpu.as_fd(), cpu_path.as_path()),
                ]
            },
        );
        let in_unified = unified
            .as_ref()
            .zip(self.unified.as_ref())
            .map(|(directory, path)| (directory.as_fd(), path.as_path()));
        let meter = MeterFiles::open(in_unified, in_legacy)?;
        self.open = Some(Handles {
            unified,
            attach,
            meter,
        });
        Ok(())
    }

    /// Keeps no descriptor, for as long as a job runs: its supervisor has its own.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Makes it ready for another job; false while something of the last one is in it.
    ///
    /// The one counter that cannot be set back is the peak of the pids controller, so its v1 directory is made anew,
    /// unless the peak is 1, the least that any job has. All others are counted from a baseline by [`super::Meter`].
    /// All directories are made anew in the unified hierarchy alone, where one has all controllers; where much is still
    /// charged; and where everything was `killed` by cgroup.kill: kernels since 6.14 kill what is cloned into such a
    /// cgroup later on, as if it had been there before.
    pub fn renew(&mut self, killed: bool) -> Result<bool, CgroupError> {
        let Some(open) = &mut self.open else {
            return Ok(false);
        };
        if self.version == Version::Absent {
            return Ok(true);
        }
        if !open.meter.is_empty() {
            return Ok(false);
        }
        let legacy = self
            .legacy
            .as_ref()
            .filter(|_| !killed && open.meter.legacy_memory().is_some_and(|bytes| bytes <= LEFT_OVER));
        let Some([_, pids, _]) = legacy else {
            return self.make_anew();
        };
        if open.meter.pids_peak() == Some(1) {
            return Ok(true);
        }
        if !remove_dir(pids)? {
            return Ok(false);
        }
        make_dir(pids)?;
        self.pids_new = true;
        self.reopened = true;
        let directory = open_directory(pids)?;
        open.attach[PIDS] = open_file(&directory, pids, "tasks", OFlags::WRONLY)?;
        open.meter
            .renew_pids((directory.as_fd(), pids), self.unified.is_some())?;
        Ok(true)
    }

    fn make_anew(&mut self) -> Result<bool, CgroupError> {
        if !self.remove()? {
            return Ok(false);
        }
        self.applied = None;
        self.open = None;
        self.directories().try_for_each(|path| make_dir(path))?;
        self.open()?;
        self.reopened = true;
        Ok(true)
    }

    /// Sets the limits and reads each back. What the kernel has not taken exactly is an error.
    ///
    /// A cgroup whose limits are already these is not written again.
    pub fn apply(&mut self, limits: &Limits) -> Result<&BTreeMap<String, String>, LimitError> {
        match (&mut self.applied, &self.legacy) {
            (Some((now, read_back)), Some([_, pids, _])) if now == limits && self.pids_new => {
                controllers::apply_legacy_pids(pids, limits, read_back)?;
            }
            (Some((now, _)), _) if now == limits => {}
            _ => {
                self.applied = None;
                let read_back = match (&self.unified, &self.legacy) {
                    (_, Some([memory, pids, cpu])) => controllers::apply_legacy(memory, pids, cpu, limits)?,
                    (Some(unified), None) => controllers::apply_unified(unified, limits)?,
                    (None, None) => BTreeMap::new(),
                };
                self.applied = Some((*limits, read_back));
            }
        }
        self.pids_new = false;
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

    /// `None` after [`JobCgroup::close`].
    #[must_use]
    pub const fn handles(&self) -> Option<&Handles> {
        self.open.as_ref()
    }

    /// As [`JobCgroup::handles`], where some are others than they were when this was last asked.
    pub fn new_handles(&mut self) -> Option<&Handles> {
        let reopened = std::mem::take(&mut self.reopened);
        self.open.as_ref().filter(|_| reopened)
    }

    /// Removes the cgroup; `Ok(false)` while something is still in it.
    pub fn remove(&self) -> Result<bool, CgroupError> {
        for directory in self.directories() {
            if !remove_dir(directory)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// In the order of the v1 directories.
const PIDS: usize = 1;

fn open_directory(path: &Path) -> Result<OwnedFd, CgroupError> {
    open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|error| CgroupError::System {
        operation: "open",
        path: path.to_owned(),
        source: error.into(),
    })
}

fn open_file(directory: impl AsFd, path: &Path, name: &str, flags: OFlags) -> Result<OwnedFd, CgroupError> {
    openat(directory, name, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|error| CgroupError::System {
        operation: "open",
        path: path.join(name),
        source: error.into(),
    })
}

/// False while something is in it. One that is not there is as good as removed.
fn remove_dir(path: &Path) -> Result<bool, CgroupError> {
    if fault_point!("cgroup.rmdir").is_err() {
        return Ok(false);
    }
    match fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(false),
        Err(source) => Err(CgroupError::System {
            operation: "rmdir",
            path: path.to_owned(),
            source,
        }),
    }
}
