use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Identity, LandlockMode, Network, SandboxSpec};

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

/// The most that a host can give to any job, as far as that is known before one is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsolationCeiling {
    /// 0 where there is no landlock.
    pub landlock_abi: u32,
    /// Cgroup limits can be had.
    pub cgroups: bool,
}

impl IsolationCeiling {
    /// The receipt of a job in `sandbox` that gets all that it can get.
    fn receipt(self, sandbox: &SandboxSpec) -> Receipt {
        let namespaces = ["user", "pid", "mnt", "net", "uts", "ipc", "cgroup"];
        let own = |name: &&str| *name != "net" || sandbox.network == Network::None;
        let capabilities = match sandbox.identity {
            Identity::Unprivileged => "0",
            Identity::Root => "1",
        };
        Receipt {
            namespaces: namespaces.into_iter().filter(own).map(str::to_owned).collect(),
            cgroup_version: if self.cgroups { "any" } else { "" }.to_owned(),
            seccomp_profile: sandbox
                .seccomp
                .as_ref()
                .map_or_else(String::new, |profile| profile.name.clone()),
            landlock_abi: match sandbox.landlock {
                LandlockMode::Off => 0,
                LandlockMode::BestEffort | LandlockMode::Require => self.landlock_abi,
            },
            capabilities: BTreeMap::from([("CapEff".to_owned(), capabilities.to_owned())]),
            ..Receipt::default()
        }
    }
}

impl IsolationFloor {
    /// The first demand that no job in `sandbox` can meet on a host with this ceiling, in words.
    #[must_use]
    pub fn out_of_reach(&self, sandbox: &SandboxSpec, ceiling: IsolationCeiling) -> Option<String> {
        self.unmet_by(&ceiling.receipt(sandbox))
    }

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
    use crate::job::{Enforcement, Proc, Root};

    fn sandbox() -> SandboxSpec {
        SandboxSpec {
            policy: "p".into(),
            root: Root::ReadOnly,
            proc: Proc::Masked,
            network: Network::Host,
            identity: Identity::Root,
            seccomp: None,
            landlock: LandlockMode::BestEffort,
            mounts: Vec::new(),
            etc: Vec::new(),
            hostname: "h".into(),
            limits: Enforcement::BestEffort,
        }
    }

    #[test]
    fn what_a_sandbox_or_a_host_never_gives_is_out_of_reach() {
        let host = IsolationCeiling {
            landlock_abi: 5,
            cgroups: false,
        };
        let floor = IsolationFloor::default;
        for (demand, reachable) in [
            (floor(), true),
            (
                IsolationFloor {
                    namespaces: vec!["pid".into()],
                    ..floor()
                },
                true,
            ),
            (
                IsolationFloor {
                    namespaces: vec!["net".into()],
                    ..floor()
                },
                false,
            ),
            (
                IsolationFloor {
                    namespaces: vec!["time".into()],
                    ..floor()
                },
                false,
            ),
            (
                IsolationFloor {
                    seccomp: true,
                    ..floor()
                },
                false,
            ),
            (
                IsolationFloor {
                    landlock_abi: 5,
                    ..floor()
                },
                true,
            ),
            (
                IsolationFloor {
                    landlock_abi: 6,
                    ..floor()
                },
                false,
            ),
            (
                IsolationFloor {
                    no_capabilities: true,
                    ..floor()
                },
                false,
            ),
            (
                IsolationFloor {
                    cgroup_limits: true,
                    ..floor()
                },
                false,
            ),
        ] {
            let unmet = demand.out_of_reach(&sandbox(), host);
            assert_eq!(unmet.is_none(), reachable, "{demand:?}: {unmet:?}");
        }
        let more = SandboxSpec {
            network: Network::None,
            identity: Identity::Unprivileged,
            landlock: LandlockMode::Off,
            ..sandbox()
        };
        let host = IsolationCeiling {
            cgroups: true,
            ..host
        };
        for (demand, reachable) in [
            (
                IsolationFloor {
                    namespaces: vec!["net".into()],
                    ..floor()
                },
                true,
            ),
            (
                IsolationFloor {
                    landlock_abi: 1,
                    ..floor()
                },
                false,
            ),
            (
                IsolationFloor {
                    no_capabilities: true,
                    ..floor()
                },
                true,
            ),
            (
                IsolationFloor {
                    cgroup_limits: true,
                    ..floor()
                },
                true,
            ),
        ] {
            let unmet = demand.out_of_reach(&more, host);
            assert_eq!(unmet.is_none(), reachable, "{demand:?}: {unmet:?}");
        }
    }

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
