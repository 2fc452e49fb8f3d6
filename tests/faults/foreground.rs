//! `stockade run` where a step of it fails or its launcher is killed: before it is decided what the job may do, and after.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::alone;
use super::worker::{able, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_stockade");

/// Place, and the step that is told.
const STEPS: [(&str, &str); 18] = [
    ("launcher.ids", "identity"),
    ("launcher.channel", "supervisor"),
    ("supervisor.namespaces", "namespaces"),
    ("supervisor.base", "rootfs"),
    ("launcher.template", "rootfs"),
    ("supervisor.root", "rootfs"),
    ("cgroup.mkdir", "cgroup"),
    ("cgroup.limit", "cgroup-limit"),
    ("launcher.network", "network"),
    ("launcher.etc", "rootfs"),
    ("supervisor.process", "supervisor"),
    ("supervisor.landlock", "landlock"),
    ("supervisor.clone", "namespaces"),
    ("supervisor.maps", "identity"),
    ("supervisor.proc", "proc"),
    ("supervisor.finish-root", "pivot-root"),
    ("supervisor.seal", "rootfs"),
    ("stub.seccomp", "seccomp"),
];

fn run(faults: &str, words: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(["run"]).args(words).stdin(Stdio::null());
    command.env("STOCKADE_FAULTS", faults);
    command.output().expect("it runs")
}

#[test]
fn a_run_names_the_step_that_fails_and_leaves_nothing() {
    if !able() {
        return;
    }
    let _alone = alone();
    for (place, step) in STEPS {
        let output = run(&format!("{place}=EIO"), &["--", "echo", "ran"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{place}: {told}");
        assert!(
            told.contains(&format!("start failed at {step}:")),
            "{place}: {told}"
        );
        assert!(output.stdout.is_empty(), "{place}: {output:?}");
        leaves_nothing(place);
    }
}

/// What a run fails at, and its supervisor that has begun, are nobody's business where the policy says no.
#[test]
fn a_run_that_its_policy_denies_tells_that_alone_and_leaves_nothing() {
    if !able() {
        return;
    }
    let _alone = alone();
    for faults in ["", "launcher.channel=EIO", "supervisor.base=EIO"] {
        let output = run(faults, &["--memory", "1024T", "--", "echo", "ran"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{faults}: {told}");
        assert!(told.contains("memory"), "{faults}: {told}");
        assert!(!told.contains("start failed"), "{faults}: {told}");
        assert!(processes().is_empty(), "{faults}: at once, as it is waited for");
        leaves_nothing(faults);
    }
}

#[test]
fn a_run_with_a_wrong_command_line_leaves_nothing() {
    if !able() {
        return;
    }
    let _alone = alone();
    for (words, status) in [
        (&["--no-such-option"][..], 125),
        (&["--help"], 0),
        (&["--script", "/nonexistent"], 125),
    ] {
        let output = run("", words);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {output:?}");
        assert!(processes().is_empty(), "{words:?}: at once, as it is waited for");
        leaves_nothing(&words.join(" "));
    }
}

/// It reads what the job is given as any program does.
#[test]
fn a_run_that_reads_its_request_is_ended_by_a_signal_and_its_supervisor_with_it() {
    if !able() {
        return;
    }
    let _alone = alone();
    let mut command = Command::new(BINARY);
    command
        .args(["run", "--stdin", "-", "--", "cat"])
        .stdin(Stdio::piped());
    let mut launcher = command.spawn().expect("it runs");
    let pid = launcher.id().to_string();
    eventually("its supervisor has begun", || processes().len() == 2);
    // SIGINT is ignored by what a shell has started in the background.
    let killed = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    let status = launcher.wait().expect("it ends");
    assert_eq!(status.signal(), Some(libc::SIGTERM), "{status:?}");
    leaves_nothing("SIGTERM");
}

/// It waits for a policy that nobody will tell it, or, with a stub, for a job.
#[test]
fn a_supervisor_ends_with_a_launcher_that_is_killed_before_the_job() {
    if !able() {
        return;
    }
    let _alone = alone();
    for place in [
        "launcher.forked",
        "launcher.ids",
        "cgroup.mkdir",
        "launcher.etc",
        "cgroup.limit",
    ] {
        let output = run(&format!("{place}=abort"), &["--", "echo", "ran"]);
        assert!(!output.status.success(), "{place}: {output:?}");
        assert!(output.stdout.is_empty(), "{place}: {output:?}");
        leaves_nothing(place);
    }
}

/// Processes of this binary.
fn processes() -> Vec<String> {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    all.filter(|entry| {
        let exe = fs::read_link(entry.path().join("exe"));
        exe.is_ok_and(|exe| exe == Path::new(BINARY))
    })
    .map(|entry| entry.file_name().to_string_lossy().into_owned())
    .collect()
}

/// But for a cgroup, which the next run removes.
fn leaves_nothing(what: &str) {
    eventually(&format!("{what}: nothing is left"), || processes().is_empty());
    let host = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!host.contains("newroot"), "{what}: {host}");
}
