use std::collections::HashMap;

use stockade::job::Cause;
use stockade::proto::v1;
use tonic::Code;

use crate::support::{Client, TestWorker, command, eventually, start};

async fn labelled(client: &mut Client, words: &[&str], label: &str) -> String {
    let mut request = command(words);
    request.labels.insert("group".into(), label.into());
    client
        .start_job(request)
        .await
        .expect("start")
        .into_inner()
        .job
        .expect("job")
        .id
}

async fn list(client: &mut Client, request: v1::ListJobsRequest) -> v1::ListJobsResponse {
    client.list_jobs(request).await.expect("list").into_inner()
}

fn ids(jobs: &[v1::Job]) -> Vec<&str> {
    jobs.iter().map(|job| job.id.as_str()).collect()
}

#[tokio::test]
async fn pages_cover_every_job_once_newest_first() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let mut started = Vec::new();
    for _ in 0..25 {
        started.push(start(&mut client, &["true"]).await.to_string());
    }
    started.reverse();
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListJobsRequest {
            page_size: 10,
            page_token,
            ..v1::ListJobsRequest::default()
        };
        let page = list(&mut client, request).await;
        assert!(page.jobs.len() <= 10);
        listed.extend(page.jobs.into_iter().map(|job| job.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, started);
}

#[tokio::test]
async fn states_and_labels_select() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let running = labelled(&mut client, &["sleep"], "a").await;
    let other = labelled(&mut client, &["sleep"], "b").await;
    let ended = labelled(&mut client, &["true"], "a").await;
    let wait = v1::WaitJobRequest {
        job_id: ended.clone(),
        timeout_ms: 0,
    };
    client.wait_job(wait).await.expect("wait");
    let labels = HashMap::from([("group".to_owned(), "a".to_owned())]);
    let page = list(
        &mut client,
        v1::ListJobsRequest {
            labels: labels.clone(),
            ..Default::default()
        },
    )
    .await;
    assert_eq!(ids(&page.jobs), [ended.as_str(), &running]);
    let finished = v1::ListJobsRequest {
        states: vec![v1::State::Finished.into()],
        labels,
        ..Default::default()
    };
    assert_eq!(ids(&list(&mut client, finished).await.jobs), [ended.as_str()]);
    let unfinished = v1::ListJobsRequest {
        states: vec![v1::State::Running.into(), v1::State::Pending.into()],
        ..Default::default()
    };
    assert_eq!(
        ids(&list(&mut client, unfinished).await.jobs),
        [other.as_str(), &running]
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    for request in [
        v1::ListJobsRequest {
            page_token: "x".into(),
            ..Default::default()
        },
        v1::ListJobsRequest {
            page_token: "-1".into(),
            ..Default::default()
        },
        v1::ListJobsRequest {
            states: vec![0],
            ..Default::default()
        },
        v1::ListJobsRequest {
            states: vec![99],
            ..Default::default()
        },
    ] {
        let refused = client.list_jobs(request.clone()).await.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument, "{request:?}");
    }
    for (key, value) in [
        ("a b", "c"),
        ("k", "x\nERROR"),
        ("k", &"v".repeat(256)),
        (&"k".repeat(64), "v"),
    ] {
        let request = v1::ListJobsRequest {
            labels: HashMap::from([(key.to_owned(), value.to_owned())]),
            ..Default::default()
        };
        let refused = client.list_jobs(request).await.expect_err("no job has it");
        assert_eq!(refused.code(), Code::InvalidArgument, "{key}: {value}");
    }
    let huge = v1::ListJobsRequest {
        page_size: u32::MAX,
        page_token: u64::MAX.to_string(),
        ..Default::default()
    };
    list(&mut client, huge).await;
}

#[tokio::test]
async fn old_jobs_are_removed_beyond_the_number_to_keep() {
    let worker = TestWorker::start_with(|config| config.retention.max_jobs = 3);
    let mut client = worker.client().await;
    let mut jobs = Vec::new();
    for _ in 0..6 {
        let id = start(&mut client, &["sleep"]).await;
        worker.launcher.finish(id, Cause::Exited { code: 0 });
        let wait = v1::WaitJobRequest {
            job_id: id.to_string(),
            timeout_ms: 0,
        };
        client.wait_job(wait).await.expect("wait");
        jobs.push(id);
    }
    eventually("removal", || {
        jobs[..3].iter().all(|id| !worker.launcher.knows(*id))
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let left = list(&mut client, v1::ListJobsRequest::default()).await;
    assert_eq!(left.jobs.len(), 3);
    assert!(jobs[3..].iter().all(|id| worker.launcher.knows(*id)));
}

#[tokio::test]
async fn jobs_are_removed_when_they_are_old_enough() {
    let worker = TestWorker::start_with(|config| config.retention.max_age_s = 1);
    let mut client = worker.client().await;
    let id = start(&mut client, &["true"]).await;
    eventually("launch", || worker.launcher.knows(id)).await;
    eventually("removal", || !worker.launcher.knows(id)).await;
    let running = start(&mut client, &["sleep"]).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert!(worker.launcher.knows(running), "only finished jobs age");
}
