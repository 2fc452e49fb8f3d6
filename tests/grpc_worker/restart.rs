use std::time::{Duration, Instant};

use stockade::config::OnShutdown;
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
        let job = ended(&mut client, id).await;
        assert_eq!(job.exit_code, Some(9), "{job:?}");
    }
}

#[tokio::test]
async fn jobs_that_end_between_two_descriptions_are_told() {
    let mut worker = TestWorker::start();
    let mut client = worker.client().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(start(&mut client, &["sleep"]).await);
    }
    eventually("launches", || worker.launcher.launches() == 5).await;
    worker.kill();
    // More than are described at one time.
    worker.launcher.know(2100);
    worker.launcher.end_with_list(&ids);
    worker.revive();
    let mut client = worker.client().await;
    for id in ids {
        let job = tokio::time::timeout(Duration::from_secs(10), ended(&mut client, id)).await;
        assert_eq!(job.expect("its end is told").exit_code, Some(9));
    }
}

#[tokio::test]
async fn a_job_that_is_recorded_during_a_shutdown_waits_for_the_next_start() {
    let mut worker = TestWorker::start_with(|config| config.worker.on_shutdown = OnShutdown::Stop);
    let mut client = worker.client().await;
    let file = worker.config.worker.state_dir.join("server/stockade.db");
    let database = rusqlite::Connection::open(file).expect("open");
    database.execute_batch("BEGIN IMMEDIATE").expect("lock");
    let starting = tokio::spawn({
        let mut client = client.clone();
        async move { start(&mut client, &["sleep"]).await }
    });
    loop {
        let counts = client.get_worker(v1::GetWorkerRequest {}).await.expect("worker");
        if counts.into_inner().jobs_running == 1 {
            break;
        }
        tokio::task::yield_now().await;
    }
    let disk = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        database.execute_batch("COMMIT").expect("unlock");
    });
    let before = Instant::now();
    worker.shut_down();
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "{:?}",
        before.elapsed()
    );
    disk.join().expect("thread");
    assert_eq!(worker.launcher.launches(), 0);
    let id = starting.await.expect("accepted");
    worker.revive();
    eventually("its launch", || worker.launcher.launches() == 1).await;
    assert!(worker.launcher.knows(id));
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
async fn a_stop_that_was_answered_is_ordered_as_it_was_given() {
    let mut worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = start(&mut client, &["sleep"]).await;
    eventually("the launch", || worker.launcher.launches() == 1).await;
    worker.launcher.set_deaf(true);
    let stop = v1::StopJobRequest {
        job_id: id.to_string(),
        signal: "INT".to_owned(),
        grace_ms: Some(60_000),
        reason: "not needed".to_owned(),
        ..v1::StopJobRequest::default()
    };
    let stopping = client.stop_job(stop).await.expect("stop").into_inner();
    assert_eq!(stopping.job.expect("job").state(), v1::State::Stopping);
    worker.kill();
    assert_eq!(worker.launcher.stops(), []);
    worker.launcher.set_deaf(false);
    worker.revive();
    let mut client = worker.client().await;
    assert_eq!(ended(&mut client, id).await.cause(), v1::Cause::Stopped);
    let [(stopped, order)] = &worker.launcher.stops()[..] else {
        panic!("{:?}", worker.launcher.stops());
    };
    let signal = order.signal.map(|signal| signal.number());
    assert_eq!((*stopped, signal), (id, Some(libc::SIGINT)));
    assert_eq!(
        (order.grace_ms, order.reason.as_str()),
        (Some(60_000), "not needed")
    );
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

#[tokio::test]
async fn a_server_asks_only_for_jobs_whose_end_it_does_not_know() {
    let mut worker = TestWorker::start();
    let mut client = worker.client().await;
    for _ in 0..20 {
        let done = start(&mut client, &["true"]).await;
        ended(&mut client, done).await;
    }
    let runs = start(&mut client, &["sleep"]).await;
    let ends_meanwhile = start(&mut client, &["sleep"]).await;
    eventually("launches", || worker.launcher.launches() == 22).await;
    worker.kill();
    let code = Cause::Exited { code: 9 };
    worker
        .launcher
        .finish_with(ends_meanwhile, exit_record(code, Timestamp::now()));
    let before = worker.launcher.described().len();
    worker.revive();
    let mut asked = worker.launcher.described()[before..].to_vec();
    let mut expected = vec![runs, ends_meanwhile];
    asked.sort_unstable();
    expected.sort_unstable();
    assert_eq!(asked, expected);
    let mut client = worker.client().await;
    assert_eq!(ended(&mut client, ends_meanwhile).await.exit_code, Some(9));
}

#[tokio::test]
async fn a_start_that_nobody_stored_is_told_by_the_launcher() {
    let mut worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = start(&mut client, &["held"]).await;
    eventually("launch", || worker.launcher.knows(id)).await;
    worker.kill();
    worker.launcher.start_held(id);
    worker.revive();
    let mut client = worker.client().await;
    let adopted = job(&mut client, id).await;
    assert_eq!(adopted.state(), v1::State::Running);
    assert!(adopted.started_at.is_some());
    assert_eq!(adopted.isolation.expect("receipt").host_uid, 4711);
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
