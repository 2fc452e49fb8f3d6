//! The options that describe a job, alike for `run` and `start`.

use std::path::PathBuf;

use clap::Args;

use super::values;
use crate::job::{Network, OnOutputLimit, Signal};
use crate::units;

/// A job as the command line describes it; `to_request` reads the files that it names.
#[derive(Debug, Args)]
pub(super) struct JobOptions {
    /// The command and its arguments; looked up in the sandbox's PATH if it has no slash
    ///
    /// May be left out where --script or --path names a script with a "#!" line.
    /// Example: -- bash -c 'id; ls /'
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub(super) command: Vec<String>,

    #[command(flatten)]
    pub(super) what: WhatToRun,

    #[command(flatten)]
    pub(super) limits: LimitOptions,

    #[command(flatten)]
    pub(super) isolation: IsolationOptions,

    #[command(flatten)]
    pub(super) stopping: StopOptions,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What to run")]
pub(super) struct WhatToRun {
    /// Send this file as the script: COMMAND runs it, or else its "#!" line
    ///
    /// The content is put into the sandbox and its path given to COMMAND as the next argument. At most
    /// 4 MiB; "-" is the standard input. Default: none. Example: --script job.py -- python3
    #[arg(long, value_name = "FILE", conflicts_with = "path")]
    pub(super) script: Option<PathBuf>,

    /// Run a script of the worker's scripts folder, relative to it
    ///
    /// Default: none. Example: --path nightly/report.sh -- bash
    #[arg(long, value_name = "P")]
    pub(super) path: Option<String>,

    /// An argument after the script of --script or --path; may be repeated
    ///
    /// Default: none. Example: --script job.sh --arg --verbose --arg in.txt
    #[arg(long = "arg", value_name = "ARG", allow_hyphen_values = true)]
    pub(super) args: Vec<String>,

    /// An environment variable of the job; may be repeated
    ///
    /// "K" alone passes the caller's own value. Nothing else of the caller's environment reaches the job.
    /// Default: a few of the policy's, such as PATH and HOME. Example: --env LANG=C --env CI
    #[arg(long, value_name = "K[=V]")]
    pub(super) env: Vec<String>,

    /// What the job reads on its standard input; "-" is this command's own
    ///
    /// Read to its end before the start; at most 4 MiB. Default: /dev/null. Example: --stdin data.csv
    #[arg(long, value_name = "FILE")]
    pub(super) stdin: Option<PathBuf>,

    /// Copy a file or a whole folder into the workspace; may be repeated
    ///
    /// DST is relative to the workspace; "SRC:." copies what is in a folder. Permission bits are kept.
    /// Symbolic links may not lead out of SRC; empty folders are left out. At most 1024 files and 4 MiB in
    /// all. Default: nothing is copied, and DST is the base name of SRC. Example: --input src:code
    #[arg(long, value_name = "SRC[:DST]")]
    pub(super) input: Vec<String>,

    /// Where the job starts: absolute, or relative to the workspace
    ///
    /// Default: the workspace. Example: --workdir code
    #[arg(long, value_name = "DIR")]
    pub(super) workdir: Option<String>,

    /// A label of the job, to find it by; may be repeated
    ///
    /// Default: none. Example: --label build=42
    #[arg(long, value_name = "K=V", value_parser = values::pair)]
    pub(super) label: Vec<(String, String)>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits (default: the policy's values)")]
pub(super) struct LimitOptions {
    /// Memory of all its processes, tmpfs files included
    ///
    /// In bytes, or with K, M, G, T (powers of 1024; 1G and 1Gi are the same). At least 1M. Swap is not allowed.
    /// Default: the policy's value. Example: --memory 256M
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub(super) memory: Option<u64>,

    /// Processes and threads at one time
    ///
    /// A count. Default: the policy's value. Example: --pids 64
    #[arg(long, value_name = "N")]
    pub(super) pids: Option<u64>,

    /// CPUs that it may keep busy at one time
    ///
    /// A decimal number, at least 0.01. Default: the policy's value. Example: --cpus 0.5
    #[arg(long, value_name = "N", value_parser = units::parse_cpus)]
    pub(super) cpus: Option<u64>,

    /// CPU time of all its processes together
    ///
    /// Seconds, or with ms, s, m, h, d. Default: the policy's value. Example: --cpu-time 10s
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration_ms)]
    pub(super) cpu_time: Option<u64>,

    /// Time from start to end
    ///
    /// Seconds, or with ms, s, m, h, d. Default: the policy's value. Example: --wall-time 60s
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration_ms)]
    pub(super) wall_time: Option<u64>,

    /// Output that is kept, of stdout and of stderr each
    ///
    /// In bytes, or with K, M, G, T. What happens beyond it says --on-output-limit.
    /// Default: the policy's value. Example: --output-limit 16M
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub(super) output_limit: Option<u64>,

    /// Beyond the output limit: truncate or kill
    ///
    /// "truncate" drops and counts the rest and lets the job go on; "kill" ends it with cause OUTPUT_LIMIT.
    /// Default: the policy's choice. Example: --on-output-limit kill
    #[arg(long, value_name = "WHAT", value_parser = values::on_output_limit)]
    pub(super) on_output_limit: Option<OnOutputLimit>,

    /// Workspace, /tmp and /dev/shm together
    ///
    /// In bytes, or with K, M, G, T. At least 64K. Default: the policy's value. Example: --disk 64M
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub(super) disk: Option<u64>,

    /// Files and folders that it may make
    ///
    /// A count, at least 16. Default: the policy's value. Example: --inodes 10000
    #[arg(long, value_name = "N")]
    pub(super) inodes: Option<u64>,

    /// Open descriptors of each process
    ///
    /// A count, at least 8. Default: the policy's value. Example: --open-files 256
    #[arg(long, value_name = "N")]
    pub(super) open_files: Option<u64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Isolation")]
pub(super) struct IsolationOptions {
    /// The policy: what the sandbox is and how much the job may ask for
    ///
    /// `stockade policy list` names those of this host's worker, `stockade worker` those of any. `run` has
    /// those of its --config, else the built-in ones. Default: the configuration's default_policy.
    /// Example: --policy strict
    #[arg(long, value_name = "NAME")]
    pub(super) policy: Option<String>,

    /// The job's network: none or host
    ///
    /// "none" is a loopback interface of its own; "host" is the worker's network, where the policy allows
    /// it. Default: the policy's value. Example: --network none
    #[arg(long, value_name = "MODE", value_parser = values::network)]
    pub(super) network: Option<Network>,

    /// Refuse to start without these namespaces of its own, separated by commas
    ///
    /// Of user, pid, mnt, net, uts, ipc, cgroup. Default: none demanded beyond the policy.
    /// Example: --require-namespaces user,pid,net
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(super) require_namespaces: Vec<String>,

    /// Refuse to start without a seccomp filter
    ///
    /// Default: not demanded beyond the policy. Example: --require-seccomp
    #[arg(long)]
    pub(super) require_seccomp: bool,

    /// Refuse to start below this landlock ABI
    ///
    /// A number; 0 demands none. Default: 0. Example: --require-landlock 4
    #[arg(long, value_name = "ABI", default_value_t = 0, hide_default_value = true)]
    pub(super) require_landlock: u32,

    /// Refuse to start with a capability in any set
    ///
    /// Default: not demanded beyond the policy. Example: --require-no-capabilities
    #[arg(long)]
    pub(super) require_no_capabilities: bool,

    /// Refuse to start where cgroups cannot hold the limits
    ///
    /// Default: not demanded beyond the policy. Example: --require-cgroup-limits
    #[arg(long)]
    pub(super) require_cgroup_limits: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Stopping")]
pub(super) struct StopOptions {
    /// How long a stop waits between the stop signal and the kill
    ///
    /// Seconds, or with ms, s, m, h, d; 0s kills at once. Default: the policy's value. Example: --grace 5s
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration_ms)]
    pub(super) grace: Option<u64>,

    /// The signal that asks the job to end
    ///
    /// A name or a number. Default: the policy's signal. Example: --stop-signal INT
    #[arg(long, value_name = "SIGNAL", value_parser = values::signal)]
    pub(super) stop_signal: Option<Signal>,
}
