//! `stockade serve`: the worker.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::print;
use crate::config::Config;
use crate::isolation::ipc::Channel;
use crate::isolation::launcher;
use crate::policy::PolicySet;
use crate::{grpc, server};

/// Run the worker: the gRPC server and its launcher
///
/// Serves stockade.v1.Worker and jobscheduler.Worker on one port. The launcher keeps root; the server, the
/// only part that the network reaches, gives up root and every capability before it listens.
///
/// SIGTERM and SIGINT leave the scheduler, end the service as [worker] on_shutdown says and exit with 0; a second
/// one ends it at once, with 1. Jobs that still run then run on, and the next start takes them up.
/// SIGHUP reads the policies, the TLS files and the log level again.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServeArgs {
    /// The configuration file
    ///
    /// Default: config.toml in the working directory, else /etc/stockade/config.toml, else the built-in
    /// configuration, which listens on 127.0.0.1:50000. Example: --config /srv/stockade.toml
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Read configuration, policies and TLS files, say what is wrong with them, and exit
    ///
    /// Prints "FILE: fine" and exits with 0 where nothing is wrong, else with 1. Default: off. Example: --check-config
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
    match serve(args) {
        Ok(code) => code,
        Err(message) => {
            print::note(message);
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &ServeArgs) -> Result<ExitCode, String> {
    let config = Config::load(args.config.as_deref()).map_err(|error| error.to_string())?;
    let policies = match &config.worker.policies_dir {
        Some(dir) => PolicySet::load(dir).map_err(|error| error.to_string())?,
        None => PolicySet::built_in(),
    };
    if !policies.names().contains(&config.worker.default_policy) {
        return Err(format!(
            "worker.default_policy: there is no policy named {}",
            config.worker.default_policy
        ));
    }
    if args.check_config {
        server::check_tls(&config).map_err(|error| error.to_string())?;
        let checked = match &config.source {
            Some(file) => file.display().to_string(),
            None => "the built-in configuration".to_owned(),
        };
        print::text(&format!("{checked}: fine\n")).map_err(|error| error.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    launcher::run(config, policies, become_server).map_err(|failure| failure.to_string())
}

/// The server's whole life, in a child of the launcher.
fn become_server(config: Config, channel: Channel) -> ExitCode {
    let prepared =
        server::prepare(&config).and_then(|prepared| server::drop_privileges(&config).map(|()| prepared));
    match prepared {
        Ok(prepared) => server::run(config, prepared, channel, grpc::routes),
        Err(error) => {
            print::note(error);
            ExitCode::from(launcher::CANNOT_START)
        }
    }
}
