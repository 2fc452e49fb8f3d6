//! Latency and throughput of launches: the kernel's floor, Stockade, and other sandboxes.

use std::time::Duration;

use stockade::cli::bench::commands::Launch;
use stockade::cli::bench::load::{self, COMMAND};
use stockade::cli::bench::{BenchError, Durability, Load, Peer, PrivateWorker, Samples, installed};
use stockade::proto::v1::{File, StartJobRequest};

use super::context::{Context, blocking};
use super::document::Document;
use super::floor::{self, Program, Recipe};
use super::plot::{Axis, Plot};
use super::table::{NONE, Table, micros, ratio};

const REST: Duration = Duration::from_millis(100);
const CLIENTS: usize = 8;
const CLIENTS_OF_TAIL: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Launcher {
    Kernel(Recipe),
    Stockade,
    Other,
}

/// One row.
struct Measured {
    name: String,
    launcher: Launcher,
    program: Program,
    back_to_back: Samples,
    rested: Samples,
    per_second: f64,
    /// 99th percentile with a few clients, where a worker serves them.
    tail: Option<Duration>,
}

pub(crate) async fn measure(context: &Context, document: &mut Document) -> Result<(), BenchError> {
    document.heading("Launches");
    document.paragraph(
        "From the call to the knowledge of the end of `/bin/true`; P50 unless said otherwise. *100 ms*: each after a \
         rest of 100 ms, when caches are cold and the kernel is quiet. *jobs/s*: 8 clients, each with one job at a \
         time. *floor*: what the kernel charges for the same isolation, prepared as far ahead as it lets one \
         (`benches/peers/floor`): a process in the cgroup, in an empty network namespace and in a template of the \
         mounts forks by vfork into user, pid, mount, uts, ipc and cgroup namespaces, mounts /tmp and /proc, installs \
         the filter of the policy `default` and executes; no daemon, no record, no output. *naive*: the same anew \
         each time, with fork, a network namespace and three cgroups. *two instructions*: a static program that only \
         exits, where `/bin/true` has a loader and a C library; a job brings it along as a file.",
    );
    let mut rows = Vec::new();
    for (name, recipe, program) in [
        ("kernel: vfork and exec", Recipe::Plain, Program::True),
        (
            "kernel: floor, two instructions",
            Recipe::Template,
            Program::Static,
        ),
        ("kernel: floor", Recipe::Template, Program::True),
        ("kernel: naive", Recipe::Naive, Program::True),
    ] {
        rows.push(of_floor(context, name, recipe, program).await?);
    }
    for (durability, programs) in [
        (Durability::Process, [Program::Static, Program::True].as_slice()),
        (Durability::Power, [Program::True].as_slice()),
    ] {
        let (worker, load) = context.worker(durability).await?;
        for &program in programs {
            rows.push(of_worker(context, &worker, load.clone(), program, durability).await?);
        }
        worker.stop()?;
    }
    let run = Launch::new(Context::binary(), &["run", "--", COMMAND]);
    rows.push(of_command(context, "`stockade run`", Launcher::Stockade, &run).await?);
    let dir = tempfile::tempdir().map_err(|source| BenchError::Prepare {
        what: "a temporary folder",
        source,
    })?;
    let mut notes = Vec::new();
    for Peer {
        name,
        launch,
        isolation,
    } in installed(dir.path(), &[COMMAND])?
    {
        match of_command(context, name, Launcher::Other, &launch).await {
            Ok(row) => {
                rows.push(row);
                notes.push(format!("{name}: {isolation}."));
            }
            Err(error @ BenchError::Failed { .. }) => notes.push(format!("{name} cannot run here: {error}.")),
            Err(error) => return Err(error),
        }
    }
    document.table(&table(&rows));
    document.paragraph(&notes.join(" "));
    document.paragraph(&comparison(&rows));
    document.picture(
        "latency",
        "Distribution of launch latencies",
        &distribution(&rows),
    );
    Ok(())
}

async fn of_floor(
    context: &Context,
    name: &str,
    recipe: Recipe,
    program: Program,
) -> Result<Measured, BenchError> {
    context.progress.begin(name);
    let (count, rested) = (context.scaled(1000, 100), context.scaled(50, 5));
    let length = length(context);
    let interruption = context.interruption.clone();
    let (back_to_back, rested, per_second) = blocking(move || {
        let back_to_back = floor::latency(recipe, program, count, Duration::ZERO)?;
        let rested = floor::latency(recipe, program, rested, REST)?;
        let per_second = floor::throughput(recipe, program, CLIENTS, length, &interruption)?;
        Ok((back_to_back, rested, per_second))
    })
    .await?;
    context.interruption.check()?;
    Ok(Measured {
        name: name.to_owned(),
        launcher: Launcher::Kernel(recipe),
        program,
        back_to_back,
        rested,
        per_second,
        tail: None,
    })
}

/// A job of this program, by the default policy.
fn job(program: Program) -> StartJobRequest {
    match program {
        Program::True => load::nothing(),
        Program::Static => StartJobRequest {
            argv: vec!["/workspace/true".to_owned()],
            files: vec![File {
                path: "true".to_owned(),
                content: floor::that_does_nothing(),
                mode: 0o755,
            }],
            ..StartJobRequest::default()
        },
    }
}

async fn of_worker(
    context: &Context,
    worker: &PrivateWorker,
    load: Load,
    program: Program,
    durability: Durability,
) -> Result<Measured, BenchError> {
    let instructions = match program {
        Program::Static => "two instructions, ",
        Program::True => "",
    };
    let name = format!("StartJob → exit, {instructions}`{}`", durability.word());
    let (count, rests) = (context.scaled(1000, 100), context.scaled(50, 5));
    let job = job(program);
    let mut load = load.of(job.clone());
    let back_to_back = load
        .latency(&name, count, Duration::ZERO, &context.progress)
        .await?;
    let rested = load.latency(&name, rests, REST, &context.progress).await?;
    let long = context.scaled(Duration::from_secs(10), length(context));
    let several = throughput(context, worker, &job, CLIENTS, long).await?;
    let few = throughput(context, worker, &job, CLIENTS_OF_TAIL, length(context)).await?;
    Ok(Measured {
        name,
        launcher: Launcher::Stockade,
        program,
        back_to_back,
        rested,
        per_second: several.per_second,
        tail: Some(few.samples.permille(990)),
    })
}

pub(crate) async fn throughput(
    context: &Context,
    worker: &PrivateWorker,
    job: &StartJobRequest,
    clients: usize,
    length: Duration,
) -> Result<load::Throughput, BenchError> {
    let mut connections = Vec::with_capacity(clients);
    for _ in 0..clients {
        connections.push(context.connect(worker).await?.of(job.clone()));
    }
    let name = format!("jobs a second, {clients} clients");
    load::throughput(connections, length, &name, &context.progress).await
}

async fn of_command(
    context: &Context,
    name: &str,
    launcher: Launcher,
    launch: &Launch,
) -> Result<Measured, BenchError> {
    let (count, rests) = (context.scaled(300, 20), context.scaled(50, 5));
    let (progress, interruption) = (&context.progress, &context.interruption);
    let back_to_back = launch
        .latency(name, count, Duration::ZERO, progress, interruption)
        .await?;
    let rested = launch.latency(name, rests, REST, progress, interruption).await?;
    let per_second = launch.throughput(CLIENTS, length(context), interruption).await?;
    Ok(Measured {
        name: name.to_owned(),
        launcher,
        program: Program::True,
        back_to_back,
        rested,
        per_second,
        tail: None,
    })
}

fn length(context: &Context) -> Duration {
    context.scaled(Duration::from_secs(4), Duration::from_millis(700))
}

/// What the kernel charges for the same program.
fn floor_of<'a>(row: &Measured, rows: &'a [Measured]) -> &'a Measured {
    let floor = (Launcher::Kernel(Recipe::Template), row.program);
    rows.iter()
        .find(|row| (row.launcher, row.program) == floor)
        .expect("measured first")
}

fn table(rows: &[Measured]) -> Table {
    let mut table = Table::new([
        "",
        "back to back",
        "P99",
        "× floor",
        "100 ms",
        "jobs/s",
        "P99, 4 clients",
    ]);
    for row in rows {
        table.row([
            row.name.clone(),
            micros(row.back_to_back.median()),
            micros(row.back_to_back.permille(990)),
            format!(
                "{:.2}",
                ratio(
                    row.back_to_back.median(),
                    floor_of(row, rows).back_to_back.median()
                )
            ),
            micros(row.rested.median()),
            format!("{:.0}", row.per_second),
            row.tail.map_or_else(|| NONE.to_owned(), micros),
        ]);
    }
    table
}

/// Ours against each other tool, by the medians back to back.
fn comparison(rows: &[Measured]) -> String {
    let is_own = |row: &&Measured| row.launcher == Launcher::Stockade;
    let is_other = |row: &&Measured| row.launcher == Launcher::Other;
    let against = |own: &Measured| {
        let same = rows
            .iter()
            .filter(is_other)
            .filter(|other| other.program == own.program);
        let ratios = same.chain([floor_of(own, rows)]).map(|other| {
            let time = ratio(own.back_to_back.median(), other.back_to_back.median());
            format!(
                "{time:.2} and {:.2} of {}",
                own.per_second / other.per_second,
                other.name
            )
        });
        format!("{}: {}.", own.name, ratios.collect::<Vec<_>>().join(", "))
    };
    let lines: Vec<String> = rows.iter().filter(is_own).map(against).collect();
    format!(
        "The time of a launch and the jobs a second, as parts of another's with the same program: {}",
        lines.join(" ")
    )
}

/// Which share of the launches took at most so long.
fn distribution(rows: &[Measured]) -> Plot {
    let mut plot = Plot::new(
        "Launches back to back: share that is done within a time",
        Axis {
            label: "ms",
            logarithmic: true,
        },
        Axis {
            label: "%",
            logarithmic: false,
        },
    );
    for row in rows {
        let shares = (0..=40).map(|step| step * 25);
        let point = |share: usize| {
            let time = row.back_to_back.permille(share).as_secs_f64() * 1e3;
            (time, f64::from(u32::try_from(share).unwrap_or(0)) / 10.0)
        };
        plot.line(row.name.replace('`', ""), shares.map(point).collect());
    }
    plot
}
