//! `stockade completions`: for the shells.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::args::Arguments;
use super::error::CliError;
use super::print::text;

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CompletionsArgs {
    /// The shell: bash, zsh, fish, elvish or powershell
    ///
    /// Example: bash
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  stockade completions bash > /usr/share/bash-completion/completions/stockade
  stockade completions zsh > /usr/local/share/zsh/site-functions/_stockade
  stockade completions fish > ~/.config/fish/completions/stockade.fish";

pub(super) fn execute(args: &CompletionsArgs) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "stockade", &mut script);
    text(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
