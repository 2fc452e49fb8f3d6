//! What Stockade keeps in memory for jobs that sleep.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use stockade::cli::bench::{BenchError, Durability, installed};

use super::context::Context;
use super::document::Document;
use super::growth::fill;
use super::processes::{self, Processes, memory};
use super::table::{NONE, Table, micros};

/// As many of another tool: their share of pages that all have in common is smaller then, but hardly.
const PEERS: usize = 16;
const SETTLE: Duration = Duration::from_millis(1500);

pub(crate) async fn measure(context: &Context, document: &mut Document) -> Result<(), BenchError> {
    let wanted = context.scaled(1000, 100);
    document.heading("Memory");
    document.paragraph(
        "PSS of the processes that are kept for each sleeping job, the job itself apart: a page that several share \
         counts in parts.",
    );
    let (worker, mut load) = context.worker(Durability::Process).await?;
    let mut loads = Vec::new();
    for _ in 0..8 {
        loads.push(context.connect(&worker).await?);
    }
    // From then on as many sandboxes wait as on any worker that has had a job.
    load.launch().await?;
    tokio::time::sleep(SETTLE).await;
    let before = Processes::of(worker.pid()).ok_or(BenchError::Incomplete("server"))?;
    let (all_before, waiting) = (before.pss(), before.sandboxes.len());
    let mut running = 0;
    fill(context, &mut loads, &mut running, wanted).await?;
    tokio::time::sleep(SETTLE).await;
    let after = Processes::of(worker.pid()).ok_or(BenchError::Incomplete("server"))?;
    let sandboxes: u64 = after.sandboxes.iter().map(|sandbox| sandbox.memory().pss).sum();
    let grown = after.pss().saturating_sub(all_before);
    let each = |kib: u64, of: usize| kib / u64::try_from(of.max(1)).unwrap_or(1);
    let found = load
        .latency(
            "launches beside sleeping jobs",
            context.scaled(200, 30),
            Duration::ZERO,
            &context.progress,
        )
        .await?;
    worker.stop()?;

    let mut table = Table::new(["", "jobs", "PSS a job", "launch of one more, P50"]);
    table.row([
        "Stockade: supervisor and pump".to_owned(),
        wanted.to_string(),
        format!("{} KiB", each(sandboxes, after.sandboxes.len())),
        micros(found.median()),
    ]);
    table.row([
        "Stockade: all of it, less what it takes without jobs".to_owned(),
        wanted.to_string(),
        format!("{} KiB", each(grown, wanted)),
        NONE.to_owned(),
    ]);
    if let Some((name, kib)) = peers()? {
        table.row([name, PEERS.to_string(), kib, NONE.to_owned()]);
    }
    document.table(&table);
    document.paragraph(&format!(
        "{waiting} sandboxes waited for jobs when nothing ran; each holds a supervisor and a pump, too."
    ));
    Ok(())
}

/// KiB that bwrap keeps for each sleeping job; crun and others leave no process that is only theirs to find.
fn peers() -> Result<Option<(String, String)>, BenchError> {
    let failed = |source| BenchError::Prepare {
        what: "sleeping jobs of bwrap",
        source,
    };
    let dir = tempfile::tempdir().map_err(failed)?;
    let found = installed(dir.path(), &["/bin/sleep", "60"])?;
    let Some(bwrap) = found.into_iter().find(|peer| peer.name == "bwrap") else {
        return Ok(None);
    };
    // Without the filter, whose descriptor is made for each launch: it takes no memory of the process.
    let filter = bwrap.launch.args.iter().position(|arg| arg == "--seccomp");
    let mut args = bwrap.launch.args;
    if let Some(at) = filter {
        args.drain(at..at + 2);
    }
    let spawn = |_| {
        Command::new(&bwrap.launch.program)
            .args(&args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)
    };
    let mut sleeping: Vec<Child> = (0..PEERS).map(spawn).collect::<Result<_, _>>()?;
    std::thread::sleep(SETTLE);
    // bwrap, and within its pid namespace bwrap again as PID 1.
    let kept = sleeping.iter().flat_map(|child| {
        let mut pids = processes::children(child.id());
        pids.push(child.id());
        pids
    });
    let kib: u64 = kept.map(|pid| memory(pid).pss).sum();
    for child in &mut sleeping {
        // --die-with-parent takes the rest along.
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok(Some(("bwrap".to_owned(), format!("{} KiB", kib / PEERS as u64))))
}
