use std::time::Duration;

use stockade::proto::v1;
use tonic::Code;

use crate::support::{TestWorker, command, eventually, start, text_of};

fn wait(id: impl std::fmt::Display) -> v1::WaitJobRequest {
    v1::WaitJobRequest {
        job_id: id.to_string(),
        timeout_ms: 0,
    }
}

#[tokio::test]
async fn a_job_runs_to_its_end() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let mut request = command(&["exit", "3"]);
    request.labels.insert("team".into(), "a".into());
    let job = client
        .start_job(request)
        .await
        .expect("start")
        .into_inner()
        .job
        .expect("job");
    assert_eq!(job.id.len(), 36);
    assert_eq!(job.tenant, "default");
    assert_ne!(job.limits.expect("limits").memory_bytes, 0);
    let job = client
        .wait_job(wait(&job.id))
        .await
        .expect("wait")
        .into_inner()
        .job
        .expect("job");
    assert_eq!(job.state(), v1::State::Finished);
    assert_eq!(job.cause(), v1::Cause::Exited);
    assert_eq!(job.exit_code, Some(3));
    assert_eq!(job.labels["team"], "a");
    assert!(job.started_at.is_some() && job.finished_at.is_some());
    let query = v1::QueryJobRequest {
        job_id: job.id.clone(),
    };
    let again = client
        .query_job(query)
        .await
        .expect("query")
        .into_inner()
        .job
        .expect("job");
    assert_eq!(again, job);
}

#[tokio::test]
async fn a_wait_ends_with_its_timeout() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = start(&mut client, &["sleep"]).await;
    let request = v1::WaitJobRequest {
        job_id: id.to_string(),
        timeout_ms: 50,
    };
    let job = client
        .wait_job(request)
        .await
        .expect("wait")
        .into_inner()
        .job
        .expect("job");
    assert_eq!(job.state(), v1::State::Running);
    assert_eq!(job.isolation.expect("receipt").host_uid, 4711);
}

#[tokio::test]
async fn a_stop_is_told_by_whom_and_why() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = start(&mut client, &["stubborn"]).await;
    let request = v1::StopJobRequest {
        job_id: id.to_string(),
        reason: "enough".into(),
        grace_ms: Some(7),
        signal: "INT".into(),
        wait: true,
    };
    let job = client
        .stop_job(request.clone())
        .await
        .expect("stop")
        .into_inner()
        .job
        .expect("job");
    assert_eq!(job.state(), v1::State::Finished);
    assert_eq!(job.cause(), v1::Cause::Stopped);
    let stop = job.stop.clone().expect("stop");
    assert_eq!(
        (stop.by.as_str(), stop.reason.as_str(), stop.escalated),
        ("default", "enough", true)
    );
    let (_, order) = &worker.launcher.stops()[0];
    assert_eq!((order.signal.map(i32::from), order.grace_ms), (Some(2), Some(7)));
    let again = client
        .stop_job(request)
        .await
        .expect("second stop")
        .into_inner()
        .job
        .expect("job");
    assert_eq!(again, job, "an ended job stays as it is");
    assert_eq!(worker.launcher.stops().len(), 1);
}

#[tokio::test]
async fn a_hundred_stops_at_once_end_a_job_once() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = start(&mut client, &["sleep"]).await;
    let stops = (0..100).map(|_| {
        let mut client = client.clone();
        let request = v1::StopJobRequest {
            job_id: id.to_string(),
            wait: true,
            ..v1::StopJobRequest::default()
        };
        tokio::spawn(async move { client.stop_job(request).await.expect("stop").into_inner().job })
    });
    for stop in futures_util::future::join_all(stops).await {
        let job = stop.expect("task").expect("job");
        assert_eq!(
            (job.state(), job.cause()),
            (v1::State::Finished, v1::Cause::Stopped)
        );
    }
}

#[tokio::test]
async fn signals_reach_running_jobs_only() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = start(&mut client, &["sleep"]).await;
    client
        .wait_job(v1::WaitJobRequest {
            job_id: id.to_string(),
            timeout_ms: 20,
        })
        .await
        .expect("wait");
    let signal = |signal: &str| v1::SignalJobRequest {
        job_id: id.to_string(),
        signal: signal.into(),
    };
    client.signal_job(signal("USR1")).await.expect("signal");
    eventually("signal", || worker.launcher.signals() == [(id, 10)]).await;
    for bad in ["", "0", "65", "NOPE"] {
        let refused = client.signal_job(signal(bad)).await.expect_err(bad);
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad}");
    }
    worker
        .launcher
        .finish(id, stockade::job::Cause::Exited { code: 0 });
    client.wait_job(wait(id)).await.expect("wait");
    let refused = client.signal_job(signal("TERM")).await.expect_err("ended");
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_deleted_job_is_gone_with_its_files() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = start(&mut client, &["sleep"]).await;
    let delete = v1::DeleteJobRequest {
        job_id: id.to_string(),
    };
    let refused = client.delete_job(delete.clone()).await.expect_err("running");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    worker
        .launcher
        .finish(id, stockade::job::Cause::Exited { code: 0 });
    client.wait_job(wait(id)).await.expect("wait");
    client.delete_job(delete.clone()).await.expect("delete");
    assert!(!worker.launcher.knows(id));
    for _ in 0..2 {
        let gone = client.delete_job(delete.clone()).await.expect_err("gone");
        assert_eq!(text_of(&gone), "NotFound: job not found");
    }
    let refused = client.wait_job(wait(id)).await.expect_err("gone");
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn what_is_no_id_is_no_job() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let long = "a".repeat(1 << 15);
    for id in ["", "../x", "a\0b", &long, "0e8c8ab4-6b4e-4b0e-9f6e-1f1f1f1f1f1f"] {
        let request = v1::QueryJobRequest {
            job_id: id.to_owned(),
        };
        let refused = client.query_job(request).await.expect_err("unknown");
        assert_eq!(text_of(&refused), "NotFound: job not found");
    }
}

#[tokio::test]
async fn a_draining_worker_takes_no_jobs_and_keeps_its_own() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = start(&mut client, &["sleep"]).await;
    client
        .drain_worker(v1::DrainWorkerRequest {})
        .await
        .expect("drain");
    let refused = client.start_job(command(&["true"])).await.expect_err("draining");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let status = client
        .get_worker(v1::GetWorkerRequest {})
        .await
        .expect("worker")
        .into_inner();
    assert!(status.draining);
    assert_eq!((status.jobs_running, status.jobs_pending), (1, 0));
    assert!(status.policies.contains(&"default".to_owned()));
    worker
        .launcher
        .finish(id, stockade::job::Cause::Exited { code: 0 });
    client.wait_job(wait(id)).await.expect("wait");
}

#[tokio::test]
async fn waiting_calls_are_told_that_the_worker_goes() {
    let mut worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = start(&mut client, &["sleep"]).await;
    let waiting = tokio::spawn(async move { client.wait_job(wait(id)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    tokio::task::spawn_blocking(move || worker.shut_down())
        .await
        .expect("shut down");
    let refused = waiting.await.expect("task").expect_err("going");
    assert_eq!(refused.code(), Code::Unavailable);
}
