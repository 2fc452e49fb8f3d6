//! A job's output: into files, to followers that read and to followers that do not.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stockade::cli::bench::{BenchError, Durability, Load, PrivateWorker, output};
use stockade::proto::v1::worker_client::WorkerClient;
use stockade::proto::v1::{StartJobRequest, StreamOutputRequest, StreamOutputResponse};
use tonic::Streaming;
use tonic::transport::{self, Endpoint};

use super::context::{Context, blocking};
use super::document::Document;
use super::processes::Processes;
use super::table::{Table, micros};

const STALLED: usize = 100;
const ROUNDS: u32 = 3;
const MIB: f64 = 1_048_576.0;

/// Bytes a second, and the least CPU time.
struct Best {
    cat: f64,
    unread: f64,
    followed: f64,
    /// After a rest, as beside stalled followers.
    rested: f64,
    stalled: f64,
    cost: Duration,
}

impl Default for Best {
    fn default() -> Self {
        Self {
            cat: 0.0,
            unread: 0.0,
            followed: 0.0,
            rested: 0.0,
            stalled: 0.0,
            cost: Duration::MAX,
        }
    }
}

pub(crate) async fn measure(context: &Context, document: &mut Document) -> Result<(), BenchError> {
    let bytes = context.scaled(1_u64 << 30, 1 << 27);
    // Exact for a power of 2.
    #[allow(clippy::cast_precision_loss)]
    let gib = bytes as f64 / f64::from(1 << 30);
    document.heading("Output");
    document.paragraph(&format!(
        "A job of `head -c {bytes} /dev/zero`, by its own start and end, and where one follows it by the end of the stream; each row in turns with the others, the best of \
         {ROUNDS}, of the last two twice as many. *stalled*: {STALLED} followers, there before the first byte, that never read one, with the window that \
         HTTP/2 begins with; its job rests for two seconds before, while they come, and *rested* is the same job with none \
         of them.",
    ));
    let (worker, mut load) = context.worker(Durability::Process).await?;
    let mut table = Table::new(["", "MiB/s"]);
    let mut best = Best::default();
    // They are nearly as fast, and of the two best chance would decide which is faster.
    let mut slower = Vec::new();
    for _ in 0..context.scaled(ROUNDS, 1) {
        context.interruption.check()?;
        context.progress.begin("cat into a file");
        best.cat = best.cat.max(blocking(move || cat(bytes)).await?);
        context.progress.begin("output that nobody reads");
        let (unread, cost) = unread(&mut load, &worker, bytes).await?;
        best.unread = best.unread.max(unread);
        best.cost = best.cost.min(cost);
        context.progress.begin("output to one follower");
        best.followed = best.followed.max(output::followed(&mut load, bytes).await?);
        load.remove_jobs().await?;
        context.progress.begin("output beside stalled followers");
        for _ in 0..2 {
            let stalled = beside_stalled(context, &worker, bytes, STALLED).await?;
            let rested = beside_stalled(context, &worker, bytes, 0).await?;
            best.stalled = best.stalled.max(stalled);
            best.rested = best.rested.max(rested);
            slower.push(rested / stalled);
        }
    }
    for (name, rate) in [
        ("`head \\| cat > file`, no sandbox".to_owned(), best.cat),
        ("job, nobody reads".to_owned(), best.unread),
        ("job, to one follower".to_owned(), best.followed),
        ("job, rested".to_owned(), best.rested),
        (format!("job, {STALLED} stalled followers"), best.stalled),
    ] {
        table.row([name, format!("{:.0}", rate / MIB)]);
    }
    document.table(&table);
    document.paragraph(&format!(
        "Server, launcher and supervisor take {:.2} s of CPU for a GiB that nobody reads. With {STALLED} stalled followers the \
         job takes {:.2} times as long as with none, the median of pairs one after the other.",
        best.cost.as_secs_f64() / gib,
        median(slower)
    ));

    let lines = context.scaled(300, 50);
    let delay = output::delay(&mut load, lines, &context.progress).await?;
    worker.stop()?;
    document.paragraph(&format!(
        "From the write of a line in a job to the chunk at a follower, {lines} lines, 10 ms apart: median {}, P99 {}.",
        micros(delay.median()),
        micros(delay.permille(990))
    ));
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

fn cpu(launcher: u32) -> Result<Duration, BenchError> {
    let processes = Processes::of(launcher).ok_or(BenchError::Incomplete("server"))?;
    Ok(processes.cpu())
}

/// What the same pipe costs without a sandbox.
fn cat(bytes: u64) -> Result<f64, BenchError> {
    let failed = |source| BenchError::Prepare {
        what: "cat into a file",
        source,
    };
    let dir = tempfile::tempdir().map_err(failed)?;
    let script = format!("head -c {bytes} /dev/zero | cat > out");
    let before = Instant::now();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &script])
        .current_dir(dir.path())
        .stdin(Stdio::null());
    shell.status().map_err(failed)?;
    Ok(rate_of(bytes, before.elapsed()))
}

/// Its rate, and the CPU time of all that is ours.
async fn unread(load: &mut Load, worker: &PrivateWorker, bytes: u64) -> Result<(f64, Duration), BenchError> {
    let before = cpu(worker.pid())?;
    let id = load.start(output::flood(bytes)).await?;
    let job = load.wait(&id).await?;
    // The supervisor has been reaped when its job is removed.
    load.remove_jobs().await?;
    let usage = job.usage.unwrap_or_default();
    let of_job = Duration::from_micros(usage.cpu_user_us + usage.cpu_system_us);
    let cost = cpu(worker.pid())?.saturating_sub(before).saturating_sub(of_job);
    Ok((rate_of(bytes, output::ran_for(&job)?), cost))
}

/// Its rate, without the rest in which the followers come: to take them in is no cost of theirs later on.
async fn beside_stalled(
    context: &Context,
    worker: &PrivateWorker,
    bytes: u64,
    followers: usize,
) -> Result<f64, BenchError> {
    const REST: Duration = Duration::from_secs(2);
    let mut load = context.connect(worker).await?;
    let flood = output::flood(bytes);
    let script = format!("sleep {}; exec \"$@\"", REST.as_secs());
    let mut argv = ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
    argv.extend(flood.argv);
    let before = Instant::now();
    let id = load.start(StartJobRequest { argv, ..flood }).await?;
    let mut streams = Vec::with_capacity(followers);
    for _ in 0..followers {
        streams.push(stalled_follower(worker, id.clone()).await?);
    }
    if before.elapsed() >= REST {
        return Err(BenchError::Unfit("followers took too long to come".to_owned()));
    }
    let job = load.wait(&id).await?;
    drop(streams);
    load.remove_jobs().await?;
    Ok(rate_of(bytes, output::ran_for(&job)?.saturating_sub(REST)))
}

/// With the window that HTTP/2 begins with, as most gRPC clients have it. This one would ask for 2 MiB and take them, whether
/// anybody reads or not.
async fn stalled_follower(
    worker: &PrivateWorker,
    job_id: String,
) -> Result<Streaming<StreamOutputResponse>, BenchError> {
    const WINDOW: u32 = 65_535;
    let unreachable = |error: transport::Error| BenchError::Connect(error.to_string());
    let channel = Endpoint::from_shared(format!("unix:{}", worker.socket().display()))
        .map_err(unreachable)?
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .connect()
        .await
        .map_err(unreachable)?;
    let request = StreamOutputRequest {
        job_id,
        follow: true,
        ..StreamOutputRequest::default()
    };
    let answer = WorkerClient::new(channel).stream_output(request).await?;
    Ok(answer.into_inner())
}

fn rate_of(bytes: u64, time: Duration) -> f64 {
    // Exact up to 8 PiB.
    #[allow(clippy::cast_precision_loss)]
    let bytes = bytes as f64;
    bytes / time.as_secs_f64().max(1e-6)
}
