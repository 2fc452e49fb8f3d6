//! The record of a job's end is its supervisor's, from the kernel's evidence: a job cannot change what is said of it.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Job, able};

/// Ends that look like others, as a shell script, and what has to be said of each: cause, exit code, signal.
const ENDS: [(&str, &str, Option<i64>, Option<i64>); 12] = [
    ("exit 0", "EXITED", Some(0), None),
    ("exit 124", "EXITED", Some(124), None),
    ("exit 125", "EXITED", Some(125), None),
    ("exit 137", "EXITED", Some(137), None),
    ("exit 159", "EXITED", Some(159), None),
    ("exit 255", "EXITED", Some(255), None),
    ("kill -KILL $$", "SIGNALED", None, Some(9)),
    ("kill -TERM $$", "SIGNALED", None, Some(15)),
    ("kill -XCPU $$", "SIGNALED", None, Some(24)),
    ("kill -SYS $$", "SIGNALED", None, Some(31)),
    ("kill -33 $$; sleep 9", "SIGNALED", None, Some(33)),
    ("sh -c 'kill -KILL $PPID'; sleep 9", "SIGNALED", None, Some(9)),
];

#[test]
fn one_end_does_not_pass_for_another() {
    if !able() {
        return;
    }
    for (script, cause, code, signal) in ENDS {
        let finished = Job::under("default").bash(script).run();
        let report = &finished.report;
        assert_eq!(finished.cause(), cause, "{script}: {finished:?}");
        assert_eq!(report["exit_code"].as_i64(), code, "{script}");
        assert_eq!(report["signal"].as_i64(), signal, "{script}");
        assert_eq!(report["usage"]["oom_kills"], 0, "{script}");
    }
}

#[test]
fn a_forged_record_is_not_taken() {
    if !able() {
        return;
    }
    for policy in ["default", "strict", "ci"] {
        let finished = Job::under(policy).python(include_str!("probes/forger.py")).run();
        let report = &finished.report;
        assert_eq!(
            (finished.cause(), &report["exit_code"]),
            ("EXITED", &7.into()),
            "{finished:?}"
        );
        assert_eq!(finished.status.code(), Some(7));
        for (stream, text) in [("stdout", &finished.stdout), ("stderr", &finished.stderr)] {
            let told = &report["output"][stream];
            assert_eq!(told["total_bytes"], text.len(), "{stream}: {finished:?}");
            assert_eq!(told["sha256"], sha256(text), "{stream}");
        }
        assert!(finished.stdout.ends_with(" written\n"), "{finished:?}");
    }
}

fn sha256(text: &str) -> Value {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(text);
    digest
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        .into()
}

/// The same script where its output is a file, as a naive worker would have it: it can rewrite what it has said.
#[test]
fn the_forger_can_forge() {
    let folder = tempfile::tempdir().expect("tempdir");
    let open = |name: &str| {
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(true)
            .write(true)
            .read(true)
            .open(folder.path().join(name));
        file.expect("opened")
    };
    let status = Command::new("python3")
        .args(["-c", include_str!("probes/forger.py"), "."])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(open("stdout"))
        .stderr(open("stderr"))
        .status()
        .expect("python3");
    let record = std::fs::read_to_string(folder.path().join("record")).unwrap_or_default();
    assert!(record.contains("\"exit_code\": 0"), "{status}: {record}");
    let output = std::fs::read_to_string(folder.path().join("stdout")).unwrap_or_default();
    assert!(!output.starts_with("0 written"), "{output}");
}

#[test]
fn a_limit_that_ends_a_job_is_named() {
    if !able() {
        return;
    }
    let limit = |options: &[&str], script: &str| Job::under("default").options(options).bash(script).run();
    for (options, script, cause, status) in [
        (
            &["--wall-time", "300ms"][..],
            "trap '' TERM; setsid sleep 9 & sleep 9",
            "WALL_TIME",
            124,
        ),
        (
            &["--cpu-time", "200ms"],
            "(while :; do :; done) & while :; do :; done",
            "CPU_TIME",
            124,
        ),
        (
            &["--memory", "32M"],
            "python3 -c 'x = bytearray(b\"x\") * (1 << 26)'",
            "OUT_OF_MEMORY",
            137,
        ),
        (
            &["--output-limit", "64K", "--on-output-limit", "kill"],
            "yes; sleep 9",
            "OUTPUT_LIMIT",
            137,
        ),
    ] {
        let finished = limit(options, script);
        assert_eq!(
            (finished.cause(), finished.status.code()),
            (cause, Some(status)),
            "{finished:?}"
        );
        assert!(finished.took.as_secs() < 8, "{cause}: {:?}", finished.took);
    }
    let cut = limit(&["--output-limit", "64K"], "yes | head -c 1000000; echo end >&2");
    assert_eq!((cut.cause(), cut.stdout.len()), ("EXITED", 64 << 10));
    assert_eq!(
        cut.report["output"]["stdout"]["dropped_bytes"],
        1_000_000 - (64 << 10)
    );
}
