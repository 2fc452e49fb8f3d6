//! Which cgroup hierarchies this host has, and what of them is this process's to use.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

/// The controllers that a job's limits need.
pub(super) const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// Where they are mounted.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) unified: Option<PathBuf>,
    pub(super) legacy: Option<[PathBuf; 3]>,
}

impl Mounts {
    pub(super) fn parse(mountinfo: &str) -> Self {
        let mut unified = None;
        let mut legacy: [Option<PathBuf>; 3] = [None, None, None];
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let Some(point) = left.split(' ').nth(4).map(PathBuf::from) else {
                continue;
            };
            let mut right = right.split(' ');
            match right.next() {
                Some("cgroup2") => unified = Some(point),
                Some("cgroup") => {
                    let options = right.nth(1).unwrap_or_default();
                    for (index, controller) in CONTROLLERS.iter().enumerate() {
                        if options.split(',').any(|option| option == *controller) {
                            legacy[index] = Some(point.clone());
                        }
                    }
                }
                _ => {}
            }
        }
        let legacy = match legacy {
            [Some(memory), Some(pids), Some(cpu)] => Some([memory, pids, cpu]),
            _ => None,
        };
        Self { unified, legacy }
    }
}

/// This process's own cgroup, where its manager says that everything beneath is ours; see "Delegation" in
/// systemd's cgroup documentation.
pub(super) fn delegated(root: &Path) -> Option<PathBuf> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // Once moved to the leaf of an earlier start.
    let own = root.join(own.strip_suffix("/init").unwrap_or(own));
    let marked = ["trusted.delegate", "user.delegate"].iter().any(|name| {
        let mut value = [0_u8; 1];
        rustix::fs::getxattr(&own, *name, &mut value).is_ok() && value == *b"1"
    });
    (marked || is_given_to_user(&own)).then_some(own)
}

/// To an ordinary user a cgroup is delegated by its ownership; see "Delegation" in the kernel's cgroup-v2.rst. A
/// manager's own, such as that of a terminal, lacks the controllers.
fn is_given_to_user(own: &Path) -> bool {
    let writable = |file: &str| rustix::fs::access(own.join(file), Access::WRITE_OK).is_ok();
    let controllers = fs::read_to_string(own.join("cgroup.controllers")).unwrap_or_default();
    let has = |controller: &&str| controllers.split_whitespace().any(|word| word == *controller);
    !is_root_of_host()
        && ["cgroup.procs", "cgroup.subtree_control"]
            .into_iter()
            .all(writable)
        && CONTROLLERS.iter().all(has)
}

/// Root of a user namespace is an ordinary user to cgroups.
fn is_root_of_host() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole = map.split_whitespace().nth(2) == Some("4294967295");
    rustix::process::geteuid().is_root() && whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_told_apart() {
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let mounts = Mounts::parse(v2);
        assert_eq!(mounts.unified.as_deref(), Some(Path::new("/sys/fs/cgroup")));
        assert!(mounts.legacy.is_none());

        let hybrid = "31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      34 30 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let mounts = Mounts::parse(hybrid);
        assert!(mounts.unified.is_some());
        let legacy = mounts.legacy.expect("three controllers");
        assert_eq!(legacy[2], Path::new("/sys/fs/cgroup/cpu,cpuacct"));
    }
}
