use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The sandbox that a policy gives to its jobs. Two jobs with equal values can use one template.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SandboxSpec {
    pub policy: String,
    pub root: Root,
    pub proc: Proc,
    pub network: Network,
    pub identity: Identity,
    pub seccomp: Option<SeccompProfile>,
    pub landlock: LandlockMode,
    /// Host folders shown read-only, beside /usr.
    pub mounts: Vec<Mount>,
    /// Files and folders of the host's /etc that are copied into the sandbox, relative to /etc.
    pub etc: Vec<String>,
    pub hostname: String,
    /// What happens where the host cannot apply cgroup limits.
    pub limits: Enforcement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    /// An overlay over the host's /usr without an upper layer.
    ReadOnly,
    /// An overlay whose upper layer is the job's scratch space.
    Writable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proc {
    /// `subset=pid,hidepid=invisible`: processes only.
    PidOnly,
    /// A whole /proc with /proc/sys read-only and the machine-wide files masked.
    Masked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// A network namespace with nothing but its own loopback.
    None,
    /// The worker's network.
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// One unprivileged uid and gid, mapped to a host uid of the job's own.
    Unprivileged,
    /// uid 0 of a user namespace of its own, with 65536 ids mapped to a host range of the job's own.
    Root,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LandlockMode {
    /// Start failure where the kernel has none.
    Require,
    BestEffort,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    FailClosed,
    BestEffort,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    pub source: PathBuf,
    /// Absolute, inside the sandbox.
    pub target: PathBuf,
}

/// A compiled seccomp filter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeccompProfile {
    pub name: String,
    /// SHA-256 of the program, lower-case hexadecimal.
    pub hash: String,
    /// What happens to a call that no rule allows, such as "ERRNO(EPERM)".
    pub default_action: String,
    /// Classic BPF, one `struct sock_filter` (8 bytes, as in memory) each.
    #[serde(with = "words")]
    pub program: Vec<u64>,
}

/// A program as its bytes: to read each word by itself takes longer.
mod words {
    use serde::de::Error as _;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(words: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        serde_bytes::serialize(&bytes, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
        let bytes: Vec<u8> = serde_bytes::deserialize(deserializer)?;
        let (words, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(D::Error::custom("a program ends within a word"));
        }
        Ok(words.iter().map(|word| u64::from_ne_bytes(*word)).collect())
    }
}
