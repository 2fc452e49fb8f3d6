//! The built-in policies as the build script has compiled them: they are the same whenever this program starts, and to
//! compile one again would take a good part of the time that one job's launch takes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Policy;
use super::error::PolicyError;
use super::library::Library;
use super::seccomp::{self, Profiles};
use crate::build_output;
use crate::job::SeccompProfile;

/// Each encoded by itself, since most need but one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Compiled<T> {
    policies: BTreeMap<String, T>,
    profiles: BTreeMap<String, T>,
}

/// What the build script writes. Malformed files fail the build.
pub fn compile_built_in() -> Result<Vec<u8>, PolicyError> {
    let library = Library::built_in()?;
    let mut compiled = Compiled::default();
    for name in library.policies.keys() {
        let policy = Policy::compile(name, &library)?;
        compiled.policies.insert(name.clone(), encoded(&policy));
    }
    for file in &seccomp::BUILT_IN {
        if let Some(profile) = Profiles::default().compile(file.name) {
            compiled.profiles.insert(file.name.to_owned(), encoded(&profile?));
        }
    }
    Ok(encoded(&compiled))
}

/// What it has written; `None` where it could not: for another architecture than its own.
pub(super) fn compiled() -> Option<Compiled<&'static [u8]>> {
    let bytes = build_output::POLICIES;
    (!bytes.is_empty()).then(|| decoded(bytes))
}

impl Compiled<&'static [u8]> {
    pub(super) fn policies(self) -> impl Iterator<Item = (String, Policy)> {
        let policies = self.policies.into_iter();
        policies.map(|(name, bytes)| (name, decoded(bytes)))
    }

    pub(super) fn policy(&self, name: &str) -> Option<Policy> {
        self.policies.get(name).map(|bytes| decoded(bytes))
    }

    pub(super) fn profile(&self, name: &str) -> Option<SeccompProfile> {
        self.profiles.get(name).map(|bytes| decoded(bytes))
    }
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).expect("policies are plain data")
}

fn decoded<T: Deserialize<'static>>(bytes: &'static [u8]) -> T {
    postcard::from_bytes(bytes).expect("the build script has written it: a test reads it")
}
