//! What this host can isolate, and what mends it where it cannot.

use std::fs;
use std::path::Path;

use crate::isolation::cgroup::CgroupTree;
use crate::isolation::ipc::{AbilityStatus, HostAbility};
use crate::isolation::launcher::spawn::run_dir;
use crate::isolation::sandbox::landlock;
use crate::isolation::sandbox::receipt::NAMESPACES;

/// Everything that can be told without a trial sandbox. `cgroup` is the name of the worker's branch.
#[must_use]
pub fn examine(cgroup: &str) -> Vec<HostAbility> {
    let mut abilities = vec![privilege(), container(), cgroups(cgroup)];
    abilities.extend(quick());
    abilities
}

/// What can be told at once, from files of /proc and one system call.
#[must_use]
pub fn quick() -> Vec<HostAbility> {
    vec![
        kernel(),
        namespaces(),
        user_namespaces(),
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

fn privilege() -> HostAbility {
    let root = rustix::process::geteuid().is_root();
    let detail = if root { "root" } else { "not root" };
    ability(
        "privilege",
        judged(root, AbilityStatus::Missing),
        detail,
        "run as root: sudo stockade ...",
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

fn user_namespaces() -> HostAbility {
    let most = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    let fine = most.trim().parse::<u64>().is_ok_and(|most| most > 0);
    let detail = format!("user.max_user_namespaces = {}", most.trim());
    let mend = "sysctl -w user.max_user_namespaces=65536";
    ability(
        "user namespaces",
        judged(fine, AbilityStatus::Missing),
        detail,
        mend,
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

fn cgroups(branch: &str) -> HostAbility {
    let opened = run_dir().map_err(|error| error.to_string()).and_then(|_| {
        CgroupTree::open(branch)
            .map(|tree| tree.version())
            .map_err(|error| error.to_string())
    });
    match opened {
        Ok(version) => ability("cgroups", AbilityStatus::Ok, version.as_str(), ""),
        Err(reason) => ability(
            "cgroups",
            AbilityStatus::Missing,
            reason,
            "as root: mount the hierarchy writable (docker run -v /sys/fs/cgroup:/sys/fs/cgroup:rw); \
             in a systemd unit: Delegate=yes",
        ),
    }
}

/// A container's engine takes abilities away, and each has a flag that gives it back.
fn container() -> HostAbility {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    let inside = Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or(0);
    let able = effective & CAP_SYS_ADMIN != 0;
    let place = if inside {
        "in a container"
    } else {
        "not in a container"
    };
    let detail = if able {
        place.to_owned()
    } else {
        format!("{place}, without CAP_SYS_ADMIN")
    };
    ability(
        "container",
        judged(able, AbilityStatus::Missing),
        detail,
        "docker run --cap-add SYS_ADMIN ...",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_amiss_has_a_mend_and_what_is_not_has_none() {
        for found in quick() {
            assert_eq!(
                found.mend.is_empty(),
                found.status == AbilityStatus::Ok,
                "{found:?}"
            );
            assert!(!found.detail.is_empty(), "{found:?}");
        }
    }
}
