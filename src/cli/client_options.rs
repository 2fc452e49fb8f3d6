//! Options of the subcommands that talk to a worker.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::client::Address;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Aligned columns, for people.
    Table,
    /// For programs.
    Json,
}

/// `-o`, for the subcommands that print a result.
#[derive(Debug, Args)]
pub(super) struct FormatOption {
    /// How to print: table or json
    ///
    /// Times in a table are relative on a terminal and RFC 3339 elsewhere. Default: table. Example: -o json
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "table")]
    #[arg(hide_default_value = true, hide_possible_values = true)]
    pub(super) format: Format,
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
    pub(super) endpoint: Address,

    #[command(flatten)]
    pub(super) tls: TlsOptions,
}

/// How to be sure that a worker is the one, and to prove who one is.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct TlsOptions {
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

    /// The name in the worker's certificate, where it is not the host of --endpoint
    ///
    /// Default: the host of --endpoint. Example: --tls-server-name worker.internal
    #[arg(long, value_name = "NAME", env = "STOCKADE_TLS_SERVER_NAME", hide_env = true)]
    pub(super) tls_server_name: Option<String>,
}

impl TlsOptions {
    /// A key is never given without its certificate.
    pub(super) const fn is_given(&self) -> bool {
        self.tls_ca.is_some() || self.tls_cert.is_some() || self.tls_server_name.is_some()
    }
}

/// For the subcommands that wait: how long a worker may be away.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ReconnectOption {
    /// How long to try again when the connection is lost
    ///
    /// Seconds, or with ms, s, m, h, d; counted anew from each loss. Output goes on at the byte where it
    /// stopped. 0s gives up at once. Default: 60s. Example: --reconnect 10m
    #[arg(long, value_name = "TIME", default_value = "60s", hide_default_value = true)]
    #[arg(value_parser = crate::units::parse_duration_ms)]
    pub(super) reconnect: u64,
}
