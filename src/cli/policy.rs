//! `stockade policy`: what the policies of a worker say.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::client_options::{Format, FormatOption};
use super::error::CliError;
use super::print::{json, note, text};
use super::render::{Style, Table, printable};
use super::stop::all_or_some;
use crate::config::Config;
use crate::policy::{Policy, PolicySet};

/// List, show and check policies
///
/// A policy says what the sandbox of its jobs is, what they get, and what they may ask for at most.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

const EXAMPLES: &str = "\
Examples:
  stockade policy list
  stockade policy show strict
  stockade policy check policies/*.toml";

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    List(ListArgs),
    Show(ShowArgs),
    Check(CheckArgs),
}

/// Which policies there are.
#[derive(Debug, Args)]
struct Source {
    /// The policies of this folder, beside the built-in ones
    ///
    /// They replace built-in ones of the same name. Default: the folder that the configuration names.
    /// Example: --policies /etc/stockade/policies
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    policies: Option<PathBuf>,

    /// The policies of the worker that this config.toml describes
    ///
    /// Default: the one that `stockade serve` would take: config.toml in the working directory, else
    /// /etc/stockade/config.toml, else the built-in one. Example: --config /srv/stockade.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// List the policies
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockade policy list
  stockade policy list --policies ./policies -o json")]
struct ListArgs {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    format: FormatOption,
}

/// Show a policy with all that it inherits, as a policy file
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockade policy show default
  stockade policy show strict > policies/mine.toml")]
struct ShowArgs {
    /// Name of the policy
    ///
    /// Example: strict
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    source: Source,
}

/// Say what is wrong with policy files
///
/// What a file inherits is looked for in its folder, then among the built-in policies. In a folder named
/// seccomp a file is a seccomp profile. Exits with 1 where anything is wrong.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockade policy check policies/build.toml
  stockade policy check policies/*.toml policies/seccomp/*")]
struct CheckArgs {
    /// The files
    ///
    /// Example: policies/build.toml
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

pub(super) fn execute(args: &PolicyArgs, style: Style) -> Result<ExitCode, CliError> {
    match &args.command {
        PolicyCommand::List(args) => list(args, style),
        PolicyCommand::Show(args) => show(args),
        PolicyCommand::Check(args) => check(&args.files),
    }
}

#[derive(Debug, Serialize)]
struct PolicyView<'a> {
    name: &'a str,
    description: &'a str,
    /// SHA-256 of the resolved policy, lower-case hexadecimal.
    hash: &'a str,
}

fn list(args: &ListArgs, style: Style) -> Result<ExitCode, CliError> {
    let policies = args.source.load()?;
    let names = policies.names();
    let all = names.iter().filter_map(|name| policies.get(name));
    match args.format.format {
        Format::Json => json(
            &all.map(|policy| PolicyView {
                name: policy.name(),
                description: policy.description(),
                hash: policy.hash(),
            })
            .collect::<Vec<_>>(),
        )?,
        Format::Table => {
            let mut table = Table::new(["NAME", "HASH", "DESCRIPTION"]);
            for policy in all {
                table.row([
                    policy.name().into(),
                    short_hash(policy).into(),
                    printable(policy.description()).into(),
                ]);
            }
            text(&table.render(style))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// As much of the hash as tells two policies apart.
fn short_hash(policy: &Policy) -> &str {
    policy.hash().get(..12).unwrap_or_default()
}

fn show(args: &ShowArgs) -> Result<ExitCode, CliError> {
    let policies = args.source.load()?;
    let policy = policies.get(&args.name).ok_or_else(|| CliError::NoPolicy {
        name: printable(&args.name),
        names: policies.names().join(", "),
    })?;
    text(policy.to_toml())?;
    Ok(ExitCode::SUCCESS)
}

fn check(files: &[PathBuf]) -> Result<ExitCode, CliError> {
    let mut fine = 0;
    for file in files {
        match PolicySet::check_file(file) {
            Ok(()) => {
                fine += 1;
                text(&format!("{}: fine\n", file.display()))?;
            }
            Err(error) => note(error),
        }
    }
    all_or_some(fine, files.len())
}

impl Source {
    fn load(&self) -> Result<PolicySet, CliError> {
        let folder = match &self.policies {
            Some(folder) => Some(folder.clone()),
            None => Config::load(self.config.as_deref())?.worker.policies_dir,
        };
        match &folder {
            Some(dir) => Ok(PolicySet::load(dir)?),
            None => Ok(PolicySet::built_in()),
        }
    }
}
