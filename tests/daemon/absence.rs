//! While server and launcher are gone, and after them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use stockade::proto::v1::stream_output_response::Part;
use stockade::proto::v1::{
    Cause, Job, Limits, SignalJobRequest, StartJobRequest, State, StopJobRequest, StreamOutputRequest,
    WaitJobRequest,
};
use tokio::time::timeout;

use super::worker::traces::Nap;
use super::worker::{PATIENCE, Worker, able, eventually};
use super::{Client, in_runtime, query, running, shell, start, wait};

async fn stop(client: &mut Client, id: &str) -> Job {
    let request = StopJobRequest {
        job_id: id.to_owned(),
        wait: true,
        ..StopJobRequest::default()
    };
    let answer = client.stop_job(request).await.expect("stop").into_inner();
    answer.job.expect("job")
}

#[test]
fn a_deadline_holds_without_server_and_launcher() {
    if !able() {
        return;
    }
    let nap = Nap::new();
    let mut worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let request = StartJobRequest {
            limits: Some(Limits {
                wall_time_ms: 2000,
                ..Limits::default()
            }),
            ..shell(&format!("echo begin; sleep {nap}"))
        };
        let id = start(&mut client, request).await;
        eventually("it runs", || nap.sleepers() == 1);
        worker.die_and_start_again(|_| {
            let before = std::time::Instant::now();
            eventually("its supervisor ends it", || nap.sleepers() == 0);
            assert!(before.elapsed() < Duration::from_secs(4));
        });
        let job = wait(&mut worker.client().await, &id).await;
        assert_eq!(job.cause(), Cause::WallTime, "{job:?}");
        let usage = job.usage.expect("usage");
        assert!((1900..4000).contains(&usage.wall_ms), "{usage:?}");
        assert!(usage.memory_peak_bytes > 0 && usage.pids_peak >= 2, "{usage:?}");
        let stdout = job.output.and_then(|output| output.stdout).expect("stdout");
        assert_eq!(stdout.total_bytes, 6);
        assert!(job.isolation.expect("receipt").no_new_privs);
    });
    worker.shut_down();
}

#[test]
fn an_adopted_job_keeps_its_start_its_receipt_and_its_usage() {
    if !able() {
        return;
    }
    let nap = Nap::new();
    let mut worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let id = start(
            &mut client,
            shell(&format!("head -c 20M /dev/zero | tail -c 1; sleep {nap}")),
        )
        .await;
        let before = running(&mut client, &id).await;
        eventually("it runs", || nap.sleepers() == 1);
        // As if the server had died before it had stored what it was told.
        worker.die_and_start_again(|state| {
            let database = rusqlite::Connection::open(state.join("server/stockade.db")).expect("open");
            database
                .execute("UPDATE jobs SET state = 0, started_at = NULL, receipt = NULL", [])
                .expect("update");
        });
        let mut client = worker.client().await;
        let adopted = query(&mut client, &id).await;
        assert_eq!(adopted.state(), State::Running);
        assert_eq!(adopted.started_at, before.started_at);
        assert!(adopted.started_at.is_some());
        assert_eq!(adopted.isolation, before.isolation);
        assert!(adopted.isolation.is_some_and(|receipt| receipt.host_uid > 0));
        let stopped = stop(&mut client, &id).await;
        assert_eq!(stopped.started_at, before.started_at);
        assert_eq!(stopped.isolation, before.isolation);
        let usage = stopped.usage.expect("usage");
        assert!(
            usage.memory_peak_bytes > 100_000 && usage.pids_peak >= 2,
            "{usage:?}"
        );
        assert!(usage.cpu_user_us + usage.cpu_system_us > 0, "{usage:?}");
    });
    worker.shut_down();
}

/// Changes the job file of a job.
fn set_format(control: &Path, id: &str, format: u32) {
    let file = control.join(id).join("job");
    let mut job: serde_json::Value = serde_json::from_slice(&fs::read(&file).expect("read")).expect("json");
    job["format"] = format.into();
    fs::write(&file, serde_json::to_vec(&job).expect("json")).expect("write");
}

#[test]
fn a_supervisor_of_an_older_format_is_adopted() {
    if !able() {
        return;
    }
    let mut worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let id = start(&mut client, shell("sleep 6873")).await;
        let before = running(&mut client, &id).await;
        let control = worker.control();
        worker.die_and_start_again(|state| {
            set_format(&control, &id, 1);
            let started = control.join(&id).join("started");
            eventually("its supervisor has noticed", || started.exists());
            fs::remove_file(&started).expect("remove");
            fs::remove_dir_all(state.join("server")).expect("remove");
        });
        let mut client = worker.client().await;
        let adopted = query(&mut client, &id).await;
        assert_eq!(adopted.state(), State::Running);
        let seconds = |job: &Job| job.started_at.expect("start").seconds;
        // Its job file tells about when.
        assert!((seconds(&before) - seconds(&adopted)).abs() <= 20, "{adopted:?}");
        assert_eq!(stop(&mut client, &id).await.cause(), Cause::Stopped);
    });
    worker.shut_down();
}

#[test]
fn a_supervisor_of_a_newer_format_is_left_alone() {
    if !able() {
        return;
    }
    let nap = Nap::new();
    let mut worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let id = start(
            &mut client,
            shell(&format!("echo said; sleep {nap}; sleep {nap}; exit 3")),
        )
        .await;
        running(&mut client, &id).await;
        eventually("it runs", || nap.sleepers() == 1);
        let control = worker.control();
        worker.die_and_start_again(|_| set_format(&control, &id, 99));
        let mut client = worker.client().await;
        let other = start(&mut client, shell("exit 5")).await;
        assert_eq!(wait(&mut client, &other).await.exit_code, Some(5));
        assert_eq!(nap.sleepers(), 1, "nothing is killed");
        running(&mut client, &id).await;
        is_out_of_reach(&mut client, &id).await;
        waits_last(&mut client, &id).await;
        assert_eq!(nap.sleepers(), 1);
        let delete = stockade::proto::v1::DeleteJobRequest { job_id: id.clone() };
        client.delete_job(delete).await.expect_err("it runs");
        // The newer worker comes back.
        worker.die_and_start_again(|_| set_format(&control, &id, 2));
        let mut client = worker.client().await;
        assert_eq!(query(&mut client, &id).await.state(), State::Running);
        assert_eq!(stop(&mut client, &id).await.cause(), Cause::Stopped);
    });
    worker.shut_down();
}

/// Only who could do it says that it is done.
async fn is_out_of_reach(client: &mut Client, id: &str) {
    let stop = StopJobRequest {
        job_id: id.to_owned(),
        ..StopJobRequest::default()
    };
    let signal = SignalJobRequest {
        job_id: id.to_owned(),
        signal: "USR1".to_owned(),
    };
    for refused in [
        client.stop_job(stop).await.expect_err("stop"),
        client.signal_job(signal).await.expect_err("signal"),
    ] {
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
        assert!(refused.message().contains("newer version"), "{refused}");
    }
}

/// Whoever waits for its end or follows its output waits, and holds up nobody.
async fn waits_last(client: &mut Client, id: &str) {
    const MOMENT: Duration = Duration::from_millis(300);
    let follow = StreamOutputRequest {
        job_id: id.to_owned(),
        follow: true,
        ..StreamOutputRequest::default()
    };
    let mut parts = client.stream_output(follow).await.expect("stream").into_inner();
    match parts.message().await.expect("part").expect("a part").part {
        Some(Part::Chunk(chunk)) => assert_eq!(chunk.data, "said\n"),
        other => panic!("{other:?}"),
    }
    timeout(MOMENT, parts.message()).await.expect_err("it runs");
    let wait = |timeout_ms| WaitJobRequest {
        job_id: id.to_owned(),
        timeout_ms,
    };
    timeout(MOMENT, client.wait_job(wait(0)))
        .await
        .expect_err("it runs");
    let before = std::time::Instant::now();
    let answer = timeout(PATIENCE, client.wait_job(wait(300)))
        .await
        .expect("in time");
    let job = answer.expect("wait").into_inner().job.expect("job");
    assert_eq!(job.state(), State::Running);
    assert!(before.elapsed() >= MOMENT);
}
