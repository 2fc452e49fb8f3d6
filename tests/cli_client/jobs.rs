//! start, query, list, stop, wait, signal, delete, worker, drain.

use serde_json::json;

use stockade::proto::v1::stream_output_response::Part;
use stockade::proto::v1::{Cause, End, Job};

use super::fake::{Act, FAILED, Fake, RUNNING, finished};
use super::harness::Served;

#[test]
fn start_sends_what_was_asked_for_and_prints_the_id() {
    let fake = Fake::with_jobs();
    let folder = tempfile::tempdir().expect("tempdir");
    let script = folder.path().join("job.sh");
    std::fs::write(&script, "#!/bin/sh\necho hi\n").expect("write");
    let script = script.to_str().expect("UTF-8");
    let input = format!("{script}:in/copy.sh");
    let words = [
        "start",
        "--script",
        script,
        "--arg",
        "-v",
        "--input",
        &input,
        "--env",
        "K=V",
        "--label",
        "a=b",
        "--memory",
        "64M",
        "--grace",
        "0s",
        "--stop-signal",
        "INT",
        "--network",
        "none",
        "--policy",
        "strict",
        "--idempotency-key",
        "key-1",
        "--require-seccomp",
        "--",
        "bash",
        "-e",
    ];
    let outcome = Served::on_tcp(&fake).stockade(&words).succeeded();
    assert_eq!(outcome.stdout, format!("{RUNNING}\n"));
    assert_eq!(outcome.stderr, "");
    let started = fake.script().started.pop().expect("one request");
    assert_eq!(started.argv, ["bash", "-e"]);
    assert_eq!(started.script, b"#!/bin/sh\necho hi\n");
    assert_eq!(started.args, ["-v"]);
    assert_eq!(started.files[0].path, "in/copy.sh");
    assert_eq!(started.env["K"], "V");
    assert_eq!(started.labels["a"], "b");
    let limits = started.limits.expect("limits");
    assert_eq!((limits.memory_bytes, limits.pids), (64 << 20, 0));
    assert_eq!(started.grace_ms, Some(0));
    assert_eq!(started.stop_signal, "2");
    assert_eq!(started.network, "none");
    assert_eq!(started.policy, "strict");
    assert_eq!(started.idempotency_key, "key-1");
    assert!(started.require.expect("a floor").seccomp);
}

#[test]
fn a_refusal_names_code_and_field() {
    let served = Served::on_tcp(&Fake::with_jobs());
    let outcome = served.stockade(&["start", "--policy", "nosuch", "true"]);
    assert_eq!(
        outcome.stderr,
        "stockade: policy: there is no such policy (INVALID_ARGUMENT, field policy)\n"
    );
    outcome.failed(1, "");
    served
        .stockade(&["query", "x"])
        .failed(1, "stockade: job not found (NOT_FOUND)\n");
}

#[test]
fn what_the_command_line_gets_wrong_is_a_usage_error() {
    let fake = Fake::with_jobs();
    let served = Served::on_tcp(&fake);
    served
        .stockade(&["start", "--memory", "much", "true"])
        .failed(2, "is not a size");
    let twice = [
        "start",
        "--input",
        "/etc/hostname:in/a",
        "--input",
        "/etc/hosts:in/a",
        "true",
    ];
    served
        .stockade(&twice)
        .failed(2, "--input /etc/hosts: another one is in/a already");
    served
        .stockade(&["start", "--memory", "0", "true"])
        .failed(2, "limits.memory_bytes");
    served.stockade(&["start"]).failed(2, "argv: no command");
    served.stockade(&["wait"]).failed(125, "<ID>");
    served
        .stockade(&["start", "--wait"])
        .failed(125, "argv: no command");
    assert!(fake.script().started.is_empty());
}

#[test]
fn query_prints_the_job() {
    let served = Served::on_tcp(&Fake::with_jobs());
    let json = served
        .stockade(&["query", "-o", "json", FAILED])
        .succeeded()
        .json();
    assert_eq!(json["id"], FAILED);
    assert_eq!(json["state"], "FINISHED");
    assert_eq!(json["cause"], "EXITED");
    assert_eq!(json["exit_code"], 3);
    assert_eq!(json["signal"], json!(null));
    assert_eq!(json["created_at"], "2023-11-14T22:13:20Z");
    assert_eq!(json["usage"]["wall_ms"], 3000);
    assert_eq!(json["isolation"]["namespaces"], json!(["user", "pid"]));
    let table = served.stockade(&["query", FAILED]).succeeded().stdout;
    assert!(table.contains("result      EXITED:3\n"), "{table}");
    assert!(table.contains("labels      build=42\n"), "{table}");
    let coloured = served
        .stockade(&["query", "--color", "always", FAILED])
        .succeeded()
        .stdout;
    assert!(coloured.contains("\u{1b}[31mFINISHED\u{1b}[0m"), "{coloured}");
}

#[test]
fn list_goes_through_the_pages() {
    let fake = Fake::with_jobs();
    for number in 0..5 {
        let id = format!("{number}0000000-0000-4000-8000-000000000000");
        fake.script().jobs.insert(id.clone(), finished(&id, 0));
    }
    let served = Served::on_tcp(&fake);
    let words = [
        "list",
        "-o",
        "json",
        "--state",
        "finished,Running",
        "--label",
        "a=b",
    ];
    let all = served.stockade(&words).succeeded().json();
    assert_eq!(all.as_array().map(Vec::len), Some(7));
    let listed = fake.script().listed.split_off(0);
    assert_eq!(listed.len(), 4, "pages of two");
    assert!(
        listed
            .iter()
            .all(|page| page.states == [4, 2] && page.labels["a"] == "b")
    );
    let some = served.stockade(&["list", "--limit", "3"]).succeeded();
    assert_eq!(some.stdout.lines().count(), 4, "a heading and three jobs");
    assert_eq!(
        some.stderr,
        "stockade: there are more than 3 jobs: --limit 0 lists all\n"
    );
}

#[test]
fn one_label_has_one_value() {
    let fake = Fake::with_jobs();
    let served = Served::on_tcp(&fake);
    for subcommand in ["list", "events"] {
        served
            .stockade(&[subcommand, "--label", "a=1", "--label", "a=2"])
            .failed(2, "--label: a cannot be both 1 and 2");
    }
    served
        .stockade(&["list", "--label", "a=1", "--label", "a=1"])
        .succeeded();
    assert_eq!(fake.script().listed.len(), 1, "nobody else was asked");
}

#[test]
fn stop_reaches_every_job_and_tells_the_missing_one() {
    let fake = Fake::with_jobs();
    let served = Served::on_tcp(&fake);
    let words = [
        "stop", "--wait", "--grace", "2s", "--signal", "HUP", "--reason", "old", RUNNING,
    ];
    let outcome = served.stockade(&words).succeeded();
    assert!(outcome.stdout.contains("STOPPING"), "{outcome:?}");
    let stopped = fake.script().stopped.pop().expect("one request");
    assert_eq!(
        (stopped.grace_ms, &*stopped.signal, &*stopped.reason),
        (Some(2000), "1", "old")
    );
    assert!(stopped.wait);
    let outcome = served.stockade(&["stop", "missing", RUNNING]);
    assert!(
        outcome.stderr.contains("missing: job not found (NOT_FOUND)\n"),
        "{outcome:?}"
    );
    outcome.failed(1, "1 of 2 failed");
    let stopped = fake.script().stopped.pop().expect("the other one");
    assert_eq!(
        (&*stopped.job_id, stopped.grace_ms, stopped.wait),
        (RUNNING, None, false)
    );
}

#[test]
fn wait_exits_with_the_jobs_status() {
    let fake = Fake::with_jobs();
    let served = Served::on_tcp(&fake);
    served.stockade(&["wait", FAILED]).failed(3, "");
    served.stockade(&["wait", "missing"]).failed(125, "job not found");
    fake.script().waits_before_the_end = 3;
    let outcome = served
        .stockade(&["wait", "-o", "json", RUNNING, FAILED])
        .failed(3, "");
    let ids: Vec<_> = outcome
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["id"].clone())
        .collect();
    assert_eq!(ids, [RUNNING, FAILED]);
    assert_eq!(fake.script().waited.last().map(|wait| wait.timeout_ms), Some(0));
}

#[test]
fn wait_names_the_job_that_is_missing_and_shows_the_others() {
    let fake = Fake::with_jobs();
    let served = Served::on_tcp(&fake);
    for (words, status) in [([FAILED, "missing"], 3), (["missing", FAILED], 125)] {
        let outcome = served.stockade(&[&["wait"][..], &words].concat()).failed(
            status,
            "stockade: missing: job not found (NOT_FOUND)
",
        );
        assert!(outcome.stdout.contains("EXITED:3"), "{outcome:?}");
    }
}

#[test]
fn whoever_waits_is_told_the_reason_that_the_status_does_not_tell() {
    let fake = Fake::with_jobs();
    let ended = |cause: Cause, text: &str| Job {
        cause: cause.into(),
        error_text: text.into(),
        ..finished(RUNNING, 0)
    };
    let served = Served::on_tcp(&fake);
    for (cause, status) in [
        (Cause::WallTime, 124),
        (Cause::OutOfMemory, 137),
        (Cause::Lost, 125),
    ] {
        fake.script()
            .jobs
            .insert(RUNNING.into(), ended(cause, "the reason"));
        let end = Part::End(End {
            job: Some(ended(cause, "the reason")),
            ..End::default()
        });
        fake.script().output = [vec![Act::Send(end)]].into();
        for words in [
            &["wait", FAILED, RUNNING][..],
            &["wait", RUNNING],
            &["start", "--wait", "true"],
            &["start", "--follow", "true"],
        ] {
            let status = if words.contains(&FAILED) { 3 } else { status };
            let outcome = served.stockade(words);
            let note = format!("stockade: {RUNNING}: the reason\n");
            assert_eq!(outcome.stderr.matches(&note).count(), 1, "{words:?}: {outcome:?}");
            outcome.failed(status, &note);
        }
    }
    // What ended by itself has said why.
    let outcome = served.stockade(&["wait", FAILED]).failed(3, "");
    assert_eq!(outcome.stderr, "");
}

#[test]
fn wait_gives_up_in_time() {
    let served = Served::on_tcp(&Fake::with_jobs());
    let words = ["wait", "--timeout", "200ms", FAILED, RUNNING];
    let outcome = served.stockade(&words).failed(125, "is not over after 200 ms");
    assert!(outcome.stdout.contains("EXITED:3"), "{outcome:?}");
    let words = ["wait", "--timeout", "200ms", RUNNING];
    let outcome = served.stockade(&words).failed(125, "is not over after 200 ms");
    assert_eq!(outcome.stdout, "");
}

#[test]
fn start_can_wait() {
    let fake = Fake::with_jobs();
    fake.script().jobs.insert(RUNNING.into(), finished(RUNNING, 7));
    let served = Served::on_tcp(&fake);
    let outcome = served.stockade(&["start", "--wait", "true"]).failed(7, "");
    assert!(outcome.stdout.contains("EXITED:7"), "{outcome:?}");
    served
        .stockade(&["start", "--wait", "--policy", "nosuch", "true"])
        .failed(125, "field policy");
}

#[test]
fn signal_and_delete() {
    let fake = Fake::with_jobs();
    let served = Served::on_tcp(&fake);
    served.stockade(&["signal", RUNNING, "USR1"]).succeeded();
    assert_eq!(fake.script().signalled[0].signal, "10");
    served
        .stockade(&["signal", RUNNING, "NOSUCH"])
        .failed(2, "not a signal");
    served
        .stockade(&["delete", RUNNING, FAILED])
        .failed(1, "the job is not over (FAILED_PRECONDITION)");
    assert_eq!(fake.script().deleted, [FAILED]);
}

#[test]
fn worker_and_drain() {
    let fake = Fake::with_jobs();
    let served = Served::on_tcp(&fake);
    served.stockade(&["drain"]).succeeded();
    let worker = served.stockade(&["worker", "-o", "json"]).succeeded().json();
    assert_eq!(
        (&worker["version"], &worker["draining"]),
        (&json!("9.8.7"), &json!(true))
    );
    let worker = served.stockade(&["worker"]).succeeded().stdout;
    assert!(
        worker.contains("jobs         1 running of at most 8, 0 pending\n"),
        "{worker}"
    );
}
