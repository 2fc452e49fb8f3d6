//! Devices: six harmless ones, and no way to make another.

use crate::harness::{Probe, Setting, able};

const PROBE: &str = include_str!("probes/devices.py");

#[test]
fn a_job_has_only_harmless_devices() {
    if able() {
        Probe::new(PROBE).is_contained_in(&[Setting::Policy("default"), Setting::Policy("strict")]);
        // The device nodes are the job's own, in its own layer of files.
        Probe::new(PROBE).is_contained_but(
            Setting::Policy("ci"),
            &["changes_a_device_for_others", "replaces_a_device"],
        );
    }
}

#[test]
fn each_attack_can_succeed() {
    if able() {
        Probe::new(PROBE).succeeds_in(&[Setting::Host]);
    }
}
