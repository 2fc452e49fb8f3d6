//! Resource limits of each process, setrlimit(2): what the cgroup does not count.

use std::collections::BTreeMap;

use caps::{CapSet, Capability};
use rustix::io::Errno;

use super::plan::Rlimit;
use crate::isolation::failure::{At, Failure};
use crate::job::{Limits, StartStep};
use crate::sys;

/// Locked memory, POSIX message queues and pending signals are bounded for each user id, and each job has its own.
const LOCKED_BYTES: u64 = 8 << 20;
const MESSAGE_QUEUE_BYTES: u64 = 800 << 10;
const PENDING_SIGNALS: u64 = 4096;

/// Not 0: where core_pattern names a program, the kernel runs it on the host whatever the limit, but for this value (see
/// core(5)); and a core file of one byte is none.
const CORE_BYTES: u64 = 1;

/// Sets the limit of core files for this process and its stubs: a filter that is there ahead of time lets none be set. Where
/// the launcher's own hard limit is 0 and it may not raise that, it stays.
pub fn forbid_cores() -> Result<(), Failure> {
    match sys::set_resource_limit(libc::RLIMIT_CORE, CORE_BYTES) {
        Err(Errno::PERM) => Ok(()),
        other => other.at(StartStep::Rlimits, "RLIMIT_CORE"),
    }
}

/// Whether [`forbid_cores`] can, in this process and its forks.
#[must_use]
pub fn can_forbid_cores() -> bool {
    sys::hard_limit(libc::RLIMIT_CORE).is_ok_and(|hard| hard >= CORE_BYTES)
        || caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE).unwrap_or(false)
}

/// The hard limits of this process, which its jobs have no more than.
#[derive(Debug)]
pub struct Most([(u32, u64); 8]);

impl Most {
    pub fn find() -> Result<Self, Failure> {
        let mut most = [
            libc::RLIMIT_NOFILE,
            libc::RLIMIT_NPROC,
            libc::RLIMIT_CORE,
            libc::RLIMIT_MEMLOCK,
            libc::RLIMIT_MSGQUEUE,
            libc::RLIMIT_SIGPENDING,
            libc::RLIMIT_CPU,
            libc::RLIMIT_DATA,
        ]
        .map(|resource| (resource, 0));
        for (resource, limit) in &mut most {
            *limit = sys::hard_limit(*resource).at(StartStep::Rlimits, "getrlimit")?;
        }
        Ok(Self(most))
    }

    fn of(&self, resource: u32) -> u64 {
        let known = self.0.iter().find(|(known, _)| *known == resource);
        known.map_or(0, |(_, limit)| *limit)
    }
}

/// The limits of a job's processes.
///
/// Without a cgroup (`in_cgroup` false) they stand in for its limits as far as they can, for each process alone.
///
/// None can be above this process's own hard limit: the stub sets them inside of its user namespace, where the right
/// to raise one is worth nothing.
pub fn of(limits: &Limits, in_cgroup: bool, most: &Most) -> Result<Vec<Rlimit>, Failure> {
    let open_files = most.of(libc::RLIMIT_NOFILE);
    if limits.open_files > open_files {
        let detail = format!(
            "{} open files are more than this process's own {open_files}",
            limits.open_files
        );
        return Err(Failure::new(StartStep::Rlimits, libc::EPERM, detail));
    }
    let limit = |resource, value| Rlimit { resource, value };
    // Bounds that nobody asked for: a host that sets them lower is welcome to it.
    let at_most = |resource, value| limit(resource, most.of(resource).min(value));
    let mut all = vec![
        limit(libc::RLIMIT_NOFILE, limits.open_files),
        // A second bound on processes beside the cgroup's, counted by the job's own user id.
        at_most(libc::RLIMIT_NPROC, limits.pids),
        at_most(libc::RLIMIT_CORE, CORE_BYTES),
        at_most(libc::RLIMIT_MEMLOCK, LOCKED_BYTES),
        at_most(libc::RLIMIT_MSGQUEUE, MESSAGE_QUEUE_BYTES),
        at_most(libc::RLIMIT_SIGPENDING, PENDING_SIGNALS),
        limit(libc::RLIMIT_RTPRIO, 0),
        limit(libc::RLIMIT_NICE, 0),
    ];
    if !in_cgroup {
        // Whole seconds; 0 would be taken for 1.
        all.push(at_most(libc::RLIMIT_CPU, limits.cpu_time_ms.div_ceil(1000)));
        all.push(at_most(libc::RLIMIT_DATA, limits.memory_bytes));
    }
    Ok(all)
}

/// The limits by the names of setrlimit(2), for the receipt.
#[must_use]
pub fn named(limits: &[Rlimit]) -> BTreeMap<String, String> {
    const NAMES: [(u32, &str); 10] = [
        (libc::RLIMIT_CPU, "RLIMIT_CPU"),
        (libc::RLIMIT_DATA, "RLIMIT_DATA"),
        (libc::RLIMIT_NOFILE, "RLIMIT_NOFILE"),
        (libc::RLIMIT_NPROC, "RLIMIT_NPROC"),
        (libc::RLIMIT_CORE, "RLIMIT_CORE"),
        (libc::RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK"),
        (libc::RLIMIT_MSGQUEUE, "RLIMIT_MSGQUEUE"),
        (libc::RLIMIT_SIGPENDING, "RLIMIT_SIGPENDING"),
        (libc::RLIMIT_RTPRIO, "RLIMIT_RTPRIO"),
        (libc::RLIMIT_NICE, "RLIMIT_NICE"),
    ];
    let name_of = |resource| {
        NAMES
            .iter()
            .find(|(known, _)| *known == resource)
            .map(|(_, name)| *name)
    };
    let named = limits
        .iter()
        .filter_map(|limit| Some((name_of(limit.resource)?.to_owned(), limit.value.to_string())));
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Most {
        Most::find().expect("getrlimit")
    }

    fn limits(open_files: u64) -> Limits {
        Limits {
            memory_bytes: 1 << 30,
            pids: 64,
            cpu_millis: 1000,
            cpu_time_ms: 1000,
            wall_time_ms: 1000,
            output_bytes: 1 << 20,
            disk_bytes: 1 << 20,
            inodes: 1000,
            open_files,
        }
    }

    #[test]
    fn what_cannot_be_given_is_refused_with_both_numbers() {
        let most = sys::hard_limit(libc::RLIMIT_NOFILE).expect("getrlimit");
        assert!(of(&limits(most), true, &own()).is_ok());
        let failure = of(&limits(most + 1), true, &own()).expect_err("refused");
        assert_eq!(failure.step, StartStep::Rlimits);
        assert!(failure.detail.contains(&(most + 1).to_string()), "{failure}");
    }

    #[test]
    fn no_limit_is_above_the_hosts() {
        for limit in of(&limits(64), false, &own()).expect("limits") {
            let most = sys::hard_limit(limit.resource).expect("getrlimit");
            assert!(limit.value <= most, "{limit:?}");
        }
    }

    #[test]
    fn every_limit_has_its_name() {
        let all = of(&limits(64), false, &own()).expect("limits");
        let named = named(&all);
        assert_eq!(named.len(), all.len());
        assert_eq!(named["RLIMIT_NOFILE"], "64");
    }

    #[test]
    fn without_a_cgroup_each_process_alone_is_limited() {
        let named_with = |in_cgroup| named(&of(&limits(64), in_cgroup, &own()).expect("limits"));
        assert!(!named_with(true).contains_key("RLIMIT_CPU"));
        assert_eq!(named_with(false)["RLIMIT_CPU"], "1");
        assert!(named_with(false).contains_key("RLIMIT_DATA"));
    }
}
