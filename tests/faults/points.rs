//! Each step of a start fails in turn: the job says which, its command never runs, nothing is left, and the next job runs.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use stockade::proto::v1::{Cause, StartJobRequest, State};

use super::fault_places;
use super::kills::{Victim, kill_and_restart};
use super::rest::Rest;
use super::switch::worker_with;
use super::worker::{Setup, Worker, able, kill};
use super::{Client, alone, in_runtime, query, rounds, shell, start, stop, wait};

/// Place, and the step that a job's start failure names.
const STEPS: [(&str, &str); 38] = [
    ("launcher.job-folder", "state-dir"),
    ("launcher.outputs", "state-dir"),
    ("launcher.job-file", "state-dir"),
    ("cgroup.mkdir", "cgroup"),
    ("cgroup.limit", "cgroup-limit"),
    ("launcher.ids", "identity"),
    ("launcher.channel", "supervisor"),
    ("launcher.forked", "namespaces"),
    ("launcher.watch", "supervisor"),
    ("launcher.hand-over", "supervisor"),
    ("launcher.pump", "supervisor"),
    ("pump.confine", "output"),
    ("supervisor.process", "supervisor"),
    ("supervisor.hostname", "namespaces"),
    ("launcher.network", "network"),
    ("launcher.room", "rootfs"),
    ("supervisor.namespaces", "namespaces"),
    ("supervisor.root", "rootfs"),
    ("supervisor.landlock", "landlock"),
    ("supervisor.plan", "supervisor"),
    ("supervisor.pipes", "output"),
    ("supervisor.clone", "namespaces"),
    ("supervisor.maps", "identity"),
    ("supervisor.proc", "proc"),
    ("supervisor.seccomp", "seccomp"),
    ("supervisor.scratch", "scratch"),
    ("supervisor.files", "files"),
    ("stub.cgroup", "cgroup"),
    ("stub.cgroup-namespace", "namespaces"),
    ("stub.namespaces", "namespaces"),
    ("stub.session", "session"),
    ("stub.bounding-set", "capabilities"),
    ("stub.credentials", "credentials"),
    ("stub.capabilities", "capabilities"),
    ("stub.landlock", "landlock"),
    ("stub.seccomp", "seccomp"),
    ("stub.rlimits", "rlimits"),
    ("stub.exec", "exec"),
];

#[test]
fn a_step_that_fails_is_named_and_leaves_nothing() {
    if !able() {
        return;
    }
    let _alone = alone();
    let rules: Vec<String> = STEPS.iter().map(|(place, _)| format!("{place}=EIO")).collect();
    let (worker, switch) = worker_with(&rules.join(";"), Setup::default());
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        for _ in 0..rounds(1) {
            for (number, (place, step)) in STEPS.into_iter().enumerate() {
                println!("{place}");
                let mut client = worker.client().await;
                switch.arm(number);
                // Sandboxes that were made before, and what jobs have left for others, pass no place again.
                let mut failed = 0;
                for batch in [1, 4, 12, 60] {
                    failed += fail_at(&mut client, place, step, batch).await;
                    if failed > 0 {
                        break;
                    }
                }
                let passed = switch.passed(number);
                switch.disarm();
                assert!(
                    failed > 0 && passed > 0,
                    "{place} failed no job; passed {passed} times"
                );
                let id = start(&mut client, shell("exit 3")).await;
                let job = wait(&mut client, &id).await;
                assert!(
                    job.exit_code == Some(3) || job.cause() == Cause::StartFailed,
                    "{job:?}"
                );
            }
            rest.again(&worker).await;
        }
    });
    worker.shut_down();
}

/// Runs jobs at the same time, whatever that takes; how many have failed, at this step and before their command.
async fn fail_at(client: &mut Client, place: &str, step: &str, jobs: usize) -> usize {
    let mut ids = Vec::new();
    for _ in 0..jobs {
        ids.push(start(client, shell("echo ran; exec sleep 600")).await);
    }
    for id in &ids {
        while query(client, id).await.state() == State::Pending {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let mut failed = 0;
    for id in ids {
        let job = stop(client, &id, 0).await;
        if job.cause() != Cause::StartFailed {
            assert_eq!(job.cause(), Cause::Stopped, "{place}: {job:?}");
            continue;
        }
        let failure = job.start_failure.expect("the step");
        assert_eq!(failure.step, step, "{place}: {}", job.error_text);
        let output = job.output.and_then(|output| output.stdout);
        assert_eq!(output.map_or(0, |stdout| stdout.total_bytes), 0, "{place}");
        failed += 1;
    }
    failed
}

/// Jobs run all the same: each in a sandbox that has had none before.
#[test]
fn a_sandbox_that_cannot_be_made_as_new_is_given_up() {
    if !able() {
        return;
    }
    let _alone = alone();
    const PLACES: [&str; 3] = ["supervisor.clear", "supervisor.renew", "launcher.again"];
    let rules = PLACES.map(|place| format!("{place}=EIO")).join("; ");
    let (worker, switch) = worker_with(&rules, Setup::default());
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let mut client = worker.client().await;
        for (rule, place) in PLACES.iter().enumerate() {
            switch.arm(rule);
            let mut ids = Vec::new();
            for _ in 0..20 {
                let id = start(
                    &mut client,
                    shell("[ ! -e /tmp/mine ] && touch /tmp/mine && ipcmk -M 4096 && exit 4"),
                )
                .await;
                assert_eq!(wait(&mut client, &id).await.exit_code, Some(4), "{place}");
                ids.push(id);
            }
            // A job is over before its sandbox is looked at.
            let deadline = Instant::now() + Duration::from_secs(60);
            while switch.passed(rule) < 20 {
                assert!(
                    Instant::now() < deadline,
                    "{place}: passed {} times",
                    switch.passed(rule)
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            switch.disarm();
            rest.again(&worker).await;
            for id in &ids {
                assert_eq!(query(&mut client, id).await.exit_code, Some(4), "{place}");
            }
        }
    });
    worker.shut_down();
}

/// As before Linux 5.19: a writable root is laid without the id mapping, as where the file system has none.
#[test]
fn an_overlay_that_takes_no_mapped_layer_gets_a_plain_one() {
    if !able() {
        return;
    }
    let _alone = alone();
    let (worker, switch) = worker_with("supervisor.mapped-layer=EINVAL", Setup::default());
    in_runtime(async {
        let mut client = worker.client().await;
        switch.arm(0);
        let request = StartJobRequest {
            policy: "ci".to_owned(),
            ..shell("touch /usr/local/bin/new && rm /usr/bin/env && exit 4")
        };
        let id = start(&mut client, request).await;
        let job = wait(&mut client, &id).await;
        assert_eq!(job.exit_code, Some(4), "{job:?}");
        let weaker = job.isolation.expect("a receipt").weaker;
        assert!(
            weaker
                .iter()
                .any(|line| line.contains("no id mapping beneath /usr")),
            "{weaker:?}"
        );
        assert!(switch.passed(0) > 0, "this host maps no ids either");
    });
    worker.shut_down();
}

#[test]
fn what_cannot_be_removed_at_once_is_removed_later() {
    if !able() {
        return;
    }
    let _alone = alone();
    let (worker, switch) = worker_with("cgroup.rmdir=EBUSY", Setup::default());
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let mut client = worker.client().await;
        switch.arm(0);
        for _ in 0..10 {
            // With a second process: a cgroup in which there was only one may serve on as it is.
            let id = start(&mut client, shell("(exit 3); exit 4")).await;
            assert_eq!(wait(&mut client, &id).await.exit_code, Some(4));
        }
        // A job is over before what it leaves is taken down.
        let deadline = Instant::now() + Duration::from_secs(60);
        while switch.passed(0) < 10 {
            assert!(Instant::now() < deadline, "passed {} times", switch.passed(0));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        switch.disarm();
        rest.again(&worker).await;
    });
    worker.shut_down();
}

/// A worker in a mount namespace of its own, in which a controller is taken away and given back.
#[test]
fn a_controller_that_is_taken_away_fails_starts_closed() {
    if !able() {
        return;
    }
    let _alone = alone();
    for controller in ["memory", "pids", "cpu"] {
        let folder = format!("/sys/fs/cgroup/{controller}");
        if !Path::new(&folder).is_dir() {
            // A controller of the unified hierarchy cannot be taken away alone.
            println!("skipped: {controller} has no hierarchy of its own");
            continue;
        }
        let setup = Setup {
            before: "set -- unshare --mount \"$@\"".to_owned(),
            ..Setup::default()
        };
        let mut worker = Worker::start_as(setup, |_| {});
        let launcher = worker.launcher().to_string();
        let inside = |command: &[&str]| {
            let mut nsenter = Command::new("nsenter");
            nsenter
                .args(["--mount", "--target", &launcher, "--"])
                .args(command);
            assert!(nsenter.status().expect("nsenter").success(), "{command:?}");
        };
        in_runtime(async {
            let rest = Rest::of(&worker).await;
            for _ in 0..rounds(1) {
                let mut client = worker.client().await;
                inside(&["umount", "--lazy", &folder]);
                let mut failed = 0;
                let mut ids = Vec::new();
                for _ in 0..30 {
                    ids.push(start(&mut client, shell("echo ran; sleep 0.5; exit 3")).await);
                }
                for id in ids {
                    let job = wait(&mut client, &id).await;
                    if job.cause() == Cause::StartFailed {
                        let step = job.start_failure.expect("the step").step;
                        assert!(["cgroup", "cgroup-limit"].contains(&step.as_str()), "{step}");
                        failed += 1;
                    } else {
                        // By a sandbox that was made before, with all its limits.
                        assert_eq!(job.exit_code, Some(3), "{job:?}");
                        let limits = job.isolation.expect("a receipt").limits;
                        assert!(limits.contains_key("pids.max"), "{limits:?}");
                        assert!(
                            limits.keys().any(|name| name.starts_with("memory.")),
                            "{limits:?}"
                        );
                        assert!(limits.keys().any(|name| name.starts_with("cpu.")), "{limits:?}");
                    }
                }
                assert!(failed > 0, "{controller}");
                inside(&["mount", "-t", "cgroup", "-o", controller, controller, &folder]);
                rest.again(&worker).await;
            }
        });
        // What ended meanwhile could not be removed there; the next start does it.
        kill_and_restart(&mut worker, Victim::Both);
        worker.shut_down();
    }
}

/// A launcher that cannot start its server again tries later.
#[test]
fn a_server_that_cannot_be_forked_is_forked_later() {
    if !able() {
        return;
    }
    let _alone = alone();
    let (worker, switch) = worker_with("launcher.fork-server=EAGAIN@1-3", Setup::default());
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let mut client = worker.client().await;
        let id = start(&mut client, shell("sleep 1; exit 5")).await;
        switch.arm(0);
        kill(worker.server().expect("a server"), libc::SIGKILL);
        super::worker::eventually("it serves again", || switch.passed(0) == 4);
        let mut client = worker.client().await;
        assert_eq!(wait(&mut client, &id).await.exit_code, Some(5));
        rest.again(&worker).await;
    });
    worker.shut_down();
}

/// The names of all places, from the sources, are in no other binary than one for tests.
#[test]
fn the_binary_for_tests_alone_has_places_to_fail() {
    // It keeps a CPU busy, of which others measure what is left.
    let _alone = alone();
    let text = fault_places::text_of_program();
    let contains = |name: &str| text.contains(name);
    assert!(contains("STOCKADE_FAULTS"));
    for place in fault_places::named_in_sources() {
        assert!(contains(&place), "{place}");
    }
}
