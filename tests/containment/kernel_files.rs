//! /proc and /sys: what they tell, and what can be switched by them.

use crate::harness::{Probe, Setting, able, unique};

pub(super) fn probe() -> Probe<'static> {
    Probe::new(include_str!("probes/kernel_files.py")).planted("name", unique("cgroup"))
}

#[test]
fn the_kernels_files_tell_nothing_and_change_nothing() {
    if able() {
        let no_more_than_processes = "[sandbox]\nproc = \"pid-only\"\n";
        probe().is_contained_in(&[
            Setting::Policy("default"),
            Setting::Policy("strict"),
            Setting::Policy("ci"),
            Setting::Own(no_more_than_processes),
        ]);
    }
}

#[test]
fn each_attack_can_succeed() {
    if able() {
        probe().succeeds_in(&[Setting::Host]);
    }
}
