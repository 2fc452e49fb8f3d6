//! Any process of ours may be killed at any moment.

use std::time::Duration;

use stockade::proto::v1::{Cause, Job, State, StopJobRequest};

use super::worker::traces::{Nap, PUMP, SUPERVISOR, children, named, pump_of};
use super::worker::{Worker, able, eventually, kill};
use super::{Client, in_runtime, query, shell, start, wait};

/// Whom to kill, of the worker's own.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Server,
    Launcher,
    Both,
}

/// Jobs that end before, during and after the worker's absence.
async fn start_jobs(client: &mut Client) -> Vec<(String, i32)> {
    let mut jobs = Vec::new();
    for number in 0..30 {
        let script = format!(
            "echo begin; sleep {}; echo end; exit {}",
            f64::from(number) * 0.1,
            number % 5
        );
        jobs.push((start(client, shell(&script)).await, number % 5));
    }
    jobs
}

fn survive(victim: Victim) {
    if !able() {
        return;
    }
    let nap = Nap::new();
    let mut worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let jobs = start_jobs(&mut client).await;
        let id_of_endless = start(&mut client, shell(&format!("sleep {nap}"))).await;
        eventually("it runs", || nap.sleepers() == 1);
        let server = worker.server().expect("a server");
        match victim {
            Victim::Server => kill(server, libc::SIGKILL),
            Victim::Launcher => kill(worker.launcher(), libc::SIGKILL),
            Victim::Both => {
                kill(server, libc::SIGKILL);
                kill(worker.launcher(), libc::SIGKILL);
            }
        }
        if matches!(victim, Victim::Server) {
            eventually("another server", || {
                worker.server().is_some_and(|other| other != server)
            });
        } else {
            worker.start_again();
        }
        let mut client = worker.client().await;
        for (id, code) in &jobs {
            check(&wait(&mut client, id).await, *code);
        }
        assert_eq!(nap.sleepers(), 1, "runs on, once");
        assert_eq!(query(&mut client, &id_of_endless).await.state(), State::Running);
        let request = StopJobRequest {
            job_id: id_of_endless,
            wait: true,
            ..StopJobRequest::default()
        };
        let stopped = client
            .stop_job(request)
            .await
            .expect("stop")
            .into_inner()
            .job
            .expect("job");
        assert_eq!((stopped.cause(), stopped.signal), (Cause::Stopped, Some(15)));
        assert_eq!(nap.sleepers(), 0);
    });
    worker.shut_down();
}

fn check(job: &Job, code: i32) {
    assert_eq!(
        (job.cause(), job.exit_code),
        (Cause::Exited, Some(code)),
        "{job:?}"
    );
    let stdout = job
        .output
        .as_ref()
        .and_then(|output| output.stdout.as_ref())
        .expect("stdout");
    assert_eq!((stdout.total_bytes, stdout.dropped_bytes), (10, 0));
    // Of "begin\nend\n".
    assert_eq!(
        stdout.sha256,
        "527d1b3b75a49ea8d2b4f9ba46e965ee1303cc245aa73006f6e3bf56cb5326ff"
    );
}

#[test]
fn jobs_survive_the_server() {
    survive(Victim::Server);
}

#[test]
fn jobs_survive_the_launcher() {
    survive(Victim::Launcher);
}

#[test]
fn jobs_survive_both() {
    survive(Victim::Both);
}

#[test]
fn a_job_whose_supervisor_is_killed_dies_with_it_and_is_lost() {
    dies_with("supervisor", |supervisor, _| supervisor);
}

#[test]
fn a_job_whose_pump_is_killed_is_ended_and_lost() {
    dies_with("output", |_, pump| pump);
}

/// A sandbox whose pump has gone takes no job: the next one gets another.
#[test]
fn no_job_is_lost_for_a_pump_that_was_killed_before_it() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        for _ in 0..3 {
            let id = start(&mut client, shell("exit 3")).await;
            assert_eq!(wait(&mut client, &id).await.exit_code, Some(3));
            let pumps = named(worker.launcher(), PUMP);
            assert!(!pumps.is_empty());
            for pump in &pumps {
                kill(*pump, libc::SIGKILL);
            }
            let alive = |pump: &u32| std::path::Path::new(&format!("/proc/{pump}")).exists();
            eventually("they have gone", || !pumps.iter().any(alive));
            tokio::time::sleep(Duration::from_millis(50)).await;
            let id = start(&mut client, shell("echo kept; exit 4")).await;
            let job = wait(&mut client, &id).await;
            assert_eq!((job.cause(), job.exit_code), (Cause::Exited, Some(4)), "{job:?}");
        }
    });
    worker.shut_down();
}

/// `of` chooses between the job's supervisor and the process that moves its output.
fn dies_with(why: &str, of: fn(u32, u32) -> u32) {
    if !able() {
        return;
    }
    let nap = Nap::new();
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let script = format!("echo kept; setsid sleep {nap} & sleep {nap}");
        let id = start(&mut client, shell(&script)).await;
        eventually("it runs", || nap.sleepers() == 2);
        let stdout = worker.dir.path().join("state/jobs").join(&id).join("stdout");
        eventually("its line is kept", || {
            std::fs::read(&stdout).is_ok_and(|bytes| bytes == b"kept\n")
        });
        let launcher = worker.launcher();
        let has_job = |pid: &u32| children(*pid).into_iter().any(|main| children(main).len() == 2);
        let supervisor = named(launcher, SUPERVISOR).into_iter().find(has_job);
        let victim = of(
            supervisor.expect("a supervisor"),
            pump_of(launcher, &stdout).expect("a pump"),
        );
        kill(victim, libc::SIGKILL);
        let job = wait(&mut client, &id).await;
        assert_eq!(job.cause(), Cause::Lost);
        assert!(job.cause_detail.contains(why), "{}", job.cause_detail);
        let stdout = job.output.and_then(|output| output.stdout).expect("stdout");
        assert_eq!(stdout.total_bytes, 5, "what was kept is not lost");
        assert_eq!(nap.sleepers(), 0);
        let id = start(&mut client, shell("echo more; exit 4")).await;
        let next = wait(&mut client, &id).await;
        assert_eq!(next.exit_code, Some(4), "{next:?}");
        let stdout = next.output.and_then(|output| output.stdout).expect("stdout");
        assert_eq!((stdout.total_bytes, stdout.dropped_bytes), (5, 0));
    });
    worker.shut_down();
}

fn written(worker: &Worker, id: &str) -> String {
    let file = worker.dir.path().join("state/jobs").join(id).join("stdout");
    std::fs::read_to_string(file).unwrap_or_default()
}

#[test]
fn a_stop_is_kept_and_given_once() {
    if !able() {
        return;
    }
    let mut worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let script = "trap 'echo term' TERM; echo ready; while :; do sleep 0.05; done";
        let id = start(&mut client, shell(script)).await;
        eventually("it is ready", || written(&worker, &id) == "ready\n");
        let request = StopJobRequest {
            job_id: id.clone(),
            grace_ms: Some(60_000),
            reason: "not needed".to_owned(),
            ..StopJobRequest::default()
        };
        client.stop_job(request.clone()).await.expect("stop");
        // At once: nothing but the answer says that it is kept.
        worker.die_and_start_again(|_| {});
        let mut client = worker.client().await;
        let job = query(&mut client, &id).await;
        assert_eq!(job.state(), State::Stopping);
        assert_eq!(job.stop.expect("stop").reason, "not needed");
        for _ in 0..2 {
            let server = worker.server().expect("a server");
            kill(server, libc::SIGKILL);
            eventually("another server", || {
                worker.server().is_some_and(|other| other != server)
            });
            let mut client = worker.client().await;
            assert_eq!(query(&mut client, &id).await.state(), State::Stopping);
            client.stop_job(request.clone()).await.expect("stop again");
        }
        eventually("it has had its signal", || written(&worker, &id).contains("term"));
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(written(&worker, &id), "ready\nterm\n");
        let request = StopJobRequest {
            job_id: id.clone(),
            grace_ms: Some(0),
            wait: true,
            ..StopJobRequest::default()
        };
        let mut client = worker.client().await;
        let job = client.stop_job(request).await.expect("stop").into_inner();
        assert_eq!(job.job.expect("job").cause(), Cause::Stopped);
    });
    worker.shut_down();
}
