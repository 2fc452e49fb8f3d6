//! `stockade list`: the jobs of a worker.

use std::collections::HashMap;
use std::process::ExitCode;

use clap::Args;

use super::client::{Worker, connect};
use super::client_options::{ClientOptions, FormatOption};
use super::error::CliError;
use super::print::{Printer, note};
use super::render::Style;
use super::values;
use crate::proto::v1::{Job, ListJobsRequest, State};

/// List jobs, newest first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListArgs {
    /// Only jobs in these states, separated by commas
    ///
    /// Of pending, running, stopping, finished. Default: all. Example: --state pending,running
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = values::state)]
    state: Vec<State>,

    /// Only jobs with this label; may be repeated, then with all of them
    ///
    /// Default: any. Example: --label build=42
    #[arg(long, value_name = "K=V", value_parser = values::pair)]
    label: Vec<(String, String)>,

    /// At most so many jobs
    ///
    /// A count; 0 lists all. Default: 100. Example: --limit 10
    #[arg(long, value_name = "N", default_value_t = 100, hide_default_value = true)]
    limit: usize,

    #[command(flatten)]
    format: FormatOption,

    #[command(flatten)]
    client: ClientOptions,
}

const EXAMPLES: &str = "\
Examples:
  stockade list
  stockade list --state running --label build=42
  stockade list --limit 0 -o json | jq -r '.[] | select(.cause == \"LOST\") | .id'";

/// Jobs that one answer may carry: [`super::client`] bounds its length.
const PAGE: usize = 100;

pub(super) async fn execute(args: ListArgs, style: Style) -> Result<ExitCode, CliError> {
    let labels = values::all_labels(&args.label)?;
    let mut worker = connect(&args.client).await?;
    let (jobs, more) = pages(&mut worker, &args, &labels).await?;
    let format = args.format.format;
    Printer { format, style }.jobs(&jobs)?;
    if more {
        note(format_args!(
            "there are more than {} jobs: --limit 0 lists all",
            args.limit
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The jobs, and whether the limit left some out.
async fn pages(
    worker: &mut Worker,
    args: &ListArgs,
    labels: &HashMap<String, String>,
) -> Result<(Vec<Job>, bool), CliError> {
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let mut jobs = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = PAGE.min(limit - jobs.len());
        let request = ListJobsRequest {
            states: args.state.iter().map(|&state| state.into()).collect(),
            labels: labels.clone(),
            page_size: u32::try_from(page).unwrap_or(u32::MAX),
            page_token,
        };
        let answer = worker.list_jobs(request).await?.into_inner();
        jobs.extend(answer.jobs);
        page_token = answer.next_page_token;
        let more = !page_token.is_empty();
        if !more || jobs.len() >= limit {
            jobs.truncate(limit);
            return Ok((jobs, more));
        }
    }
}
