//! What files tell beside their content: of the host's disk, and of what other jobs do with it.

use std::os::unix::fs::MetadataExt;

use crate::harness::{Probe, Setting, able};

pub(super) fn probe() -> Probe<'static> {
    let disk = rustix::fs::statvfs("/usr/bin").expect("statvfs");
    let metadata = std::fs::metadata("/usr/bin/env").expect("a program");
    Probe::new(include_str!("probes/traces.py"))
        .planted("disk", disk.f_blocks * disk.f_frsize)
        .planted("device", metadata.dev())
}

#[test]
fn files_tell_nothing_of_the_disk_and_of_other_readers() {
    if able() {
        probe().is_contained_in(&[
            Setting::Policy("default"),
            Setting::Policy("strict"),
            Setting::Policy("ci"),
        ]);
    }
}

#[test]
fn each_attack_can_succeed() {
    if able() {
        probe().succeeds_in(&[Setting::Host]);
    }
}
