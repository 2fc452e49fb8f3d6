//! `stockade events`: state changes of jobs as they happen.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::client::{Patience, Worker, connect, connection_lost};
use super::client_options::{ClientOptions, Format, FormatOption, ReconnectOption};
use super::error::CliError;
use super::print::{json_line, note, text};
use super::render::{JobJson, Style, event_line};
use super::values;
use crate::proto::v1::{JobEvent, WatchJobsRequest};

/// Show state changes of jobs as they happen
///
/// One line an event, until interrupted: its position, and the job as it is then.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct EventsArgs {
    /// Only jobs with this label; may be repeated, then with all of them
    ///
    /// Default: any. Example: --label build=42
    #[arg(long, value_name = "K=V", value_parser = values::pair)]
    label: Vec<(String, String)>,

    /// Events after this position
    ///
    /// A position that an event had; 0 is from now on. Default: 0. Example: --since 1742
    #[arg(long, value_name = "POSITION", default_value_t = 0, hide_default_value = true)]
    since: u64,

    #[command(flatten)]
    format: FormatOption,

    #[command(flatten)]
    reconnect: ReconnectOption,

    #[command(flatten)]
    client: ClientOptions,
}

const EXAMPLES: &str = "\
Examples:
  stockade events
  stockade events --label build=42 -o json | jq -r '.job.state'
  stockade events --since 1742";

#[derive(Debug, Serialize)]
struct EventView {
    position: u64,
    job: JobJson,
}

pub(super) async fn execute(args: EventsArgs, style: Style) -> Result<ExitCode, CliError> {
    let mut request = WatchJobsRequest {
        labels: values::all_labels(&args.label)?,
        since: args.since,
    };
    let mut worker = connect(&args.client).await?;
    let mut patience = Patience::new(args.reconnect.reconnect);
    loop {
        let show = |event: &JobEvent| show(event, args.format.format, style);
        match watch(&mut worker, &mut request, &mut patience, show).await {
            Err(CliError::Rpc(status)) if connection_lost(&status) => {
                if patience.is_fresh() {
                    note("the connection is lost, trying again");
                    if request.since == 0 {
                        note("no event has told a position yet: those of the meantime will not be shown");
                    }
                }
                if !patience.pause().await {
                    return Err(status.into());
                }
            }
            Err(error) => return Err(error),
            Ok(()) => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// One stream; `request` is left so that the next one goes on behind the last event.
async fn watch(
    worker: &mut Worker,
    request: &mut WatchJobsRequest,
    patience: &mut Patience,
    show: impl Fn(&JobEvent) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut events = worker.watch_jobs(request.clone()).await?.into_inner();
    while let Some(event) = events.message().await? {
        patience.restore();
        request.since = event.position;
        show(&event)?;
    }
    Ok(())
}

fn show(event: &JobEvent, format: Format, style: Style) -> Result<(), CliError> {
    let Some(job) = &event.job else {
        return Ok(());
    };
    match format {
        Format::Json => json_line(&EventView {
            position: event.position,
            job: JobJson::from(job),
        }),
        Format::Table => text(&event_line(event.position, job, style)),
    }
}
