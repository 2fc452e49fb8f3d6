//! Docker's and the OCI runtime specification's form of a profile (JSON).
//!
//! <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp>;
//! `archMap`, `includes` and `excludes` are Docker's own.

use serde::Deserialize;

use super::action::Action;
use super::filter::{Condition, Filter, Rule, Test};
use super::names::{NATIVE_NAMES, call_number};
use crate::policy::error::Position;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    /// Flags for seccomp(2). None changes what the filter decides.
    #[serde(default, rename = "flags")]
    _flags: Vec<String>,
    #[serde(default)]
    syscalls: Vec<Syscalls>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default, rename = "subArchitectures")]
    _sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Syscalls {
    #[serde(default)]
    names: Vec<String>,
    /// An older form of `names`.
    name: Option<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Argument>>,
    #[serde(default, rename = "comment")]
    _comment: Option<String>,
    #[serde(default)]
    includes: Option<Scope>,
    #[serde(default)]
    excludes: Option<Scope>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Where an entry holds, or does not.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Scope {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum OciError {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}: not supported")]
    Unsupported(String),
    #[error("{0}")]
    Malformed(String),
}

impl OciError {
    pub(super) fn position(&self) -> Option<Position> {
        match self {
            Self::Json(error) => Some(Position {
                line: error.line(),
                column: error.column(),
            }),
            Self::Unsupported(_) | Self::Malformed(_) => None,
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Filter, OciError> {
    let profile: Profile = serde_json::from_str(text)?;
    profile.check_architecture()?;
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut rules = Vec::new();
    for entry in profile.syscalls.iter().filter(|entry| entry.holds()) {
        entry.add_to(&mut rules)?;
    }
    // The format leaves open which of several fitting entries decides. The severest one: a profile that forbids
    // a call anywhere does not mean to allow it.
    rules.sort_by_key(|rule| rule.action);
    Ok(Filter { default, rules })
}

impl Profile {
    /// Calls of every architecture but the native one are killed, whatever else the profile names.
    fn check_architecture(&self) -> Result<(), OciError> {
        let listed = |name: &str| name == NATIVE_NAMES.0;
        let architectures = self.architectures.as_ref();
        let fits = architectures.is_none_or(|names| names.iter().any(|name| listed(name)))
            && self
                .arch_map
                .as_ref()
                .is_none_or(|maps| maps.iter().any(|map| listed(&map.architecture)));
        if fits {
            Ok(())
        } else {
            Err(OciError::Malformed(format!(
                "is not for this architecture, {}",
                NATIVE_NAMES.0
            )))
        }
    }
}

impl Syscalls {
    fn holds(&self) -> bool {
        self.includes.as_ref().is_none_or(Scope::includes)
            && !self.excludes.as_ref().is_some_and(Scope::excludes)
    }

    fn add_to(&self, rules: &mut Vec<Rule>) -> Result<(), OciError> {
        // A name that is unknown here is a call of another architecture or of a newer kernel: the default holds.
        let calls: Vec<u32> = self
            .names
            .iter()
            .chain(&self.name)
            .filter_map(|name| call_number(name))
            .collect();
        let action = action(&self.action, self.errno_ret)?;
        let arguments = self.args.as_deref().unwrap_or_default();
        let conditions = arguments
            .iter()
            .map(Argument::condition)
            .collect::<Result<Vec<_>, _>>()?;
        let mut add = |when| {
            rules.push(Rule {
                action,
                calls: calls.clone(),
                when,
            });
        };
        // As runc does: several conditions on one argument are alternatives, on several arguments they all must hold.
        let twice = |(at, condition): (usize, &Condition)| {
            conditions[..at]
                .iter()
                .any(|other| other.argument == condition.argument)
        };
        if conditions.iter().enumerate().any(twice) {
            conditions.into_iter().for_each(|condition| add(vec![condition]));
        } else {
            add(conditions);
        }
        Ok(())
    }
}

/// The oldest kernel that has all that a sandbox here needs (clone3 with CLONE_INTO_CGROUP).
const OLDEST_KERNEL: (u32, u32) = (5, 7);

impl Scope {
    fn includes(&self) -> bool {
        // A job has no capability at all.
        self.caps.as_ref().is_none_or(Vec::is_empty) && self.names_arch().unwrap_or(true) && self.old_enough()
    }

    fn excludes(&self) -> bool {
        self.names_arch().unwrap_or(false)
    }

    fn names_arch(&self) -> Option<bool> {
        let arches = self.arches.as_ref().filter(|arches| !arches.is_empty())?;
        Some(arches.iter().any(|arch| arch == NATIVE_NAMES.1))
    }

    fn old_enough(&self) -> bool {
        let Some(version) = &self.min_kernel else {
            return true;
        };
        let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok());
        let mut parts = version.split('.');
        match (number(parts.next()), number(parts.next())) {
            (Some(major), Some(minor)) => (major, minor) <= OLDEST_KERNEL,
            _ => false,
        }
    }
}

impl Argument {
    fn condition(&self) -> Result<Condition, OciError> {
        if self.index > 5 {
            return Err(OciError::Malformed(format!(
                "no call has an argument {}",
                self.index
            )));
        }
        let (mask, test) = match self.op.as_str() {
            "SCMP_CMP_NE" => (u64::MAX, Test::Ne(self.value)),
            "SCMP_CMP_LT" => (u64::MAX, Test::Lt(self.value)),
            "SCMP_CMP_LE" => (u64::MAX, Test::Le(self.value)),
            "SCMP_CMP_EQ" => (u64::MAX, Test::In(vec![self.value])),
            "SCMP_CMP_GE" => (u64::MAX, Test::Ge(self.value)),
            "SCMP_CMP_GT" => (u64::MAX, Test::Gt(self.value)),
            "SCMP_CMP_MASKED_EQ" => (self.value, Test::In(vec![self.value_two])),
            other => return Err(OciError::Unsupported(format!("the comparison {other:?}"))),
        };
        Ok(Condition {
            argument: self.index,
            mask,
            test,
        })
    }
}

fn action(name: &str, errno: Option<u32>) -> Result<Action, OciError> {
    // EPERM, where the format leaves it out.
    let errno = errno.unwrap_or(1);
    match name {
        // Of the thread alone in the format; the rest of a process without one of its threads is of no use.
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" | "SCMP_ACT_KILL_PROCESS" => Ok(Action::Kill),
        "SCMP_ACT_TRAP" => Ok(Action::Trap),
        "SCMP_ACT_LOG" => Ok(Action::Log),
        "SCMP_ACT_ALLOW" => Ok(Action::Allow),
        "SCMP_ACT_ERRNO" => match u16::try_from(errno) {
            Ok(number) if number <= 4095 => Ok(Action::Errno(number)),
            _ => Err(OciError::Malformed("an error number above 4095".to_owned())),
        },
        other => Err(OciError::Unsupported(format!("the action {other:?}"))),
    }
}

#[cfg(test)]
mod tests;
