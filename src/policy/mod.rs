//! What a job may have: policy files, their inheritance, and the decision on a request.
//!
//! Pure: no system call but reading the policy files. Server and launcher decide by the same code.
//! docs/policies.md describes the files. The build script compiles this module too, for the built-in ones (ADR 0015).

#![forbid(unsafe_code)]

mod built_in;
mod compiled;
mod document;
mod environment;
mod error;
mod file;
mod inherit;
mod library;
mod mounts;
mod names;
mod resolve;
mod sandboxes;
pub mod seccomp;
mod set;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

pub use built_in::compile_built_in;
pub use compiled::Policy;
pub use error::{Denial, PolicyError, Position};
pub use set::PolicySet;

use crate::job::{JobSpec, SandboxSpec};

/// Whose job it is. Quotas come later; the name is what records and cgroups are filed under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    pub name: String,
}

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
    /// Jobs of equal sandboxes share one of these.
    pub sandbox: Arc<SandboxSpec>,
}
