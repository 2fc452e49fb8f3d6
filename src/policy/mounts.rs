//! Which host folders a policy may show, and where.

use std::path::{Component, Path};

use super::error::{Fault, refused};
use crate::isolation::layout;
use crate::job::{Mount, bounds};

/// Inside: what the sandbox makes itself, and the root of all. A mount over one of these would undo a layer.
const RESERVED_TARGETS: [&str; 7] = [
    "/dev",
    "/proc",
    "/sys",
    "/run",
    layout::WORKSPACE,
    layout::SCRIPTS,
    "/tmp",
];
/// On the host: the kernel's own interfaces, read-only or not.
const RESERVED_SOURCES: [&str; 3] = ["/dev", "/proc", "/sys"];

pub(super) fn check(mounts: &[Mount]) -> Result<(), Fault> {
    for (index, mount) in mounts.iter().enumerate() {
        for (field, path, reserved) in [
            ("source", &mount.source, &RESERVED_SOURCES[..]),
            ("target", &mount.target, &RESERVED_TARGETS[..]),
        ] {
            if let Some(reason) = path_fault(path, reserved) {
                return refused(format!("mounts[{index}].{field}"), reason);
            }
        }
        if mounts[..index].iter().any(|other| other.target == mount.target) {
            return refused(format!("mounts[{index}].target"), "is a target already");
        }
    }
    Ok(())
}

fn path_fault(path: &Path, reserved: &[&str]) -> Option<String> {
    let plain = |component| matches!(component, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(plain) {
        return Some("not an absolute path without '..'".to_owned());
    }
    if path == Path::new("/") || path.as_os_str().len() > bounds::PATH_BYTES {
        return Some("is the root, or too long".to_owned());
    }
    reserved
        .iter()
        .find(|reserved| path.starts_with(reserved))
        .map(|reserved| format!("lies in {reserved}, which is the sandbox's own"))
}
