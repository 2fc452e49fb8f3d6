//! The files that tell what a job uses and suffers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, pread, pwrite};

use crate::isolation::cgroup::tree::CgroupError;

/// Descriptors of the files that [`super::Meter`] reads, `None` where the host has no such file.
#[derive(Debug, Default)]
pub struct MeterFiles {
    /// cpu.stat of the unified hierarchy: there even without the cpu controller.
    pub(super) cpu: Option<OwnedFd>,
    pub(super) memory_peak: Option<OwnedFd>,
    /// memory.events (v2) or memory.oom_control (v1).
    pub(super) oom: Option<OwnedFd>,
    pub(super) pids_peak: Option<OwnedFd>,
    pub(super) processes: Option<OwnedFd>,
    pub(super) kill: Option<OwnedFd>,
    /// v1: an eventfd that the kernel signals when the cgroup is out of memory.
    pub(super) oom_event: Option<OwnedFd>,
}

/// How many files there are at most.
pub(in crate::isolation::cgroup) const METER_FILES: usize = 7;

type Located<'a> = (BorrowedFd<'a>, &'a Path);

impl MeterFiles {
    pub(in crate::isolation::cgroup) fn open(
        unified: Option<Located<'_>>,
        legacy: Option<[Located<'_>; 3]>,
    ) -> Result<Self, CgroupError> {
        let mut files = Self::default();
        if let Some(dir) = unified {
            files.cpu = optional(dir, "cpu.stat", OFlags::RDONLY)?;
            files.kill = optional(dir, "cgroup.kill", OFlags::WRONLY)?;
            files.processes = optional(dir, "cgroup.procs", OFlags::RDONLY)?;
        }
        match (unified, legacy) {
            (_, Some([memory, pids, cpu])) => {
                if files.cpu.is_none() {
                    // Nothing else measures the CPU time that the job's limit counts: no job without it.
                    files.cpu = optional(cpu, "cpuacct.usage", OFlags::RDONLY)?;
                    let path = || cpu.1.join("cpuacct.usage");
                    files
                        .cpu
                        .as_ref()
                        .ok_or_else(|| CgroupError::NoCpuTime { path: path() })?;
                }
                files.memory_peak = optional(memory, "memory.max_usage_in_bytes", OFlags::RDWR)?;
                files.oom = optional(memory, "memory.oom_control", OFlags::RDONLY)?;
                files.pids_peak = optional(pids, "pids.peak", OFlags::RDONLY)?;
                files.oom_event = files
                    .oom
                    .as_ref()
                    .map(|oom| register_oom_event(memory, oom.as_fd()))
                    .transpose()?;
                if files.processes.is_none() {
                    files.processes = optional(pids, "cgroup.procs", OFlags::RDONLY)?;
                }
            }
            (Some(dir), None) => {
                files.memory_peak = optional(dir, "memory.peak", OFlags::RDONLY)?;
                files.oom = optional(dir, "memory.events", OFlags::RDONLY)?;
                files.pids_peak = optional(dir, "pids.peak", OFlags::RDONLY)?;
            }
            (None, None) => {}
        }
        Ok(files)
    }

    /// Opens the files of the v1 pids controller again, whose directory is another now.
    pub(in crate::isolation::cgroup) fn renew_pids(
        &mut self,
        pids: Located<'_>,
        in_unified: bool,
    ) -> Result<(), CgroupError> {
        self.pids_peak = optional(pids, "pids.peak", OFlags::RDONLY)?;
        if !in_unified {
            self.processes = optional(pids, "cgroup.procs", OFlags::RDONLY)?;
        }
        Ok(())
    }

    /// Whether no process is in the cgroup.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let first = |file: &OwnedFd| pread(file, &mut [0_u8; 1], 0);
        self.processes.as_ref().is_some_and(|file| first(file) == Ok(0))
    }

    /// Whether the cgroup has run out of memory, and no supervisor has seen it: v1 tells of it, and in v2 the cgroup is one
    /// job's alone. The kill is counted where the memory of the killed belongs to, which can be the supervisor's cgroup.
    #[must_use]
    pub fn has_run_out_unseen(&self) -> bool {
        match &self.oom_event {
            Some(event) => rustix::io::read(event, &mut [0_u8; 8]).is_ok(),
            None => field(text(self.oom.as_ref(), &mut [0; 1024]), "oom") > 0,
        }
    }

    /// The most processes that were in the cgroup at one time, since it was made.
    #[must_use]
    pub(in crate::isolation::cgroup) fn pids_peak(&self) -> Option<u64> {
        let peak = self.pids_peak.as_ref()?;
        text(Some(peak), &mut [0; 64]).trim().parse().ok()
    }

    /// Bytes that are charged to a v1 cgroup: what its peak is when it has just been set back.
    pub(in crate::isolation::cgroup) fn legacy_memory(&self) -> Option<u64> {
        let peak = self.memory_peak.as_ref()?;
        pwrite(peak, b"0", 0).ok()?;
        text(Some(peak), &mut [0; 64]).trim().parse().ok()
    }

    const fn all(&self) -> [&Option<OwnedFd>; METER_FILES] {
        [
            &self.cpu,
            &self.memory_peak,
            &self.oom,
            &self.pids_peak,
            &self.processes,
            &self.kill,
            &self.oom_event,
        ]
    }

    pub(in crate::isolation::cgroup) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all().into_iter().flatten().map(AsFd::as_fd)
    }

    /// Which of them there are, in the order of [`MeterFiles::descriptors`].
    pub(in crate::isolation::cgroup) fn present(&self) -> [bool; METER_FILES] {
        self.all().map(Option::is_some)
    }

    /// `None` where there are fewer descriptors than files.
    pub(in crate::isolation::cgroup) fn from_parts(
        present: [bool; METER_FILES],
        descriptors: &mut impl Iterator<Item = OwnedFd>,
    ) -> Option<Self> {
        let mut files: [Option<OwnedFd>; METER_FILES] = Default::default();
        for (file, present) in files.iter_mut().zip(present) {
            if present {
                *file = Some(descriptors.next()?);
            }
        }
        let [cpu, memory_peak, oom, pids_peak, processes, kill, oom_event] = files;
        Some(Self {
            cpu,
            memory_peak,
            oom,
            pids_peak,
            processes,
            kill,
            oom_event,
        })
    }
}

fn optional((dir, path): Located<'_>, file: &str, flags: OFlags) -> Result<Option<OwnedFd>, CgroupError> {
    match openat(dir, file, flags | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(CgroupError::System {
            operation: "open",
            path: path.join(file),
            source: error.into(),
        }),
    }
}

/// Asks for a notice when the v1 memory cgroup is out of memory; see cgroup-v1/memory.rst, "OOM Control".
fn register_oom_event((dir, path): Located<'_>, oom_control: BorrowedFd<'_>) -> Result<OwnedFd, CgroupError> {
    use std::os::fd::AsRawFd;
    let failed = |error: Errno| CgroupError::System {
        operation: "register with",
        path: path.join("cgroup.event_control"),
        source: error.into(),
    };
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(failed)?;
    let control = openat(
        dir,
        "cgroup.event_control",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed)?;
    let line = format!("{} {}", event.as_raw_fd(), oom_control.as_raw_fd());
    rustix::io::write(&control, line.as_bytes()).map_err(failed)?;
    Ok(event)
}

/// The text of a file that is never empty.
pub(super) fn read<'a>(file: &OwnedFd, buffer: &'a mut [u8]) -> Result<&'a str, Errno> {
    match pread(file, &mut *buffer, 0)? {
        0 => Err(Errno::NODATA),
        count => str::from_utf8(&buffer[..count]).map_err(|_| Errno::INVAL),
    }
}

pub(super) fn text<'a>(file: Option<&OwnedFd>, buffer: &'a mut [u8]) -> &'a str {
    file.and_then(|file| read(file, buffer).ok()).unwrap_or_default()
}

/// The value of a flat keyed file's line.
pub(super) fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}
