//! A second, independent layer over files, and over sockets and signals where the kernel has that:
//! see landlock(7). It would still hold where a mount turned out writable.

use std::os::fd::{AsFd, OwnedFd};

use ::landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use crate::isolation::failure::{At, Failure};
use crate::isolation::layout;
use crate::job::{LandlockMode, Root, StartStep};
use crate::sys;

/// The newest ABI whose rights we know.
const NEWEST: u32 = 6;
/// Devices and pseudo-terminals, with nothing else beside them, and in which no right lets anything be made.
const DEVICES: &str = "/dev";

/// A ruleset for the stub, and the ABI that it uses.
#[derive(Debug)]
pub struct Layer {
    pub ruleset: OwnedFd,
    pub abi: u32,
}

/// The kernel's ABI version, 0 where it has no landlock.
#[must_use]
pub fn kernel_abi() -> u32 {
    // SAFETY: no attribute and size 0 with this flag ask for the version.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0,
            1_u32,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// The newest that jobs here get.
#[must_use]
pub fn usable_abi() -> u32 {
    kernel_abi().min(NEWEST)
}

/// Makes the ruleset for the root that this process has now.
pub fn prepare(mode: LandlockMode, root: Root) -> Result<Option<Layer>, Failure> {
    if mode == LandlockMode::Off {
        return Ok(None);
    }
    let abi = usable_abi();
    if abi == 0 {
        return match mode {
            LandlockMode::Require => Err(Failure::new(
                StartStep::Landlock,
                libc::ENOSYS,
                "the kernel has no landlock",
            )),
            _ => Ok(None),
        };
    }
    let ruleset =
        ruleset(abi, root).map_err(|error| Failure::new(StartStep::Landlock, 0, error.to_string()))?;
    Ok(Option::<OwnedFd>::from(ruleset).map(|ruleset| Layer { ruleset, abi }))
}

/// Lets this process open and make nothing at all, by any path; as far as the kernel can.
pub fn allow_nothing() -> Result<(), Failure> {
    let Some(known) = known_abi(usable_abi()) else {
        return Ok(());
    };
    let all = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(known));
    let ruleset = all
        .and_then(Ruleset::create)
        .map_err(|error| Failure::new(StartStep::Landlock, 0, error.to_string()))?;
    match Option::<OwnedFd>::from(ruleset) {
        Some(ruleset) => {
            sys::landlock_restrict_self(ruleset.as_fd()).at(StartStep::Landlock, "landlock_restrict_self")
        }
        None => Ok(()),
    }
}

/// What is missing of a layer that was asked for at best effort, for the receipt.
#[must_use]
pub fn weaker(mode: LandlockMode, abi: u32) -> Option<String> {
    (mode == LandlockMode::BestEffort && abi == 0).then(|| "landlock: the kernel has none".to_owned())
}

fn ruleset(abi: u32, root: Root) -> Result<RulesetCreated, RulesetError> {
    let known = known_abi(abi).unwrap_or(ABI::V1);
    let all = AccessFs::from_all(known);
    let read = AccessFs::from_read(known);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(all)?;
    if abi >= 6 {
        rules = rules.scope(Scope::from_all(known))?;
    }
    let rules = match root {
        // Folders that the job makes in its root would have no rule of their own. /proc is a read-only mount.
        Root::Writable => allow(rules.create()?, "/", all)?,
        Root::ReadOnly => {
            let scratch = [layout::WORKSPACE, "/tmp", "/dev/shm"];
            let rules = allow(rules.create()?, "/", read)?;
            scratch
                .iter()
                .try_fold(rules, |rules, path| allow(rules, path, all))?
        }
    };
    let device = (AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev | AccessFs::Truncate) & all;
    allow(rules, DEVICES, device)
}

/// `None` without landlock.
const fn known_abi(abi: u32) -> Option<ABI> {
    Some(match abi {
        0 => return None,
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        _ => ABI::V6,
    })
}

fn allow(
    rules: RulesetCreated,
    path: &str,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    // A path that this root does not have needs no rule.
    match PathFd::new(path) {
        Ok(fd) => rules.add_rule(PathBeneath::new(fd, access)),
        Err(_) => Ok(rules),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_and_is_missing_is_told() {
        assert!(weaker(LandlockMode::BestEffort, 0).is_some());
        assert_eq!(weaker(LandlockMode::BestEffort, 1), None);
        assert_eq!(weaker(LandlockMode::Off, 0), None, "nobody asked for it");
    }
}
