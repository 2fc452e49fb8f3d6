use stockade::isolation::ipc::{KnownJob, Origin};
use stockade::job::{Cause, ExitRecord, JobId, Timestamp};
use stockade::proto::v1;

use super::Client;

/// A request that runs `words`.
pub fn command(words: &[&str]) -> v1::StartJobRequest {
    v1::StartJobRequest {
        argv: words.iter().map(|&word| word.to_owned()).collect(),
        ..v1::StartJobRequest::default()
    }
}

/// Starts a job that must be accepted.
pub async fn start(client: &mut Client, words: &[&str]) -> JobId {
    let answer = client
        .start_job(command(words))
        .await
        .expect("start")
        .into_inner();
    answer.job.expect("job").id.parse().expect("id")
}

/// A job as it is now.
pub async fn job(client: &mut Client, id: JobId) -> v1::Job {
    let request = v1::QueryJobRequest {
        job_id: id.to_string(),
    };
    let answer = client.query_job(request).await.expect("query").into_inner();
    answer.job.expect("job")
}

/// A job once it is over.
pub async fn ended(client: &mut Client, id: JobId) -> v1::Job {
    let request = v1::WaitJobRequest {
        job_id: id.to_string(),
        timeout_ms: 0,
    };
    let answer = client.wait_job(request).await.expect("wait").into_inner();
    answer.job.expect("job")
}

/// Both streams from these offsets.
pub fn offsets(id: JobId, stdout: u64, stderr: u64, follow: bool) -> v1::StreamOutputRequest {
    v1::StreamOutputRequest {
        job_id: id.to_string(),
        stdout_offset: stdout,
        stderr_offset: stderr,
        streams: Vec::new(),
        follow,
    }
}

pub fn text_of(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// A job that a launcher has let go.
pub(super) fn known(id: JobId, created_at: Timestamp) -> KnownJob {
    KnownJob {
        id,
        tenant: "default".to_owned(),
        policy: "default".to_owned(),
        created_at,
        started_at: None,
        receipt: None,
        idempotency_key: None,
        stop: None,
        record: None,
        origin: Origin::Launched,
    }
}

/// Of a job that ended now.
pub fn exit_record(cause: Cause, started_at: Timestamp) -> ExitRecord {
    let never_ran = matches!(cause, Cause::StartFailed { .. });
    ExitRecord {
        started_at: (!never_ran).then_some(started_at),
        ..ExitRecord::without_run(cause)
    }
}
