//! What a tenant could learn of the machine, its owner and its other tenants.

use crate::harness::{Probe, Setting, able};

pub(super) fn probe() -> Probe<'static> {
    let hostname = nix::unistd::gethostname().expect("a name");
    Probe::new(include_str!("probes/information.py")).planted("hostname", hostname.to_string_lossy())
}

#[test]
fn a_job_learns_nothing_of_the_machine() {
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
