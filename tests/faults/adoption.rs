//! What a launcher takes over of one that was killed.

use std::fs;
use std::time::Duration;

use stockade::proto::v1::{Cause, State, StopJobRequest};

use super::kills::{Victim, kill_and_restart, lives};
use super::rest::Rest;
use super::switch::worker_with;
use super::worker::traces::{SUPERVISOR, children, named};
use super::worker::{Setup, Worker, able, eventually, kill};
use super::{alone, in_runtime, query, shell, start, stop, wait};

/// The next launcher gives what is noted. A job that had the signal already has it once.
#[test]
fn a_stop_that_is_noted_is_given_once() {
    if !able() {
        return;
    }
    let _alone = alone();
    let (mut worker, switch) = worker_with("launcher.stop-noted=abort@1", Setup::default());
    let output = |worker: &Worker, id: &str| {
        fs::read_to_string(worker.dir.path().join("state/jobs").join(id).join("stdout"))
    };
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let script = "trap 'echo asked' TERM; echo begun; while :; do sleep 0.05; done";
        let id = start(&mut worker.client().await, shell(script)).await;
        eventually("it runs", || {
            output(&worker, &id).is_ok_and(|text| text == "begun\n")
        });
        kill_and_restart(&mut worker, Victim::Launcher);
        switch.arm(0);
        let launcher = worker.launcher();
        let order = StopJobRequest {
            job_id: id.clone(),
            grace_ms: Some(600_000),
            ..StopJobRequest::default()
        };
        worker.client().await.stop_job(order).await.expect("stop");
        eventually("it is dead", || !lives(launcher));
        switch.disarm();
        assert_eq!(output(&worker, &id).expect("output"), "begun\n");
        for _ in 0..2 {
            worker.start_again();
            let asked = || output(&worker, &id).is_ok_and(|text| text.starts_with("begun\nasked\n"));
            eventually("it is asked to stop", asked);
            kill(worker.launcher(), libc::SIGKILL);
        }
        worker.start_again();
        let job = stop(&mut worker.client().await, &id, 0).await;
        assert_eq!(job.cause(), Cause::Stopped, "{job:?}");
        assert_eq!(output(&worker, &id).expect("output"), "begun\nasked\n");
        rest.again(&worker).await;
    });
    worker.shut_down();
}

/// A job whose supervisor has died meanwhile.
#[test]
fn a_lost_job_is_told_when_nothing_of_it_is_left() {
    if !able() {
        return;
    }
    let _alone = alone();
    let (mut worker, switch) = worker_with("cgroup.rmdir=EBUSY", Setup::default());
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let mut client = worker.client().await;
        let id = start(&mut client, shell("exec sleep 600")).await;
        while query(&mut client, &id).await.state() == State::Pending {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let runs_it = |pid: &u32| {
            let of_child =
                |child: u32| fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
            children(*pid)
                .into_iter()
                .any(|child| of_child(child).contains("600"))
        };
        let supervisors = named(worker.launcher(), SUPERVISOR);
        let supervisor = supervisors.into_iter().find(runs_it).expect("a supervisor");
        kill(worker.launcher(), libc::SIGKILL);
        kill(supervisor, libc::SIGKILL);
        switch.arm(0);
        worker.start_again();
        eventually("its cgroup is tried", || switch.passed(0) > 3);
        let mut client = worker.client().await;
        let order = StopJobRequest {
            job_id: id.clone(),
            ..StopJobRequest::default()
        };
        client.stop_job(order).await.expect("stop");
        tokio::time::sleep(Duration::from_millis(300)).await;
        let job = query(&mut client, &id).await;
        assert_ne!(job.state(), State::Finished, "{job:?}");
        switch.disarm();
        let job = wait(&mut client, &id).await;
        assert_eq!(job.cause(), Cause::Lost, "{job:?}");
        assert_eq!(
            job.cause_detail,
            "its supervisor was gone at the start of the worker"
        );
        drop(client);
        rest.again(&worker).await;
    });
    worker.shut_down();
}
