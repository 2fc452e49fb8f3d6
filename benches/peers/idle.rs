//! What a worker costs that has nothing to do.

use std::time::Duration;

use stockade::cli::bench::{BenchError, Durability};

use super::context::Context;
use super::document::Document;
use super::processes::{Memory, Processes, Sandbox, memory};
use super::table::{NONE, Table};

pub(crate) async fn measure(context: &Context, document: &mut Document) -> Result<(), BenchError> {
    let length = context.scaled(Duration::from_secs(10), Duration::from_secs(2));
    let (worker, mut load) = context.worker(Durability::Power).await?;
    // One that has worked: its caches and its stock of sandboxes are as they stay.
    load.latency("before the rest", 20, Duration::ZERO, &context.progress)
        .await?;
    drop(load);
    context.progress.begin("an idle worker");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let processes = Processes::of(worker.pid()).ok_or(BenchError::Incomplete("server"))?;
    let (woken, used) = (processes.wake_ups(), processes.cpu());
    tokio::time::sleep(length).await;
    let woken = processes.wake_ups().saturating_sub(woken);
    let used = processes.cpu().saturating_sub(used);

    document.heading("At rest");
    let mut table = Table::new(["", "processes", "RSS each", "PSS each"]);
    let waiting = &processes.sandboxes;
    let mut row = |name: &str, count: usize, kib: Option<Memory>| {
        let told =
            |of: fn(Memory) -> u64| kib.map_or_else(|| NONE.to_owned(), |kib| format!("{} KiB", of(kib)));
        table.row([
            name.to_owned(),
            count.to_string(),
            told(|kib| kib.rss),
            told(|kib| kib.pss),
        ]);
    };
    row("server", 1, Some(memory(processes.server)));
    row("launcher", 1, Some(memory(processes.launcher)));
    row(
        "sandboxes that wait for a job (supervisor and pump)",
        waiting.len(),
        waiting.first().map(Sandbox::memory),
    );
    worker.stop()?;
    document.table(&table);
    // Exact for every count that matters.
    #[allow(clippy::cast_precision_loss)]
    let rate = woken as f64 / length.as_secs_f64();
    document.paragraph(&format!(
        "In {} s: {rate:.1} wake-ups a second of all of them, {:.0} ms of CPU.",
        length.as_secs(),
        used.as_secs_f64() * 1e3
    ));
    Ok(())
}
