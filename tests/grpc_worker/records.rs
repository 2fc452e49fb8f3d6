//! What the record of all jobs is worth after a restart.

use std::time::Duration;

use stockade::job::{Cause, JobId, Timestamp};
use stockade::proto::v1;
use stockade::server::{ServerError, StoreError};

use crate::support::{TestWorker, command, ended, eventually, exit_record, job, start};

#[tokio::test]
async fn a_lost_database_is_made_again_from_what_the_launcher_knows() {
    let mut worker = TestWorker::start();
    let mut client = worker.client().await;
    let request = v1::StartJobRequest {
        idempotency_key: "k".into(),
        ..command(&["sleep"])
    };
    let running = client
        .start_job(request.clone())
        .await
        .expect("start")
        .into_inner()
        .job
        .expect("job")
        .id;
    let done = start(&mut client, &["exit", "5"]).await;
    ended(&mut client, done).await;
    worker.kill();
    let folder = worker.config.worker.state_dir.join("server");
    std::fs::remove_dir_all(&folder).expect("remove");
    std::fs::create_dir(&folder).expect("create");
    worker.revive();
    let mut client = worker.client().await;
    let id: JobId = running.parse().expect("id");
    assert_eq!(job(&mut client, id).await.state(), v1::State::Running);
    assert_eq!(ended(&mut client, done).await.exit_code, Some(5));
    let again = client.start_job(request).await.expect("same key").into_inner();
    assert_eq!(again.job.expect("job").id, running);
    worker.launcher.finish(id, Cause::Exited { code: 0 });
    assert_eq!(ended(&mut client, id).await.exit_code, Some(0));
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_alone() {
    let mut worker = TestWorker::start();
    worker.kill();
    let file = worker.config.worker.state_dir.join("server/stockade.db");
    let database = rusqlite::Connection::open(&file).expect("open");
    database
        .pragma_update(None, "user_version", 1000)
        .expect("pragma");
    drop(database);
    let refused = worker.try_revive().expect_err("newer");
    assert!(
        matches!(refused, ServerError::Store(StoreError::Newer { found: 1000, .. })),
        "{refused}"
    );
}

#[tokio::test]
async fn events_go_on_after_a_restart() {
    let mut worker = TestWorker::start();
    let mut client = worker.client().await;
    let first = start(&mut client, &["true"]).await;
    ended(&mut client, first).await;
    client
        .delete_job(v1::DeleteJobRequest {
            job_id: first.to_string(),
        })
        .await
        .expect("delete");
    worker.kill();
    worker.revive();
    let mut client = worker.client().await;
    let mut events = client
        .watch_jobs(v1::WatchJobsRequest {
            since: 1,
            ..Default::default()
        })
        .await
        .expect("watch")
        .into_inner();
    start(&mut client, &["true"]).await;
    let event = events.message().await.expect("event").expect("event");
    assert!(
        event.position > 3,
        "positions of deleted jobs are not given again: {}",
        event.position
    );
}

#[tokio::test]
async fn a_key_means_the_same_after_a_restart() {
    let mut worker = TestWorker::start();
    let mut client = worker.client().await;
    let request = |words: &[&str]| v1::StartJobRequest {
        idempotency_key: "k".into(),
        ..command(words)
    };
    let first = client.start_job(request(&["exit", "1"])).await.expect("start");
    let id = first.into_inner().job.expect("job").id;
    for finished in [false, true] {
        if finished {
            ended(&mut client, id.parse().expect("id")).await;
        }
        worker.kill();
        worker.revive();
        client = worker.client().await;
        let again = client.start_job(request(&["exit", "1"])).await.expect("again");
        assert_eq!(again.into_inner().job.expect("job").id, id);
        let other = client
            .start_job(request(&["exit", "2"]))
            .await
            .expect_err("other");
        assert_eq!(other.code(), tonic::Code::AlreadyExists);
    }
    assert_eq!(worker.launcher.launches(), 1);
}

#[tokio::test]
async fn a_watcher_over_restarts_sees_each_end_once_and_no_step_back() {
    let mut worker = TestWorker::start();
    let mut client = worker.client().await;
    let mut ids = Vec::new();
    for number in 0..10 {
        let words: &[&str] = if number % 2 == 0 { &["true"] } else { &["sleep"] };
        ids.push(start(&mut client, words).await);
    }
    // One that is launched anew after the first restart would not end then.
    eventually("launches", || ids.iter().all(|id| worker.launcher.knows(*id))).await;
    let mut seen: std::collections::HashMap<String, Vec<v1::State>> = Default::default();
    let (mut position, mut ended) = (1, 0);
    for round in 0..3 {
        let request = v1::WatchJobsRequest {
            since: position,
            ..v1::WatchJobsRequest::default()
        };
        let mut events = client.watch_jobs(request).await.expect("watch").into_inner();
        let all = [5, 8, 10][round];
        while ended < all {
            let event = tokio::time::timeout(Duration::from_secs(20), events.message());
            let event = event.await.expect("in time").expect("event").expect("event");
            assert!(event.position > position);
            position = event.position;
            let job = event.job.expect("job");
            ended += usize::from(job.state() == v1::State::Finished);
            seen.entry(job.id.clone()).or_default().push(job.state());
        }
        if round == 2 {
            break;
        }
        // A server that dies within this process leaves a thread that still writes what it had queued; a real one does
        // not. So nothing is queued when it dies.
        client
            .list_jobs(v1::ListJobsRequest::default())
            .await
            .expect("everything is written");
        worker.kill();
        let sleeping = ids.iter().skip(1).step_by(2);
        for id in sleeping.skip(round * 3).take(3) {
            let record = exit_record(Cause::Exited { code: 0 }, Timestamp::now());
            worker.launcher.finish_with(*id, record);
        }
        worker.revive();
        client = worker.client().await;
    }
    // What the restarts have to say of jobs that are over has been said by now.
    client
        .list_jobs(v1::ListJobsRequest::default())
        .await
        .expect("everything is written");
    let request = v1::WatchJobsRequest {
        since: position,
        ..v1::WatchJobsRequest::default()
    };
    let mut events = client.watch_jobs(request).await.expect("watch").into_inner();
    let more = tokio::time::timeout(Duration::from_millis(300), events.message()).await;
    assert!(more.is_err(), "{more:?}");
    for id in &ids {
        let states = &seen[&id.to_string()];
        assert!(states.is_sorted(), "{states:?}");
        let finals = states.iter().filter(|state| **state == v1::State::Finished);
        assert_eq!(finals.count(), 1, "{states:?}");
    }
}
