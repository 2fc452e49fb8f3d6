//! From the options of `run` and `start` to the request: files are read here, and only here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use super::error::CliError;
use super::inputs::{Inputs, read_at_most};
use super::job_options::{IsolationOptions, JobOptions, LimitOptions};
use crate::job::{Blob, InputFile, IsolationFloor, JobRequest, LimitsRequest, bounds};

impl JobOptions {
    /// The request, with the content of the files that the options name, held within [`bounds`].
    pub(super) fn to_request(&self) -> Result<JobRequest, CliError> {
        let what = &self.what;
        if is_stdin(what.script.as_deref()) && is_stdin(what.stdin.as_deref()) {
            return Err(CliError::option(
                "--stdin",
                "the standard input is the script already",
            ));
        }
        let request = JobRequest {
            argv: self.command.clone(),
            script: read("--script", what.script.as_deref(), bounds::SCRIPT_BYTES)?,
            path: what.path.clone(),
            args: what.args.clone(),
            env: environment(&what.env)?,
            files: files(&what.input)?,
            stdin: read("--stdin", what.stdin.as_deref(), bounds::STDIN_BYTES)?,
            working_dir: what.workdir.clone(),
            policy: self.isolation.policy.clone(),
            limits: self.limits.to_request(),
            labels: what.label.iter().cloned().collect(),
            stop_signal: self.stopping.stop_signal,
            grace_ms: self.stopping.grace,
            on_output_limit: self.limits.on_output_limit,
            network: self.isolation.network,
            require: self.isolation.floor(),
        };
        request.check()?;
        Ok(request)
    }
}

impl LimitOptions {
    fn to_request(&self) -> LimitsRequest {
        LimitsRequest {
            memory_bytes: self.memory,
            pids: self.pids,
            cpu_millis: self.cpus,
            cpu_time_ms: self.cpu_time,
            wall_time_ms: self.wall_time,
            output_bytes: self.output_limit,
            disk_bytes: self.disk,
            inodes: self.inodes,
            open_files: self.open_files,
        }
    }
}

impl IsolationOptions {
    fn floor(&self) -> IsolationFloor {
        IsolationFloor {
            namespaces: self.require_namespaces.clone(),
            seccomp: self.require_seccomp,
            landlock_abi: self.require_landlock,
            no_capabilities: self.require_no_capabilities,
            cgroup_limits: self.require_cgroup_limits,
        }
    }
}

fn is_stdin(path: Option<&Path>) -> bool {
    path == Some(Path::new("-"))
}

/// The content of a file, or of the standard input for "-".
fn read(option: &'static str, path: Option<&Path>, most: usize) -> Result<Option<Blob>, CliError> {
    let Some(path) = path else {
        return Ok(None);
    };
    let content = if is_stdin(Some(path)) {
        read_at_most(io::stdin().lock(), most)
    } else {
        File::open(path).and_then(|file| read_at_most(file, most))
    };
    match content.map_err(CliError::read(option, path))? {
        Some(content) => Ok(Some(Blob(content))),
        None => Err(CliError::option(option, format!("more than {most} bytes"))),
    }
}

/// `K=V`, or `K` for the caller's own value. The last of several counts. Messages show no value.
fn environment(words: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    let mut environment = BTreeMap::new();
    for word in words {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (word.as_str(), inherited(word)?),
        };
        environment.insert(name.to_owned(), value);
    }
    Ok(environment)
}

fn inherited(name: &str) -> Result<String, CliError> {
    let refused = |reason| CliError::option("--env", format!("{name}: {reason}"));
    if name.is_empty() || name.contains('\0') {
        return Err(refused("not a name"));
    }
    std::env::var_os(name)
        .ok_or_else(|| refused("not set in this environment"))?
        .into_string()
        .map_err(|_| refused("its value is not UTF-8"))
}

fn files(arguments: &[String]) -> Result<Vec<InputFile>, CliError> {
    let mut inputs = Inputs::default();
    for argument in arguments {
        inputs.add(argument)?;
    }
    Ok(inputs.into_files())
}
