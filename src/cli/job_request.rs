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
            script: read("--script", what.script.as_deref(), bounds::REQUEST_BYTES)?,
            path: what.path.clone(),
            args: what.args.clone(),
            env: environment(&what.env)?,
            files: files(&what.input)?,
            stdin: read("--stdin", what.stdin.as_deref(), bounds::REQUEST_BYTES)?,
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
    match content.map_err(CliError::file(option, path))? {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Network, OnOutputLimit, Signal};
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        job: JobOptions,
    }

    fn request(words: &[&str]) -> Result<JobRequest, CliError> {
        let line = Line::try_parse_from([&["stockade"], words].concat()).expect("a command line");
        line.job.to_request()
    }

    fn temporary(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("tempfile");
        std::fs::write(file.path(), content).expect("write");
        file
    }

    #[test]
    fn options_after_the_command_are_its_own() {
        let request =
            request(&["--pids", "5", "sh", "-c", "x", "--memory", "--", "--pids=1"]).expect("request");
        assert_eq!(request.argv, ["sh", "-c", "x", "--memory", "--", "--pids=1"]);
        assert_eq!(request.limits.pids, Some(5));
    }

    #[test]
    fn limits_are_read_in_their_units() {
        let words = "--memory 256M --pids 64 --cpus 0.5 --cpu-time 10s --wall-time 1m --output-limit 16M \
                     --disk 64M --inodes 1000 --open-files 32 -- true";
        let request = request(&words.split_whitespace().collect::<Vec<_>>()).expect("request");
        let expected = LimitsRequest {
            memory_bytes: Some(256 << 20),
            pids: Some(64),
            cpu_millis: Some(500),
            cpu_time_ms: Some(10_000),
            wall_time_ms: Some(60_000),
            output_bytes: Some(16 << 20),
            disk_bytes: Some(64 << 20),
            inodes: Some(1000),
            open_files: Some(32),
        };
        assert_eq!(request.limits, expected);
    }

    #[test]
    fn nothing_asked_for_is_left_to_the_policy() {
        let request = request(&["true"]).expect("request");
        let expected = JobRequest {
            argv: vec!["true".into()],
            ..JobRequest::default()
        };
        assert!(request == expected, "{request:?}");
    }

    #[test]
    fn words_become_values() {
        let words = "--network host --on-output-limit kill --grace 1500ms --stop-signal INT --workdir d \
                     --label a=b=c --policy strict --require-seccomp --require-landlock 4 \
                     --require-namespaces user,pid --require-no-capabilities --require-cgroup-limits \
                     --path p.sh --arg --x --arg y sh";
        let request = request(&words.split_whitespace().collect::<Vec<_>>()).expect("request");
        assert_eq!(request.network, Some(Network::Host));
        assert_eq!(request.on_output_limit, Some(OnOutputLimit::Kill));
        assert_eq!(request.grace_ms, Some(1500));
        assert_eq!(request.stop_signal.map(Signal::number), Some(2));
        assert_eq!(request.working_dir.as_deref(), Some("d"));
        assert_eq!(request.labels.get("a").map(String::as_str), Some("b=c"));
        assert_eq!(request.policy.as_deref(), Some("strict"));
        assert_eq!(request.path.as_deref(), Some("p.sh"));
        assert_eq!(request.args, ["--x", "y"]);
        let floor = IsolationFloor {
            namespaces: vec!["user".into(), "pid".into()],
            seccomp: true,
            landlock_abi: 4,
            no_capabilities: true,
            cgroup_limits: true,
        };
        assert_eq!(request.require, floor);
    }

    #[test]
    fn a_script_is_sent_by_its_content() {
        let script = temporary(b"#!/bin/sh\necho hi\n");
        let path = script.path().display().to_string();
        let alone = request(&["--script", &path]).expect("its #! line runs it");
        assert_eq!(alone.script, Some(Blob(b"#!/bin/sh\necho hi\n".to_vec())));
        assert!(alone.argv.is_empty());
        let run = request(&["--script", &path, "--", "bash", "-x"]).expect("request");
        assert_eq!(run.argv, ["bash", "-x"]);
        let plain = temporary(b"echo hi");
        let path = plain.path().display().to_string();
        let error = request(&["--script", &path]).expect_err("nothing says what runs it");
        assert_eq!(error.exit_status(), crate::cli::args::USAGE);
    }

    #[test]
    fn what_is_read_is_bounded() {
        let long = tempfile::NamedTempFile::new().expect("tempfile");
        long.as_file()
            .set_len(bounds::REQUEST_BYTES as u64 + 1)
            .expect("set_len");
        let path = long.path().display().to_string();
        let error = request(&["--stdin", &path, "cat"]).expect_err("too long");
        assert_eq!(error.to_string(), "--stdin: more than 4194304 bytes");
        long.as_file()
            .set_len(bounds::REQUEST_BYTES as u64 - 64)
            .expect("set_len");
        assert!(request(&["--stdin", &path, "cat"]).is_ok());
        let error = request(&["--script", "/nonexistent", "sh"]).expect_err("no such file");
        assert_eq!(
            error.to_string(),
            "--script /nonexistent: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn the_environment_is_passed_only_by_name() {
        let request = request(&["--env", "A=b=c", "--env", "PATH", "--env", "E=", "true"]).expect("request");
        assert_eq!(request.env.get("A").map(String::as_str), Some("b=c"));
        assert_eq!(request.env.get("E").map(String::as_str), Some(""));
        assert_eq!(request.env.get("PATH").cloned(), std::env::var("PATH").ok());
        assert_eq!(request.env.len(), 3);
        let error = self::request(&["--env", "STOCKADE_NO_SUCH_VARIABLE", "true"]).expect_err("not set");
        assert!(error.to_string().contains("not set"), "{error}");
        assert!(self::request(&["--env", "=hush", "true"]).is_err());
    }

    #[test]
    fn one_standard_input_cannot_be_two_things() {
        let error = request(&["--script", "-", "--stdin", "-", "sh"]).expect_err("twice");
        assert_eq!(error.exit_status(), crate::cli::args::USAGE);
    }

    #[test]
    fn values_out_of_bounds_are_named() {
        for (words, field) in [
            (&["--memory", "0", "true"][..], "limits.memory_bytes"),
            (&["--pids", "0", "true"], "limits.pids"),
            (&["--workdir", "../x", "true"], "working_dir"),
            (&["--path", "/etc/shadow", "sh"], "path"),
            (&["--grace", "100d", "true"], "grace_ms"),
            (&[], "argv"),
        ] {
            match request(words) {
                Err(CliError::Request(refused)) => assert_eq!(refused.field, field),
                other => panic!("{words:?}: {other:?}"),
            }
        }
    }
}
