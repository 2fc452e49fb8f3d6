//! A server that has no descriptor left.

use std::fs;
use std::os::unix::net::UnixStream;

use stockade::proto::v1::{Cause, StartJobRequest, State, StopJobRequest};

use super::worker::{Setup, Worker, able, eventually};
use super::{Client, in_runtime, query, running, shell, start, wait};

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Too long for one packet to the launcher: it takes a descriptor.
fn long_script() -> StartJobRequest {
    StartJobRequest {
        argv: vec!["sh".to_owned()],
        script: [&[b'#'; 100_000][..], b"\nexit 3"].concat(),
        ..StartJobRequest::default()
    }
}

async fn stop(client: &mut Client, id: &str) -> Cause {
    let request = StopJobRequest {
        job_id: id.to_owned(),
        wait: true,
        ..StopJobRequest::default()
    };
    let answer = client.stop_job(request).await.expect("stop").into_inner();
    answer.job.expect("job").cause()
}

#[test]
fn a_launch_that_needs_one_waits_and_stops_do_not() {
    if !able() {
        return;
    }
    let setup = Setup {
        // No fewer than a job may have, and no more than the connections that may say nothing.
        before: "ulimit -n 1030".to_owned(),
        ..Setup::default()
    };
    let worker = Worker::start_as(setup, |_| {});
    let server = worker.server().expect("a server");
    in_runtime(async {
        let mut client = worker.client().await;
        let runs = start(&mut client, shell("sleep 6875")).await;
        running(&mut client, &runs).await;
        // They say nothing, and would be closed after 5 s.
        let silent: Vec<_> = (0..1020)
            .map_while(|_| UnixStream::connect(worker.socket()).ok())
            .collect();
        eventually("it has none left", || open_files(server) >= 1030);
        let [first, second, third] = [
            start(&mut client, long_script()).await,
            start(&mut client, long_script()).await,
            start(&mut client, shell("exit 4")).await,
        ];
        assert_eq!(stop(&mut client, &runs).await, Cause::Stopped);
        assert_eq!(stop(&mut client, &first).await, Cause::Stopped);
        assert_eq!(query(&mut client, &second).await.state(), State::Pending);
        drop(silent);
        assert_eq!(wait(&mut client, &second).await.exit_code, Some(3));
        assert_eq!(wait(&mut client, &third).await.exit_code, Some(4));
    });
    let log = worker.log();
    assert!(log.contains("orders have to wait"), "{log}");
    worker.shut_down();
}
