use stockade::job::JobId;
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
