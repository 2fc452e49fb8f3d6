//! Namespaces: all of a job's own, none of anybody else's, and no further ones.

use std::fs;

use serde_json::json;

use crate::harness::{Probe, Setting, able};

pub(super) fn probe() -> Probe<'static> {
    let mine = |kind: &str| {
        let link = fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
        link.to_string_lossy().into_owned()
    };
    let namespaces: serde_json::Map<_, _> = ["user", "mnt", "pid", "net", "uts", "ipc", "cgroup"]
        .iter()
        .map(|kind| ((*kind).to_owned(), json!(mine(kind))))
        .collect();
    Probe::new(include_str!("probes/namespaces.py")).planted("namespaces", namespaces)
}

#[test]
fn a_job_stays_in_its_own() {
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

/// The kernel's own checks hold most of them back, but not the making of a user namespace.
#[test]
fn without_the_filter_a_user_namespace_can_be_made() {
    if able() {
        let unfiltered = "[sandbox]\nseccomp = \"none\"\n";
        probe().is_contained_but(
            Setting::Own(unfiltered),
            &[
                "unshares_a_user_namespace",
                "clones_into_a_user_namespace",
                "hides_the_flag_of_a_user_namespace",
                "clones_by_the_newer_call",
            ],
        );
        assert!(probe().lets_through(Setting::Own(unfiltered), "unshares_a_user_namespace"));
    }
}
