//! How cost grows with what there is already: jobs that run, clients, bytes.

use std::time::{Duration, Instant};

use stockade::cli::bench::load::nothing;
use stockade::cli::bench::{BenchError, Durability, Load, output};
use stockade::proto::v1::{GetWorkerRequest, StartJobRequest};

use super::context::Context;
use super::document::Document;
use super::launches::throughput;
use super::plot::{Axis, Plot};
use super::table::{NONE, Table, micros};

const LOG: fn(&'static str) -> Axis = |label| Axis {
    label,
    logarithmic: true,
};
/// Of sleeping jobs that have been accepted, the next.
const START_WITHIN: Duration = Duration::from_secs(30);
const MIB: f64 = 1_048_576.0;

pub(crate) async fn measure(context: &Context, document: &mut Document) -> Result<(), BenchError> {
    document.heading("Growth");
    clients(context, document).await?;
    bytes(context, document).await?;
    // Last: to start thousands of jobs may take longer than all else.
    jobs(context, document).await
}

async fn clients(context: &Context, document: &mut Document) -> Result<(), BenchError> {
    let length = context.scaled(Duration::from_secs(3), Duration::from_millis(500));
    let counts: &[u32] = context.scaled(&[1, 2, 4, 8, 16, 32, 64], &[1, 4, 16, 64]);
    let mut table = Table::new([
        "clients",
        "jobs/s `process`",
        "P50",
        "P99",
        "jobs/s `power`",
        "P50",
        "P99",
    ]);
    let mut rows: Vec<[String; 7]> = counts
        .iter()
        .map(|count| std::array::from_fn(|_| count.to_string()))
        .collect();
    let mut plot = Plot::new(
        "Jobs a second by clients, each with one job at a time",
        LOG("clients"),
        Axis {
            label: "jobs/s",
            logarithmic: false,
        },
    );
    let mut notes = Vec::new();
    for (durability, first) in [(Durability::Process, 1), (Durability::Power, 4)] {
        let (worker, _) = context.worker(durability).await?;
        let mut line = Vec::new();
        for (count, row) in counts.iter().zip(&mut rows) {
            if !context.has_time_for(length) {
                row[first..first + 3].fill(NONE.to_owned());
                continue;
            }
            let found = throughput(context, &worker, &nothing(), *count as usize, length).await?;
            row[first] = format!("{:.0}", found.per_second);
            row[first + 1] = micros(found.samples.median());
            row[first + 2] = micros(found.samples.permille(990));
            line.push((f64::from(*count), found.per_second));
        }
        notes.push(format!("`{}`: {}", durability.word(), most_of(&line)));
        plot.line(format!("durability = {}", durability.word()), line);
        worker.stop()?;
    }
    rows.into_iter().for_each(|row| table.row(row));
    document.table(&table);
    document.paragraph(&notes.join(" "));
    document.picture("clients", "Jobs a second by number of clients", &plot);
    Ok(())
}

/// A job that does nothing until it is stopped.
pub(crate) fn sleeping() -> StartJobRequest {
    StartJobRequest {
        argv: vec!["/bin/sleep".to_owned(), "3000".to_owned()],
        ..StartJobRequest::default()
    }
}

/// Starts sleeping jobs until `wanted` run, a few at one time.
pub(crate) async fn fill(
    context: &Context,
    loads: &mut [Load],
    running: &mut usize,
    wanted: usize,
) -> Result<(), BenchError> {
    while *running < wanted {
        let batch = loads.len().min(wanted - *running);
        let starts = loads[..batch].iter_mut().map(|load| load.start(sleeping()));
        futures_util::future::try_join_all(starts).await?;
        *running += batch;
        context.progress.step("sleeping jobs", *running, wanted);
    }
    all_run(context, &loads[0]).await
}

/// StartJob answers when a job is durable; until it runs takes longer, where there is no sandbox for it yet.
async fn all_run(context: &Context, load: &Load) -> Result<(), BenchError> {
    let mut pending = u32::MAX;
    let mut deadline = Instant::now() + START_WITHIN;
    while Instant::now() < deadline {
        context.interruption.check()?;
        let worker = load.client().get_worker(GetWorkerRequest {}).await?;
        let now = worker.into_inner().jobs_pending;
        if now == 0 {
            return Ok(());
        }
        if now < pending {
            pending = now;
            deadline = Instant::now() + START_WITHIN;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(BenchError::Unfit(
        "not all jobs run: some wait for a place".to_owned(),
    ))
}

async fn jobs(context: &Context, document: &mut Document) -> Result<(), BenchError> {
    let counts: &[usize] = context.scaled(&[1, 10, 100, 1000, 5000], &[1, 10, 100]);
    let samples = context.scaled(200, 30);
    let (worker, mut load) = context.worker(Durability::Process).await?;
    let mut loads = Vec::new();
    for _ in 0..8 {
        loads.push(context.connect(&worker).await?);
    }
    let mut table = Table::new(["sleeping jobs", "launch of one more, P50", "P99"]);
    let mut line = Vec::new();
    let mut running = 0;
    for &count in counts {
        // By what the smaller ones took.
        if !context.has_time_for(Duration::from_secs(if count > 1000 { 180 } else { 5 })) {
            table.row([
                count.to_string(),
                "left out for want of time".to_owned(),
                NONE.to_owned(),
            ]);
            continue;
        }
        if let Err(error) = fill(context, &mut loads, &mut running, count).await {
            context.interruption.check()?;
            table.row([count.to_string(), format!("refused: {error}"), NONE.to_owned()]);
            break;
        }
        let name = format!("launches beside {count} sleeping jobs");
        let found = load
            .latency(&name, samples, Duration::ZERO, &context.progress)
            .await?;
        table.row([
            count.to_string(),
            micros(found.median()),
            micros(found.permille(990)),
        ]);
        // Exact for every number of jobs.
        #[allow(clippy::cast_precision_loss)]
        line.push((count as f64, found.median().as_secs_f64() * 1e3));
    }
    context.progress.begin("ending the sleeping jobs");
    worker.stop()?;
    document.table(&table);
    if let Some((first, last)) = line.first().zip(line.last()) {
        document.paragraph(&format!(
            "With {} times as many sleeping jobs a launch takes {:.2} times as long.",
            last.0 / first.0,
            last.1 / first.1
        ));
    }
    let mut plot = Plot::new(
        "Launch of one more job beside sleeping ones, median",
        LOG("sleeping jobs"),
        Axis {
            label: "ms",
            logarithmic: false,
        },
    );
    plot.line("StartJob → exit", line);
    document.picture("running", "Latency of a launch by number of running jobs", &plot);
    Ok(())
}

async fn bytes(context: &Context, document: &mut Document) -> Result<(), BenchError> {
    let most = context.scaled(30, 26);
    let (worker, mut load) = context.worker(Durability::Process).await?;
    let mut table = Table::new([
        "output of a job",
        "run of the job",
        "MiB/s into files",
        "MiB/s to one follower",
    ]);
    let (mut files, mut follower) = (Vec::new(), Vec::new());
    for power in (10..=most).step_by(4) {
        if !context.has_time_for(Duration::from_secs(1 << ((power - 10) / 5))) {
            table.row([
                "more".to_owned(),
                "left out for want of time".to_owned(),
                NONE.to_owned(),
                NONE.to_owned(),
            ]);
            break;
        }
        let bytes = 1_u64 << power;
        context.progress.begin(&format!("output of {bytes} bytes"));
        let unread = output::unread(&mut load, bytes).await?;
        let followed = output::followed(&mut load, bytes).await?;
        load.remove_jobs().await?;
        let kib = 2_f64.powi(power - 10);
        files.push((kib, unread / MIB));
        follower.push((kib, followed / MIB));
        let took = Duration::from_secs_f64(kib * 1024.0 / unread);
        table.row([
            stockade::units::format_bytes(bytes),
            micros(took),
            format!("{:.1}", unread / MIB),
            format!("{:.1}", followed / MIB),
        ]);
    }
    worker.stop()?;
    document.table(&table);
    let fastest = files.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    if let Some((kib, _)) = files.iter().find(|(_, rate)| *rate > 0.8 * fastest) {
        document.paragraph(&format!(
            "Of at least 80 % of the highest rate into files from {kib} KiB on."
        ));
    }
    let mut plot = Plot::new("Rate of a job's output by its size", LOG("KiB"), LOG("MiB/s"));
    plot.line("into files", files);
    plot.line("to one follower", follower);
    document.picture("bytes", "Rate of output by size", &plot);
    Ok(())
}

/// Where more clients bring no more: the rates before, at and after the highest.
fn most_of(line: &[(f64, f64)]) -> String {
    let Some(highest) = line.iter().max_by(|one, other| one.1.total_cmp(&other.1)) else {
        return "not measured.".to_owned();
    };
    let grows = line
        .windows(2)
        .take_while(|pair| pair[1].1 > 1.2 * pair[0].1)
        .last();
    format!(
        "most with {} clients ({:.0} jobs/s); the last doubling that brings a fifth or more ends at {}.",
        highest.0,
        highest.1,
        grows.map_or(line[0].0, |pair| pair[1].0)
    )
}
