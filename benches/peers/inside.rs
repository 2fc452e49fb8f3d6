//! What the sandbox costs while a job runs: the same work inside and outside.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stockade::cli::bench::{BenchError, Durability, Load, output};
use stockade::proto::v1::{File, Limits, StartJobRequest};

use super::context::{Context, blocking};
use super::document::Document;
use super::floor::filter;
use super::table::{NONE, Table, micros, ratio};

/// Rounds of each work: no fewer, and as many as fit into the time.
const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(20);
const SOURCE: &str = "source.c";

/// The same on both sides.
struct Work {
    name: String,
    needs: &'static str,
    argv: Vec<String>,
    /// The content of [`SOURCE`], where there is one.
    source: Option<String>,
}

fn works(context: &Context) -> [Work; 4] {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let count = context.scaled("4000000", "1000000");
    let python = format!("n = 0\nfor i in range({count}): n += i * i");
    let calls = context.scaled("count=1000000", "count=100000");
    let files = context.scaled(3000, 500);
    let files = format!("for ((n = 0; n < {files}; n++)); do echo $n > f$n; done; cat f* > all; rm f* all");
    let lines = context.scaled(20_000, 2_000);
    let functions = (0..lines).map(|n| format!("int f{n}(int x) {{ return x * {n} + (x >> 3); }}\n"));
    [
        Work {
            name: "python, CPU only".to_owned(),
            needs: "/usr/bin/python3",
            argv: words(&["/usr/bin/python3", "-c", &python]),
            source: None,
        },
        Work {
            name: format!("gcc -O0, a file of {lines} lines"),
            needs: "/usr/bin/gcc",
            argv: words(&["/usr/bin/gcc", "-O0", "-c", SOURCE, "-o", "source.o"]),
            source: Some(functions.collect()),
        },
        Work {
            name: "dd, a read and a write of a byte in turns".to_owned(),
            needs: "/usr/bin/dd",
            argv: words(&[
                "/usr/bin/dd",
                "if=/dev/zero",
                "of=/dev/null",
                "bs=1",
                calls,
                "status=none",
            ]),
            source: None,
        },
        Work {
            name: "bash, many small files in the workspace".to_owned(),
            needs: "/bin/bash",
            argv: words(&["/bin/bash", "-c", &files]),
            source: None,
        },
    ]
}

pub(crate) async fn measure(context: &Context, document: &mut Document) -> Result<(), BenchError> {
    document.heading("While a job runs");
    document.paragraph(
        "The run of the command alone, inside a sandbox of the policy `default` (with as many CPUs as there are) and \
         outside, in turns for 20 seconds and five at least, the best of each: whatever else a machine does can only add to \
         it. Outside, files are in a tmpfs, as the workspace of a job is. *one filter*: outside, but with a seccomp filter of one instruction that \
         allows everything, which no sandbox with a filter can be faster than.",
    );
    let (worker, mut load) = context.worker(Durability::Process).await?;
    let mut table = Table::new(["", "outside", "one filter", "inside", "inside ÷ outside"]);
    for work in works(context) {
        context.progress.begin(&work.name);
        if !Path::new(work.needs).exists() || !context.has_time_for(Duration::from_secs(5)) {
            let reason = "left out: no time, or no program".to_owned();
            let none = || NONE.to_owned();
            table.row([work.name.clone(), reason, none(), none(), none()]);
            continue;
        }
        let mut best = [Duration::MAX; PLACES.len()];
        let end = Instant::now() + context.scaled(TIME, Duration::ZERO);
        let least = context.scaled(ROUNDS, 1);
        let mut rounds = 0;
        while rounds < least || Instant::now() < end {
            for turn in 0..PLACES.len() {
                context.interruption.check()?;
                // None is always the one after another.
                let index = (rounds + turn) % PLACES.len();
                let time = run(&mut load, &work, PLACES[index]).await?;
                best[index] = best[index].min(time);
            }
            rounds += 1;
        }
        let [outside, filtered, inside] = best;
        table.row([
            work.name.clone(),
            micros(outside),
            micros(filtered),
            micros(inside),
            format!("{:.3}", ratio(inside, outside)),
        ]);
    }
    worker.stop()?;
    document.table(&table);
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Outside,
    OutsideFiltered,
    Inside,
}

const PLACES: [Place; 3] = [Place::Outside, Place::OutsideFiltered, Place::Inside];

async fn run(load: &mut Load, work: &Work, place: Place) -> Result<Duration, BenchError> {
    let filter = match place {
        Place::Inside => return run_inside(load, work).await,
        Place::OutsideFiltered => true,
        Place::Outside => false,
    };
    let (argv, source) = (work.argv.clone(), work.source.clone());
    blocking(move || run_outside(&argv, source.as_deref(), filter)).await
}

async fn run_inside(load: &mut Load, work: &Work) -> Result<Duration, BenchError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let file = work.source.as_ref().map(|source| File {
        path: SOURCE.to_owned(),
        content: source.clone().into_bytes(),
        mode: 0,
    });
    let request = StartJobRequest {
        argv: work.argv.clone(),
        files: file.into_iter().collect(),
        limits: Some(Limits {
            memory_bytes: 2 << 30,
            cpu_millis: cores as u64 * 1000,
            ..Limits::default()
        }),
        ..StartJobRequest::default()
    };
    let id = load.start(request).await?;
    let job = load.wait(&id).await?;
    load.remove_jobs().await?;
    output::ran_for(&job)
}

fn run_outside(argv: &[String], source: Option<&str>, filter: bool) -> Result<Duration, BenchError> {
    let failed = |source| BenchError::Prepare {
        what: "work outside of a sandbox",
        source,
    };
    let memory = Path::new("/dev/shm");
    let parent = if memory.exists() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let dir = tempfile::tempdir_in(parent).map_err(failed)?;
    if let Some(source) = source {
        std::fs::write(dir.path().join(SOURCE), source).map_err(failed)?;
    }
    let mut command = Command::new(&argv[0]);
    if filter {
        filter::allow_everything(&mut command);
    }
    let before = Instant::now();
    let status = command
        .args(&argv[1..])
        .current_dir(dir.path())
        .env("TMPDIR", dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(failed)?;
    let time = before.elapsed();
    if !status.success() {
        return Err(BenchError::Unfit(format!(
            "{} outside of a sandbox: {status}",
            argv[0]
        )));
    }
    Ok(time)
}
