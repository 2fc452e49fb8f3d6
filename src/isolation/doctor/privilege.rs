//! What this process may do: root's capabilities, or an ordinary user's namespaces.

use std::fs;

use caps::{CapSet, Capability};
use rustix::process::{WaitOptions, waitpid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::place::Place;
use super::{ability, judged};
use crate::isolation::ipc::{AbilityStatus, HostAbility};
use crate::isolation::launcher::{is_ordinary_user, is_privileged};
use crate::sys::{self, Forked};

/// What root's launcher needs; docs/docker.md says what for.
const NEEDED: [Capability; 10] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_KILL,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_CHROOT,
];

pub(super) fn privilege() -> HostAbility {
    let mend = "run as root: sudo stockade ...";
    if is_privileged() {
        return ability("privilege", AbilityStatus::Ok, "root's", mend);
    }
    let detail = "an ordinary user's: jobs have the user's own host id, and no user but that one inside";
    ability("privilege", AbilityStatus::Weaker, detail, mend)
}

pub(super) fn capabilities() -> HostAbility {
    let name = "capabilities";
    if is_ordinary_user() {
        let detail = "none are needed in the user's own namespaces";
        return ability(name, AbilityStatus::Ok, detail, "");
    }
    let has = |capability: &Capability| caps::has_cap(None, CapSet::Effective, *capability).unwrap_or(false);
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|capability| !has(capability))
        .map(|capability| capability.to_string().trim_start_matches("CAP_").to_owned())
        .collect();
    if missing.is_empty() {
        return ability(name, AbilityStatus::Ok, "all that are needed", "");
    }
    let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
    let detail = format!("without {}", missing.join(", "));
    let mend = Place::find().give_capabilities(&missing);
    ability(name, AbilityStatus::Missing, detail, &mend)
}

pub(super) fn container() -> HostAbility {
    let place = Place::find();
    let profile = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    let profile = profile.trim_end_matches(['\n', '\0']);
    // Docker's own denies every mount.
    let confined = profile.starts_with("docker-default") || profile.starts_with("containers-default");
    let mut detail = place.describe().to_owned();
    if confined {
        detail = format!("{detail}, under the AppArmor profile {profile}");
    }
    ability(
        "container",
        judged(!confined, AbilityStatus::Missing),
        detail,
        place.unconfine(),
    )
}

/// By a trial: settings tell what should work, this what does.
pub(super) fn user_namespaces() -> HostAbility {
    let works = make_one();
    let most = setting("user/max_user_namespaces").unwrap_or_else(|| "?".to_owned());
    let detail = if works {
        format!("a trial one was made (user.max_user_namespaces = {most})")
    } else {
        blockers().map_or_else(
            || "a trial one was refused".to_owned(),
            |(reason, _)| format!("a trial one was refused: {reason}"),
        )
    };
    ability(
        "user namespaces",
        judged(works, AbilityStatus::Missing),
        detail,
        &mend(),
    )
}

/// The exact command that lets this process make user namespaces, as far as that can be told.
#[must_use]
pub(crate) fn mend() -> String {
    blockers().map_or_else(
        || match Place::find() {
            Place::Host => "run a kernel built with CONFIG_USER_NS, and not from within a chroot".to_owned(),
            place => place.unconfine().to_owned(),
        },
        |(_, mend)| mend,
    )
}

/// The setting that forbids it, and what lifts it.
fn blockers() -> Option<(String, String)> {
    let switches = [
        ("user/max_user_namespaces", "0", "65536"),
        // Debian's and its heirs'.
        ("kernel/unprivileged_userns_clone", "0", "1"),
        // Ubuntu's since 23.10: they are made, and have no privileges.
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ];
    switches
        .into_iter()
        .find(|(name, forbids, _)| setting(name).as_deref() == Some(*forbids))
        .map(|(name, forbids, allows)| {
            let name = name.replace('/', ".");
            (
                format!("{name} = {forbids}"),
                format!("as root: sysctl -w {name}={allows}"),
            )
        })
}

fn setting(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    Some(text.trim().to_owned())
}

/// In a child: makes one, and does in it what needs its privileges.
fn make_one() -> bool {
    // SAFETY: the child makes system calls alone, so the locks of other threads are nothing to it.
    match unsafe { sys::clone_into(0, None) } {
        Ok(Forked::Child) => {
            // SAFETY: new namespaces touch no memory and no descriptor.
            let made = unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) };
            let works = made.and_then(|()| sys::make_tree_private());
            sys::exit_now(i32::from(works.is_err()))
        }
        Ok(Forked::Parent(pid)) => {
            let ended = waitpid(Some(pid), WaitOptions::empty());
            matches!(ended, Ok(Some((_, status))) if status.exit_status() == Some(0))
        }
        Err(_) => false,
    }
}
