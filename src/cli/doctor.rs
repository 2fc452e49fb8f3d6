//! `stockade doctor`: what this host can and cannot isolate.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::client_options::{Format, FormatOption};
use super::error::CliError;
use super::print;
use super::render::{Cell, Colour, Style, Table};
use crate::config::Config;
use crate::isolation::ipc::{AbilityStatus, HostAbility};
use crate::isolation::launcher::foreground::{self, Outcome};
use crate::isolation::timings::Timings;
use crate::isolation::{Failure, doctor};
use crate::job::{Enforcement, IsolationFloor, JobRequest, StartStep};
use crate::policy::{PolicySet, Site, Tenant};

/// Tell what this host can and cannot isolate, and how to mend it
///
/// One line for each ability: ok, weaker or missing, the reason, and the exact command or flag that mends
/// it. A policy is missing where a trial job under it fails. Exits with 1 where `stockade run` with the default policy would fail.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    pub(super) format: FormatOption,

    /// Judge for the worker that this config.toml describes
    ///
    /// Default: the built-in configuration. Example: --config /etc/stockade/config.toml
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  stockade doctor
  stockade doctor -o json | jq '.[] | select(.status != \"ok\")'";

/// Probes the host and prints what was found.
pub(super) fn execute(args: &DoctorArgs, style: Style) -> Result<ExitCode, CliError> {
    let config = match &args.config {
        Some(path) => Config::load(Some(path))?,
        None => Config::default(),
    };
    let policies = match &config.worker.policies_dir {
        Some(dir) => PolicySet::load(dir)?,
        None => PolicySet::built_in(),
    };
    let mut abilities = doctor::examine(&config.isolation.cgroup);
    let limited = abilities
        .iter()
        .all(|found| found.name != "cgroups" || found.status == AbilityStatus::Ok);
    let mut works = policies.names().contains(&config.worker.default_policy);
    if !works {
        abilities.push(no_default_policy(&config, &policies));
    }
    for name in policies.names() {
        let is_default = name == config.worker.default_policy;
        let found = try_policy(&config, &policies, &name, Trial::AsItIs);
        works &= !is_default || found.status != AbilityStatus::Missing;
        abilities.push(found);
        if is_default && !limited {
            abilities.push(try_policy(&config, &policies, &name, Trial::WithoutLimits));
        }
    }
    match args.format.format {
        Format::Json => print::json(&abilities)?,
        Format::Table => print::text(&table(&abilities, style))?,
    }
    Ok(ExitCode::from(u8::from(!works)))
}

/// A request that names no policy is refused then, and a worker does not start.
fn no_default_policy(config: &Config, policies: &PolicySet) -> HostAbility {
    HostAbility {
        name: "default policy".to_owned(),
        status: AbilityStatus::Missing,
        detail: format!("there is no policy named {}", config.worker.default_policy),
        mend: format!("worker.default_policy: one of {}", policies.names().join(", ")),
    }
}

#[derive(Debug, Clone, Copy)]
enum Trial {
    AsItIs,
    /// What would hold under `limits = "best-effort"`.
    WithoutLimits,
}

/// Runs a job that does nothing: versions and settings tell what should work, this what does.
fn try_policy(config: &Config, policies: &PolicySet, name: &str, trial: Trial) -> HostAbility {
    let request = JobRequest {
        argv: vec!["true".to_owned()],
        policy: Some(name.to_owned()),
        ..JobRequest::default()
    };
    let site = Site {
        default_policy: name.to_owned(),
        scripts_dir: config.worker.scripts_dir.clone(),
    };
    let tenant = Tenant {
        name: "doctor".to_owned(),
    };
    let ran = policies
        .resolve(&request, &site, &tenant)
        .map_err(|denial| Failure::new(StartStep::Policy, 0, denial.to_string()))
        .and_then(|mut resolved| {
            if matches!(trial, Trial::WithoutLimits) {
                Arc::make_mut(&mut resolved.sandbox).limits = Enforcement::BestEffort;
            }
            foreground::begin(&config.isolation, None, Timings::start())
                .and_then(|begun| begun.run(&resolved, IsolationFloor::default()))
        });
    let (cause, weaker) = match ran {
        Ok(Outcome { record, .. }) => (record.cause, record.receipt.weaker),
        Err(failure) => (failure.into_cause(), Vec::new()),
    };
    let works = cause.is_success();
    HostAbility {
        name: match trial {
            Trial::AsItIs => format!("policy {name}"),
            Trial::WithoutLimits => format!("policy {name} with limits = \"best-effort\""),
        },
        status: match (works, weaker.is_empty()) {
            (true, true) => AbilityStatus::Ok,
            (true, false) => AbilityStatus::Weaker,
            (false, _) => AbilityStatus::Missing,
        },
        detail: match (works, weaker.is_empty()) {
            (true, true) => "a trial job ran".to_owned(),
            (true, false) => format!("a trial job ran, with all but: {}", weaker.join("; ")),
            // How to mend it stands in a line of its own.
            (false, _) => cause.text().split("; to mend it: ").take(1).collect(),
        },
        mend: if works && weaker.is_empty() {
            String::new()
        } else {
            "see the lines above; else use another policy".to_owned()
        },
    }
}

fn table(abilities: &[HostAbility], style: Style) -> String {
    let mut table = Table::new(["ABILITY", "STATUS", "WHY", "MEND"]);
    for found in abilities {
        let (word, colour) = match found.status {
            AbilityStatus::Ok => ("ok", Colour::Green),
            AbilityStatus::Weaker => ("weaker", Colour::Yellow),
            AbilityStatus::Missing => ("missing", Colour::Red),
        };
        let status = Cell::new(word, Some(colour));
        table.row([
            found.name.as_str().into(),
            status,
            found.detail.as_str().into(),
            found.mend.as_str().into(),
        ]);
    }
    table.render(style)
}
