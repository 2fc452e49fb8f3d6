//! The worker as a whole, with real sandboxes: outcomes, what is left over, and what survives a kill.
//!
//! Needs root, user namespaces and cgroups.

mod absence;
mod descriptors;
mod faults;
mod filters;
mod idle;
mod keeping;
mod neighbours;
mod power;
mod reload;
mod restart;
mod roles;
mod sandboxes;
mod scheduler;
mod shares;
mod shutdown;
mod state_dir;
mod successors;
mod survival;
mod threads;
mod worker;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use stockade::proto::v1::stream_output_response::Part;
use stockade::proto::v1::worker_client::WorkerClient;
use stockade::proto::v1::{
    Job, QueryJobRequest, StartJobRequest, State, StopJobRequest, StreamOutputRequest, WaitJobRequest,
};
use tonic::transport::Channel;

use worker::{Setup, Worker};

type Client = WorkerClient<Channel>;

fn in_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("runtime")
        .block_on(test);
}

/// One that takes policies from a folder.
fn worker_with_policies(folder: &Path) -> Worker {
    // Its server is nobody, and reads them too.
    std::fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("chmod");
    let setup = Setup {
        worker: format!("policies_dir = \"{}\"", folder.display()),
        ..Setup::default()
    };
    Worker::start_as(setup, |_| {})
}

fn shell(script: &str) -> StartJobRequest {
    StartJobRequest {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        ..StartJobRequest::default()
    }
}

async fn start(client: &mut Client, request: StartJobRequest) -> String {
    client
        .start_job(request)
        .await
        .expect("start")
        .into_inner()
        .job
        .expect("job")
        .id
}

async fn wait(client: &mut Client, id: &str) -> Job {
    let request = WaitJobRequest {
        job_id: id.to_owned(),
        timeout_ms: 60_000,
    };
    client
        .wait_job(request)
        .await
        .expect("wait")
        .into_inner()
        .job
        .expect("job")
}

/// Has it stopped as its policy says, and waits until it is.
async fn stop(client: &mut Client, id: &str) {
    let request = StopJobRequest {
        job_id: id.to_owned(),
        wait: true,
        ..StopJobRequest::default()
    };
    client.stop_job(request).await.expect("stop");
}

async fn query(client: &mut Client, id: &str) -> Job {
    let request = QueryJobRequest {
        job_id: id.to_owned(),
    };
    client
        .query_job(request)
        .await
        .expect("query")
        .into_inner()
        .job
        .expect("job")
}

/// The job once it runs.
async fn running(client: &mut Client, id: &str) -> Job {
    loop {
        let job = query(client, id).await;
        if job.state() == State::Running {
            return job;
        }
        assert_eq!(job.state(), State::Pending);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// What a job has written so far, of both streams.
async fn output(client: &mut Client, id: &str) -> String {
    let request = StreamOutputRequest {
        job_id: id.to_owned(),
        ..StreamOutputRequest::default()
    };
    let mut parts = client.stream_output(request).await.expect("stream").into_inner();
    let mut text = String::new();
    while let Some(part) = parts.message().await.expect("part") {
        if let Some(Part::Chunk(chunk)) = part.part {
            text.push_str(&String::from_utf8_lossy(&chunk.data));
        }
    }
    text
}
