//! Privileges: capability sets, what they allow, and ways to get more.

use std::os::unix::process::CommandExt;

use nix::unistd::{Gid, setgroups};
use serde_json::json;

use crate::harness::{Job, Probe, Setting, able};

/// The capabilities of `identity = "root"`, over the job's own user namespace: docs/policies.md lists them.
const OF_ROOT_INSIDE: u64 = 0x8000_00fb;

pub(super) fn probe() -> Probe<'static> {
    Probe::new(include_str!("probes/capabilities.py")).planted("documented", json!(OF_ROOT_INSIDE))
}

#[test]
fn a_job_has_no_privilege_and_gains_none() {
    if able() {
        probe().is_contained_in(&[Setting::Policy("default"), Setting::Policy("strict")]);
    }
}

#[test]
fn root_inside_has_what_is_documented() {
    if able() {
        probe().is_contained_but(
            Setting::Policy("ci"),
            &[
                "holds_a_capability",
                "sets_a_capability",
                "becomes_another_user",
                "gives_a_file_away",
                "puts_capabilities_on_a_file",
                "reads_what_its_mode_forbids",
            ],
        );
    }
}

#[test]
fn each_attack_can_succeed() {
    if able() {
        probe().succeeds_in(&[Setting::Host]);
    }
}

/// `stockade run` by a root that is in further groups: the job is in none of them.
#[test]
fn the_launchers_groups_are_left_behind() {
    if able() {
        let finished = Job::under("default").bash("id -G").run_with(|command| {
            // SAFETY: it makes a system call alone.
            unsafe {
                command.pre_exec(|| {
                    Ok(setgroups(&[
                        Gid::from_raw(0),
                        Gid::from_raw(4),
                        Gid::from_raw(27),
                    ])?)
                })
            };
        });
        assert_eq!(finished.stdout, "1000\n", "{finished:?}");
    }
}
