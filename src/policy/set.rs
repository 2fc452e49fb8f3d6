use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::built_in;
use super::compiled::Policy;
use super::error::{Denial, PolicyError};
use super::library::{Library, SECCOMP};
use super::seccomp;
use super::{Resolved, Site, Tenant};
use crate::job::{Enforcement, InvalidField, JobRequest};

/// All policies of a worker: the built-in ones and those of its policies folder.
#[derive(Debug, Clone)]
pub struct PolicySet {
    policies: BTreeMap<String, Arc<Policy>>,
}

impl FromIterator<(String, Policy)> for PolicySet {
    fn from_iter<T: IntoIterator<Item = (String, Policy)>>(policies: T) -> Self {
        let policies = policies
            .into_iter()
            .map(|(name, policy)| (name, Arc::new(policy)));
        Self {
            policies: policies.collect(),
        }
    }
}

impl PolicySet {
    #[must_use]
    pub fn built_in() -> Self {
        match built_in::compiled() {
            Some(compiled) => compiled.policies().collect(),
            None => Library::built_in()
                .and_then(|library| Self::compile(&library))
                .expect("the built-in policies are well-formed: a test compiles them"),
        }
    }

    /// The built-in policy `name` alone, for who has one request to decide. Empty where there is no such policy.
    #[must_use]
    pub fn built_in_alone(name: &str) -> Self {
        match built_in::compiled() {
            Some(compiled) => {
                let policy = compiled.policy(name).map(|policy| (name.to_owned(), policy));
                policy.into_iter().collect()
            }
            None => Self::built_in(),
        }
    }

    /// The built-in policies and those of `dir`, which replace built-in ones of the same name.
    ///
    /// `dir` holds policies as `NAME.toml`, and in its folder `seccomp` profiles as `NAME.toml`, or as
    /// `NAME.json` in Docker's form. One that is malformed fails all: without it, a job would get another policy.
    pub fn load(dir: &Path) -> Result<Self, PolicyError> {
        let mut library = Library::built_in()?;
        library.add_folder(dir)?;
        Self::compile(&library)
    }

    /// Reads `path`, a policy or, in a folder named `seccomp`, a profile, and says what is wrong with it.
    ///
    /// What it inherits is looked for in its folder, then among the built-in policies.
    pub fn check_file(path: &Path) -> Result<(), PolicyError> {
        let mut library = Library::built_in()?;
        let folder = path.parent().unwrap_or(Path::new(""));
        if folder.file_name().is_some_and(|name| name == SECCOMP) {
            return seccomp::check_file(path);
        }
        let name = library.add_with_ancestors(path)?;
        Policy::compile(&name, &library).map(drop)
    }

    fn compile(library: &Library) -> Result<Self, PolicyError> {
        let compile = |name: &String| Ok((name.clone(), Policy::compile(name, library)?));
        library.policies.keys().map(compile).collect()
    }

    /// Sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.policies.keys().cloned().collect()
    }

    /// Whether a policy takes cgroup limits so.
    #[must_use]
    pub fn any_with(&self, limits: Enforcement) -> bool {
        self.policies
            .values()
            .any(|policy| policy.sandboxes.limits() == limits)
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Policy> {
        self.policies.get(name).map(Arc::as_ref)
    }

    /// Decides a request: a fully explicit job and its sandbox, or the denial.
    pub fn resolve(&self, request: &JobRequest, site: &Site, _tenant: &Tenant) -> Result<Resolved, Denial> {
        request.check()?;
        let name = request.policy.as_ref().unwrap_or(&site.default_policy);
        match self.policies.get(name) {
            Some(policy) => policy.resolve(request, site),
            None => Err(InvalidField::new("policy", format!("there is no policy {name:?}")).into()),
        }
    }
}
