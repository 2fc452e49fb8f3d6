//! How much of what it serves fits into the memory that this worker may use.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Worker;
use crate::job::bounds;

/// What a running job costs the worker: its supervisor, and the kernel's side of its namespaces.
const JOB_BYTES: u64 = 1 << 20;
/// What a reader that does not read holds in buffers.
const READER_BYTES: u64 = 512 << 10;
const MOST_READERS: usize = 1024;
/// Some 16000 calls that wait, or 60 of the largest requests.
const MOST_CALL_BYTES: usize = 256 << 20;
/// Of these a tenant has half where there are several: the largest request must fit.
const LEAST_CALL_BYTES: usize = 4 * bounds::REQUEST_BYTES;

/// Jobs that wait cost nothing; so few run at one time that the kernel need not kill anything of the worker's.
pub(super) fn fitting(worker: &Worker) -> Worker {
    let mut worker = worker.clone();
    if let Some(limit) = limit() {
        let fits = u32::try_from(limit / 2 / JOB_BYTES).unwrap_or(u32::MAX).max(1);
        if fits < worker.max_running {
            tracing::warn!(
                jobs = fits,
                bytes = limit,
                "the memory limit allows fewer jobs at one time"
            );
            worker.max_running = fits;
        }
    }
    worker
}

/// Readers at one time; more are refused.
pub(super) fn readers() -> usize {
    limit().map_or(MOST_READERS, readers_within)
}

fn readers_within(limit: u64) -> usize {
    usize::try_from(limit / 4 / READER_BYTES).map_or(MOST_READERS, |fit| fit.clamp(1, MOST_READERS))
}

/// Bytes that calls under way may hold; more are refused.
pub(super) fn call_bytes() -> usize {
    limit().map_or(MOST_CALL_BYTES, call_bytes_within)
}

fn call_bytes_within(limit: u64) -> usize {
    usize::try_from(limit / 8).map_or(MOST_CALL_BYTES, |part| {
        part.clamp(LEAST_CALL_BYTES, MOST_CALL_BYTES)
    })
}

/// The least limit of this process's memory cgroup and those above it; `None` where there is none.
fn limit() -> Option<u64> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_of(&membership, Path::new("/sys/fs/cgroup"))
}

fn limit_of(membership: &str, mounts: &Path) -> Option<u64> {
    let of_line = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            lowest(mounts, path, "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            lowest(&mounts.join("memory"), path, "memory.limit_in_bytes")
        } else {
            None
        }
    };
    membership.lines().filter_map(of_line).min()
}

fn lowest(root: &Path, path: &str, file: &str) -> Option<u64> {
    let own: PathBuf = root.join(path);
    let line = own.ancestors().take_while(|folder| folder.starts_with(root));
    let limits = line.filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok());
    // v1 says "none" by a number that no machine has.
    limits.min().filter(|limit| *limit < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(limits: &[(&str, &str)]) -> tempfile::TempDir {
        let mounts = tempfile::tempdir().expect("tempdir");
        for (file, limit) in limits {
            let file = mounts.path().join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("mkdir");
            fs::write(file, limit).expect("write");
        }
        mounts
    }

    #[test]
    fn the_lowest_limit_above_counts() {
        let v2 = tree(&[
            ("a/memory.max", "1000\n"),
            ("a/b/memory.max", "max\n"),
            ("a/b/c/memory.max", "2000\n"),
        ]);
        assert_eq!(limit_of("0::/a/b/c\n", v2.path()), Some(1000));
        assert_eq!(limit_of("0::/other\n", v2.path()), None);
        let v1 = tree(&[
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/a/memory.limit_in_bytes", "3000\n"),
        ]);
        let membership = "4:memory,x:/a\n3:pids:/\n0::/\n";
        assert_eq!(limit_of(membership, v1.path()), Some(3000));
        assert_eq!(limit_of("4:memory:/\n0::/\n", v1.path()), None);
    }

    #[test]
    fn a_reader_always_fits() {
        assert_eq!(readers_within(1), 1);
        assert_eq!(readers_within(64 << 20), 32);
        assert_eq!(readers_within(1 << 40), MOST_READERS);
    }

    #[test]
    fn the_largest_request_always_fits() {
        assert_eq!(call_bytes_within(1), 16 << 20);
        assert_eq!(call_bytes_within(1 << 30), 128 << 20);
        assert_eq!(call_bytes_within(1 << 40), MOST_CALL_BYTES);
    }
}
