//! What every test looks at in the end: nothing is left, and the worker is as it was.

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

use stockade::proto::v1::{GetWorkerRequest, Job, ListJobsRequest};

use super::worker::traces::{Holdings, children};
use super::worker::{Worker, eventually};
use super::{Client, shell, start, wait};

/// Sandboxes that wait for jobs, and the server.
pub(crate) const IDLE_CHILDREN: usize = 17;

/// A worker at rest, to be compared with later.
pub(crate) struct Rest {
    holdings: Holdings,
}

impl Rest {
    /// Before the first job, when all that waits for jobs is made.
    pub(crate) async fn of(worker: &Worker) -> Self {
        answers(&mut worker.client().await).await;
        idle(worker);
        Self {
            holdings: Holdings::at_rest(worker),
        }
    }

    /// That nothing is left of the jobs since, and that the worker works.
    pub(crate) async fn again(&self, worker: &Worker) {
        let mut client = worker.client().await;
        let id = start(&mut client, shell("exit 3")).await;
        let job = wait(&mut client, &id).await;
        assert_eq!(job.exit_code, Some(3), "without a restart: {job:?}");
        idle(worker);
        holds(worker, &self.holdings);
        eventually("nothing is kept for a restart", || worker.control_folders() == 0);
        answers(&mut client).await;
        folders_have_records(worker, &mut client).await;
        assert!(!worker.log().contains("panicked"), "{}", worker.log());
    }
}

fn holds(worker: &Worker, before: &Holdings) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let now = Holdings::of(worker);
        if now == *before {
            return;
        }
        assert!(Instant::now() < deadline, "{now:?} instead of {before:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn idle(worker: &Worker) {
    eventually("it is idle", || {
        children(worker.launcher()).len() == IDLE_CHILDREN
    });
}

/// The best of some tries: other work on this machine is not the worker's fault.
pub(crate) async fn answers(client: &mut Client) {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        client.get_worker(GetWorkerRequest {}).await.expect("get worker");
        best = best.min(began.elapsed());
    }
    assert!(best < Duration::from_millis(100), "answers after {best:?}");
}

/// Every job of the worker.
pub(crate) async fn all_jobs(client: &mut Client) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListJobsRequest {
            page_size: 1000,
            page_token,
            ..ListJobsRequest::default()
        };
        let page = client.list_jobs(request).await.expect("list").into_inner();
        jobs.extend(page.jobs);
        if page.next_page_token.is_empty() {
            return jobs;
        }
        page_token = page.next_page_token;
    }
}

/// No job's folder is there without a record of the job.
async fn folders_have_records(worker: &Worker, client: &mut Client) {
    let jobs = all_jobs(client).await;
    let known: HashSet<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
    let folders = fs::read_dir(worker.dir.path().join("state/jobs")).expect("jobs");
    for folder in folders.flatten() {
        let name = folder.file_name().into_string().expect("a job's id");
        assert!(known.contains(name.as_str()), "{name} has no record");
    }
}
