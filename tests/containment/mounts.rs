//! Mounts: the walls of a sandbox, and what its mount table tells.

use crate::harness::{Probe, Setting, able};

/// A policy with a host folder mounted, and a probe that looks for the folder's host path.
pub(super) struct Planted {
    source: tempfile::TempDir,
}

impl Planted {
    pub(super) fn new() -> Self {
        let source = tempfile::Builder::new().prefix("stockade-source-").tempdir();
        Self {
            source: source.expect("tempdir"),
        }
    }

    pub(super) fn policy(&self, inherits: &str) -> String {
        let source = self.source.path();
        format!("inherits = \"{inherits}\"\n[[mounts]]\nsource = {source:?}\ntarget = \"/data\"\n")
    }

    pub(super) fn probe(&self) -> Probe<'static> {
        let source = self.source.path().display().to_string();
        Probe::new(include_str!("probes/mounts.py")).planted("source", source)
    }
}

#[test]
fn the_walls_do_not_move() {
    if able() {
        let planted = Planted::new();
        let probe = planted.probe();
        probe.is_contained_in(&[
            Setting::Own(&planted.policy("default")),
            Setting::Own(&planted.policy("strict")),
            Setting::Own(&planted.policy("ci")),
        ]);
    }
}

#[test]
fn each_attack_can_succeed() {
    if able() {
        Planted::new().probe().succeeds_in(&[Setting::Host]);
    }
}
