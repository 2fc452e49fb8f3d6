//! No descriptors, no processes: refused in words, and over when there are some again.

use std::collections::HashSet;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use stockade::proto::v1::{Cause, Job, State};

use super::rest::{Rest, answers};
use super::worker::{Setup, Worker, able, eventually, kill};
use super::{Client, alone, in_runtime, query, rounds, shell, start, wait};

pub(crate) fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Leaves a process just so many descriptors that it does not use.
fn leave_descriptors(pid: u32, left: usize) {
    let used: HashSet<u64> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("descriptors")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let free = (0..).filter(|number| !used.contains(number)).nth(left);
    limit_open_files(pid, free);
}

fn limit_open_files(pid: u32, limit: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: limit.or(maximum),
        maximum,
    };
    prlimit(pid, Resource::Nofile, limit).expect("prlimit");
}

/// It ran, or it says which step found none. Whether it ran.
fn ran_or_said(job: &Job, errno: &str) -> bool {
    if job.cause() == Cause::StartFailed {
        let failure = job.start_failure.as_ref().expect("the step");
        // Some steps tell the number in words alone.
        let known = failure.errno == errno || job.error_text.contains("os error");
        assert!(known && !failure.step.is_empty(), "{job:?}");
        return false;
    }
    assert_eq!((job.cause(), job.exit_code), (Cause::Exited, Some(3)), "{job:?}");
    true
}

#[test]
fn a_launcher_without_descriptors_refuses_and_recovers() {
    if !able() {
        return;
    }
    let _alone = alone();
    let worker = Worker::start();
    let launcher = worker.launcher();
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        for _ in 0..rounds(1) {
            let mut refused = 0;
            for more in (0..30).step_by(3) {
                let mut client = worker.client().await;
                limit_open_files(launcher, Some(open_files(launcher) as u64 + more));
                // At the same time: what one has left serves the next without a new descriptor.
                refused += try_jobs(&mut client, 20, "EMFILE").await;
                limit_open_files(launcher, None);
                rest.again(&worker).await;
            }
            assert!(refused > 0);
        }
    });
    worker.shut_down();
}

/// Jobs that run for a second or two, and are seen to run.
async fn short_jobs(worker: &Worker) -> Vec<String> {
    let mut client = worker.client().await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(start(&mut client, shell("sleep 2; exit 3")).await);
    }
    for id in &ids {
        while query(&mut client, id).await.state() != State::Running {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    ids
}

async fn all_ended_well(worker: &Worker, ids: &[String]) {
    let mut client = worker.client().await;
    for id in ids {
        let job = wait(&mut client, id).await;
        assert_eq!((job.cause(), job.exit_code), (Cause::Exited, Some(3)), "{job:?}");
    }
}

#[test]
fn a_server_that_starts_loses_no_job_whose_files_cannot_be_read() {
    if !able() {
        return;
    }
    let _alone = alone();
    let worker = Worker::start();
    let launcher = worker.launcher();
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        for more in [1, 2, 0] {
            let ids = short_jobs(&worker).await;
            leave_descriptors(launcher, more);
            kill(worker.server().expect("a server"), libc::SIGKILL);
            tokio::time::sleep(Duration::from_millis(700)).await;
            limit_open_files(launcher, None);
            all_ended_well(&worker, &ids).await;
        }
        assert!(worker.log().contains("jobs cannot be read"), "{}", worker.log());
        rest.again(&worker).await;
    });
    worker.shut_down();
}

#[test]
fn a_record_that_cannot_be_read_is_told_once_it_can() {
    if !able() {
        return;
    }
    let _alone = alone();
    let mut worker = Worker::start();
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let ids = short_jobs(&worker).await;
        worker.die_and_start_again(|_| {});
        let launcher = worker.launcher();
        tokio::time::sleep(Duration::from_millis(300)).await;
        leave_descriptors(launcher, 0);
        eventually("a job has ended", || worker.log().contains("cannot be read now"));
        tokio::time::sleep(Duration::from_millis(700)).await;
        limit_open_files(launcher, None);
        all_ended_well(&worker, &ids).await;
        rest.again(&worker).await;
    });
    worker.shut_down();
}

#[test]
fn a_server_without_descriptors_serves_whom_it_knows_and_recovers() {
    if !able() {
        return;
    }
    let _alone = alone();
    // No fewer than a job may have, and no more than the connections that may say nothing.
    let setup = Setup {
        before: "ulimit -n 1030".to_owned(),
        ..Setup::default()
    };
    let worker = Worker::start_as(setup, |_| {});
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        for _ in 0..rounds(1) {
            let mut client = worker.client().await;
            answers(&mut client).await;
            // They say nothing, and would be closed after 5 s.
            let silent: Vec<_> = (0..1020)
                .map_while(|_| UnixStream::connect(worker.socket()).ok())
                .collect();
            let server = worker.server().expect("a server");
            eventually("it has none left", || open_files(server) >= 1030);
            let id = start(&mut client, shell("echo out; exit 3")).await;
            assert_eq!(wait(&mut client, &id).await.exit_code, Some(3));
            let refused = match client.stream_output(super::output_of(&id)).await {
                Ok(stream) => stream.into_inner().message().await.expect_err("no descriptor"),
                Err(status) => status,
            };
            assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
            let other = tokio::time::timeout(Duration::from_millis(300), async {
                query(&mut worker.client().await, &id).await
            });
            assert!(other.await.is_err(), "a connection without a descriptor");
            query(&mut client, &id).await;
            drop(silent);
            let (bytes, gaps, _) = super::disks::read_stdout(&mut client, &id).await;
            assert_eq!((bytes.as_slice(), gaps.len()), (b"out\n".as_slice(), 0));
            drop(client);
            rest.again(&worker).await;
        }
    });
    worker.shut_down();
}

/// A cgroup of the test's own for the worker's processes; `file` is its limit in v1 and in v2.
pub(crate) struct Limited {
    folder: PathBuf,
    file: &'static str,
}

impl Limited {
    pub(crate) fn new(controller: &str, file: [&'static str; 2]) -> Self {
        let v1 = Path::new("/sys/fs/cgroup").join(controller);
        let (root, file) = if v1.is_dir() {
            (v1, file[0])
        } else {
            (PathBuf::from("/sys/fs/cgroup"), file[1])
        };
        let folder = root.join(format!("stockade-faults-{}", std::process::id()));
        fs::create_dir(&folder).expect("a cgroup");
        Self { folder, file }
    }

    /// Words of a shell that put it in here.
    pub(crate) fn enter(&self) -> String {
        format!("echo $$ > {}/cgroup.procs || exit 125", self.folder.display())
    }

    pub(crate) fn limit(&self, value: &str) {
        fs::write(self.folder.join(self.file), value).expect(self.file);
    }

    pub(crate) fn read(&self, file: &str) -> u64 {
        let text = fs::read_to_string(self.folder.join(file)).expect(file);
        text.trim().parse().expect("a number")
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let removed = || fs::remove_dir(&self.folder).is_ok();
        for _ in 0..200 {
            if removed() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(
            std::thread::panicking(),
            "processes are left in {}",
            self.folder.display()
        );
    }
}

async fn try_jobs(client: &mut Client, count: usize, errno: &str) -> usize {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(start(client, shell("sleep 0.1; exit 3")).await);
    }
    let mut refused = 0;
    for id in ids {
        if !ran_or_said(&wait(client, &id).await, errno) {
            refused += 1;
        }
    }
    refused
}

#[test]
fn a_worker_without_processes_refuses_and_recovers() {
    if !able() {
        return;
    }
    let _alone = alone();
    let pids = Limited::new("pids", ["pids.max", "pids.max"]);
    let setup = Setup {
        before: pids.enter(),
        ..Setup::default()
    };
    let worker = Worker::start_as(setup, |_| {});
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        for _ in 0..rounds(1) {
            let mut refused = 0;
            for more in 0..4 {
                let mut client = worker.client().await;
                pids.limit(&(pids.read("pids.current") + more).to_string());
                refused += try_jobs(&mut client, 20, "EAGAIN").await;
                pids.limit("max");
                rest.again(&worker).await;
            }
            assert!(refused > 0);
            // Nor is there one for another server.
            let server = worker.server().expect("a server");
            pids.limit("1");
            kill(server, libc::SIGKILL);
            eventually("the launcher has noticed", || worker.server().is_none());
            tokio::time::sleep(Duration::from_millis(200)).await;
            pids.limit("max");
            rest.again(&worker).await;
        }
    });
    worker.shut_down();
    drop(pids);
}
