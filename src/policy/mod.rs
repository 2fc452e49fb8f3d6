//! What a job may have: policy files, their inheritance, and the decision on a request.
//!
//! Pure: no system call but reading the policy files. Server and launcher decide by the same code.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::job::{InvalidField, JobRequest, JobSpec, SandboxSpec};

/// Whose job it is. Quotas come later; the name is what records and cgroups are filed under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    pub name: String,
}

/// All policies of a worker: the built-in ones and those of its policies folder.
#[derive(Debug, Clone)]
pub struct PolicySet {}

/// What [`PolicySet::resolve`] needs to know of the worker.
#[derive(Debug, Clone)]
pub struct Site {
    pub default_policy: String,
    pub scripts_dir: Option<PathBuf>,
}

/// A request and a policy, decided.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub policy: String,
    /// SHA-256 of the resolved policy, lower-case hexadecimal.
    pub policy_hash: String,
    pub spec: JobSpec,
    pub sandbox: Arc<SandboxSpec>,
}

/// Why a request gets no job.
#[derive(Debug, thiserror::Error)]
pub enum Denial {
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// The policy's rule that says no, such as `maximum.memory`.
    #[error("policy {policy}: {rule}: {reason}")]
    Forbidden {
        policy: String,
        rule: String,
        reason: String,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
}

impl PolicySet {
    #[must_use]
    pub fn built_in() -> Self {
        Self {}
    }

    /// The built-in policies and those of `dir`, which replace built-in ones of the same name.
    pub fn load(_dir: &Path) -> Result<Self, PolicyError> {
        Ok(Self {})
    }

    #[must_use]
    pub fn names(&self) -> Vec<String> {
        Vec::new()
    }

    /// Decides a request: a fully explicit job and its sandbox, or the denial.
    pub fn resolve(&self, request: &JobRequest, _site: &Site, _tenant: &Tenant) -> Result<Resolved, Denial> {
        request.check()?;
        Err(Denial::Forbidden {
            policy: String::new(),
            rule: String::new(),
            reason: String::new(),
        })
    }
}
