//! The end of a worker in order: what becomes of jobs, its exit status, and what it leaves behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stockade::proto::v1::{Cause, State};
use tonic::Code;

use super::worker::traces::Nap;
use super::worker::{Worker, able, eventually, kill};
use super::{in_runtime, query, shell, start, stop, wait};

fn worker(on_shutdown: &str, timeout_s: u64) -> Worker {
    Worker::start_with(|config| {
        config.replace(
            "on_shutdown = \"stop\"",
            &format!("on_shutdown = \"{on_shutdown}\"\nshutdown_timeout_s = {timeout_s}"),
        )
    })
}

/// What a worker of this name leaves on the host: its cgroups in every hierarchy, and its folder in memory.
fn left(name: &str) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = fs::read_dir("/sys/fs/cgroup")
        .expect("cgroups")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    roots.push(PathBuf::from("/sys/fs/cgroup"));
    roots
        .into_iter()
        .map(|root| root.join("stockade").join(name))
        .chain(["/run", "/dev/shm"].map(|base| Path::new(base).join("stockade").join(name)))
        .filter(|left| left.exists())
        .collect()
}

/// Ends the worker with the exit status that it should have, and says how long that took.
fn end(worker: &mut Worker, code: i32) -> Duration {
    let before = Instant::now();
    kill(worker.launcher(), libc::SIGTERM);
    assert_eq!(worker.exit_status().code(), Some(code));
    before.elapsed()
}

#[test]
fn leave_lets_jobs_run_on() {
    if !able() {
        return;
    }
    let nap = Nap::new();
    let mut worker = worker("leave", 30);
    in_runtime(async {
        let mut client = worker.client().await;
        let id = start(&mut client, shell(&format!("sleep {nap}"))).await;
        eventually("it runs", || nap.sleepers() == 1);
        let took = end(&mut worker, 0);
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(nap.sleepers(), 1);
        assert!(!left(&worker.name()).is_empty(), "the job's");
        worker.start_again();
        let mut client = worker.client().await;
        assert_eq!(query(&mut client, &id).await.state(), State::Running);
        stop(&mut client, &id).await;
        assert_eq!(nap.sleepers(), 0);
    });
    let name = worker.name();
    worker.shut_down_and(|| assert_eq!(left(&name), Vec::<PathBuf>::new()));
}

#[test]
fn wait_ends_after_the_last_job() {
    if !able() {
        return;
    }
    let mut worker = worker("wait", 30);
    in_runtime(async {
        let mut client = worker.client().await;
        let id = start(&mut client, shell("sleep 2; exit 3")).await;
        let launcher = worker.launcher();
        let ending = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            kill(launcher, libc::SIGTERM);
        });
        // Who waits is told the end all the same, and nobody else is let in.
        tokio::time::sleep(Duration::from_millis(800)).await;
        let refused = client.start_job(shell("true")).await.expect_err("ending");
        assert_eq!(refused.code(), Code::Unavailable);
        assert_eq!(wait(&mut client, &id).await.exit_code, Some(3));
        ending.join().expect("thread");
        assert_eq!(worker.exit_status().code(), Some(0));
        worker.start_again();
        let job = query(&mut worker.client().await, &id).await;
        assert_eq!((job.cause(), job.exit_code), (Cause::Exited, Some(3)));
    });
    worker.shut_down();
}

#[test]
fn a_wait_is_over_in_time_and_the_job_runs_on() {
    if !able() {
        return;
    }
    let nap = Nap::new();
    let mut worker = worker("wait", 1);
    in_runtime(async {
        let mut client = worker.client().await;
        let id = start(&mut client, shell(&format!("sleep {nap}"))).await;
        eventually("it runs", || nap.sleepers() == 1);
        let took = end(&mut worker, 0);
        assert!(
            took >= Duration::from_secs(1) && took < Duration::from_secs(5),
            "{took:?}"
        );
        assert_eq!(nap.sleepers(), 1);
        worker.start_again();
        let mut client = worker.client().await;
        stop(&mut client, &id).await;
    });
    worker.shut_down();
}

#[test]
fn stop_ends_jobs_and_says_so() {
    if !able() {
        return;
    }
    let nap = Nap::new();
    let mut worker = worker("stop", 30);
    in_runtime(async {
        let mut client = worker.client().await;
        let id = start(&mut client, shell(&format!("sleep {nap}"))).await;
        eventually("it runs", || nap.sleepers() == 1);
        let took = end(&mut worker, 0);
        assert!(took < Duration::from_secs(6), "{took:?}");
        assert_eq!(nap.sleepers(), 0);
        assert_eq!(left(&worker.name()), Vec::<PathBuf>::new());
        worker.start_again();
        let job = query(&mut worker.client().await, &id).await;
        assert_eq!((job.cause(), job.signal), (Cause::Stopped, Some(15)));
        assert_eq!(job.stop.expect("stop").by, "shutdown");
    });
    worker.shut_down();
}

#[test]
fn a_second_signal_ends_at_once_and_for_good() {
    if !able() {
        return;
    }
    let nap = Nap::new();
    let mut worker = worker("wait", 600);
    in_runtime(async {
        let mut client = worker.client().await;
        let id = start(&mut client, shell(&format!("sleep {nap}"))).await;
        eventually("it runs", || nap.sleepers() == 1);
        kill(worker.launcher(), libc::SIGTERM);
        std::thread::sleep(Duration::from_millis(800));
        let took = end(&mut worker, 1);
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert_eq!(nap.sleepers(), 1, "the job runs on");
        worker.start_again();
        let mut client = worker.client().await;
        assert_eq!(query(&mut client, &id).await.state(), State::Running);
        stop(&mut client, &id).await;
    });
    worker.shut_down();
}

#[test]
fn a_signal_between_two_servers_is_no_less_obeyed() {
    if !able() {
        return;
    }
    let mut worker = worker("leave", 30);
    eventually("a server", || worker.server().is_some());
    let before = Instant::now();
    kill(worker.server().expect("a server"), libc::SIGKILL);
    kill(worker.launcher(), libc::SIGTERM);
    // 1 where the server had not been missed yet: it did not end in order.
    assert!(matches!(worker.exit_status().code(), Some(0 | 1)));
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "{:?}",
        before.elapsed()
    );
}

#[test]
fn a_stop_of_many_jobs_leaves_none_of_their_folders() {
    if !able() {
        return;
    }
    let nap = Nap::new();
    let mut worker = worker("stop", 60);
    in_runtime(async {
        let mut client = worker.client().await;
        for _ in 0..150 {
            start(&mut client, shell(&format!("sleep {nap}"))).await;
        }
        eventually("they run", || nap.sleepers() == 150);
        end(&mut worker, 0);
        assert_eq!(nap.sleepers(), 0);
        assert_eq!(worker.control_folders(), 0);
        assert_eq!(left(&worker.name()), Vec::<PathBuf>::new());
    });
}
