//! Whatever forks has one thread: in a copy of another one's locks stay taken for ever.

use std::fs;
use std::process::{Command, Stdio};

use stockade::proto::v1::StopJobRequest;

use super::worker::traces::{Nap, children};
use super::worker::{Worker, able, eventually, kill};
use super::{in_runtime, running, shell, start};

/// Its threads; none where it has ended meanwhile.
fn threads(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    tasks
        .flatten()
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .collect()
}

/// The launcher, each supervisor and each pump have one thread, as long as no job floods; the server, which has many, has no
/// child. How many jobs.
fn one_thread_each(worker: &Worker) -> usize {
    let (launcher, server) = (worker.launcher(), worker.server().expect("a server"));
    assert_eq!(threads(launcher), [launcher]);
    for thread in threads(server) {
        let children = fs::read_to_string(format!("/proc/{server}/task/{thread}/children"));
        assert_eq!(children.unwrap_or_default(), "", "children of the server");
    }
    let mut jobs = 0;
    for child in children(launcher).into_iter().filter(|pid| *pid != server) {
        let found = threads(child);
        assert!(found.is_empty() || found == [child], "{found:?}");
        jobs += children(child).len();
    }
    jobs
}

#[test]
fn a_worker_forks_from_single_threads_alone() {
    const JOBS: usize = 20;
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        one_thread_each(&worker);
        let mut client = worker.client().await;
        let mut ids = Vec::new();
        for _ in 0..JOBS {
            ids.push(start(&mut client, shell("exec sleep 600")).await);
            one_thread_each(&worker);
        }
        for id in &ids {
            running(&mut client, id).await;
        }
        assert!(one_thread_each(&worker) >= JOBS, "a supervisor each");
        // A server that is forked while jobs run.
        let server = worker.server();
        kill(server.expect("a server"), libc::SIGKILL);
        eventually("another server", || {
            worker.server().is_some_and(|other| Some(other) != server)
        });
        let mut client = worker.client().await;
        assert!(one_thread_each(&worker) >= JOBS, "a supervisor each");
        for id in &ids {
            let order = StopJobRequest {
                job_id: id.clone(),
                wait: true,
                ..StopJobRequest::default()
            };
            client.stop_job(order).await.expect("stop");
        }
        one_thread_each(&worker);
    });
    worker.shut_down();
}

#[test]
fn a_job_without_a_worker_is_forked_from_single_threads() {
    if !able() {
        return;
    }
    let nap = Nap::new();
    let mut run = Command::new(env!("CARGO_BIN_EXE_stockade"))
        .args(["run", "--", "sleep", &nap.to_string()])
        .stdin(Stdio::null())
        .spawn()
        .expect("stockade run");
    // By name: its own command line and its forks' hold the words, too.
    let is_sleep =
        |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
    eventually("its job runs", || {
        children(run.id()).into_iter().flat_map(children).any(is_sleep)
    });
    assert_eq!(threads(run.id()), [run.id()]);
    let supervisors = children(run.id());
    assert!(!supervisors.is_empty());
    for supervisor in supervisors {
        assert_eq!(threads(supervisor), [supervisor]);
    }
    kill(run.id(), libc::SIGTERM);
    run.wait().expect("it ends");
    assert_eq!(nap.sleepers(), 0);
}
