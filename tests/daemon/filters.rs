//! The filter over system calls of a worker's jobs, and of who keeps them.

use stockade::proto::v1::StartJobRequest;

use super::worker::traces::{SUPERVISOR, children, named};
use super::worker::{Worker, able, eventually};
use super::{in_runtime, output, shell, start, wait};

/// Of a filter in two halves the supervisor has one, and each of its jobs adds the other.
#[test]
fn each_job_of_a_worker_has_all_of_its_filter() {
    /// What `ci` gives on purpose.
    const GIVEN: [&str; 4] = ["ptrace", "personality", "mbind", "set_mempolicy"];
    if !able() {
        return;
    }
    let worker = Worker::start();
    let probe = format!(
        "import os\nPLANTED = {{'on_the_host': False}}\n{}\n{}\nrun_attacks()\n",
        include_str!("../containment/probes/attack.py"),
        include_str!("../containment/probes/calls.py"),
    );
    in_runtime(async {
        let mut client = worker.client().await;
        // More than sandboxes wait at the start, so that some serve several.
        for (policy, rounds) in [("default", 12), ("strict", 4), ("ci", 4)] {
            for round in 0..rounds {
                let request = StartJobRequest {
                    argv: ["python3", "-c", &probe].map(str::to_owned).to_vec(),
                    policy: policy.to_owned(),
                    ..StartJobRequest::default()
                };
                let id = start(&mut client, request).await;
                let probed = wait(&mut client, &id).await;
                let told = output(&mut client, &id).await;
                assert!(
                    told.contains("CONTAINED calls_bpf"),
                    "{policy}, {round}: {told} {probed:?}"
                );
                let is_given = |attack: &str| policy == "ci" && GIVEN.contains(&attack);
                for line in told.lines() {
                    let attack = line
                        .strip_prefix("ESCAPED calls_")
                        .and_then(|rest| rest.split(':').next());
                    let through = line.starts_with("ESCAPED") || line.starts_with("ERROR");
                    assert!(
                        !through || attack.is_some_and(is_given),
                        "{policy}, {round}: {line}"
                    );
                }
            }
        }
    });
    worker.shut_down();
}

/// How many filters a process is under; 0 for one that has gone.
fn filters(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let count = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp_filters:"));
    count.map_or(0, |count| count.trim().parse().expect("a number"))
}

#[test]
fn a_supervisor_is_under_its_half_and_its_job_under_both() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        start(&mut client, shell("exec sleep 6843")).await;
        let launcher = worker.launcher();
        let own = filters(launcher);
        // Sandboxes are made meanwhile.
        eventually("all have them", || {
            let supervisors = named(launcher, SUPERVISOR);
            let have = |supervisor: &u32| {
                let kept = children(*supervisor);
                let under_both = kept.iter().all(|kept| filters(*kept) == own + 2);
                filters(*supervisor) == own + 1 && !kept.is_empty() && under_both
            };
            supervisors.len() > 2 && supervisors.iter().all(have)
        });
    });
    worker.shut_down();
}
