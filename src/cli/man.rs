//! `stockade man`: the manual, made from the same declarations as `--help`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::args::Arguments;
use super::error::CliError;
use super::print::text;

/// Print the manual, or write it as one page a subcommand
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ManArgs {
    /// Write the pages into this folder instead
    ///
    /// Default: the whole manual goes to stdout. Example: /usr/local/share/man/man1
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  stockade man | man -l -
  stockade man /usr/local/share/man/man1 && man stockade-run";

/// A page of the manual and the file that it belongs into.
#[derive(Debug)]
struct Page {
    file: String,
    roff: String,
}

pub(super) fn execute(args: &ManArgs) -> Result<ExitCode, CliError> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let pages = pages(&command).map_err(CliError::Output)?;
    match &args.dir {
        Some(dir) => write(dir, &pages)?,
        None => {
            for page in &pages {
                text(&page.roff)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The page of `command`, and those of everything beneath it.
fn pages(command: &clap::Command) -> std::io::Result<Vec<Page>> {
    let man = Man::new(command.clone())
        .source(concat!("stockade ", env!("CARGO_PKG_VERSION")))
        .manual("Stockade");
    let mut roff = Vec::new();
    man.render_title(&mut roff)?;
    man.render_name_section(&mut roff)?;
    man.render_synopsis_section(&mut roff)?;
    man.render_description_section(&mut roff)?;
    man.render_options_section(&mut roff)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut roff)?;
    }
    if let Some(after) = command.get_after_long_help().or(command.get_after_help()) {
        after_help(&after.to_string()).to_writer(&mut roff)?;
    }
    let mut pages = vec![Page {
        file: man.get_filename(),
        roff: with_one_preamble(&String::from_utf8_lossy(&roff)),
    }];
    for subcommand in command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set())
    {
        pages.append(&mut self::pages(subcommand)?);
    }
    Ok(pages)
}

/// Every section comes with the library's definition of the apostrophe; a page needs it once.
fn with_one_preamble(roff: &str) -> String {
    let preamble: String = roff.split_inclusive('\n').take(2).collect();
    format!("{preamble}{}", roff.replace(&preamble, ""))
}

/// The sections behind the options. Their lines are examples and tables: they stay as they are.
fn after_help(text: &str) -> Roff {
    let mut roff = Roff::default();
    for paragraph in text.split("\n\n") {
        let body = match paragraph.split_once(":\n") {
            Some((heading, body)) => {
                roff.control("SH", [heading.to_uppercase().as_str()]);
                body
            }
            None => paragraph,
        };
        roff.control("PP", []);
        roff.control("nf", []);
        for line in body.lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    roff
}

fn write(dir: &Path, pages: &[Page]) -> Result<(), CliError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CliError::Write { path, source }
    };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    for page in pages {
        let path = dir.join(&page.file);
        fs::write(&path, &page.roff).map_err(failed(&path))?;
    }
    Ok(())
}
