//! A policy ready for use: all values decided and checked, the filter compiled, one sandbox for each network.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::environment::Environment;
use super::error::{Fault, PolicyError, refused, required};
use super::file::{self, LimitsTable, PolicyFile, SandboxTable};
use super::inherit::{Source, flatten};
use super::library::Library;
use super::mounts;
use super::names::Pattern;
use super::sandboxes::Sandboxes;
use crate::job::{
    Enforcement, Identity, LandlockMode, Limit, Limits, Mount, Network, OnOutputLimit, Root, SandboxSpec,
    SeccompProfile, Signal, bounds,
};

/// `sandbox.seccomp` of a policy without a filter.
const NO_FILTER: &str = "none";

/// What one policy says, with nothing left to inherit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Policy {
    pub(super) name: String,
    description: String,
    /// What [`Policy::to_toml`] tells.
    text: String,
    hash: String,
    /// Never above `maximum`.
    pub(super) limits: Limits,
    pub(super) maximum: Limits,
    pub(super) network: Network,
    pub(super) allow_network: Vec<Network>,
    pub(super) commands: Option<Vec<Pattern>>,
    pub(super) environment: Environment,
    pub(super) stop_signal: Signal,
    pub(super) grace_ms: u64,
    pub(super) on_output_limit: OnOutputLimit,
    pub(super) sandboxes: Sandboxes,
}

impl Policy {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The whole policy with all that it inherits, as a policy file. Its SHA-256 is [`Policy::hash`].
    #[must_use]
    pub fn to_toml(&self) -> &str {
        &self.text
    }

    /// SHA-256 of [`Policy::to_toml`], lower-case hexadecimal. It covers the seccomp program by its hash.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    pub(super) fn compile(name: &str, library: &Library) -> Result<Self, PolicyError> {
        let source = &library.policies[name];
        let file = flatten(name, &library.policies, &library.base)?;
        let at = |Fault(key, reason)| fault_in(source, name, &key, &reason);
        let seccomp = filter(&file, library).map_err(at)?;
        let text = text_of(name, &file, seccomp.as_ref());
        Self::decide(name, &file, seccomp, text).map_err(at)
    }

    fn decide(
        name: &str,
        file: &PolicyFile,
        seccomp: Option<SeccompProfile>,
        text: String,
    ) -> Result<Self, Fault> {
        let maximum = limits("maximum", &file.maximum)?;
        let network = required("sandbox.network", file.sandbox.network)?;
        let allow_network = required("sandbox.allow_network", file.sandbox.allow_network.clone())?;
        if !allow_network.contains(&network) {
            return refused("sandbox.allow_network", "does not hold sandbox.network");
        }
        let identity = required("sandbox.identity", file.sandbox.identity)?;
        if file.sandbox.root == Some(Root::Writable) && identity != Identity::Root {
            // Nobody inside has the ids of its files, device nodes included.
            return refused("sandbox.root", "\"writable\" needs sandbox.identity = \"root\"");
        }
        let grace_ms = required("stop.grace", file.stop.grace)?.0;
        if grace_ms > bounds::GRACE_MS {
            return refused("stop.grace", "more than a day");
        }
        let shown = file.mounts.clone().unwrap_or_default();
        mounts::check(&shown)?;
        let sandbox = sandbox(name, &file.sandbox, shown, seccomp)?;
        Ok(Self {
            name: name.to_owned(),
            description: file.description.clone().unwrap_or_default(),
            hash: hex(&Sha256::digest(&text)),
            text,
            limits: clamped(limits("limits", &file.limits)?, &maximum),
            maximum,
            network,
            allow_network,
            commands: file.commands.clone(),
            environment: Environment::new(&file.environment, identity)?,
            stop_signal: required("stop.signal", file.stop.signal)?.0,
            grace_ms,
            on_output_limit: required("stop.on_output_limit", file.stop.on_output_limit)?,
            sandboxes: Sandboxes::new(sandbox),
        })
    }
}

fn fault_in(source: &Source, name: &str, key: &str, reason: &str) -> PolicyError {
    source.document.error_at(key, format!("{reason} (policy {name})"))
}

fn filter(file: &PolicyFile, library: &Library) -> Result<Option<SeccompProfile>, Fault> {
    const KEY: &str = "sandbox.seccomp";
    let name = required(KEY, file.sandbox.seccomp.as_ref())?.as_str();
    if name == NO_FILTER {
        return Ok(None);
    }
    match library.profiles.compiled(name) {
        Some(Ok(profile)) => Ok(Some(profile)),
        Some(Err(error)) => refused(KEY, error.to_string()),
        None => refused(KEY, format!("there is no seccomp profile {name:?}")),
    }
}

fn text_of(name: &str, file: &PolicyFile, seccomp: Option<&SeccompProfile>) -> String {
    let mut text = format!("# policy {name} with all that it inherits\n");
    if let Some(filter) = seccomp {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "# seccomp {}: {} instructions, default {}, sha256 {}",
            filter.name,
            filter.program.len(),
            filter.default_action,
            filter.hash
        );
    }
    text.push('\n');
    text.push_str(&toml::to_string(file).expect("a policy file's values are all of TOML's kinds"));
    text
}

fn limits(table: &str, file: &LimitsTable) -> Result<Limits, Fault> {
    let mut limits = Limits {
        memory_bytes: 0,
        pids: 0,
        cpu_millis: 0,
        cpu_time_ms: 0,
        wall_time_ms: 0,
        output_bytes: 0,
        disk_bytes: 0,
        inodes: 0,
        open_files: 0,
    };
    for limit in Limit::ALL {
        let key = format!("{table}.{}", file::key(limit));
        let value = required(&key, file.get(limit))?;
        if value < limit.smallest() {
            let least = file::written(limit, limit.smallest());
            return refused(key, format!("less than {least}, with which no job can start"));
        }
        if value > limit.largest() {
            return refused(
                key,
                format!("more than {}", file::written(limit, limit.largest())),
            );
        }
        limits.set(limit, value);
    }
    Ok(limits)
}

fn clamped(mut limits: Limits, maximum: &Limits) -> Limits {
    for limit in Limit::ALL {
        limits.set(limit, limits.get(limit).min(maximum.get(limit)));
    }
    limits
}

fn sandbox(
    policy: &str,
    table: &SandboxTable,
    mounts: Vec<Mount>,
    seccomp: Option<SeccompProfile>,
) -> Result<SandboxSpec, Fault> {
    let sandbox = SandboxSpec {
        policy: policy.to_owned(),
        root: required("sandbox.root", table.root)?,
        proc: required("sandbox.proc", table.proc)?,
        network: required("sandbox.network", table.network)?,
        identity: required("sandbox.identity", table.identity)?,
        seccomp,
        landlock: required("sandbox.landlock", table.landlock)?,
        mounts,
        etc: required("sandbox.etc", table.etc.as_ref())?
            .iter()
            .map(|entry| entry.as_str().to_owned())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        hostname: required("sandbox.hostname", table.hostname.as_ref())?
            .as_str()
            .to_owned(),
        limits: required("sandbox.limits", table.limits)?,
    };
    if required("sandbox.fail_closed", table.fail_closed)? {
        check_fail_closed(&sandbox)?;
    }
    Ok(sandbox)
}

fn check_fail_closed(sandbox: &SandboxSpec) -> Result<(), Fault> {
    const REASON: &str = "weaker than sandbox.fail_closed = true allows";
    if sandbox.limits != Enforcement::FailClosed {
        return refused("sandbox.limits", REASON);
    }
    if sandbox.landlock != LandlockMode::Require {
        return refused("sandbox.landlock", REASON);
    }
    if sandbox.seccomp.is_none() {
        return refused("sandbox.seccomp", REASON);
    }
    Ok(())
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
