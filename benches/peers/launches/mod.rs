//! Latency and throughput of launches: the kernel's floor, Stockade, and other sandboxes.

mod comparison;
mod subject;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use stockade::cli::bench::commands::Launch;
use stockade::cli::bench::load::{self, COMMAND};
use stockade::cli::bench::{BenchError, Durability, Load, PrivateWorker, Samples, installed};
use stockade::isolation::layout;
use stockade::proto::v1::{File, StartJobRequest};
use tempfile::TempDir;

use super::context::Context;
use super::document::Document;
use super::floor::{self, Program, Recipe};
use comparison::{comparison, distribution, table};
use subject::{Client, Rates, Subject, Times};

pub(crate) use subject::throughput;

/// All rows take part in each: a machine that is faster for a while is so for all.
const TURNS: usize = 10;
/// Of several clients at one time, which take longer.
const ROUNDS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Launcher {
    Kernel(Recipe),
    Stockade,
    Other,
}

/// What is launched, and how a job gets at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// In a folder that every job sees.
    Shown(Program),
    /// The program of two instructions, with the request.
    Brought,
}

impl Way {
    const fn program(self) -> Program {
        match self {
            Self::Shown(program) => program,
            Self::Brought => Program::Static,
        }
    }
}

/// One row.
struct Row<'a> {
    name: String,
    launcher: Launcher,
    program: Program,
    subject: Subject<'a>,
    times: Vec<Times>,
    rates: Vec<Rates>,
}

/// A row with all its turns.
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
         exits, where `/bin/true` has a loader and a C library; its folder is shown to all. *brought*: it comes with the \
         request, as a file of the workspace, so that the sandbox has a used scratch space to replace. Rows take turns, \
         ten for times and three for jobs/s, and back in every second one; each begins after a moment of rest, since the \
         kernel takes namespaces and cgroups down behind those who had them.",
    );
    let shown = shown_folder()?;
    let scripts = Some(shown.path());
    let (process, process_load) = context.worker_with_scripts(Durability::Process, scripts).await?;
    let (power, power_load) = context.worker(Durability::Power).await?;
    let mut rows = of_kernel();
    for (durability, worker, load, way) in [
        (
            Durability::Process,
            &process,
            &process_load,
            Way::Shown(Program::Static),
        ),
        (Durability::Process, &process, &process_load, Way::Brought),
        (
            Durability::Process,
            &process,
            &process_load,
            Way::Shown(Program::True),
        ),
        (Durability::Power, &power, &power_load, Way::Shown(Program::True)),
    ] {
        rows.push(of_worker(worker, load, way, durability));
    }
    let run = Launch::new(Context::binary(), &["run", "--", COMMAND]);
    rows.push(of_command(
        "`stockade run`".to_owned(),
        Launcher::Stockade,
        Program::True,
        run,
    ));
    let folders = [temporary_folder()?, temporary_folder()?];
    let mut notes = Vec::new();
    let shown_true = shown.path().join(STATIC).display().to_string();
    let commands = [(Program::Static, shown_true.as_str()), (Program::True, COMMAND)];
    for (folder, (program, command)) in folders.iter().zip(commands) {
        add_others(&mut rows, &mut notes, folder.path(), program, command, context).await?;
    }
    for turn in 0..context.scaled(TURNS, 1) {
        for row in in_turn(&mut rows, turn) {
            row.times.push(row.subject.times(context, &row.name).await?);
        }
    }
    for round in 0..context.scaled(ROUNDS, 1) {
        for row in in_turn(&mut rows, round) {
            row.rates.push(row.subject.rates(context, &row.name).await?);
        }
    }
    let rows = rows.into_iter().map(Row::finish).collect::<Result<Vec<_>, _>>()?;
    process.stop()?;
    power.stop()?;
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

/// There, and back in every second turn: so each comes after the one of its neighbours as often as after the other.
fn in_turn<'r, 'a>(rows: &'r mut [Row<'a>], turn: usize) -> Box<dyn Iterator<Item = &'r mut Row<'a>> + 'r> {
    match turn % 2 {
        0 => Box::new(rows.iter_mut()),
        _ => Box::new(rows.iter_mut().rev()),
    }
}

fn temporary_folder() -> Result<TempDir, BenchError> {
    tempfile::tempdir().map_err(prepare("a temporary folder"))
}

fn prepare(what: &'static str) -> impl FnOnce(io::Error) -> BenchError {
    move |source| BenchError::Prepare { what, source }
}

/// The program of two instructions.
const STATIC: &str = "true";

/// A folder with it, for everybody to see.
fn shown_folder() -> Result<TempDir, BenchError> {
    let folder = temporary_folder()?;
    let path = folder.path().join(STATIC);
    let for_all = fs::Permissions::from_mode(0o755);
    fs::write(&path, floor::that_does_nothing())
        .and_then(|()| fs::set_permissions(&path, for_all.clone()))
        .and_then(|()| fs::set_permissions(folder.path(), for_all))
        .map_err(prepare("a program"))?;
    Ok(folder)
}

/// Rows of the other sandboxes that are installed and can run the command, and words about each. What they need is
/// written to `folder`.
async fn add_others(
    rows: &mut Vec<Row<'_>>,
    notes: &mut Vec<String>,
    folder: &Path,
    program: Program,
    command: &str,
    context: &Context,
) -> Result<(), BenchError> {
    for peer in installed(folder, &[command])? {
        let name = format!("{}{}", peer.name, after_name(program));
        let (progress, interruption) = (&context.progress, &context.interruption);
        let once = peer
            .launch
            .latency(&name, 1, Duration::ZERO, progress, interruption);
        match once.await {
            Ok(_) => {
                if program == Program::True {
                    notes.push(format!("{name}: {}.", peer.isolation));
                }
                rows.push(of_command(name, Launcher::Other, program, peer.launch));
            }
            Err(error @ BenchError::Failed { .. }) => notes.push(format!("{name} cannot run here: {error}.")),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

const fn after_name(program: Program) -> &'static str {
    match program {
        Program::Static => ", two instructions",
        Program::True => "",
    }
}

fn of_kernel() -> Vec<Row<'static>> {
    let row = |(name, recipe, program): (&str, Recipe, Program)| Row {
        name: name.to_owned(),
        launcher: Launcher::Kernel(recipe),
        program,
        subject: Subject::Kernel(recipe, program),
        times: Vec::new(),
        rates: Vec::new(),
    };
    [
        ("kernel: vfork and exec", Recipe::Plain, Program::True),
        (
            "kernel: floor, two instructions",
            Recipe::Template,
            Program::Static,
        ),
        ("kernel: floor", Recipe::Template, Program::True),
        ("kernel: naive", Recipe::Naive, Program::True),
    ]
    .map(row)
    .into()
}

fn of_worker<'a>(worker: &'a PrivateWorker, load: &Load, way: Way, durability: Durability) -> Row<'a> {
    let job = job(way);
    let brought = match way {
        Way::Shown(_) => "",
        Way::Brought => ", brought",
    };
    let program = way.program();
    Row {
        name: format!(
            "StartJob → exit{}{brought}, `{}`",
            after_name(program),
            durability.word()
        ),
        launcher: Launcher::Stockade,
        program,
        subject: Subject::Worker(Box::new(Client {
            worker,
            load: load.clone().of(job.clone()),
            job,
        })),
        times: Vec::new(),
        rates: Vec::new(),
    }
}

fn of_command(name: String, launcher: Launcher, program: Program, launch: Launch) -> Row<'static> {
    Row {
        name,
        launcher,
        program,
        subject: Subject::Command(launch),
        times: Vec::new(),
        rates: Vec::new(),
    }
}

impl Row<'_> {
    fn finish(self) -> Result<Measured, BenchError> {
        let all = |of: fn(&Times) -> &Samples| {
            let times = self.times.iter().flat_map(|turn| of(turn).sorted());
            Samples::new(times.copied().collect()).ok_or(BenchError::Incomplete("launches"))
        };
        let (back_to_back, rested) = (all(|turn| &turn.back_to_back)?, all(|turn| &turn.rested)?);
        let few = self.rates.iter().filter_map(|round| round.few.as_ref());
        let few = Samples::new(few.flat_map(Samples::sorted).copied().collect());
        let tail = few.map(|few| few.permille(990));
        // The rounds are of one length.
        let rates: Vec<f64> = self.rates.iter().map(|round| round.per_second).collect();
        #[allow(clippy::cast_precision_loss)]
        let per_second = rates.iter().sum::<f64>() / rates.len() as f64;
        Ok(Measured {
            name: self.name,
            launcher: self.launcher,
            program: self.program,
            back_to_back,
            rested,
            per_second,
            tail,
        })
    }
}

/// By the default policy.
fn job(way: Way) -> StartJobRequest {
    match way {
        Way::Shown(Program::True) => load::nothing(),
        Way::Shown(Program::Static) => StartJobRequest {
            argv: vec![format!("{}/{STATIC}", layout::SCRIPTS)],
            ..StartJobRequest::default()
        },
        Way::Brought => StartJobRequest {
            argv: vec![format!("{}/{STATIC}", layout::WORKSPACE)],
            files: vec![File {
                path: STATIC.to_owned(),
                content: floor::that_does_nothing(),
                mode: 0o755,
            }],
            ..StartJobRequest::default()
        },
    }
}
