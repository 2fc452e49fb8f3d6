//! What the launcher may do on this host: root's privileges, or an ordinary user's, who has some over namespaces of
//! its own alone; see user_namespaces(7).

use std::fs;
use std::sync::OnceLock;

use caps::{CapSet, Capability};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::isolation::doctor::user_namespace_mend;
use crate::isolation::failure::{At, Failure};
use crate::isolation::sandbox::rlimits;
use crate::job::{Identity, SandboxSpec, StartStep};
use crate::sys;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Host ids can be given to jobs.
    Root,
    /// One id, which is 0 in the launcher's user namespace and this one on the host.
    User {
        uid: u32,
        /// Of the user's groups, those that no process of its can leave.
        further_groups: usize,
    },
}

impl Standing {
    /// Finds out, and makes an ordinary user's process root of a user namespace and a mount namespace of its own.
    ///
    /// The process must have one thread. Asked again, it answers the same.
    pub(super) fn take() -> Result<Self, Failure> {
        static TAKEN: OnceLock<Standing> = OnceLock::new();
        if let Some(taken) = TAKEN.get() {
            return Ok(*taken);
        }
        let standing = if is_privileged() {
            Self::Root
        } else {
            become_root_of_own_namespaces()?
        };
        Ok(*TAKEN.get_or_init(|| standing))
    }

    pub(super) const fn is_user(self) -> bool {
        matches!(self, Self::User { .. })
    }

    /// What a job of `sandbox` lacks for it, for the receipt.
    pub(super) fn weaker(self, sandbox: &SandboxSpec) -> Vec<String> {
        let mut weaker = Vec::new();
        if !rlimits::can_forbid_cores() {
            weaker.push(
                "RLIMIT_CORE: 0, as the worker's: a crash has the host run the program of its core_pattern"
                    .to_owned(),
            );
        }
        let Self::User { uid, further_groups } = self else {
            return weaker;
        };
        weaker.push(format!(
            "host uid: {uid}, the user's own: not apart from this user's other jobs and processes"
        ));
        if further_groups > 0 {
            weaker.push(format!(
                "groups: {further_groups} of the user's cannot be left by an ordinary user's process"
            ));
        }
        if sandbox.identity == Identity::Root {
            weaker.push("identity: one id in the user namespace instead of 65536".to_owned());
        }
        weaker
    }
}

/// Over the host: root of a user namespace that has one id has them over that namespace alone.
pub(crate) fn is_privileged() -> bool {
    may_be_privileged() && !has_one_id()
}

/// As [`is_privileged`], but not sure, and told at once.
pub(super) fn may_be_privileged() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap_or(false)
}

/// Not root of the host or of a container, but at most of a user namespace of one id.
pub(crate) fn is_ordinary_user() -> bool {
    !rustix::process::geteuid().is_root() || has_one_id()
}

fn has_one_id() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().count() == 1 && map.split_whitespace().nth(2) == Some("1")
}

fn become_root_of_own_namespaces() -> Result<Standing, Failure> {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let groups = rustix::process::getgroups().unwrap_or_default();
    let refused = |failure: Failure| Failure {
        detail: format!(
            "{} for an ordinary user: {}",
            failure.detail,
            user_namespace_mend()
        ),
        ..failure
    };
    // SAFETY: new namespaces touch no memory and no descriptor; the launcher has one thread.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) }
        .at(StartStep::Namespaces, "no user namespace")
        .map_err(refused)?;
    for (file, value) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), value)
            .at(StartStep::Identity, file)
            .map_err(refused)?;
    }
    // The first act that needs the privileges: a security module may have taken them away.
    sys::make_tree_private()
        .at(StartStep::Namespaces, "no privileges in a user namespace")
        .map_err(refused)?;
    Ok(Standing::User {
        uid,
        further_groups: groups.iter().filter(|group| group.as_raw() != gid).count(),
    })
}
