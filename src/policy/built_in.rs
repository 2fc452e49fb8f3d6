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
struct Compiled<T> {
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

/// All, if the build script could compile them: it cannot for another architecture than its own.
pub(super) fn policies() -> Option<BTreeMap<String, Policy>> {
    let policies = compiled()?.policies;
    Some(
        policies
            .into_iter()
            .map(|(name, bytes)| (name, decoded(bytes)))
            .collect(),
    )
}

/// `None` where they are not compiled; of those that are, the one of this name.
pub(super) fn policy(name: &str) -> Option<Option<Policy>> {
    Some(compiled()?.policies.get(name).map(|bytes| decoded(bytes)))
}

/// The profile of this name, if it is built in and compiled.
pub(super) fn profile(name: &str) -> Option<SeccompProfile> {
    compiled()?.profiles.get(name).map(|bytes| decoded(bytes))
}

fn compiled() -> Option<Compiled<&'static [u8]>> {
    let bytes = build_output::POLICIES;
    (!bytes.is_empty()).then(|| decoded(bytes))
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).expect("policies are plain data")
}

fn decoded<T: Deserialize<'static>>(bytes: &'static [u8]) -> T {
    postcard::from_bytes(bytes).expect("the build script has written it: a test reads it")
}
