//! `stockade serve`: the worker.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::args::OWN_FAILURE;

/// Run the worker: the gRPC server and its launcher
///
/// Serves stockade.v1.Worker and jobscheduler.Worker on one port. The launcher keeps root; the server, the
/// only part that the network reaches, gives up root and every capability before it listens.
///
/// SIGTERM and SIGINT leave the scheduler, end the service as [worker] on_shutdown says and exit with 0.
/// SIGHUP reads the policy files again.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServeArgs {
    /// The configuration file
    ///
    /// Default: config.toml in the working directory, else /etc/stockade/config.toml, else the built-in
    /// configuration, which listens on 127.0.0.1:50000. Example: --config /srv/stockade.toml
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Read configuration and policies, say what is wrong with them, and exit
    ///
    /// Exits with 0 where nothing is wrong. Default: off. Example: --check-config
    #[arg(long)]
    pub(super) check_config: bool,
}

const EXAMPLES: &str = "\
Examples:
  stockade serve
  stockade serve --config /etc/stockade/config.toml
  stockade serve --check-config";

/// Serves until a signal ends it.
pub(super) fn execute(args: &ServeArgs) -> ExitCode {
    let _ = args;
    eprintln!("stockade: serve: not available in this build");
    ExitCode::from(OWN_FAILURE)
}
