//! What this host can isolate, and what mends it where it cannot.

mod place;
mod privilege;

use std::fs;
use std::path::Path;

use self::place::Place;
use crate::isolation::cgroup::{CgroupError, CgroupTree, Version};
use crate::isolation::ipc::{AbilityStatus, HostAbility};
use crate::isolation::launcher;
use crate::isolation::sandbox::landlock;
use crate::isolation::sandbox::namespaces::NAMESPACES;

pub(crate) use privilege::mend as user_namespace_mend;

/// Everything that can be told without a trial sandbox. `cgroup` is the name of the worker's branch.
#[must_use]
pub fn examine(cgroup: &str) -> Vec<HostAbility> {
    let mut abilities = vec![
        privilege::privilege(),
        privilege::capabilities(),
        privilege::container(),
        cgroups(CgroupTree::open(cgroup).map(|tree| tree.version())),
    ];
    abilities.extend(of_kernel());
    abilities
}

/// What can be told at once of a worker that has these cgroups.
#[must_use]
pub fn of_worker(version: Version) -> Vec<HostAbility> {
    let mut abilities = vec![cgroups(Ok(version))];
    abilities.extend(of_kernel());
    abilities
}

fn of_kernel() -> [HostAbility; 6] {
    [
        kernel(),
        namespaces(),
        privilege::user_namespaces(),
        seccomp(),
        landlock_abi(),
        overlay(),
    ]
}

fn ability(name: &str, status: AbilityStatus, detail: impl Into<String>, mend: &str) -> HostAbility {
    let mend = if status == AbilityStatus::Ok {
        String::new()
    } else {
        mend.to_owned()
    };
    HostAbility {
        name: name.to_owned(),
        status,
        detail: detail.into(),
        mend,
    }
}

/// Ok where `fine`, else `otherwise`.
const fn judged(fine: bool, otherwise: AbilityStatus) -> AbilityStatus {
    if fine { AbilityStatus::Ok } else { otherwise }
}

fn kernel() -> HostAbility {
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|word| word.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // CLONE_INTO_CGROUP is of 5.7, mount_setattr of 5.12, cgroup.kill of 5.14.
    let status = judged(version >= (5, 14), AbilityStatus::Missing);
    ability(
        "kernel",
        status,
        format!("Linux {release}"),
        "run Linux 5.14 or later",
    )
}

/// The namespaces of this process tell what the kernel was built with.
fn namespaces() -> HostAbility {
    let missing: Vec<&str> = NAMESPACES
        .into_iter()
        .filter(|name| !Path::new("/proc/self/ns").join(name).exists())
        .collect();
    let detail = if missing.is_empty() {
        NAMESPACES.join(", ")
    } else {
        format!("without {}", missing.join(", "))
    };
    ability(
        "namespaces",
        judged(missing.is_empty(), AbilityStatus::Missing),
        detail,
        "run a kernel built with CONFIG_NAMESPACES and all of its parts",
    )
}

fn seccomp() -> HostAbility {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    let fine = actions.split_whitespace().any(|action| action == "user_notif");
    let detail = if fine {
        "filters with notification"
    } else {
        "no filters with notification"
    };
    let mend = "run a kernel built with CONFIG_SECCOMP_FILTER";
    ability("seccomp", judged(fine, AbilityStatus::Missing), detail, mend)
}

fn landlock_abi() -> HostAbility {
    let abi = landlock::kernel_abi();
    let detail = format!("ABI {abi}");
    let mend = "add landlock to lsm= on the kernel's command line";
    ability("landlock", judged(abi > 0, AbilityStatus::Weaker), detail, mend)
}

fn overlay() -> HostAbility {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let fine = known
        .lines()
        .any(|line| line.split_whitespace().last() == Some("overlay"));
    let detail = if fine { "known to the kernel" } else { "not loaded" };
    ability(
        "overlay",
        judged(fine, AbilityStatus::Missing),
        detail,
        "modprobe overlay",
    )
}

fn cgroups(found: Result<Version, CgroupError>) -> HostAbility {
    let missing = |detail: String| ability("cgroups", AbilityStatus::Missing, detail, &cgroup_mend());
    match found {
        Ok(Version::Absent) => missing("no hierarchy can be used".to_owned()),
        Ok(version) => ability("cgroups", AbilityStatus::Ok, version.as_str(), ""),
        Err(error) => missing(error.to_string()),
    }
}

/// What gives this process a cgroup to put limits on, as an exact command where one can be told.
#[must_use]
pub(crate) fn cgroup_mend() -> String {
    const WITHOUT: &str = "or allow jobs without limits by a policy with sandbox.limits = \"best-effort\"";
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let mend = if !launcher::is_ordinary_user() {
        match Place::find() {
            Place::Host => {
                "mount a cgroup hierarchy writable; in a systemd unit: Delegate=yes, KillMode=process"
            }
            Place::Docker => "docker run --cgroupns=private -v /sys/fs/cgroup:/sys/fs/cgroup:rw ...",
            Place::Podman => "podman run --cgroupns=private --security-opt=unmask=/sys/fs/cgroup ...",
            Place::Kubernetes | Place::Container => "give the container a cgroup hierarchy that is writable",
        }
    } else if unified && Path::new("/run/systemd/system").exists() {
        "systemd-run --user --scope -p Delegate=yes stockade run ..."
    } else if unified {
        "run as root (sudo stockade run ...), or in a cgroup that belongs to this user and has the controllers memory, \
         pids and cpu"
    } else {
        "run as root (sudo stockade run ...), since v1 hierarchies are not for ordinary users"
    };
    format!("{mend}; {WITHOUT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_amiss_has_a_mend_and_what_is_not_has_none() {
        let versions = [Version::V2, Version::Absent];
        for found in versions.into_iter().flat_map(of_worker) {
            assert_eq!(
                found.mend.is_empty(),
                found.status == AbilityStatus::Ok,
                "{found:?}"
            );
            assert!(!found.detail.is_empty(), "{found:?}");
        }
    }
}
