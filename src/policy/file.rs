//! What a policy file may hold. Everything is optional: what it leaves out it inherits.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::names::{EtcEntry, Hostname, Name, Pattern, VariableName};
use crate::job::{
    Enforcement, Identity, LandlockMode, Limit, Mount, Network, OnOutputLimit, Proc, Root, Signal,
};
use crate::units::{Bytes, Cpus, DurationMs};

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PolicyFile {
    /// For people.
    pub(super) description: Option<String>,
    /// The policy whose values this one starts from. Absent: the built-in `default`.
    pub(super) inherits: Option<Name>,
    /// Keys, such as `sandbox.network`, or tables, such as `maximum`, that no inheriting policy can set.
    #[serde(rename = "final", skip_serializing_if = "Vec::is_empty")]
    pub(super) locked: Vec<String>,
    /// The commands that a job may name, as its first argument. Absent: any.
    pub(super) commands: Option<Vec<Pattern>>,
    /// What a job gets where its request says nothing.
    pub(super) limits: LimitsTable,
    /// What a request may ask for at most.
    pub(super) maximum: LimitsTable,
    pub(super) sandbox: SandboxTable,
    pub(super) stop: StopTable,
    pub(super) environment: EnvironmentTable,
    /// Host folders shown read-only inside.
    pub(super) mounts: Option<Vec<Mount>>,
}

/// `[limits]` and `[maximum]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitsTable {
    /// Memory of all of the job's processes, its tmpfs files included.
    pub(super) memory: Option<Bytes>,
    /// Processes and threads at one time.
    pub(super) pids: Option<u64>,
    /// CPUs that it can keep busy.
    pub(super) cpus: Option<Cpus>,
    /// CPU time of all processes together.
    pub(super) cpu_time: Option<DurationMs>,
    pub(super) wall_time: Option<DurationMs>,
    /// Kept output of each stream.
    pub(super) output: Option<Bytes>,
    /// Workspace, /tmp and /dev/shm together.
    pub(super) disk: Option<Bytes>,
    pub(super) inodes: Option<u64>,
    /// Descriptors of each process.
    pub(super) open_files: Option<u64>,
}

/// `[sandbox]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SandboxTable {
    /// true: no layer of the sandbox may be left out or be weaker than asked for.
    pub(super) fail_closed: Option<bool>,
    /// `read-only`, or `writable` into the job's own scratch space.
    pub(super) root: Option<Root>,
    /// `pid-only`, or `masked`: a whole /proc with the machine's part hidden.
    pub(super) proc: Option<Proc>,
    /// The network of a job whose request names none: `none` or `host`.
    pub(super) network: Option<Network>,
    /// The networks that a request may name.
    pub(super) allow_network: Option<Vec<Network>>,
    /// Who the job is: `unprivileged`, or `root` of a user namespace of its own.
    pub(super) identity: Option<Identity>,
    /// A seccomp profile's name, or `none`.
    pub(super) seccomp: Option<Name>,
    /// `require`, `best-effort` or `off`.
    pub(super) landlock: Option<LandlockMode>,
    pub(super) hostname: Option<Hostname>,
    /// What happens where the host has no cgroup limits: `fail-closed` or `best-effort`.
    pub(super) limits: Option<Enforcement>,
    /// Files and folders of the host's /etc that the job gets a copy of. What the host lacks is left out.
    pub(super) etc: Option<Vec<EtcEntry>>,
}

/// `[stop]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StopTable {
    /// The signal with which a stop begins, by name or number.
    pub(super) signal: Option<SignalName>,
    /// How long the job has after it.
    pub(super) grace: Option<DurationMs>,
    /// `truncate` or `kill`.
    pub(super) on_output_limit: Option<OnOutputLimit>,
}

/// `[environment]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EnvironmentTable {
    /// Variables of every job; its request can change them, unless `deny` names them.
    pub(super) set: BTreeMap<VariableName, String>,
    /// The variables that a request may set.
    pub(super) allow: Option<Vec<Pattern>>,
    /// The variables that a request may not set, whatever `allow` says.
    pub(super) deny: Option<Vec<Pattern>>,
}

/// A signal as people write it: a name, or a number with or without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub(super) struct SignalName(pub(super) Signal);

impl<'de> Deserialize<'de> for SignalName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SignalVisitor)
    }
}

struct SignalVisitor;

impl Visitor<'_> for SignalVisitor {
    type Value = SignalName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a signal such as \"TERM\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SignalName, E> {
        text.parse().map(SignalName).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<SignalName, E> {
        self.visit_str(&number.to_string())
    }
}

impl From<SignalName> for String {
    fn from(name: SignalName) -> Self {
        name.0.name().trim_start_matches("SIG").to_owned()
    }
}

impl LimitsTable {
    pub(super) fn get(&self, limit: Limit) -> Option<u64> {
        match limit {
            Limit::Memory => self.memory.map(|Bytes(value)| value),
            Limit::Pids => self.pids,
            Limit::Cpu => self.cpus.map(|Cpus(value)| value),
            Limit::CpuTime => self.cpu_time.map(|DurationMs(value)| value),
            Limit::WallTime => self.wall_time.map(|DurationMs(value)| value),
            Limit::Output => self.output.map(|Bytes(value)| value),
            Limit::Disk => self.disk.map(|Bytes(value)| value),
            Limit::Inodes => self.inodes,
            Limit::OpenFiles => self.open_files,
        }
    }
}

/// The key of a limit in `[limits]` and `[maximum]`.
pub(super) const fn key(limit: Limit) -> &'static str {
    match limit {
        Limit::Memory => "memory",
        Limit::Pids => "pids",
        Limit::Cpu => "cpus",
        Limit::CpuTime => "cpu_time",
        Limit::WallTime => "wall_time",
        Limit::Output => "output",
        Limit::Disk => "disk",
        Limit::Inodes => "inodes",
        Limit::OpenFiles => "open_files",
    }
}

/// A limit's value as a policy file writes it.
pub(super) fn written(limit: Limit, value: u64) -> String {
    match limit {
        Limit::Memory | Limit::Output | Limit::Disk => crate::units::format_bytes_exact(value),
        Limit::CpuTime | Limit::WallTime => crate::units::format_duration_ms(value),
        Limit::Cpu => crate::units::format_cpus(value),
        Limit::Pids | Limit::Inodes | Limit::OpenFiles => value.to_string(),
    }
}
