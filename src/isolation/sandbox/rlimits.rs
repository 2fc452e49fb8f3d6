//! Resource limits of each process, setrlimit(2): what the cgroup does not count.

use std::collections::BTreeMap;

use super::plan::Rlimit;
use crate::job::Limits;

/// Locked memory, POSIX message queues and pending signals are bounded for each user id, and each job has its own.
const LOCKED_BYTES: u64 = 8 << 20;
const MESSAGE_QUEUE_BYTES: u64 = 800 << 10;
const PENDING_SIGNALS: u64 = 4096;

/// The limits of a job's processes.
#[must_use]
pub fn of(limits: &Limits) -> [Rlimit; 8] {
    let limit = |resource, value| Rlimit { resource, value };
    [
        limit(libc::RLIMIT_NOFILE, limits.open_files),
        // A second bound on processes beside the cgroup's, counted by the job's own user id.
        limit(libc::RLIMIT_NPROC, limits.pids),
        // Not 0: where core_pattern names a program, the kernel runs it on the host whatever the limit, but for this
        // value (see core(5)); and a core file of one byte is none.
        limit(libc::RLIMIT_CORE, 1),
        limit(libc::RLIMIT_MEMLOCK, LOCKED_BYTES),
        limit(libc::RLIMIT_MSGQUEUE, MESSAGE_QUEUE_BYTES),
        limit(libc::RLIMIT_SIGPENDING, PENDING_SIGNALS),
        limit(libc::RLIMIT_RTPRIO, 0),
        limit(libc::RLIMIT_NICE, 0),
    ]
}

/// What /proc/PID/limits says, by the names of setrlimit(2).
#[must_use]
pub fn read_back(proc_limits: &str) -> BTreeMap<String, String> {
    const NAMES: [(&str, &str); 8] = [
        ("Max open files", "RLIMIT_NOFILE"),
        ("Max processes", "RLIMIT_NPROC"),
        ("Max core file size", "RLIMIT_CORE"),
        ("Max locked memory", "RLIMIT_MEMLOCK"),
        ("Max msgqueue size", "RLIMIT_MSGQUEUE"),
        ("Max pending signals", "RLIMIT_SIGPENDING"),
        ("Max realtime priority", "RLIMIT_RTPRIO"),
        ("Max nice priority", "RLIMIT_NICE"),
    ];
    NAMES
        .iter()
        .filter_map(|(label, name)| {
            let line = proc_limits.lines().find_map(|line| line.strip_prefix(label))?;
            Some(((*name).to_owned(), line.split_whitespace().nth(1)?.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hard_limit_is_read_back() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max core file size        0                    0                    bytes     \n\
                    Max open files            64                   128                  files     \n";
        let limits = read_back(text);
        assert_eq!(limits["RLIMIT_NOFILE"], "128");
        assert_eq!(limits["RLIMIT_CORE"], "0");
        assert_eq!(limits.len(), 2);
    }
}
