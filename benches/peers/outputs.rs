//! A job's output: into files, to followers that read and to followers that do not.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stockade::cli::bench::{BenchError, Durability, output};
use stockade::proto::v1::{StreamOutputRequest, StreamOutputResponse};
use tonic::Streaming;

use super::context::{Context, blocking};
use super::document::Document;
use super::processes::Processes;
use super::table::{NONE, Table, micros};

const STALLED: usize = 100;
const MIB: f64 = 1_048_576.0;

pub(crate) async fn measure(context: &Context, document: &mut Document) -> Result<(), BenchError> {
    let bytes = context.scaled(1_u64 << 30, 1 << 27);
    // Exact for a power of 2.
    #[allow(clippy::cast_precision_loss)]
    let gib = bytes as f64 / f64::from(1 << 30);
    document.heading("Output");
    document.paragraph(&format!(
        "A job of `head -c {bytes} /dev/zero`. *CPU a GiB* is that of server, launcher and supervisor together, the \
         job's own apart. *stalled*: {STALLED} followers that never read a byte.",
    ));
    let (worker, mut load) = context.worker(Durability::Process).await?;
    let mut table = Table::new(["", "MiB/s", "CPU a GiB"]);

    context.progress.begin("cat into a file");
    let cat = blocking(move || cat(bytes)).await?;
    table.row([
        "`head \\| cat > file`, no sandbox".to_owned(),
        rate(cat),
        NONE.to_owned(),
    ]);

    context.progress.begin("output that nobody reads");
    let before = cpu(worker.pid())?;
    let id = load.start(output::flood(bytes)).await?;
    let job = load.wait(&id).await?;
    let unread = rate_of(bytes, output::ran_for(&job)?);
    // The supervisor has been reaped when its job is removed.
    load.remove_jobs().await?;
    let usage = job.usage.unwrap_or_default();
    let of_job = Duration::from_micros(usage.cpu_user_us + usage.cpu_system_us);
    let of_ours = cpu(worker.pid())?.saturating_sub(before).saturating_sub(of_job);
    table.row([
        "job, nobody reads".to_owned(),
        rate(unread),
        format!("{:.2} s", of_ours.as_secs_f64() / gib),
    ]);

    context.progress.begin("output to one follower");
    let followed = output::followed(&mut load, bytes).await?;
    load.remove_jobs().await?;
    table.row(["job, to one follower".to_owned(), rate(followed), NONE.to_owned()]);

    context.progress.begin("output beside stalled followers");
    let stalled = beside_stalled(context, &worker, bytes).await?;
    load.remove_jobs().await?;
    table.row([
        format!("job, {STALLED} stalled followers"),
        rate(stalled),
        NONE.to_owned(),
    ]);
    document.table(&table);
    document.paragraph(&format!(
        "With {STALLED} stalled followers the job takes {:.2} times as long as with none.",
        unread / stalled
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

async fn beside_stalled(
    context: &Context,
    worker: &stockade::cli::bench::PrivateWorker,
    bytes: u64,
) -> Result<f64, BenchError> {
    let mut load = context.connect(worker).await?;
    let id = load.start(output::flood(bytes)).await?;
    let mut streams: Vec<Streaming<StreamOutputResponse>> = Vec::with_capacity(STALLED);
    for _ in 0..STALLED {
        let request = StreamOutputRequest {
            job_id: id.clone(),
            follow: true,
            ..StreamOutputRequest::default()
        };
        let connection = context.connect(worker).await?;
        streams.push(connection.client().stream_output(request).await?.into_inner());
    }
    let job = load.wait(&id).await?;
    drop(streams);
    load.remove_jobs().await?;
    Ok(rate_of(bytes, output::ran_for(&job)?))
}

fn rate_of(bytes: u64, time: Duration) -> f64 {
    // Exact up to 8 PiB.
    #[allow(clippy::cast_precision_loss)]
    let bytes = bytes as f64;
    bytes / time.as_secs_f64().max(1e-6)
}

fn rate(bytes_a_second: f64) -> String {
    format!("{:.0}", bytes_a_second / MIB)
}
