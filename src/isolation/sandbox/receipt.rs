//! Reads back what was applied, from the kernel and about the payload itself.

use std::fs;

use super::rlimits;
use crate::job::Receipt;

/// Namespace names as in /proc/PID/ns.
pub const NAMESPACES: [&str; 7] = ["user", "pid", "mnt", "net", "uts", "ipc", "cgroup"];

/// Identities of a process's namespaces.
pub type NamespaceIds = [Option<String>; NAMESPACES.len()];

/// The namespaces of process `pid` (or "self") in the /proc of this process.
#[must_use]
pub fn namespace_ids(pid: &str) -> NamespaceIds {
    NAMESPACES.map(|name| {
        fs::read_link(format!("/proc/{pid}/ns/{name}"))
            .ok()
            .map(|link| link.to_string_lossy().into_owned())
    })
}

/// Completes `receipt` with what /proc tells of the payload. `launcher` has the namespaces that are not the job's own.
pub fn read_back(receipt: &mut Receipt, pid: i32, launcher: &NamespaceIds) {
    let pid = pid.to_string();
    let own = namespace_ids(&pid);
    receipt.namespaces = NAMESPACES
        .iter()
        .zip(own.iter().zip(launcher))
        .filter(|(_, (own, outer))| own.is_some() && own != outer)
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    read_status(receipt, &status);
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    receipt.limits.extend(rlimits::read_back(&limits));
}

fn read_status(receipt: &mut Receipt, status: &str) {
    let mut filtered = false;
    for (key, value) in status.lines().filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match key {
            // This process is in the initial user namespace, so these are the host's numbers.
            "Uid" => {
                receipt.host_uid = value
                    .split_whitespace()
                    .next()
                    .and_then(|uid| uid.parse().ok())
                    .unwrap_or(u32::MAX);
            }
            "CapInh" | "CapPrm" | "CapEff" | "CapBnd" | "CapAmb" => {
                receipt.capabilities.insert(key.to_owned(), value.to_owned());
            }
            "NoNewPrivs" => receipt.no_new_privs = value == "1",
            "Seccomp" => filtered = value == "2",
            _ => {}
        }
    }
    if !filtered {
        receipt.seccomp_profile.clear();
        receipt.seccomp_hash.clear();
        receipt.seccomp_default_action.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_file_outweighs_the_request() {
        let mut receipt = Receipt {
            seccomp_profile: "default".into(),
            ..Receipt::default()
        };
        read_status(
            &mut receipt,
            "Uid:\t70000\t70000\t70000\t70000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t0\n",
        );
        assert_eq!(receipt.host_uid, 70000);
        assert_eq!(receipt.capabilities["CapEff"], "0000000000000000");
        assert!(receipt.no_new_privs);
        assert_eq!(
            receipt.seccomp_profile, "",
            "a filter that is not there is not claimed"
        );
    }
}
