use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The isolation really applied to a job, read back from the kernel and not from the request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Receipt {
    /// Namespaces made for this job, named as in /proc/self/ns.
    pub namespaces: Vec<String>,
    pub host_uid: u32,
    /// "v2", "hybrid" or "v1"; empty where there are no cgroups.
    pub cgroup_version: String,
    /// Each limit as read back, by the name of its cgroup file or rlimit.
    pub limits: BTreeMap<String, String>,
    pub seccomp_profile: String,
    /// SHA-256 of the filter program, lower-case hexadecimal.
    pub seccomp_hash: String,
    pub seccomp_default_action: String,
    /// 0 where there is none.
    pub landlock_abi: u32,
    /// CapInh, CapPrm, CapEff, CapBnd and CapAmb as in /proc/PID/status.
    pub capabilities: BTreeMap<String, String>,
    pub no_new_privs: bool,
    pub rootfs: String,
    pub network: String,
    /// What was asked for at best effort and the host could not give.
    pub weaker: Vec<String>,
}

/// What a client demands at least.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IsolationFloor {
    pub namespaces: Vec<String>,
    pub seccomp: bool,
    pub landlock_abi: u32,
    pub no_capabilities: bool,
    pub cgroup_limits: bool,
}

impl IsolationFloor {
    /// The first demand that `receipt` does not meet, in words.
    #[must_use]
    pub fn unmet_by(&self, receipt: &Receipt) -> Option<String> {
        if let Some(name) = self
            .namespaces
            .iter()
            .find(|name| !receipt.namespaces.contains(name))
        {
            return Some(format!("no {name} namespace of its own"));
        }
        if self.seccomp && receipt.seccomp_profile.is_empty() {
            return Some("no seccomp filter".to_owned());
        }
        if self.landlock_abi > receipt.landlock_abi {
            return Some(format!(
                "landlock ABI {} instead of {}",
                receipt.landlock_abi, self.landlock_abi
            ));
        }
        let empty = |set: &String| set.trim_start_matches('0').is_empty();
        if self.no_capabilities
            && (receipt.capabilities.is_empty() || !receipt.capabilities.values().all(empty))
        {
            return Some("capability sets that are not empty".to_owned());
        }
        if self.cgroup_limits && receipt.cgroup_version.is_empty() {
            return Some("no cgroup limits".to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_names_what_is_missing() {
        let mut receipt = Receipt {
            namespaces: vec!["pid".into()],
            ..Receipt::default()
        };
        let floor = IsolationFloor {
            namespaces: vec!["pid".into(), "net".into()],
            ..IsolationFloor::default()
        };
        assert_eq!(
            floor.unmet_by(&receipt).as_deref(),
            Some("no net namespace of its own")
        );
        receipt.namespaces.push("net".into());
        assert_eq!(floor.unmet_by(&receipt), None);
        let floor = IsolationFloor {
            no_capabilities: true,
            ..floor
        };
        assert!(
            floor.unmet_by(&receipt).is_some(),
            "unknown capability sets are not empty ones"
        );
        receipt
            .capabilities
            .insert("CapEff".into(), "0000000000000000".into());
        assert_eq!(floor.unmet_by(&receipt), None);
    }
}
