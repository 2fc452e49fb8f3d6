//! The whole command line as clap sees it, and what a usage error exits with.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Arg, Args, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::{
    bench, completions, delete, doctor, drain, events, list, logs, man, policy, query, run, serve, signal,
    start, stop, wait, worker,
};

/// Runs untrusted scripts in sandboxes of namespaces, cgroups, seccomp and landlock.
#[derive(Debug, Parser)]
#[command(name = "stockade", version, max_term_width = 80, after_help = EXAMPLES, after_long_help = MORE)]
#[command(
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) everywhere: Everywhere,

    #[command(subcommand)]
    pub(super) command: Command,
}

impl Arguments {
    pub(super) fn of(words: &[OsString]) -> Result<Self, clap::Error> {
        // To make all subcommands takes longer than to read the words. What is wrong or asks for help is told by all.
        if is_run(words)
            && let Ok(found) = RunAlone::try_parse_from(words)
        {
            let OnlyRun::Run(run) = found.command;
            return Ok(Self {
                everywhere: found.everywhere,
                command: Command::Run(run),
            });
        }
        let mut command = Self::command().color(colour_of(words));
        let mut matches = command.try_get_matches_from_mut(words)?;
        Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
    }
}

/// The words of this process's command line, the program's name first.
pub(super) fn of_this_process() -> Vec<OsString> {
    std::env::args_os().collect()
}

/// Whether they are `stockade run …`: an option before the subcommand is rare, and nothing goes wrong with one.
pub(super) fn is_run(words: &[OsString]) -> bool {
    words.get(1).is_some_and(|word| word == "run")
}

/// The value of --color, for what is told before all words have been read.
fn colour_of(words: &[OsString]) -> ColorChoice {
    let mut words = words
        .iter()
        .map(|word| word.to_string_lossy())
        .take_while(|word| word != "--");
    let value = words.find_map(|word| match word.strip_prefix("--color")? {
        "" => Some(None),
        rest => rest.strip_prefix('=').map(|value| Some(value.to_owned())),
    });
    let value = value.and_then(|value| value.or_else(|| words.next().map(Into::into)));
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or(ColorChoice::Auto)
}

/// [`Arguments`] with one subcommand.
#[derive(Debug, Parser)]
#[command(name = "stockade", disable_help_flag = true, disable_help_subcommand = true)]
struct RunAlone {
    #[command(flatten)]
    everywhere: Everywhere,

    #[command(subcommand)]
    command: OnlyRun,
}

#[derive(Debug, Subcommand)]
enum OnlyRun {
    Run(run::RunArgs),
}

/// The options of all subcommands.
#[derive(Debug, Args)]
pub(super) struct Everywhere {
    /// Colours: auto, always or never
    ///
    /// "auto" uses them on a terminal, unless the environment variable NO_COLOR is set and not empty.
    /// Default: auto. Example: --color never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true
    )]
    #[arg(hide_possible_values = true)]
    pub(super) color: ColorChoice,
}

const EXAMPLES: &str = "\
Examples:
  stockade run -- bash -c 'id; ls /'
  stockade run --memory 256M --wall-time 10s --script job.py -- python3
  stockade serve --config /etc/stockade/config.toml
  stockade start --label build=42 -- make test
  stockade logs -f 7d1c3f0e-5b7a-4c7e-9a57-0d6f3d1f6a52

`stockade SUBCOMMAND --help` tells more; `stockade man` prints the manual.";

const MORE: &str = "\
Examples:
  stockade run -- bash -c 'id; ls /'
  stockade run --memory 256M --wall-time 10s --script job.py -- python3
  stockade serve --config /etc/stockade/config.toml
  stockade start --label build=42 -- make test
  stockade logs -f 7d1c3f0e-5b7a-4c7e-9a57-0d6f3d1f6a52

Environment:
  STOCKADE_ENDPOINT          --endpoint of the subcommands that ask a worker
  STOCKADE_TLS_CA            --tls-ca
  STOCKADE_TLS_CERT          --tls-cert
  STOCKADE_TLS_KEY           --tls-key
  STOCKADE_TLS_SERVER_NAME   --tls-server-name
  NO_COLOR                   no colours, where it is not empty

Files:
  config.toml, /etc/stockade/config.toml
      the configuration of `serve` and `policy`: the first one that there is

Exit status:
  0   success
  1   failure, told on stderr
  2   a wrong command line
  `run`, `wait`, `start --wait` and `start --follow` exit with the job's status,
  and with 125 where stockade itself fails.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Run(run::RunArgs),
    Serve(serve::ServeArgs),
    Start(start::StartArgs),
    Stop(stop::StopArgs),
    Query(query::QueryArgs),
    Wait(wait::WaitArgs),
    Logs(logs::LogsArgs),
    List(list::ListArgs),
    Events(events::EventsArgs),
    Signal(signal::SignalArgs),
    Delete(delete::DeleteArgs),
    Worker(worker::WorkerArgs),
    Drain(drain::DrainArgs),
    Policy(policy::PolicyArgs),
    Doctor(doctor::DoctorArgs),
    Bench(bench::BenchArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// Exit status of a usage error, and of what fails where the other statuses are the job's.
pub(super) const USAGE: u8 = 2;
pub(super) const OWN_FAILURE: u8 = 125;

/// Prints help, version or the usage error, and gives the exit status that belongs to it.
pub(super) fn report(error: &clap::Error) -> ExitCode {
    // Nothing is left to do where the terminal has gone.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(usage_status(std::env::args_os().skip(1)))
    } else {
        ExitCode::SUCCESS
    }
}

/// `run`, `wait` and a `start` that waits exit with a job's own status, which may be 2: their usage errors are 125,
/// as with env(1) and timeout(1).
fn usage_status(mut words: impl Iterator<Item = OsString>) -> u8 {
    let command = Arguments::command();
    let takes_the_jobs = match words.find_map(|word| command.find_subcommand(word)) {
        Some(found) if found.get_name() == "start" => start_waits(found, words),
        Some(found) => matches!(found.get_name(), "run" | "wait"),
        None => false,
    };
    if takes_the_jobs { OWN_FAILURE } else { USAGE }
}

/// Whether `start` was to wait for its job, as far as words can tell of which clap has refused some.
fn start_waits(start: &clap::Command, mut words: impl Iterator<Item = OsString>) -> bool {
    while let Some(word) = words.next() {
        let word = word.to_string_lossy();
        let option = start.get_arguments().find(|argument| is_option(argument, &word));
        match option {
            Some(option) if matches!(option.get_id().as_str(), "wait" | "follow") => return true,
            // Its value may look like anything.
            Some(option) if option.get_action().takes_values() => drop(words.next()),
            // The rest are the words of the job.
            None if word == "--" || !word.starts_with('-') => return false,
            _ => {}
        }
    }
    false
}

fn is_option(argument: &Arg, word: &str) -> bool {
    let long = argument.get_long().map(|name| format!("--{name}"));
    let short = argument.get_short().map(|letter| format!("-{letter}"));
    [long, short].iter().flatten().any(|name| name == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(words: &[&str]) -> u8 {
        usage_status(words.iter().map(OsString::from))
    }

    #[test]
    fn clap_finds_no_contradiction() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn run_alone_reads_what_all_read() {
        for line in [
            "stockade run -- true --color never",
            "stockade run --color always --memory 256M --env A=b -- bash -c id",
            "stockade run true --color never",
            "stockade run --script job.py --arg --help --stdin - -- python3",
            "stockade run",
            "stockade run --help",
            "stockade run -h",
            "stockade run --version",
            "stockade run help",
            "stockade run --nosuch -- true",
            "stockade --color never run -- true",
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let (found, all) = (Arguments::of(&words), Arguments::try_parse_from(&words));
            let told = |result: &Result<Arguments, clap::Error>| match result {
                Ok(arguments) => format!("{arguments:?}"),
                Err(error) => error.render().to_string(),
            };
            assert_eq!(told(&found), told(&all), "{line}");
        }
    }

    #[test]
    fn the_jobs_statuses_are_kept_free() {
        assert_eq!(status_of(&["run", "--nosuch"]), OWN_FAILURE);
        assert_eq!(status_of(&["--color", "never", "wait"]), OWN_FAILURE);
        assert_eq!(status_of(&["start", "--nosuch", "run"]), USAGE);
        for words in [
            &["--memory", "x", "--wait", "--", "true"][..],
            &["--wait", "--nosuch"],
            &["--nosuch", "-o", "json", "--wait"],
            &["--follow", "--label", "x"],
            &["--memory=x", "--follow", "true"],
        ] {
            assert_eq!(status_of(&[&["start"], words].concat()), OWN_FAILURE, "{words:?}");
        }
        for words in [
            &["--memory", "x", "--", "tail", "--follow"][..],
            &["--memory", "x", "tail", "--follow"],
            &["--label", "--wait", "--nosuch"],
        ] {
            assert_eq!(status_of(&[&["start"], words].concat()), USAGE, "{words:?}");
        }
        assert_eq!(status_of(&[]), USAGE);
    }

    #[test]
    fn what_is_told_of_wrong_words_has_the_colours_asked_for() {
        for (line, colour) in [
            ("stockade --color never nosuch", ColorChoice::Never),
            ("stockade start --nosuch --color=always", ColorChoice::Always),
            ("stockade list --color sometimes", ColorChoice::Auto),
            ("stockade list --color", ColorChoice::Auto),
            ("stockade list --colour never", ColorChoice::Auto),
            ("stockade start --nosuch -- ls --color never", ColorChoice::Auto),
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(colour_of(&words), colour, "{line}");
        }
    }

    /// All arguments of a subcommand and of those beneath it, but help and version.
    fn arguments_of(command: &clap::Command) -> Vec<(String, Arg)> {
        let own = command
            .get_arguments()
            .filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version"))
            .map(|argument| (format!("{} {}", command.get_name(), argument), argument.clone()));
        own.chain(command.get_subcommands().flat_map(arguments_of))
            .collect()
    }

    #[test]
    fn every_option_tells_its_default_and_an_example() {
        let mut command = Arguments::command().disable_help_subcommand(true);
        command.build();
        for (name, argument) in arguments_of(&command) {
            let help = argument
                .get_long_help()
                .or(argument.get_help())
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Example: "), "{name}: {help}");
            assert!(
                argument.is_positional() || help.contains("Default: "),
                "{name}: {help}"
            );
            let short = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(short.len() <= 90 && !short.ends_with('.'), "{name}: {short}");
        }
    }
}
