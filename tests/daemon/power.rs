//! A loss of power: a start on the state as it was at some moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use stockade::job::JobId;
use stockade::proto::v1::{Cause, State};

use super::worker::{Worker, able, kill};
use super::{in_runtime, query, shell, start, wait};

const MOMENTS: usize = 6;

/// The files as they are while every process stands still. What was written counts as on the disk, whether it was flushed or
/// not: that a job costs its syncs is for `launch_counts` to hold.
fn snapshot(worker: &Worker, number: usize) -> PathBuf {
    let processes = [worker.launcher(), worker.server().expect("a server")];
    processes.iter().for_each(|pid| kill(*pid, libc::SIGSTOP));
    let copy = worker.dir.path().join(format!("copy{number}"));
    let copied = Command::new("cp")
        .arg("-a")
        .arg(worker.dir.path().join("state"))
        .arg(&copy)
        .status();
    processes.iter().for_each(|pid| kill(*pid, libc::SIGCONT));
    // Files of jobs come and go meanwhile: their supervisors do not stand still.
    let _ = copied.expect("cp");
    copy
}

/// What the disk had not taken yet: the log ends in the middle of what nobody had been told.
fn tear(copy: &Path) {
    let log = copy.join("server/stockade.db-wal");
    let mut bytes = fs::read(&log).unwrap_or_default();
    bytes.extend_from_within(..bytes.len().min(3000));
    bytes.extend_from_slice(&[0xa5; 777]);
    fs::write(&log, bytes).expect("write");
    // Made anew by whoever opens the database first.
    let _ = fs::remove_file(copy.join("server/stockade.db-shm"));
}

#[test]
fn a_start_after_a_loss_of_power_knows_all_that_was_acknowledged() {
    if !able() {
        return;
    }
    let worker = Worker::start_with(|config| config.replace("durability = \"process\"\n", ""));
    let mut snapshots = Vec::new();
    in_runtime(async {
        let acknowledged = Arc::new(Mutex::new((Vec::new(), Vec::new())));
        let end = Instant::now() + Duration::from_secs(5);
        let mut tasks = Vec::new();
        for caller in 0..4 {
            let mut client = worker.client().await;
            let acknowledged = Arc::clone(&acknowledged);
            tasks.push(tokio::spawn(async move {
                let mut code = caller;
                while Instant::now() < end {
                    code = (code + 1) % 100;
                    let id = start(&mut client, shell(&format!("exit {code}"))).await;
                    acknowledged.lock().expect("lock").0.push(id.clone());
                    assert_eq!(wait(&mut client, &id).await.exit_code, Some(code));
                    acknowledged.lock().expect("lock").1.push((id, code));
                }
            }));
        }
        for number in 0..MOMENTS {
            let pause = 150 + u64::from(JobId::random().as_bytes()[0]) * 2;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let known = acknowledged.lock().expect("lock").clone();
            let copy = tokio::task::block_in_place(|| snapshot(&worker, number));
            snapshots.push((copy, known));
        }
        for task in tasks {
            task.await.expect("task");
        }
    });
    for (number, (copy, (accepted, ended))) in snapshots.into_iter().enumerate() {
        assert!(number == 0 || !ended.is_empty());
        tear(&copy);
        let again = Worker::start_in(|dir| fs::rename(&copy, dir.join("state")).expect("rename"));
        in_runtime(async {
            let mut client = again.client().await;
            for (id, code) in &ended {
                let job = query(&mut client, id).await;
                assert_eq!(
                    (job.state(), job.cause(), job.exit_code),
                    (State::Finished, Cause::Exited, Some(*code)),
                    "{id}"
                );
            }
            for id in &accepted {
                let job = wait(&mut client, id).await;
                assert_eq!(job.state(), State::Finished, "it has one end: {job:?}");
            }
        });
        println!(
            "moment {number}: {} accepted, {} ended",
            accepted.len(),
            ended.len()
        );
        again.shut_down();
    }
    worker.shut_down();
}
