//! Resource limits of each process, setrlimit(2): what the cgroup does not count.

use std::collections::BTreeMap;

use nix::sys::resource::{Resource, getrlimit};

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
    // A bound of ours, where the host's own is not tighter: the kernel sizes some of these by the machine's memory,
    // and to raise one takes CAP_SYS_RESOURCE.
    let bound = |resource: Resource, value: u64| limit(resource as u32, value.min(inherited(resource)));
    [
        limit(libc::RLIMIT_NOFILE, limits.open_files),
        // A second bound on processes beside the cgroup's, counted by the job's own user id.
        bound(Resource::RLIMIT_NPROC, limits.pids),
        // Not 0: where core_pattern names a program, the kernel runs it on the host whatever the limit, but for this
        // value (see core(5)); and a core file of one byte is none.
        bound(Resource::RLIMIT_CORE, 1),
        bound(Resource::RLIMIT_MEMLOCK, LOCKED_BYTES),
        bound(Resource::RLIMIT_MSGQUEUE, MESSAGE_QUEUE_BYTES),
        bound(Resource::RLIMIT_SIGPENDING, PENDING_SIGNALS),
        limit(libc::RLIMIT_RTPRIO, 0),
        limit(libc::RLIMIT_NICE, 0),
    ]
}

/// The hard limit of this process, which its children get.
fn inherited(resource: Resource) -> u64 {
    // It fails for a resource that the kernel does not have; then setting the limit will say so.
    getrlimit(resource).map_or(u64::MAX, |(_, hard)| hard)
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
    fn no_bound_is_above_the_inherited_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_SIGPENDING).expect("known to every kernel");
        let limits = of(&Limits {
            memory_bytes: 1 << 20,
            pids: u64::MAX,
            cpu_millis: 1000,
            cpu_time_ms: 1000,
            wall_time_ms: 1000,
            output_bytes: 1 << 20,
            disk_bytes: 1 << 20,
            inodes: 100,
            open_files: 64,
        });
        let value_of = |resource| {
            let found = limits.iter().find(|limit| limit.resource == resource);
            found.expect("among them").value
        };
        assert_eq!(value_of(libc::RLIMIT_SIGPENDING), hard.min(PENDING_SIGNALS));
        let (_, hard) = getrlimit(Resource::RLIMIT_NPROC).expect("known to every kernel");
        assert_eq!(value_of(libc::RLIMIT_NPROC), hard);
        assert_eq!(value_of(libc::RLIMIT_NOFILE), 64);
    }

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
