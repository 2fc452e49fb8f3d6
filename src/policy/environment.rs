//! The environment of a job: every job's own variables, the policy's, then what the request may set.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::{Fault, refused, required};
use super::file::EnvironmentTable;
use super::names::Pattern;
use crate::isolation::layout;
use crate::job::Identity;

/// What a job's environment begins with, and what its request may change of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Environment {
    /// Name and `NAME=VALUE`.
    base: Vec<(String, String)>,
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
}

/// The rule that a variable of a request breaks, and how.
pub(super) type Broken = (&'static str, &'static str);

impl Environment {
    pub(super) fn new(table: &EnvironmentTable, identity: Identity) -> Result<Self, Fault> {
        let user = match identity {
            Identity::Unprivileged => layout::USER,
            Identity::Root => "root",
        };
        let mut base: BTreeMap<&str, &str> = BTreeMap::from([
            ("PATH", layout::DEFAULT_PATH),
            ("HOME", layout::WORKSPACE),
            ("USER", user),
            ("LOGNAME", user),
            ("SHELL", "/bin/sh"),
            ("LANG", "C.UTF-8"),
            ("TMPDIR", "/tmp"),
        ]);
        for (name, value) in &table.set {
            if value.contains('\0') {
                return refused(format!("environment.set.{}", name.as_str()), "holds a NUL");
            }
            base.insert(name.as_str(), value);
        }
        let word = |(name, value): (&str, &str)| (name.to_owned(), format!("{name}={value}"));
        Ok(Self {
            base: base.into_iter().map(word).collect(),
            allow: required("environment.allow", table.allow.clone())?,
            deny: required("environment.deny", table.deny.clone())?,
        })
    }

    /// All `NAME=VALUE` words of a job whose request sets `own`.
    ///
    /// The name of a variable that is not allowed stays out of the answer: it is the client's own text.
    pub(super) fn words(&self, own: &BTreeMap<String, String>) -> Result<Vec<String>, Broken> {
        let mut words = Vec::with_capacity(self.base.len() + own.len());
        let kept = self.base.iter().filter(|(name, _)| !own.contains_key(name));
        words.extend(kept.map(|(_, word)| word.clone()));
        for (name, value) in own {
            if self.deny.iter().any(|pattern| pattern.matches(name)) {
                return Err(("environment.deny", "lists one of the variables"));
            }
            if !self.allow.iter().any(|pattern| pattern.matches(name)) {
                return Err(("environment.allow", "does not list one of the variables"));
            }
            words.push(format!("{name}={value}"));
        }
        Ok(words)
    }
}
