use std::time::{Duration, Instant};

use stockade::job::Cause;
use stockade::proto::jobscheduler::{QueryJobReq, QueryJobRes, StartJobReq, StopJobReq};
use stockade::proto::v1;

use crate::support::{OldClient, TestWorker, eventually, text_of};

async fn start(client: &mut OldClient, command: &str, path: &str) -> Result<String, tonic::Status> {
    let request = StartJobReq {
        command: command.into(),
        path: path.into(),
    };
    let before = Instant::now();
    let answer = client.start_job(request).await;
    assert!(
        before.elapsed() < Duration::from_millis(500),
        "{:?}",
        before.elapsed()
    );
    Ok(answer?.into_inner().job_id)
}

async fn query(client: &mut OldClient, id: &str) -> QueryJobRes {
    let request = QueryJobReq { job_id: id.into() };
    client.query_job(request).await.expect("query").into_inner()
}

async fn done(client: &mut OldClient, id: &str) -> QueryJobRes {
    loop {
        let answer = query(client, id).await;
        if answer.done {
            return answer;
        }
        assert_eq!((answer.error, answer.error_text.as_str()), (false, ""));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn jobs_run_and_are_queried() {
    let worker = TestWorker::start();
    let mut client = worker.old_client().await;
    let id = start(&mut client, "true", "script.sh").await.expect("start");
    assert_eq!(id.len(), 36);
    let answer = done(&mut client, &id).await;
    assert_eq!((answer.error, answer.error_text.as_str()), (false, ""));
}

#[tokio::test]
async fn ends_are_told_in_the_words_of_go() {
    let worker = TestWorker::start();
    let mut client = worker.old_client().await;
    for (cause, text) in [
        (Cause::Exited { code: 127 }, "exit status 127"),
        (
            Cause::Signaled {
                signal: 11,
                core_dumped: true,
            },
            "signal: segmentation fault (core dumped)",
        ),
        (Cause::OutOfMemory, "signal: killed"),
    ] {
        let id = start(&mut client, "sleep", "x").await.expect("start");
        worker.launcher.finish(id.parse().expect("id"), cause);
        let answer = done(&mut client, &id).await;
        assert_eq!((answer.error, answer.error_text.as_str()), (true, text));
    }
}

#[tokio::test]
async fn a_stop_answers_at_once_and_the_end_tells_how_it_went() {
    let worker = TestWorker::start();
    let mut client = worker.old_client().await;
    for (command, text) in [("sleep", "signal: terminated"), ("stubborn", "signal: killed")] {
        let id = start(&mut client, command, "x").await.expect("start");
        for _ in 0..2 {
            let request = StopJobReq { job_id: id.clone() };
            client.stop_job(request).await.expect("stop");
            assert_eq!(done(&mut client, &id).await.error_text, text);
        }
    }
}

#[tokio::test]
async fn unknown_jobs_are_not_found() {
    let worker = TestWorker::start();
    let mut client = worker.old_client().await;
    for id in ["", "nonsense", "0e8c8ab4-6b4e-4b0e-9f6e-1f1f1f1f1f1f"] {
        let stop = client
            .stop_job(StopJobReq { job_id: id.into() })
            .await
            .expect_err("unknown");
        let query = client
            .query_job(QueryJobReq { job_id: id.into() })
            .await
            .expect_err("unknown");
        for refused in [stop, query] {
            assert_eq!(text_of(&refused), "NotFound: job not found");
        }
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_executed_is_told_at_start_and_forgotten() {
    let worker = TestWorker::start();
    let mut client = worker.old_client().await;
    for (command, text) in [
        ("", "exec: no command"),
        ("missing", "exec: \"missing\": executable file not found in $PATH"),
        ("/missing", "fork/exec /missing: no such file or directory"),
    ] {
        let refused = start(&mut client, command, "x").await.expect_err("refused");
        assert_eq!(text_of(&refused), format!("InvalidArgument: {text}"));
    }
    let mut client = worker.client().await;
    let jobs = worker.config.worker.state_dir.join("jobs");
    eventually("no folder is left", || {
        std::fs::read_dir(&jobs).expect("jobs").count() == 0
    })
    .await;
    // The row goes right after the folder.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let left = client
        .list_jobs(v1::ListJobsRequest::default())
        .await
        .expect("list")
        .into_inner();
    assert!(left.jobs.is_empty());
}

#[tokio::test]
async fn a_start_that_takes_long_answers_all_the_same() {
    let worker = TestWorker::start();
    let mut client = worker.old_client().await;
    let id = start(&mut client, "held", "x").await.expect("start");
    assert!(!query(&mut client, &id).await.done);
    let failed = Cause::StartFailed {
        step: stockade::job::StartStep::Exec,
        errno: libc::EACCES,
        detail: "/p".into(),
    };
    worker.launcher.finish(id.parse().expect("id"), failed);
    let answer = done(&mut client, &id).await;
    assert_eq!(
        (answer.error, answer.error_text.as_str()),
        (true, "fork/exec /p: permission denied")
    );
}

#[tokio::test]
async fn climbing_paths_are_refused() {
    let worker = TestWorker::start();
    let mut client = worker.old_client().await;
    for path in ["../x", "a/../../b", "/etc/../root"] {
        let refused = start(&mut client, "bash", path).await.expect_err("refused");
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{path}");
    }
    assert_eq!(worker.launcher.launches(), 0);
}
