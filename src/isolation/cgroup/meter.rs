//! What a job uses and suffers, by descriptors that the supervisor holds: it has no path to a cgroup.

mod files;

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, pread, pwrite};

use crate::job::Usage;
pub(super) use files::METER_FILES;
pub use files::MeterFiles;
use files::{field, read, text};

/// The counters of one job, from a baseline on: a cgroup may have served an earlier job.
#[derive(Debug)]
pub struct Meter<'a> {
    files: &'a MeterFiles,
    baseline: Counters,
    /// As they were read last: what cannot be read now is no less.
    last: Cell<Counters>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    cpu_user_us: u64,
    cpu_system_us: u64,
    oom_kills: u64,
}

impl<'a> Meter<'a> {
    /// Starts counting now. An error: what an earlier job has used cannot be told.
    pub fn start(files: &'a MeterFiles) -> Result<Self, Errno> {
        let mut meter = Self {
            files,
            baseline: Counters::default(),
            last: Cell::default(),
        };
        // Resets the peak (v1; v2's memory.peak can be reset per descriptor since 6.12 and is fresh otherwise).
        if let Some(peak) = &meter.files.memory_peak {
            let _ = pwrite(peak, b"0", 0);
        }
        // What an earlier job was told of.
        let _ = meter.oom_told();
        meter.baseline.read_cpu(files)?;
        meter.baseline.read_oom(files)?;
        meter.last.set(meter.baseline);
        Ok(meter)
    }

    /// CPU time used so far, in microseconds.
    #[must_use]
    pub fn cpu_us(&self) -> u64 {
        let now = self.counters();
        let before = self.baseline.cpu_user_us + self.baseline.cpu_system_us;
        (now.cpu_user_us + now.cpu_system_us).saturating_sub(before)
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
            cpu_user_us: now.cpu_user_us.saturating_sub(self.baseline.cpu_user_us),
            cpu_system_us: now.cpu_system_us.saturating_sub(self.baseline.cpu_system_us),
            memory_peak_bytes: number(self.files.memory_peak.as_ref()),
            pids_peak: number(self.files.pids_peak.as_ref()),
            io_read_bytes: 0,
            io_write_bytes: 0,
            oom_kills: now.oom_kills.saturating_sub(self.baseline.oom_kills),
        }
    }

    fn counters(&self) -> Counters {
        let mut now = self.last.get();
        let (_, _) = (now.read_cpu(self.files), now.read_oom(self.files));
        self.last.set(now);
        now
    }
}

impl Counters {
    fn read_cpu(&mut self, files: &MeterFiles) -> Result<(), Errno> {
        if let Some(file) = &files.cpu {
            (self.cpu_user_us, self.cpu_system_us) = cpu_time(read(file, &mut [0; 1024])?);
        }
        Ok(())
    }

    fn read_oom(&mut self, files: &MeterFiles) -> Result<(), Errno> {
        if let Some(file) = &files.oom {
            self.oom_kills = field(read(file, &mut [0; 1024])?, "oom_kill");
        }
        Ok(())
    }
}

/// User and system time in microseconds, of cpu.stat; or of cpuacct.usage (v1, nanoseconds), which does not tell them
/// apart: all of it counts as the user's.
fn cpu_time(text: &str) -> (u64, u64) {
    match text.trim().parse::<u64>() {
        Ok(nanoseconds) => (nanoseconds / 1000, 0),
        Err(_) => (field(text, "user_usec"), field(text, "system_usec")),
    }
}

fn number(file: Option<&OwnedFd>) -> u64 {
    let mut buffer = [0; 64];
    text(file, &mut buffer).trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_no_less_than_before() {
        let stat = tempfile::NamedTempFile::new().expect("a file");
        let write = |text: &str| std::fs::write(stat.path(), text).expect("write");
        let files = MeterFiles {
            cpu: Some(OwnedFd::from(stat.reopen().expect("open"))),
            ..MeterFiles::default()
        };
        assert!(
            Meter::start(&files).is_err(),
            "nothing tells what was used before"
        );
        write("user_usec 200\nsystem_usec 100\n");
        let meter = Meter::start(&files).expect("counters");
        assert_eq!(meter.cpu_us(), 0);
        write("user_usec 250\nsystem_usec 100\n");
        assert_eq!(meter.cpu_us(), 50);
        write("");
        assert_eq!(meter.cpu_us(), 50);
        write("user_usec 0\nsystem_usec 0\n");
        assert_eq!(meter.cpu_us(), 0);
    }

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
