//! The worker as a whole under faults: processes killed, steps that fail, resources that run out, and many jobs at once.
//!
//! Needs root, user namespaces and cgroups, and a binary with the feature `fault-points`. One test runs at a time: each
//! measures, and looks for what is left.
//!
//! `STOCKADE_TEST_ROUNDS` says how often each fault is repeated, where once is not enough; the default suits a change.

#[path = "../support/fault_places.rs"]
mod fault_places;
#[path = "../daemon/worker/mod.rs"]
#[expect(dead_code, reason = "shared with other tests")]
mod worker;

mod adoption;
mod bombs;
mod churn;
mod disks;
mod exhaustion;
mod foreground;
mod kills;
mod late;
mod memory;
mod points;
mod readers;
mod rest;
mod switch;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stockade::proto::v1::worker_client::WorkerClient;
use stockade::proto::v1::{
    Job, QueryJobRequest, StartJobRequest, StopJobRequest, StreamOutputRequest, WaitJobRequest,
};
use tonic::transport::Channel;

pub(crate) type Client = WorkerClient<Channel>;

/// Held by a test as long as it runs.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often to repeat: `usual` times, or as the environment says.
pub(crate) fn rounds(usual: usize) -> usize {
    let asked = std::env::var("STOCKADE_TEST_ROUNDS").ok();
    asked.map_or(usual, |text| {
        text.parse().expect("STOCKADE_TEST_ROUNDS: a number")
    })
}

/// Numbers that differ from run to run; a failing test says its seed.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = now.map_or(1, |now| u64::from(now.subsec_nanos()) << 20 ^ now.as_secs()) | 1;
        println!("seed {seed}");
        Self(seed)
    }

    /// xorshift64*
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }

    pub(crate) fn micros(&mut self, below: u64) -> Duration {
        Duration::from_micros(self.below(below))
    }
}

pub(crate) fn in_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("runtime")
        .block_on(test);
}

pub(crate) fn shell(script: &str) -> StartJobRequest {
    StartJobRequest {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        ..StartJobRequest::default()
    }
}

pub(crate) fn python(script: &str) -> StartJobRequest {
    StartJobRequest {
        argv: ["python3", "-c", script].map(str::to_owned).to_vec(),
        ..StartJobRequest::default()
    }
}

pub(crate) async fn try_start(
    client: &mut Client,
    request: StartJobRequest,
) -> Result<String, tonic::Status> {
    let answer = client.start_job(request).await?.into_inner();
    Ok(answer.job.expect("job").id)
}

pub(crate) async fn start(client: &mut Client, request: StartJobRequest) -> String {
    try_start(client, request).await.expect("start")
}

pub(crate) async fn wait(client: &mut Client, id: &str) -> Job {
    let request = WaitJobRequest {
        job_id: id.to_owned(),
        timeout_ms: 60_000,
    };
    let answer = client.wait_job(request).await.expect("wait").into_inner();
    answer.job.expect("job")
}

pub(crate) async fn query(client: &mut Client, id: &str) -> Job {
    let request = QueryJobRequest {
        job_id: id.to_owned(),
    };
    let answer = client.query_job(request).await.expect("query").into_inner();
    answer.job.expect("job")
}

pub(crate) async fn stop(client: &mut Client, id: &str, grace_ms: u64) -> Job {
    let request = StopJobRequest {
        job_id: id.to_owned(),
        grace_ms: Some(grace_ms),
        wait: true,
        ..StopJobRequest::default()
    };
    let answer = client.stop_job(request).await.expect("stop").into_inner();
    answer.job.expect("job")
}

pub(crate) fn output_of(id: &str) -> StreamOutputRequest {
    StreamOutputRequest {
        job_id: id.to_owned(),
        follow: true,
        ..StreamOutputRequest::default()
    }
}
