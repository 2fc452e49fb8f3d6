//! The tables and pictures of docs/performance.md: this build of Stockade, the kernel's floor, and other sandboxes, in
//! one run on one machine. Needs root.
//!
//!     cargo bench --bench peers                 all of it, in twenty minutes at most, and writes the document
//!     cargo bench --bench peers -- --quick      the same with few samples, in about a minute
//!     cargo bench --bench peers -- --dry-run    prints the tables, writes nothing

mod context;
mod document;
mod floor;
mod growth;
mod idle;
mod inside;
mod launches;
mod memory;
mod outputs;
mod plot;
mod processes;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use stockade::cli::bench::BenchError;

use context::Context;
use document::Document;

/// Measures this build of Stockade beside the kernel's floor and other sandboxes, and writes docs/performance.md
#[derive(Debug, Parser)]
#[command(name = "peers")]
struct Arguments {
    /// Few samples: about a minute
    #[arg(long)]
    quick: bool,

    /// Seconds to take at most; what is left then is left out. Default: 1200, of a quick run 55
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    limit: Option<u64>,

    /// Print the tables, write nothing
    #[arg(long)]
    dry_run: bool,

    /// Only the sections whose name begins so: launches, inside, output, memory, idle, growth
    #[arg(long, value_name = "NAME", default_value = "")]
    only: String,

    /// What cargo gives every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == floor::WORD) {
        return floor::become_launcher(&words[1..]);
    }
    let arguments = Arguments::parse();
    if !rustix::process::geteuid().is_root() {
        eprintln!("peers: needs root");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&arguments)),
        Err(source) => Err(BenchError::Prepare {
            what: "the runtime",
            source,
        }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), BenchError> {
    let context = Context::new(arguments.quick, arguments.limit.map(Duration::from_secs))?;
    let document = context
        .interruption
        .bound(measure(&context, &arguments.only))
        .await;
    context.progress.clear();
    let document = document?;
    if arguments.dry_run || !arguments.only.is_empty() {
        println!("{}", document.text());
        return Ok(());
    }
    document.write().map_err(|source| BenchError::Prepare {
        what: "docs/performance.md",
        source,
    })
}

async fn measure(context: &Context, only: &str) -> Result<Document, BenchError> {
    let mut document = Document::new(context);
    let wanted = |name: &str| name.starts_with(only);
    if wanted("launches") {
        launches::measure(context, &mut document).await?;
    }
    if wanted("inside") {
        inside::measure(context, &mut document).await?;
    }
    if wanted("output") {
        outputs::measure(context, &mut document).await?;
    }
    if wanted("memory") {
        memory::measure(context, &mut document).await?;
    }
    if wanted("idle") {
        idle::measure(context, &mut document).await?;
    }
    if wanted("growth") {
        growth::measure(context, &mut document).await?;
    }
    document.end();
    Ok(document)
}
