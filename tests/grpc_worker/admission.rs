use std::time::Duration;

use stockade::job::{Cause, JobId};
use stockade::proto::v1;
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{Client, TestWorker, command, ended, eventually, job, start};

const EXITED: Cause = Cause::Exited { code: 0 };

#[tokio::test]
async fn jobs_beyond_the_places_wait_and_beyond_the_queue_are_refused() {
    let worker = TestWorker::start_with(|config| {
        config.worker.max_running = 2;
        config.worker.max_pending = 3;
    });
    let mut client = worker.client().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(start(&mut client, &["sleep"]).await);
    }
    let refused = client.start_job(command(&["sleep"])).await.expect_err("full");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let retry = refused.get_details_retry_info().expect("retry info");
    assert!(retry.retry_delay.expect("delay") > Duration::ZERO);
    eventually("launches", || worker.launcher.launches() == 2).await;
    assert_eq!(job(&mut client, ids[2]).await.state(), v1::State::Pending);
    // In the order of their arrival.
    for done in 0..3 {
        worker.launcher.finish(ids[done], EXITED);
        eventually("next launch", || worker.launcher.launches() == done + 3).await;
        assert!(worker.launcher.knows(ids[done + 2]), "the next one of {ids:?}");
    }
    // Two of the five run, and the next one waits behind them.
    let next = start(&mut client, &["sleep"]).await;
    assert_eq!(job(&mut client, next).await.state(), v1::State::Pending);
    assert!(!worker.launcher.knows(next));
}

#[tokio::test]
async fn a_waiting_job_is_stopped_without_a_launch() {
    let worker = TestWorker::start_with(|config| config.worker.max_running = 1);
    let mut client = worker.client().await;
    let first = start(&mut client, &["sleep"]).await;
    let second = start(&mut client, &["sleep"]).await;
    let request = v1::StopJobRequest {
        job_id: second.to_string(),
        reason: "not needed".into(),
        wait: true,
        ..v1::StopJobRequest::default()
    };
    let stopped = client
        .stop_job(request)
        .await
        .expect("stop")
        .into_inner()
        .job
        .expect("job");
    assert_eq!(stopped.cause(), v1::Cause::Stopped);
    assert_eq!(stopped.stop.expect("stop").reason, "not needed");
    assert!(stopped.started_at.is_none());
    worker.launcher.finish(first, EXITED);
    ended(&mut client, first).await;
    let third = start(&mut client, &["true"]).await;
    ended(&mut client, third).await;
    assert_eq!(worker.launcher.launches(), 2);
}

#[tokio::test]
async fn a_large_waiting_request_is_launched_as_it_came() {
    let worker = TestWorker::start_with(|config| config.worker.max_running = 1);
    let mut client = worker.client().await;
    let first = start(&mut client, &["sleep"]).await;
    let text = "x".repeat(100 << 10);
    let second = start(&mut client, &["echo", &text]).await;
    worker.launcher.finish(first, EXITED);
    let done = ended(&mut client, second).await;
    let stdout = done.output.expect("output").stdout.expect("stdout");
    assert_eq!(stdout.total_bytes, 100 << 10);
}

#[tokio::test]
async fn the_same_key_and_request_are_one_job() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let request = |words: &[&str]| v1::StartJobRequest {
        idempotency_key: "k".into(),
        ..command(words)
    };
    // All at once: only one insert can win.
    let starts = (0..50).map(|_| {
        let mut client = client.clone();
        let request = request(&["exit", "4"]);
        tokio::spawn(async move { client.start_job(request).await.expect("start").into_inner().job })
    });
    let mut ids: Vec<String> = Vec::new();
    for job in futures_util::future::join_all(starts).await {
        ids.push(job.expect("task").expect("job").id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let done = ended(&mut client, ids[0].parse().expect("id")).await;
    assert_eq!(done.exit_code, Some(4));
    assert_eq!(worker.launcher.launches(), 1);
    let refused = client
        .start_job(request(&["exit", "5"]))
        .await
        .expect_err("other content");
    assert_eq!(refused.code(), Code::AlreadyExists);
    // A replay is no new job, so a draining worker still answers it.
    client
        .drain_worker(v1::DrainWorkerRequest {})
        .await
        .expect("drain");
    let again = client
        .start_job(request(&["exit", "4"]))
        .await
        .expect("replay")
        .into_inner();
    assert_eq!(again.job.expect("job").id, ids[0]);
}

#[tokio::test]
async fn a_launcher_that_lags_holds_up_no_one() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = start(&mut client, &["sleep"]).await;
    worker.launcher.set_deaf(true);
    for _ in 0..100 {
        let before = std::time::Instant::now();
        start(&mut client, &["held"]).await;
        assert!(before.elapsed() < Duration::from_secs(1));
    }
    assert_eq!(job(&mut client, id).await.id, id.to_string());
}

#[tokio::test]
async fn who_waited_behind_a_stopped_job_runs() {
    let worker = TestWorker::start_with(|config| config.tenants.quota.max_memory = 1 << 30);
    let mut client = worker.client().await;
    let of_memory = |memory_bytes| v1::StartJobRequest {
        limits: Some(v1::Limits {
            memory_bytes,
            ..v1::Limits::default()
        }),
        ..command(&["sleep"])
    };
    let mut ids = Vec::new();
    for memory_bytes in [600 << 20, 300 << 20, 600 << 20, 300 << 20] {
        let answer = client.start_job(of_memory(memory_bytes)).await.expect("start");
        ids.push(answer.into_inner().job.expect("job").id);
    }
    eventually("two run", || worker.launcher.launches() == 2).await;
    let ids: Vec<JobId> = ids.iter().map(|id| id.parse().expect("id")).collect();
    worker.launcher.finish(ids[1], EXITED);
    ended(&mut client, ids[1]).await;
    // The fourth would fit beside the first, but the third is before it.
    assert_eq!(worker.launcher.launches(), 2);
    let stop = v1::StopJobRequest {
        job_id: ids[2].to_string(),
        ..v1::StopJobRequest::default()
    };
    client.stop_job(stop).await.expect("stop");
    eventually("the fourth runs", || worker.launcher.launches() == 3).await;
    assert!(worker.launcher.knows(ids[3]));
}

/// Once the worker has given out as many places to run.
async fn until_running(client: &mut Client, places: u32) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let worker = client.get_worker(v1::GetWorkerRequest {}).await.expect("worker");
        if worker.into_inner().jobs_running == places {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "never {places} running");
    }
}

#[tokio::test]
async fn the_place_of_a_job_that_is_not_recorded_is_another_jobs() {
    // The last one is not always faster to the disk than the second.
    for _ in 0..8 {
        second_of_three_is_refused().await;
    }
}

async fn second_of_three_is_refused() {
    let worker = TestWorker::start_with(|config| config.worker.max_running = 2);
    let mut client = worker.client().await;
    let mut keyed = command(&["sleep"]);
    keyed.idempotency_key = "one".to_owned();
    // It takes its time on its way to the disk.
    let mut large = keyed.clone();
    large.stdin = vec![7; 4_000_000];
    // While the disk is held up, nothing is known of the key.
    let file = worker.config.worker.state_dir.join("server/stockade.db");
    let database = rusqlite::Connection::open(file).expect("open");
    database.execute_batch("BEGIN IMMEDIATE").expect("lock");
    let caller = client.clone();
    let call = |request: v1::StartJobRequest| {
        let mut client = caller.clone();
        tokio::spawn(async move { client.start_job(request).await })
    };
    let first = call(keyed);
    until_running(&mut client, 1).await;
    let refused = call(large);
    until_running(&mut client, 2).await;
    let waits = call(command(&["sleep"]));
    tokio::time::sleep(Duration::from_millis(100)).await;
    database.execute_batch("COMMIT").expect("unlock");
    first.await.expect("task").expect("accepted");
    let refused = refused.await.expect("task").expect_err("the key is taken");
    assert_eq!(refused.code(), Code::AlreadyExists);
    waits.await.expect("task").expect("accepted");
    eventually("both run", || worker.launcher.launches() == 2).await;
}
