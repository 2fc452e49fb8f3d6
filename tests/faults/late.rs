//! A step that fails when the command runs already: the job is killed, and nothing says that it never ran.

use std::fs;
use std::process::{Command, Stdio};

use stockade::proto::v1::Cause;

use super::rest::Rest;
use super::worker::{Setup, Worker, able};
use super::{alone, in_runtime, shell, start, wait};

const RUNS_ON: &str = "echo ran; exec sleep 600";

#[test]
fn a_job_of_a_worker_is_lost_with_what_it_has_done() {
    if !able() {
        return;
    }
    let _alone = alone();
    let faults = "supervisor.score=delay:300@1; supervisor.score=EIO@1".to_owned();
    let setup = Setup {
        environment: vec![("STOCKADE_FAULTS", faults)],
        ..Setup::default()
    };
    let worker = Worker::start_as(setup, |_| {});
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let mut client = worker.client().await;
        let id = start(&mut client, shell(RUNS_ON)).await;
        let job = wait(&mut client, &id).await;
        assert_eq!(job.cause(), Cause::Lost, "{job:?}");
        assert!(job.cause_detail.contains("oom_score_adj"), "{}", job.cause_detail);
        assert!(job.start_failure.is_none() && job.started_at.is_some(), "{job:?}");
        let usage = job.usage.as_ref().expect("usage");
        assert!(usage.wall_ms >= 300, "{usage:?}");
        let stdout = job.output.as_ref().and_then(|output| output.stdout.as_ref());
        assert_eq!(stdout.map(|stdout| stdout.total_bytes), Some(4), "{job:?}");
        let receipt = job.isolation.as_ref().expect("a receipt");
        assert!(receipt.namespaces.contains(&"user".to_owned()), "{receipt:?}");
        drop(client);
        rest.again(&worker).await;
    });
    worker.shut_down();
}

/// Under a filter that takes from a stub what it has to do yet, more is left to do when the command runs.
#[test]
fn a_run_is_lost_with_what_it_has_done() {
    if !able() {
        return;
    }
    let _alone = alone();
    let folder = tempfile::tempdir().expect("tempdir");
    let policies = folder.path().join("policies");
    fs::create_dir_all(policies.join("seccomp")).expect("mkdir");
    let filter = "description = \"a test's\"\nextends = \"default\"\n[[rule]]\nreason = \"a stub needs it\"\n\
                  action = \"ENOSYS\"\ncalls = [\"close_range\"]\n";
    fs::write(policies.join("seccomp/late.toml"), filter).expect("filter");
    fs::write(policies.join("late.toml"), "[sandbox]\nseccomp = \"late\"\n").expect("policy");
    let config = folder.path().join("config.toml");
    fs::write(&config, format!("[worker]\npolicies_dir = {policies:?}\n")).expect("config");
    for (place, words, policy) in [
        ("supervisor.score", "oom_score_adj", "default"),
        ("supervisor.privileges", "capset", "late"),
    ] {
        let report = folder.path().join("report");
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
        command.args(["run", "--policy", policy]);
        command.arg("--config").arg(&config).arg("--report").arg(&report);
        command.args(["--", "sh", "-c", RUNS_ON]).stdin(Stdio::null());
        command.env("STOCKADE_FAULTS", format!("{place}=delay:300; {place}=EIO"));
        let output = command.output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{place}: {told}");
        assert_eq!(output.stdout, b"ran\n", "{place}: {told}");
        assert!(told.contains("lost: ") && told.contains(words), "{place}: {told}");
        let record: serde_json::Value =
            serde_json::from_slice(&fs::read(&report).expect("a record")).expect("JSON");
        assert_eq!(record["cause"], "LOST", "{place}: {record}");
        assert!(!record["started_at"].is_null(), "{place}: {record}");
        assert_eq!(record["isolation"]["no_new_privs"], true, "{place}: {record}");
    }
}
