use std::collections::HashMap;

use stockade::proto::v1;
use tonic::{Code, Streaming};

use crate::support::{Client, TestWorker, command, start};

async fn watch(client: &mut Client, since: u64) -> Streaming<v1::JobEvent> {
    let request = v1::WatchJobsRequest {
        since,
        ..v1::WatchJobsRequest::default()
    };
    client.watch_jobs(request).await.expect("watch").into_inner()
}

async fn next(events: &mut Streaming<v1::JobEvent>) -> (u64, v1::Job) {
    let event = events.message().await.expect("event").expect("event");
    (event.position, event.job.expect("job"))
}

/// Reads until `count` jobs have ended; how often each one did.
async fn final_events(events: &mut Streaming<v1::JobEvent>, count: usize) -> HashMap<String, usize> {
    let mut finals = HashMap::new();
    let mut last = 0;
    while finals.len() < count {
        let (position, job) = next(events).await;
        assert!(position > last, "positions grow");
        last = position;
        if job.state() == v1::State::Finished {
            *finals.entry(job.id).or_default() += 1;
        }
    }
    finals
}

#[tokio::test]
async fn a_watcher_sees_a_job_go_forward() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let mut events = watch(&mut client, 0).await;
    let id = start(&mut client, &["exit", "2"]).await.to_string();
    let mut states = Vec::new();
    loop {
        let (_, job) = next(&mut events).await;
        assert_eq!(job.id, id);
        states.push(job.state());
        if job.state() == v1::State::Finished {
            assert_eq!(job.exit_code, Some(2));
            break;
        }
    }
    assert_eq!(
        states,
        [v1::State::Pending, v1::State::Running, v1::State::Finished]
    );
}

#[tokio::test]
async fn a_watcher_goes_on_where_it_left_off() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let mut events = watch(&mut client, 0).await;
    for _ in 0..20 {
        start(&mut client, &["true"]).await;
    }
    let (position, _) = next(&mut events).await;
    drop(events);
    for _ in 0..20 {
        start(&mut client, &["true"]).await;
    }
    let mut events = watch(&mut client, position).await;
    let finals = final_events(&mut events, 40).await;
    assert!(finals.values().all(|count| *count == 1), "{finals:?}");
}

#[tokio::test]
async fn a_watcher_that_lags_misses_no_end() {
    let worker = TestWorker::start();
    let client = worker.client().await;
    let mut watcher = worker.client().await;
    let mut events = watch(&mut watcher, 0).await;
    let jobs = 2000;
    for _ in 0..jobs / 50 {
        let starts = (0..50).map(|_| {
            let mut client = client.clone();
            async move { client.start_job(command(&["true"])).await.expect("start") }
        });
        futures_util::future::join_all(starts).await;
    }
    let finals = final_events(&mut events, jobs).await;
    assert!(finals.values().all(|count| *count == 1));
}

#[tokio::test]
async fn labels_select_and_a_position_of_the_future_is_refused() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let labels = HashMap::from([("a".to_owned(), "b".to_owned())]);
    let request = v1::WatchJobsRequest {
        labels: labels.clone(),
        since: 0,
    };
    let mut events = client.watch_jobs(request).await.expect("watch").into_inner();
    start(&mut client, &["true"]).await;
    let wanted = v1::StartJobRequest {
        labels,
        ..command(&["true"])
    };
    let id = client
        .start_job(wanted)
        .await
        .expect("start")
        .into_inner()
        .job
        .expect("job")
        .id;
    assert_eq!(next(&mut events).await.1.id, id);
    let future = v1::WatchJobsRequest {
        since: 1 << 40,
        ..v1::WatchJobsRequest::default()
    };
    let refused = client.watch_jobs(future).await.expect_err("future");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let long = v1::WatchJobsRequest {
        labels: HashMap::from([("a".to_owned(), "v".repeat(256))]),
        since: 0,
    };
    let refused = client.watch_jobs(long).await.expect_err("no job has it");
    assert_eq!(refused.code(), Code::InvalidArgument);
}
