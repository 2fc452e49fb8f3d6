//! `stockade bench` against real workers: its own one, and one of others. Needs root.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use stockade::proto::v1::ListJobsRequest;

#[path = "daemon/worker/mod.rs"]
#[allow(dead_code)]
mod worker;

use worker::traces::{branches_of, children, marked};
use worker::{Worker, able, eventually, kill};

/// `stockade bench`, with its temporary files in `tmp`.
fn bench(tmp: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    command
        .arg("bench")
        .args(words)
        .env("TMPDIR", tmp)
        .stdin(Stdio::null());
    command
}

fn run(tmp: &Path, words: &[&str]) -> Output {
    bench(tmp, words).output().expect("the binary runs")
}

fn assert_nothing_is_left(tmp: &Path) {
    let left: Vec<_> = tmp.read_dir().expect("readable").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(marked(tmp.to_str().expect("UTF-8")), 0, "processes");
}

#[test]
fn nonsense_is_refused_before_anything_is_started() {
    let tmp = tempfile::tempdir().expect("tempdir");
    for (words, told) in [
        (&["--jobs", "0"][..], "1..=1000000"),
        (&["--jobs", "-1"], "1..=1000000"),
        (&["--clients", "0"], "1..=1024"),
        (&["--clients", "1025"], "1..=1024"),
        (&["--seconds", "0"], "1..=3600"),
        (&["--seconds", "1.5"], "invalid digit"),
        (&["--only", "nothing"], "possible values: launch"),
        (&["--no-peers", "--only", "peers"], "contradicts"),
        (&["--durability", "none"], "possible values: process, power"),
        (
            &["--endpoint", "unix:/x", "--durability", "power"],
            "cannot be used with",
        ),
        (&["--endpoint", "worker"], "unix:/PATH"),
        (&["more"], "unexpected argument"),
    ] {
        let output = run(tmp.path(), words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.contains(told) && output.stdout.is_empty(),
            "{words:?}: {output:?}"
        );
    }
    assert_nothing_is_left(tmp.path());
}

#[test]
fn a_worker_that_is_not_there_is_told() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let output = run(tmp.path(), &["--endpoint", "unix:/nowhere/socket"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cannot reach unix:/nowhere/socket"), "{stderr}");
}

#[test]
fn its_own_worker_is_measured_and_goes() {
    if !able() {
        return;
    }
    let tmp = tempfile::tempdir().expect("tempdir");
    let few = ["--jobs", "20", "--seconds", "1", "--clients", "2"];
    let more = ["--no-peers", "--durability", "process", "-o", "json"];
    let output = run(tmp.path(), &[&few[..], &more].concat());
    assert!(output.status.success(), "{output:?}");
    // No terminal, no progress.
    assert!(output.stderr.is_empty(), "{output:?}");
    let results: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(results["host"]["cores"].as_u64() > Some(0), "{results}");
    let parts: Vec<&str> = measurements(&results)
        .filter_map(|one| one["part"].as_str())
        .collect();
    assert_eq!(
        parts,
        [
            "launch",
            "idle",
            "throughput",
            "throughput",
            "run",
            "run",
            "output",
            "follow",
            "delay"
        ]
    );
    for measurement in measurements(&results) {
        let rated = measurement["rate"]["value"].as_f64() > Some(0.0);
        let times = &measurement["times"];
        assert!(rated || times.is_object(), "{measurement}");
        if times.is_object() {
            let in_order =
                ["min_us", "p50_us", "p90_us", "p99_us", "max_us"].map(|name| times[name].as_u64());
            assert!(in_order.is_sorted() && in_order[0] > Some(0), "{measurement}");
        }
    }
    assert_nothing_is_left(tmp.path());
}

fn measurements(results: &Value) -> impl Iterator<Item = &Value> {
    results["measurements"].as_array().expect("an array").iter()
}

#[test]
fn a_worker_of_others_keeps_none_of_its_jobs() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    let tmp = tempfile::tempdir().expect("tempdir");
    let endpoint = format!("unix:{}", worker.socket().display());
    let parts = [
        "--only",
        "launch,throughput,output",
        "--jobs",
        "5",
        "--seconds",
        "1",
        "--clients",
        "1",
    ];
    let output = run(tmp.path(), &[&parts[..], &["--endpoint", &endpoint]].concat());
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("back to back") && text.contains("MiB/s"), "{text}");
    assert!(!text.contains('\u{1b}'), "colours, and no terminal: {text}");
    assert_nothing_is_left(tmp.path());

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let jobs = runtime.block_on(async {
        let mut client = worker.client().await;
        let list = client.list_jobs(ListJobsRequest::default()).await;
        list.expect("a list").into_inner().jobs
    });
    assert!(jobs.is_empty(), "{jobs:?}");
    worker.shut_down();
}

#[test]
fn an_interrupted_one_takes_its_worker_with_it() {
    if !able() {
        return;
    }
    for (signal, status) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let tmp = tempfile::tempdir().expect("tempdir");
        let words = [
            "--only",
            "throughput",
            "--seconds",
            "600",
            "--durability",
            "process",
        ];
        let mut command = bench(tmp.path(), &words);
        let process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawns");
        eventually("its worker runs jobs", || runs_jobs(tmp.path()));
        kill(process.id(), signal);
        let output = process.wait_with_output().expect("ends");
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert_nothing_is_left(tmp.path());
    }
}

#[test]
fn a_killed_one_takes_its_worker_with_it() {
    if !able() {
        return;
    }
    let tmp = tempfile::tempdir().expect("tempdir");
    let words = ["--only", "throughput", "--seconds", "600"];
    let mut process = bench(tmp.path(), &words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("spawns");
    eventually("its worker runs jobs", || runs_jobs(tmp.path()));
    let launchers = children(process.id());
    let mut cgroups = Vec::new();
    eventually("its jobs have cgroups", || {
        cgroups = launchers.iter().copied().flat_map(branches_of).collect();
        !cgroups.is_empty()
    });
    process.kill().expect("SIGKILL");
    process.wait().expect("it has ended");
    let path = tmp.path().to_str().expect("UTF-8");
    // The folder that it has made is all that stays.
    eventually("its worker is gone", || marked(path) == 0);
    cgroups.retain(|cgroup| cgroup.exists());
    assert!(cgroups.is_empty(), "cgroups are left: {cgroups:?}");
}

/// Asks its worker, once there is one.
fn runs_jobs(tmp: &Path) -> bool {
    let entries = tmp.read_dir().into_iter().flatten().flatten();
    let mut sockets = entries.map(|entry| entry.path().join("socket"));
    let Some(socket) = sockets.find(|socket| socket.exists()) else {
        return false;
    };
    let endpoint = format!("unix:{}", socket.display());
    let list = Command::new(env!("CARGO_BIN_EXE_stockade"))
        .args(["list", "-o", "json", "--endpoint", &endpoint])
        .output()
        .expect("the binary runs");
    serde_json::from_slice::<Vec<Value>>(&list.stdout).is_ok_and(|jobs| !jobs.is_empty())
}
