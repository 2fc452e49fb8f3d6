use std::time::{Duration, Instant};

use stockade::config::OnShutdown;
use stockade::job::{Cause, Timestamp};
use stockade::proto::v1;
use stockade::server::ServerError;

use crate::support::{TestWorker, ended, eventually, exit_record, job, start};

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
