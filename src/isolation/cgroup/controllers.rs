//! The limits of the controllers, set by cgroups-rs and read back by us.
//!
//! The setters are called one by one: `Cgroup::apply` of cgroups-rs drops the errors of the memory controller,
//! and a limit that was refused would leave the job unlimited.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use cgroups_rs::fs::MaxValue;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;

use crate::job::Limits;
use crate::sys::fault_point;

/// The scheduler's period: 100 ms, the kernel's default.
pub const CPU_PERIOD_US: u64 = 100_000;
/// v1 counts what TCP and UDP hold apart from all other memory, and only in a cgroup that was given a limit for it: this
/// part of the memory limit.
const SOCKET_PART: u64 = 4;
const SOCKETS_FILE: &str = "memory.kmem.tcp.limit_in_bytes";
/// The kernel takes no quota below 1 ms.
const SMALLEST_QUOTA_US: u64 = 1_000;

#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    #[error("{file}: {source}")]
    Refused {
        file: &'static str,
        source: Box<cgroups_rs::fs::error::Error>,
    },
    #[error("{file}: {source}")]
    System { file: &'static str, source: io::Error },
    #[error("{file}: the kernel has {actual} instead of {wanted}")]
    ReadBack {
        file: &'static str,
        wanted: String,
        actual: String,
    },
    #[error("swap is in use on this host and {0} is missing: memory cannot be limited without swap")]
    Swap(&'static str),
}

impl LimitError {
    /// The kernel's error number, 0 where it gave none.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Refused { source, .. } => std::error::Error::source(source.as_ref())
                .and_then(|cause| cause.downcast_ref::<io::Error>())
                .and_then(io::Error::raw_os_error)
                .unwrap_or(0),
            Self::System { source, .. } => source.raw_os_error().unwrap_or(0),
            Self::ReadBack { .. } | Self::Swap(_) => 0,
        }
    }
}

type ReadBack = BTreeMap<String, String>;

/// Writes and reads back the files of the unified hierarchy in `dir`.
pub(super) fn apply_unified(dir: &Path, limits: &Limits) -> Result<ReadBack, LimitError> {
    let mut read_back = ReadBack::new();
    let memory = MemController::new(dir.to_owned(), dir.to_owned(), true);
    let bytes = signed(page_rounded(limits.memory_bytes));
    refused("memory.max", memory.set_limit(bytes))?;
    expect(dir, "memory.max", &bytes.to_string(), &mut read_back)?;
    if dir.join("memory.swap.max").exists() {
        refused("memory.swap.max", memory.set_memswap_limit(0))?;
        expect(dir, "memory.swap.max", "0", &mut read_back)?;
    } else if host_swaps() {
        return Err(LimitError::Swap("memory.swap.max"));
    }
    // One process killed for lack of memory is the whole job killed. Not wrapped by cgroups-rs.
    write(dir, "memory.oom.group", "1")?;
    expect(dir, "memory.oom.group", "1", &mut read_back)?;
    set_pids(dir, true, limits, &mut read_back)?;
    let quota = quota_us(limits);
    let cpu = CpuController::new(dir.to_owned(), dir.to_owned(), true);
    refused(
        "cpu.max",
        cpu.set_cfs_quota_and_period(Some(signed(quota)), Some(CPU_PERIOD_US)),
    )?;
    expect(
        dir,
        "cpu.max",
        &format!("{quota} {CPU_PERIOD_US}"),
        &mut read_back,
    )?;
    Ok(read_back)
}

/// Writes and reads back the files of the v1 hierarchies.
pub(super) fn apply_legacy(
    memory: &Path,
    pids: &Path,
    cpu: &Path,
    limits: &Limits,
) -> Result<ReadBack, LimitError> {
    let mut read_back = ReadBack::new();
    set_legacy_memory(memory, limits, &mut read_back)?;
    set_pids(pids, false, limits, &mut read_back)?;
    let quota = quota_us(limits);
    let controller = CpuController::new(cpu.to_owned(), cpu.to_owned(), false);
    refused("cpu.cfs_period_us", controller.set_cfs_period(CPU_PERIOD_US))?;
    refused("cpu.cfs_quota_us", controller.set_cfs_quota(signed(quota)))?;
    expect(
        cpu,
        "cpu.cfs_period_us",
        &CPU_PERIOD_US.to_string(),
        &mut read_back,
    )?;
    expect(cpu, "cpu.cfs_quota_us", &quota.to_string(), &mut read_back)?;
    Ok(read_back)
}

/// The pids controller alone, in a directory that is new.
pub(super) fn apply_legacy_pids(
    pids: &Path,
    limits: &Limits,
    read_back: &mut ReadBack,
) -> Result<(), LimitError> {
    set_pids(pids, false, limits, read_back)
}

fn set_legacy_memory(dir: &Path, limits: &Limits, read_back: &mut ReadBack) -> Result<(), LimitError> {
    let memory = MemController::new(dir.to_owned(), dir.to_owned(), false);
    let bytes = signed(page_rounded(limits.memory_bytes));
    let with_swap = dir.join("memory.memsw.limit_in_bytes").exists();
    if with_swap {
        // Memory may never exceed memory + swap, whichever of them is written first: lift that one out of the way.
        refused("memory.memsw.limit_in_bytes", memory.set_memswap_limit(-1))?;
    } else if host_swaps() {
        return Err(LimitError::Swap("memory.memsw.limit_in_bytes"));
    }
    refused("memory.limit_in_bytes", memory.set_limit(bytes))?;
    expect(dir, "memory.limit_in_bytes", &bytes.to_string(), read_back)?;
    if with_swap {
        refused("memory.memsw.limit_in_bytes", memory.set_memswap_limit(bytes))?;
        expect(dir, "memory.memsw.limit_in_bytes", &bytes.to_string(), read_back)?;
    }
    // Kernels without TCP have no such file. Not wrapped by cgroups-rs.
    if dir.join(SOCKETS_FILE).exists() {
        let bytes = page_rounded(limits.memory_bytes / SOCKET_PART).to_string();
        write(dir, SOCKETS_FILE, &bytes)?;
        expect(dir, SOCKETS_FILE, &bytes, read_back)?;
    }
    Ok(())
}

fn set_pids(dir: &Path, v2: bool, limits: &Limits, read_back: &mut ReadBack) -> Result<(), LimitError> {
    let controller = PidController::new(dir.to_owned(), dir.to_owned(), v2);
    refused(
        "pids.max",
        controller.set_pid_max(MaxValue::Value(signed(limits.pids))),
    )?;
    expect(dir, "pids.max", &limits.pids.to_string(), read_back)
}

/// The quota for each period, the share rounded down.
fn quota_us(limits: &Limits) -> u64 {
    (limits.cpu_millis * CPU_PERIOD_US / 1000).max(SMALLEST_QUOTA_US)
}

/// The kernel counts memory in pages and rounds a limit down.
const fn page_rounded(bytes: u64) -> u64 {
    bytes & !4095
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn refused(file: &'static str, result: cgroups_rs::fs::error::Result<()>) -> Result<(), LimitError> {
    result.map_err(|source| LimitError::Refused {
        file,
        source: Box::new(source),
    })
}

fn write(dir: &Path, file: &'static str, value: &str) -> Result<(), LimitError> {
    fs::write(dir.join(file), value).map_err(|source| LimitError::System { file, source })
}

fn expect(dir: &Path, file: &'static str, wanted: &str, read_back: &mut ReadBack) -> Result<(), LimitError> {
    let path: PathBuf = dir.join(file);
    let text = fault_point!("cgroup.limit")
        .map_err(io::Error::from)
        .and_then(|()| fs::read_to_string(path))
        .map_err(|source| LimitError::System { file, source })?;
    let actual = text.trim();
    if actual != wanted {
        return Err(LimitError::ReadBack {
            file,
            wanted: wanted.to_owned(),
            actual: actual.to_owned(),
        });
    }
    read_back.insert(file.to_owned(), actual.to_owned());
    Ok(())
}

/// The first line of /proc/swaps is a heading.
fn host_swaps() -> bool {
    fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_the_kernel_does_not_show_is_an_error() {
        let dir = tempfile::tempdir().expect("tempdir");
        let shown = |value: Option<&str>| {
            let file = dir.path().join("pids.max");
            match value {
                Some(value) => fs::write(file, value).expect("write"),
                None => fs::remove_file(file).expect("remove"),
            }
            let mut read_back = ReadBack::new();
            expect(dir.path(), "pids.max", "16", &mut read_back).map(|()| read_back)
        };
        let read_back = shown(Some("16\n")).expect("as it was set");
        assert_eq!(read_back.get("pids.max").map(String::as_str), Some("16"));
        for other in ["max\n", "17\n", "160\n", ""] {
            let error = shown(Some(other)).expect_err("another limit");
            let expected = format!("pids.max: the kernel has {} instead of 16", other.trim());
            assert_eq!((error.to_string(), error.errno()), (expected, 0));
        }
        let error = shown(None).expect_err("no limit");
        assert_eq!(error.errno(), libc::ENOENT);
    }
}
