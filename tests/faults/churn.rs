//! Thousands of short jobs of all kinds while server and launcher are killed again and again.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use stockade::proto::v1::{Cause, Job, StartJobRequest, WaitJobRequest};

use super::kills::{VICTIMS, kill_and_restart};
use super::rest::{Rest, all_jobs};
use super::worker::{Setup, Worker, able, channel_to};
use super::{Client, Random, alone, in_runtime, rounds, shell};

/// At one time.
const CLIENTS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);

/// What a job is expected to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exits,
    Fails,
    Dies,
    IsNotThere,
    LeavesProcesses,
}

impl Kind {
    /// One in ten fails.
    fn of(number: usize) -> Self {
        match number % 50 {
            0 => Self::Fails,
            10 | 20 => Self::Dies,
            30 | 40 => Self::IsNotThere,
            5 | 15 => Self::LeavesProcesses,
            _ => Self::Exits,
        }
    }

    fn request(self, number: usize) -> StartJobRequest {
        let says = format!(
            "i=0; while [ $i -lt {} ]; do echo {number} $i; i=$((i+1)); done",
            lines(number)
        );
        let mut request = match self {
            Self::Exits => shell(&format!("{says}; exit 0")),
            Self::Fails => shell(&format!("{says}; exit 9")),
            Self::Dies => shell(&format!("{says}; kill -9 $$")),
            Self::LeavesProcesses => shell(&format!("setsid sleep 1000 & {says}; exit 0")),
            Self::IsNotThere => StartJobRequest {
                argv: vec!["/no/such/program".to_owned()],
                ..StartJobRequest::default()
            },
        };
        request.idempotency_key = format!("churn-{number}");
        request
    }

    /// That it has become this. Whether it ran.
    fn check(self, number: usize, job: &Job) -> bool {
        if job.cause() == Cause::Lost {
            assert_eq!(
                job.cause_detail, "its supervisor was gone at the start of the worker",
                "{job:?}"
            );
            return false;
        }
        let expected = match self {
            Self::Exits | Self::LeavesProcesses => (Cause::Exited, Some(0), None),
            Self::Fails => (Cause::Exited, Some(9), None),
            Self::Dies => (Cause::Signaled, None, Some(9)),
            Self::IsNotThere => (Cause::StartFailed, None, None),
        };
        assert_eq!((job.cause(), job.exit_code, job.signal), expected, "{job:?}");
        if self != Self::IsNotThere {
            let output: String = (0..lines(number))
                .map(|line| format!("{number} {line}\n"))
                .collect();
            let digest = Sha256::digest(output.as_bytes());
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            let stdout = job.output.as_ref().and_then(|output| output.stdout.as_ref());
            let stdout = stdout.expect("stdout");
            assert_eq!(
                (stdout.total_bytes, &stdout.sha256),
                (output.len() as u64, &digest),
                "{job:?}"
            );
        }
        true
    }
}

fn lines(number: usize) -> usize {
    number % 40
}

/// Starts a job and waits for its end, whatever becomes of the worker meanwhile.
async fn run(client: &mut Option<Client>, socket: &Path, request: &StartJobRequest) -> Job {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if client.is_none() {
            *client = Some(Client::new(channel_to(socket.to_owned()).await));
        }
        match attempt(client.as_mut().expect("connected"), request).await {
            Ok(job) => return job,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        *client = None;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn attempt(client: &mut Client, request: &StartJobRequest) -> Result<Job, tonic::Status> {
    let job = client
        .start_job(request.clone())
        .await?
        .into_inner()
        .job
        .expect("job");
    let wait = WaitJobRequest {
        job_id: job.id,
        timeout_ms: 60_000,
    };
    Ok(client.wait_job(wait).await?.into_inner().job.expect("job"))
}

/// What all the clients share.
#[derive(Default)]
struct Progress {
    next: AtomicUsize,
    ended: AtomicUsize,
    never_ran: AtomicUsize,
    /// Of each number, the job's id and cause.
    seen: Mutex<HashMap<usize, (String, Cause)>>,
}

fn clients(worker: &Worker, progress: &Arc<Progress>, end: usize) -> Vec<tokio::task::JoinHandle<()>> {
    let client = |_| {
        let (progress, socket) = (Arc::clone(progress), worker.socket());
        tokio::spawn(async move {
            let mut client = None;
            loop {
                let number = progress.next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return;
                }
                let kind = Kind::of(number);
                let job = run(&mut client, &socket, &kind.request(number)).await;
                if !kind.check(number, &job) {
                    progress.never_ran.fetch_add(1, Ordering::Relaxed);
                }
                let mut seen = progress.seen.lock().expect("no panic under it");
                seen.insert(number, (job.id.clone(), job.cause()));
                progress.ended.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    (0..CLIENTS).map(client).collect()
}

/// KiB in memory.
fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.expect("VmRSS").parse().expect("a number")
}

#[test]
fn thousands_of_jobs_and_many_kills() {
    if !able() {
        return;
    }
    let _alone = alone();
    let mut random = Random::new();
    let count = rounds(1) * 1000;
    let setup = Setup {
        worker: "\n[retention]\nmax_jobs = 0\nmax_age_s = 0\n".to_owned(),
        ..Setup::default()
    };
    let mut worker = Worker::start_as(setup, |_| {});
    let began = Instant::now();
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let progress = Arc::new(Progress::default());

        // The first half with kills, the second without, so that what grows can be seen.
        let tasks = clients(&worker, &progress, count / 2);
        let mut kills = 0;
        while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(200) + random.micros(1_500_000)).await;
            kill_and_restart(&mut worker, VICTIMS[kills % 3]);
            kills += 1;
        }
        for task in tasks {
            task.await.expect("no panic");
        }
        progress.next.store(count / 2, Ordering::Relaxed);
        for task in clients(&worker, &progress, count / 2 + count / 20) {
            task.await.expect("no panic");
        }
        let pids = [worker.launcher(), worker.server().expect("a server")];
        let before = pids.map(resident_kib);
        progress.next.store(count / 2 + count / 20, Ordering::Relaxed);
        for task in clients(&worker, &progress, count) {
            task.await.expect("no panic");
        }
        let after = pids.map(resident_kib);
        println!(
            "{count} jobs and {kills} kills in {:?}; {} jobs never ran; KiB of launcher and server: {before:?}, {after:?}",
            began.elapsed(),
            progress.never_ran.load(Ordering::Relaxed),
        );
        rest.again(&worker).await;
        one_final_state(&worker, &progress, count).await;
        for (before, after) in before.into_iter().zip(after) {
            // 5 %, and what an allocator keeps at hand.
            assert!(
                after <= before + before / 20 + 2048,
                "{before} KiB have become {after}"
            );
        }
    });
    worker.shut_down();
}

/// Each job is there once, as it was when it was seen first.
async fn one_final_state(worker: &Worker, progress: &Progress, count: usize) {
    let jobs = all_jobs(&mut worker.client().await).await;
    let causes: HashMap<&str, Cause> = jobs.iter().map(|job| (job.id.as_str(), job.cause())).collect();
    let seen = progress.seen.lock().expect("no panic under it");
    assert_eq!((seen.len(), causes.len()), (count, count + 1));
    for (number, (id, cause)) in &*seen {
        assert_eq!(causes.get(id.as_str()), Some(cause), "{number}: {id}");
    }
    let kept = fs::read_dir(worker.dir.path().join("state/jobs"))
        .expect("jobs")
        .count();
    assert!(kept <= count + 1, "{kept} folders");
}
