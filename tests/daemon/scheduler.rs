//! The existing scheduler's contract, through real sandboxes.

use std::fs;
use std::time::{Duration, Instant};

use stockade::proto::jobscheduler::{QueryJobReq, QueryJobRes, StartJobReq, StopJobReq};
use tonic::Code;

use super::in_runtime;
use super::worker::traces::Nap;
use super::worker::{PATIENCE, Worker, able, eventually};

type OldClient = stockade::proto::jobscheduler::worker_client::WorkerClient<tonic::transport::Channel>;

async fn start(client: &mut OldClient, command: &str, path: &str) -> Result<String, tonic::Status> {
    let request = StartJobReq {
        command: command.to_owned(),
        path: path.to_owned(),
    };
    client
        .start_job(request)
        .await
        .map(|answer| answer.into_inner().job_id)
}

async fn end_of(client: &mut OldClient, id: &str) -> QueryJobRes {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = client
            .query_job(QueryJobReq {
                job_id: id.to_owned(),
            })
            .await
            .expect("query")
            .into_inner();
        if answer.done {
            return answer;
        }
        assert!(Instant::now() < deadline, "still running");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn outcomes_have_the_words_of_go() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    let scripts = worker.dir.path().join("scripts");
    for (name, text) in [
        ("zero.sh", "exit 0"),
        ("three.sh", "exit 3"),
        ("segv.sh", "kill -SEGV $$"),
        ("a b.sh", "[ $# = 0 ]"),
    ] {
        fs::write(scripts.join(name), text).expect("script");
    }
    in_runtime(async {
        let mut client = worker.old_client().await;
        let expected = [
            ("bash", "zero.sh", ""),
            ("bash", "a b.sh", ""),
            ("bash", "three.sh", "exit status 3"),
            ("bash", "segv.sh", "signal: segmentation fault"),
            ("bash", "missing.sh", "exit status 127"),
            ("sh", "missing.sh", "exit status 2"),
        ];
        for (command, path, text) in expected {
            let id = start(&mut client, command, path).await.expect("start");
            assert_eq!(id.len(), 36);
            let end = end_of(&mut client, &id).await;
            assert_eq!(
                (end.error, end.error_text.as_str()),
                (!text.is_empty(), text),
                "{command} {path}"
            );
        }
        let refused = [
            (
                "no-such-command",
                "zero.sh",
                "exec: \"no-such-command\": executable file not found in $PATH",
            ),
            (
                "/no/such/cmd",
                "zero.sh",
                "fork/exec /no/such/cmd: no such file or directory",
            ),
            (
                "/etc/hostname",
                "zero.sh",
                "fork/exec /etc/hostname: permission denied",
            ),
            ("", "zero.sh", "exec: no command"),
        ];
        for (command, path, text) in refused {
            assert_eq!(
                start(&mut client, command, path)
                    .await
                    .expect_err(command)
                    .message(),
                text
            );
        }
    });
}

#[test]
fn a_stop_answers_at_once_and_kills_everything() {
    if !able() {
        return;
    }
    let nap = Nap::new();
    let worker = Worker::start();
    fs::write(
        worker.dir.path().join("scripts/long.sh"),
        format!("trap '' TERM\nsleep {nap} &\nsleep {nap}\nsleep {nap}\n"),
    )
    .expect("script");
    in_runtime(async {
        let mut client = worker.old_client().await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(start(&mut client, "bash", "long.sh").await.expect("start"));
        }
        eventually("they run", || nap.sleepers() == 6);
        // The quickest of some: what else the machine does can only add to it.
        let mut quickest = Duration::MAX;
        let stop = |id: &str| StopJobReq {
            job_id: id.to_owned(),
        };
        for id in &ids {
            let asked = Instant::now();
            client.stop_job(stop(id)).await.expect("stop");
            quickest = quickest.min(asked.elapsed());
        }
        assert!(quickest < Duration::from_millis(100), "{quickest:?}");
        for id in &ids {
            let end = end_of(&mut client, id).await;
            assert_eq!(end.error_text, "signal: killed");
        }
        assert_eq!(nap.sleepers(), 0);
        for id in &ids {
            let again = client.stop_job(stop(id)).await;
            again.expect("a finished job can be stopped");
        }
        for unknown in ["", "42", "00000000-0000-4000-8000-000000000000"] {
            let status = client
                .query_job(QueryJobReq {
                    job_id: unknown.to_owned(),
                })
                .await
                .expect_err("unknown");
            assert_eq!(
                (status.code(), status.message()),
                (Code::NotFound, "job not found")
            );
        }
    });
}
