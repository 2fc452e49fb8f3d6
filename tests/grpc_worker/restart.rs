use std::time::{Duration, Instant};

use stockade::job::{Cause, JobId, Timestamp};
use stockade::proto::v1;
use stockade::server::{ServerError, StoreError};

use crate::support::{Client, TestWorker, command, eventually, exit_record, start};

async fn job(client: &mut Client, id: JobId) -> v1::Job {
    let request = v1::QueryJobRequest {
        job_id: id.to_string(),
    };
    client
        .query_job(request)
        .await
        .expect("query")
        .into_inner()
        .job
        .expect("job")
}

async fn ended(client: &mut Client, id: JobId) -> v1::Job {
    let request = v1::WaitJobRequest {
        job_id: id.to_string(),
        timeout_ms: 0,
    };
    client
        .wait_job(request)
        .await
        .expect("wait")
        .into_inner()
        .job
        .expect("job")
}

#[tokio::test]
async fn running_jobs_are_adopted_and_their_ends_are_learned() {
    let mut worker = TestWorker::start();
    let mut client = worker.client().await;
    let runs_on = start(&mut client, &["sleep"]).await;
    let ends_meanwhile = start(&mut client, &["sleep"]).await;
    eventually("launches", || worker.launcher.launches() == 2).await;
    worker.kill();
    let code = Cause::Exited { code: 7 };
    worker
        .launcher
        .finish_with(ends_meanwhile, exit_record(code, Timestamp::now()));
    worker.revive();
    let mut client = worker.client().await;
    assert_eq!(job(&mut client, runs_on).await.state(), v1::State::Running);
    assert_eq!(ended(&mut client, ends_meanwhile).await.exit_code, Some(7));
    worker.launcher.finish(runs_on, Cause::Exited { code: 8 });
    assert_eq!(ended(&mut client, runs_on).await.exit_code, Some(8));
    assert_eq!(worker.launcher.launches(), 2);
}

#[tokio::test]
async fn jobs_that_end_while_they_are_taken_up_are_told() {
    let mut worker = TestWorker::start();
    let mut client = worker.client().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(start(&mut client, &["sleep"]).await);
    }
    eventually("launches", || worker.launcher.launches() == 20).await;
    worker.kill();
    worker.launcher.end_with_list(&ids);
    worker.revive();
    let mut client = worker.client().await;
    for id in ids {
        assert_eq!(ended(&mut client, id).await.exit_code, Some(9));
    }
}

#[tokio::test]
async fn a_server_whose_launcher_dies_before_it_serves_makes_room_at_once() {
    let mut worker = TestWorker::start();
    worker.kill();
    worker.launcher.set_deaf(true);
    let launcher = worker.launcher.clone();
    let death = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        launcher.die();
    });
    let began = Instant::now();
    let gone = worker.try_revive().expect_err("no launcher");
    assert!(matches!(gone, ServerError::Launcher(_)), "{gone}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    death.join().expect("no panic");
}

#[tokio::test]
async fn waiting_jobs_wait_again_and_run_once() {
    let mut worker = TestWorker::start_with(|config| config.worker.max_running = 1);
    let mut client = worker.client().await;
    let first = start(&mut client, &["sleep"]).await;
    let mut waiting = Vec::new();
    for code in ["1", "2", "3"] {
        waiting.push(start(&mut client, &["exit", code]).await);
    }
    worker.kill();
    worker.revive();
    let mut client = worker.client().await;
    worker.launcher.finish(first, Cause::Exited { code: 0 });
    let mut finished_at = Vec::new();
    for (id, code) in waiting.iter().zip(1..) {
        let done = ended(&mut client, *id).await;
        assert_eq!(done.exit_code, Some(code));
        let at = done.finished_at.expect("end");
        finished_at.push((at.seconds, at.nanos));
    }
    assert!(finished_at.is_sorted(), "in their old order");
    assert_eq!(worker.launcher.launches(), 4);
}

#[tokio::test]
async fn a_running_job_that_nobody_knows_is_lost() {
    let mut worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = start(&mut client, &["sleep"]).await;
    while job(&mut client, id).await.state() != v1::State::Running {}
    client
        .list_jobs(v1::ListJobsRequest::default())
        .await
        .expect("everything is written");
    worker.kill();
    worker.launcher.forget(id);
    worker.revive();
    let mut client = worker.client().await;
    let lost = ended(&mut client, id).await;
    assert_eq!(lost.cause(), v1::Cause::Lost);
    assert!(!lost.cause_detail.is_empty());
}

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
async fn a_stop_that_died_with_the_server_is_ordered_again() {
    let mut worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = start(&mut client, &["held"]).await;
    eventually("launch", || worker.launcher.knows(id)).await;
    worker.launcher.start_held(id);
    while job(&mut client, id).await.state() != v1::State::Running {}
    worker.launcher.set_deaf(true);
    let stop = v1::StopJobRequest {
        job_id: id.to_string(),
        ..Default::default()
    };
    client.stop_job(stop).await.expect("stop");
    assert_eq!(job(&mut client, id).await.state(), v1::State::Stopping);
    client
        .list_jobs(v1::ListJobsRequest::default())
        .await
        .expect("everything is written");
    worker.kill();
    worker.launcher.set_deaf(false);
    worker.revive();
    let mut client = worker.client().await;
    assert_eq!(ended(&mut client, id).await.cause(), v1::Cause::Stopped);
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
