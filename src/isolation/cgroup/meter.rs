//! What a job uses and suffers, by descriptors that the supervisor holds: it has no path to a cgroup.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, pread, pwrite};

use super::tree::CgroupError;
use crate::job::Usage;

/// Descriptors of the files that [`Meter`] reads, `None` where the host has no such file.
#[derive(Debug, Default)]
pub struct MeterFiles {
    /// cpu.stat of the unified hierarchy: there even without the cpu controller.
    cpu: Option<OwnedFd>,
    memory_peak: Option<OwnedFd>,
    /// memory.events (v2) or memory.oom_control (v1).
    oom: Option<OwnedFd>,
    pids_peak: Option<OwnedFd>,
    processes: Option<OwnedFd>,
    kill: Option<OwnedFd>,
    /// v1: an eventfd that the kernel signals when the cgroup is out of memory.
    oom_event: Option<OwnedFd>,
}

/// How many files there are at most.
pub(super) const METER_FILES: usize = 7;

type Located<'a> = (BorrowedFd<'a>, &'a Path);

impl MeterFiles {
    pub(super) fn open(
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
    pub(super) fn renew_pids(&mut self, pids: Located<'_>, in_unified: bool) -> Result<(), CgroupError> {
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
    pub(super) fn pids_peak(&self) -> Option<u64> {
        let peak = self.pids_peak.as_ref()?;
        text(Some(peak), &mut [0; 64]).trim().parse().ok()
    }

    /// Bytes that are charged to a v1 cgroup: what its peak is when it has just been set back.
    pub(super) fn legacy_memory(&self) -> Option<u64> {
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

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all().into_iter().flatten().map(AsFd::as_fd)
    }

    /// Which of them there are, in the order of [`MeterFiles::descriptors`].
    pub(super) fn present(&self) -> [bool; METER_FILES] {
        self.all().map(Option::is_some)
    }

    /// `None` where there are fewer descriptors than files.
    pub(super) fn from_parts(
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

/// The counters of one job, from a baseline on: a cgroup may have served an earlier job.
#[derive(Debug)]
pub struct Meter<'a> {
    files: &'a MeterFiles,
    baseline: Counters,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    cpu_user_us: u64,
    cpu_system_us: u64,
    oom_kills: u64,
}

impl<'a> Meter<'a> {
    /// Starts counting now.
    #[must_use]
    pub fn start(files: &'a MeterFiles) -> Self {
        let mut meter = Self {
            files,
            baseline: Counters::default(),
        };
        // Resets the peak (v1; v2's memory.peak can be reset per descriptor since 6.12 and is fresh otherwise).
        if let Some(peak) = &meter.files.memory_peak {
            let _ = pwrite(peak, b"0", 0);
        }
        // What an earlier job was told of.
        let _ = meter.oom_told();
        meter.baseline = meter.counters();
        meter
    }

    /// CPU time used so far, in microseconds.
    #[must_use]
    pub fn cpu_us(&self) -> u64 {
        let now = self.counters();
        now.cpu_user_us + now.cpu_system_us - self.baseline.cpu_user_us - self.baseline.cpu_system_us
    }

    /// Whether CPU time is measured at all: not where there is no cgroup.
    #[must_use]
    pub const fn measures_cpu(&self) -> bool {
        self.files.cpu.is_some()
    }

    /// Processes that the kernel killed for lack of memory.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        self.counters().oom_kills.saturating_sub(self.baseline.oom_kills)
    }

    /// Becomes readable when the kernel is about to kill for lack of memory (v1).
    #[must_use]
    pub fn oom_event(&self) -> Option<BorrowedFd<'_>> {
        self.files.oom_event.as_ref().map(AsFd::as_fd)
    }

    /// Takes a notice that the kernel is about to kill for lack of memory (v1).
    #[must_use]
    pub fn oom_told(&self) -> bool {
        self.files
            .oom_event
            .as_ref()
            .is_some_and(|event| rustix::io::read(event, &mut [0_u8; 8]).is_ok())
    }

    /// How many processes are in the cgroup.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.files.processes.as_ref().map_or(0, |file| {
            let mut buffer = [0; 4096];
            let (mut lines, mut offset) = (0, 0);
            while let Ok(count @ 1..) = pread(file, &mut buffer, offset) {
                lines += buffer[..count].iter().filter(|&&byte| byte == b'\n').count();
                offset += count as u64;
            }
            lines
        })
    }

    /// Kills everything in the cgroup, forks in progress included.
    pub fn kill_all(&self) {
        if let Some(kill) = &self.files.kill {
            let _ = pwrite(kill, b"1", 0);
        }
    }

    /// The final figures; `wall_ms` and the I/O of the caller.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let now = self.counters();
        Usage {
            wall_ms: 0,
            cpu_user_us: now.cpu_user_us - self.baseline.cpu_user_us,
            cpu_system_us: now.cpu_system_us - self.baseline.cpu_system_us,
            memory_peak_bytes: number(self.files.memory_peak.as_ref()),
            pids_peak: number(self.files.pids_peak.as_ref()),
            io_read_bytes: 0,
            io_write_bytes: 0,
            oom_kills: now.oom_kills.saturating_sub(self.baseline.oom_kills),
        }
    }

    fn counters(&self) -> Counters {
        let mut buffer = [0; 1024];
        let cpu = text(self.files.cpu.as_ref(), &mut buffer);
        let (cpu_user_us, cpu_system_us) = cpu_time(cpu);
        let oom = text(self.files.oom.as_ref(), &mut buffer);
        Counters {
            cpu_user_us,
            cpu_system_us,
            oom_kills: field(oom, "oom_kill"),
        }
    }
}

fn text<'a>(file: Option<&OwnedFd>, buffer: &'a mut [u8]) -> &'a str {
    let count = file
        .and_then(|file| pread(file, &mut *buffer, 0).ok())
        .unwrap_or(0);
    str::from_utf8(&buffer[..count]).unwrap_or_default()
}

/// User and system time in microseconds, of cpu.stat; or of cpuacct.usage (v1, nanoseconds), which does not tell them
/// apart: all of it counts as the user's.
fn cpu_time(text: &str) -> (u64, u64) {
    match text.trim().parse::<u64>() {
        Ok(nanoseconds) => (nanoseconds / 1000, 0),
        Err(_) => (field(text, "user_usec"), field(text, "system_usec")),
    }
}

/// The value of a flat keyed file's line.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

fn number(file: Option<&OwnedFd>) -> u64 {
    let mut buffer = [0; 64];
    text(file, &mut buffer).trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_in_both_forms() {
        assert_eq!(
            cpu_time("usage_usec 30\nuser_usec 20\nsystem_usec 10\n"),
            (20, 10)
        );
        assert_eq!(cpu_time("1234567\n"), (1234, 0));
    }

    #[test]
    fn flat_keyed_files_are_read_by_whole_names() {
        let stat = "usage_usec 30\nuser_usec 20\nsystem_usec 10\n";
        assert_eq!(field(stat, "user_usec"), 20);
        assert_eq!(field(stat, "usec"), 0);
        assert_eq!(
            field("oom_kill_disable 0\nunder_oom 0\noom_kill 3", "oom_kill"),
            3
        );
    }
}
