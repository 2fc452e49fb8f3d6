//! What a job's output costs: into files, to a reader, and how long a line is on its way.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

use super::{BenchError, Load, Progress, Samples};
use crate::proto::v1::stream_output_response::Part;
use crate::proto::v1::{Job, Limits, StartJobRequest, Stream, StreamOutputRequest};

/// A line a line: the time of the write. `sleep` comes after it, so that it costs the next line nothing.
const TELL_THE_TIME: &str = "for ((n = 0; n < $1; n++)); do echo $EPOCHREALTIME; sleep 0.01; done";

/// A job that writes so many zero bytes to its standard output.
#[must_use]
pub fn flood(bytes: u64) -> StartJobRequest {
    StartJobRequest {
        argv: vec![
            "head".to_owned(),
            "-c".to_owned(),
            bytes.to_string(),
            "/dev/zero".to_owned(),
        ],
        limits: Some(Limits {
            output_bytes: bytes,
            ..Limits::default()
        }),
        ..StartJobRequest::default()
    }
}

/// Bytes a second of a job whose output nobody reads, by its own start and end.
pub async fn unread(load: &mut Load, bytes: u64) -> Result<f64, BenchError> {
    let id = load.start(flood(bytes)).await?;
    let job = load.wait(&id).await?;
    Ok(rate(bytes, ran_for(&job)?))
}

/// Bytes a second that one follower gets, from its request to the end of the stream.
pub async fn followed(load: &mut Load, bytes: u64) -> Result<f64, BenchError> {
    let id = load.start(flood(bytes)).await?;
    let before = Instant::now();
    let mut received = 0;
    follow(load, &id, |data| received += data.len() as u64).await?;
    let time = before.elapsed();
    load.wait(&id).await?;
    if received != bytes {
        return Err(BenchError::Job(format!("{received} of {bytes} bytes arrived")));
    }
    Ok(rate(bytes, time))
}

/// From the write in the job to the chunk at a follower, for so many lines.
///
/// Both sides read the machine's clock: the worker must be on this host.
pub async fn delay(load: &mut Load, lines: usize, progress: &Progress) -> Result<Samples, BenchError> {
    let argv = ["bash", "-c", TELL_THE_TIME, "bash", &lines.to_string()];
    let request = StartJobRequest {
        argv: argv.map(str::to_owned).to_vec(),
        ..StartJobRequest::default()
    };
    let id = load.start(request).await?;
    let mut times = Vec::with_capacity(lines);
    let mut early = 0;
    follow(load, &id, |data| {
        let now = SystemTime::now();
        for written in String::from_utf8_lossy(data).lines().filter_map(moment) {
            match now.duration_since(written) {
                Ok(time) => times.push(time),
                Err(_) => early += 1,
            }
        }
        progress.step("delay of output", times.len(), lines);
    })
    .await?;
    load.wait(&id).await?;
    match Samples::new(times) {
        Some(samples) if early == 0 => Ok(samples),
        _ => Err(BenchError::Unfit(
            "the worker's clock is not this host's".to_owned(),
        )),
    }
}

/// Hands every chunk of the standard output to `take` until the job is over.
pub async fn follow(load: &Load, id: &str, mut take: impl FnMut(&[u8])) -> Result<(), BenchError> {
    let request = StreamOutputRequest {
        job_id: id.to_owned(),
        streams: vec![Stream::Stdout.into()],
        follow: true,
        ..StreamOutputRequest::default()
    };
    let mut parts = load.client().stream_output(request).await?.into_inner();
    while let Some(message) = parts.message().await? {
        load.interruption.check()?;
        match message.part {
            Some(Part::Chunk(chunk)) => take(&chunk.data),
            Some(Part::End(_)) => return Ok(()),
            Some(Part::Gap(_)) | None => {}
        }
    }
    Err(BenchError::Incomplete("end of the output"))
}

/// How long a finished job's command ran.
pub fn ran_for(job: &Job) -> Result<Duration, BenchError> {
    let at = |time: Option<Timestamp>| time.and_then(|time| SystemTime::try_from(time).ok());
    match (at(job.started_at), at(job.finished_at)) {
        (Some(started), Some(finished)) => Ok(finished.duration_since(started).unwrap_or_default()),
        _ => Err(BenchError::Incomplete("times")),
    }
}

/// `1700000000.123456`, as bash tells the time; some locales have a comma.
fn moment(line: &str) -> Option<SystemTime> {
    let (seconds, micros) = line.split_once(['.', ','])?;
    let since = Duration::from_secs(seconds.parse().ok()?) + Duration::from_micros(micros.parse().ok()?);
    UNIX_EPOCH.checked_add(since)
}

fn rate(bytes: u64, time: Duration) -> f64 {
    // Exact up to 8 PiB.
    #[allow(clippy::cast_precision_loss)]
    let bytes = bytes as f64;
    bytes / time.as_secs_f64().max(1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_shell_is_understood() {
        let at = |text| moment(text).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        assert_eq!(at("1.000002"), Some(Duration::from_micros(1_000_002)));
        assert_eq!(at("3,5"), Some(Duration::new(3, 5000)));
        assert_eq!(at("soon"), None);
    }
}
