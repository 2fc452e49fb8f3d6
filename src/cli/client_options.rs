//! Options of the subcommands that talk to a worker.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Aligned columns, for people.
    Table,
    /// For programs.
    Json,
}

/// Where the worker is, and how to be sure that it is the one.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ClientOptions {
    /// Address of the worker: http://HOST:PORT, https://HOST:PORT or unix:/PATH
    ///
    /// Default: the environment variable STOCKADE_ENDPOINT, else http://127.0.0.1:50000.
    /// Example: --endpoint https://worker-3:50000
    #[arg(long, value_name = "URL", env = "STOCKADE_ENDPOINT", hide_env = true)]
    #[arg(default_value = "http://127.0.0.1:50000", hide_default_value = true)]
    pub(super) endpoint: String,

    /// The authority that signed the worker's certificate: a PEM file
    ///
    /// Needed with https://: the system's authorities are not trusted, as a worker's certificate comes from
    /// one's own. Default: the environment variable STOCKADE_TLS_CA. Example: --tls-ca ca.pem
    #[arg(long, value_name = "FILE", env = "STOCKADE_TLS_CA", hide_env = true)]
    pub(super) tls_ca: Option<PathBuf>,

    /// This client's certificate, where the worker asks for one: a PEM file
    ///
    /// Default: the environment variable STOCKADE_TLS_CERT. Example: --tls-cert me.pem
    #[arg(
        long,
        value_name = "FILE",
        env = "STOCKADE_TLS_CERT",
        hide_env = true,
        requires = "tls_key"
    )]
    pub(super) tls_cert: Option<PathBuf>,

    /// The key of --tls-cert: a PEM file
    ///
    /// Default: the environment variable STOCKADE_TLS_KEY. Example: --tls-key me.key
    #[arg(
        long,
        value_name = "FILE",
        env = "STOCKADE_TLS_KEY",
        hide_env = true,
        requires = "tls_cert"
    )]
    pub(super) tls_key: Option<PathBuf>,
}
