//! Programs that are more than who starts them: set-uid, set-gid, file capabilities.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{Probe, Setting, able};

/// cap_net_raw+ep, in the kernel's form; see capabilities(7).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Copies of cat with more rights, in a folder of the host's that everybody may enter.
fn plant(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("chmod");
    for (name, mode) in [("set-uid", 0o4755), ("set-gid", 0o2755), ("capable", 0o755)] {
        let path = folder.join(name);
        fs::copy("/usr/bin/cat", &path).expect("copy");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(folder.join("capable"), "security.capability", &CAPABILITY, flags)
        .expect("setxattr");
}

#[test]
fn a_job_is_no_more_by_any_program() {
    if !able() {
        return;
    }
    let folder = tempfile::tempdir().expect("tempdir");
    plant(folder.path());
    let probe =
        Probe::new(include_str!("probes/setuid.py")).planted("folder", folder.path().to_string_lossy());
    let policy = |inherits: &str| {
        let source = folder.path();
        format!("inherits = \"{inherits}\"\n[[mounts]]\nsource = {source:?}\ntarget = \"/planted\"\n")
    };
    probe.is_contained_in(&[Setting::Own(&policy("default")), Setting::Own(&policy("strict"))]);
    probe.succeeds_in(&[Setting::Host]);
}
