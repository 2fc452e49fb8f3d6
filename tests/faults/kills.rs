//! Server, launcher or both are killed at random moments, and at each of the places where it matters.

use std::fs;
use std::time::{Duration, Instant};

use stockade::proto::v1::{Cause, Job, StartJobRequest, State, StopJobRequest};

use super::rest::{Rest, all_jobs};
use super::switch::worker_with;
use super::worker::traces::Nap;
use super::worker::{Setup, Worker, able, eventually, kill};
use super::{Client, Random, alone, in_runtime, query, rounds, shell, start, stop, try_start, wait};

/// Whom to kill, of the worker's own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Victim {
    Server,
    Launcher,
    Both,
}

pub(crate) const VICTIMS: [Victim; 3] = [Victim::Server, Victim::Launcher, Victim::Both];

/// Kills, and brings the worker up again.
pub(crate) fn kill_and_restart(worker: &mut Worker, victim: Victim) {
    let server = worker.server();
    if !matches!(victim, Victim::Launcher)
        && let Some(server) = server
    {
        kill(server, libc::SIGKILL);
    }
    if matches!(victim, Victim::Server) {
        eventually("another server", || {
            worker.server().is_some_and(|other| Some(other) != server)
        });
    } else {
        kill(worker.launcher(), libc::SIGKILL);
        worker.start_again();
    }
}

/// Its command never ran, or it ran once and to its end. Whether it ran.
fn ran_at_most_once(job: &Job, code: i32, bytes: u64) -> bool {
    let stdout = job.output.as_ref().and_then(|output| output.stdout.as_ref());
    let written = stdout.map_or(0, |stdout| stdout.total_bytes);
    match job.cause() {
        Cause::Exited => {
            assert_eq!((job.exit_code, written), (Some(code), bytes), "{job:?}");
            true
        }
        // Its launcher died between writing down the job and letting it go.
        Cause::Lost => {
            let never = job.cause_detail == "its supervisor was gone at the start of the worker";
            assert!(never && written == 0, "{job:?}");
            false
        }
        _ => panic!("{job:?}"),
    }
}

#[test]
fn fifty_jobs_survive_a_kill() {
    if !able() {
        return;
    }
    let _alone = alone();
    let mut random = Random::new();
    let mut worker = Worker::start();
    let mut lost = 0;
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        for round in 0..rounds(3) {
            let mut client = worker.client().await;
            let mut jobs = Vec::new();
            for number in 0..50 {
                let ms = random.below(1000);
                let script = format!("echo begin; sleep 0.{ms:03}; echo end; exit {}", number % 5);
                jobs.push((start(&mut client, shell(&script)).await, number % 5));
            }
            tokio::time::sleep(random.micros(500_000)).await;
            kill_and_restart(&mut worker, VICTIMS[round % 3]);
            let began = Instant::now();
            let mut client = worker.client().await;
            for (id, _) in &jobs {
                query(&mut client, id).await;
            }
            let known = began.elapsed();
            assert!(known < Duration::from_secs(2), "all jobs known after {known:?}");
            for (id, code) in &jobs {
                if !ran_at_most_once(&wait(&mut client, id).await, *code, 10) {
                    lost += 1;
                }
            }
        }
        rest.again(&worker).await;
    });
    println!("{lost} of {} never ran", rounds(3) * 50);
    worker.shut_down();
}

fn keyed(key: &str) -> StartJobRequest {
    StartJobRequest {
        idempotency_key: key.to_owned(),
        ..shell("echo ran; exit 3")
    }
}

/// Starts with this key until there is an answer.
async fn start_at_last(worker: &Worker, key: &str) -> (Client, String) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut client = worker.client().await;
        match try_start(&mut client, keyed(key)).await {
            Ok(id) => return (client, id),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_kill_during_a_start_makes_one_job_of_a_key() {
    if !able() {
        return;
    }
    let _alone = alone();
    let mut random = Random::new();
    let mut worker = Worker::start();
    let starts = rounds(1) * 25;
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let mut never = 0;
        for number in 0..starts {
            let key = format!("key-{number}");
            let mut client = worker.client().await;
            let request = keyed(&key);
            let call = tokio::spawn(async move { try_start(&mut client, request).await });
            tokio::time::sleep(random.micros(12_000)).await;
            kill_and_restart(&mut worker, VICTIMS[number % 3]);
            let first = call.await.expect("no panic");
            let (mut client, id) = start_at_last(&worker, &key).await;
            if let Ok(first) = first {
                assert_eq!(first, id, "acknowledged before the kill");
            }
            if !ran_at_most_once(&wait(&mut client, &id).await, 3, 4) {
                never += 1;
            }
        }
        rest.again(&worker).await;
        let jobs = all_jobs(&mut worker.client().await).await;
        // One more is the look at the worker at rest.
        assert_eq!(jobs.len(), starts + 1);
        println!("{never} of {starts} never ran");
    });
    worker.shut_down();
}

/// Neither gone nor a zombie.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, state)| !state.starts_with('Z'))
}

/// Places at which server or launcher die, the first time that they come there. The worker has run a job before.
const DEATHS: [&str; 12] = [
    "store.commit",
    "store.committed",
    "server.launch",
    "launcher.job-folder",
    "launcher.outputs",
    "launcher.job-file",
    "launcher.hand-over",
    "launcher.handed-over",
    "launcher.finished",
    "launcher.watch",
    "cgroup.limit",
    "cgroup.rmdir",
];

#[test]
fn a_death_at_any_place_makes_one_job_of_a_key() {
    if !able() {
        return;
    }
    let _alone = alone();
    let rules = DEATHS.map(|place| format!("{place}=abort@1"));
    let (mut worker, switch) = worker_with(&rules.join(";"), Setup::default());
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        for (number, place) in DEATHS.into_iter().enumerate() {
            println!("{place}");
            for round in 0..rounds(1) {
                let key = format!("key-{number}-{round}");
                let mut client = worker.client().await;
                let (launcher, server) = (worker.launcher(), worker.server().expect("a server"));
                switch.arm(number);
                let request = keyed(&key);
                let call = tokio::spawn(async move {
                    let mut ids = Vec::new();
                    // What was made ahead, or is used again, passes some places before anybody asks for a job.
                    while let Ok(id) = try_start(&mut client, request.clone()).await {
                        ids.push(id);
                        // With a second process: where there was only one, the cgroup serves on with its limits.
                        let _ = try_start(&mut client, shell("(exit 3); exit 3")).await;
                    }
                    ids
                });
                eventually("it is passed", || switch.passed(number) > 0);
                let of_server = place.starts_with("store") || place.starts_with("server");
                if of_server {
                    eventually("another server", || {
                        worker.server().is_some_and(|other| other != server)
                    });
                    switch.disarm();
                } else {
                    eventually("it is dead", || !lives(launcher));
                    switch.disarm();
                    worker.start_again();
                }
                let acknowledged = call.await.expect("no panic");
                let (mut client, id) = start_at_last(&worker, &key).await;
                assert!(
                    acknowledged.iter().all(|earlier| *earlier == id),
                    "{acknowledged:?}"
                );
                ran_at_most_once(&wait(&mut client, &id).await, 3, 4);
                if of_server {
                    // A launcher starts a server that dies again and again later each time.
                    kill_and_restart(&mut worker, Victim::Launcher);
                }
            }
        }
        rest.again(&worker).await;
    });
    worker.shut_down();
}

/// Places at which a supervisor dies, and whether the outcome is known nevertheless.
const SUPERVISORS_DEATHS: [(&str, bool); 4] = [
    ("supervisor.started", false),
    ("supervisor.record", false),
    ("record.rename", false),
    ("supervisor.recorded", true),
];

#[test]
fn a_death_of_the_supervisor_is_told_as_what_it_is() {
    if !able() {
        return;
    }
    let _alone = alone();
    let rules = SUPERVISORS_DEATHS.map(|(place, _)| format!("{place}=abort@1"));
    let (worker, switch) = worker_with(&rules.join(";"), Setup::default());
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let mut client = worker.client().await;
        for _ in 0..rounds(1) {
            for (number, (place, known)) in SUPERVISORS_DEATHS.into_iter().enumerate() {
                println!("{place}");
                switch.arm(number);
                let began = Instant::now();
                let id = start(&mut client, shell("exit 3")).await;
                let job = wait(&mut client, &id).await;
                let took = began.elapsed();
                switch.disarm();
                assert!(took < Duration::from_secs(1), "{took:?}");
                if known {
                    assert_eq!((job.cause(), job.exit_code), (Cause::Exited, Some(3)), "{job:?}");
                } else {
                    assert_eq!(job.cause(), Cause::Lost, "{job:?}");
                    assert_eq!(job.cause_detail, "its supervisor was killed");
                }
            }
        }
        drop(client);
        rest.again(&worker).await;
    });
    worker.shut_down();
}

#[test]
fn a_kill_during_a_stop_leaves_nothing() {
    if !able() {
        return;
    }
    let _alone = alone();
    let mut random = Random::new();
    let nap = Nap::new();
    let stubborn = format!("trap '' TERM; (setsid sleep {nap} &); sleep {nap} & wait; sleep {nap}");
    let mut worker = Worker::start();
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        for round in 0..rounds(1) * 10 {
            let mut client = worker.client().await;
            let mut ids = Vec::new();
            for _ in 0..4 {
                ids.push(start(&mut client, shell(&stubborn)).await);
            }
            eventually("they run", || nap.sleepers() == 8);
            for id in &ids {
                let order = StopJobRequest {
                    job_id: id.clone(),
                    grace_ms: Some(20),
                    ..StopJobRequest::default()
                };
                client.stop_job(order).await.expect("stop");
            }
            tokio::time::sleep(random.micros(60_000)).await;
            kill_and_restart(&mut worker, VICTIMS[round % 3]);
            let mut client = worker.client().await;
            for id in &ids {
                let job = stop(&mut client, id, 20).await;
                assert_eq!(
                    (job.state(), job.cause()),
                    (State::Finished, Cause::Stopped),
                    "{job:?}"
                );
            }
            assert_eq!(nap.sleepers(), 0);
        }
        rest.again(&worker).await;
    });
    worker.shut_down();
}
