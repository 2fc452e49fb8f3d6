//! `stockade policy` of the real binary.

use std::fs;
use std::process::{Command, Output};

fn stockade(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stockade"))
        .arg("policy")
        .args(words)
        .output()
        .expect("the binary runs")
}

fn stdout_of(words: &[&str]) -> String {
    let output = stockade(words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[track_caller]
fn assert_refused(words: &[&str], message: &str) {
    let output = stockade(words);
    assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(message), "{words:?}: {stderr}");
}

#[test]
fn the_built_in_policies_are_listed() {
    let json: serde_json::Value = serde_json::from_str(&stdout_of(&["list", "-o", "json"])).expect("JSON");
    let names: Vec<_> = json
        .as_array()
        .expect("an array")
        .iter()
        .map(|policy| policy["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["ci", "default", "strict"]);
    assert_eq!(json[0]["hash"].as_str().map(str::len), Some(64));
    let table = stdout_of(&["list"]);
    assert!(
        table.starts_with("NAME     HASH          DESCRIPTION\n"),
        "{table}"
    );
    assert_eq!(table.lines().count(), 4, "{table}");
}

#[test]
fn what_is_shown_is_a_policy_file() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("copy.toml");
    fs::write(&path, stdout_of(&["show", "strict"])).expect("write");
    let path = path.to_str().expect("UTF-8");
    assert_eq!(stdout_of(&["check", path]), format!("{path}: fine\n"));
    let dir = folder.path().to_str().expect("UTF-8");
    let list = stdout_of(&["list", "--policies", dir]);
    assert!(list.contains("\ncopy "), "{list}");
}

#[test]
fn a_signal_is_a_name_or_a_number_and_shown_as_it_is_read() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("stop.toml");
    let dir = folder.path().to_str().expect("UTF-8");
    for (written, shown) in [
        ("15", "TERM"),
        ("\"int\"", "INT"),
        ("\"32\"", "32"),
        ("35", "RTMIN+1"),
        ("\"SIGRTMIN+1\"", "RTMIN+1"),
    ] {
        fs::write(&path, format!("[stop]\nsignal = {written}\n")).expect("write");
        let policy = stdout_of(&["show", "stop", "--policies", dir]);
        assert!(
            policy.contains(&format!("signal = \"{shown}\"\n")),
            "{written}: {policy}"
        );
        let copy = folder.path().join("copy.toml");
        fs::write(&copy, policy).expect("write");
        stdout_of(&["check", copy.to_str().expect("UTF-8")]);
    }
}

#[test]
fn the_folder_of_a_configuration_is_used() {
    let folder = tempfile::tempdir().expect("tempdir");
    let policies = folder.path().join("policies");
    fs::create_dir(&policies).expect("create_dir");
    fs::write(policies.join("small.toml"), "inherits = \"strict\"\n").expect("write");
    let config = folder.path().join("config.toml");
    let text = format!("[worker]\npolicies_dir = {:?}\n", policies.display().to_string());
    fs::write(&config, text).expect("write");
    let config = config.to_str().expect("UTF-8");
    let shown = stdout_of(&["show", "small", "--config", config]);
    assert!(shown.contains("memory"), "{shown}");
    // Where `serve` would find it, no option has to name it.
    let mut here = Command::new(env!("CARGO_BIN_EXE_stockade"));
    here.args(["policy", "list"]).current_dir(&folder);
    let list = String::from_utf8(here.output().expect("the binary runs").stdout).expect("UTF-8");
    assert!(list.contains("\nsmall "), "{list}");
    assert_refused(&["list", "--config", "/nonexistent"], "/nonexistent");
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let folder = tempfile::tempdir().expect("tempdir");
    let bad = folder.path().join("bad.toml");
    fs::write(&bad, "inherits = \"default\"\n[limits]\nmemorry = \"1G\"\n").expect("write");
    let good = folder.path().join("good.toml");
    fs::write(&good, "inherits = \"default\"\n").expect("write");
    let (bad, good) = (bad.to_str().expect("UTF-8"), good.to_str().expect("UTF-8"));
    assert_refused(&["check", bad], "bad.toml:3:1: ");
    assert_refused(&["check", good, bad], "1 of 2 failed");
    assert_refused(
        &["show", "nosuch"],
        "there is no policy nosuch; there are ci, default, strict",
    );
    assert_refused(&["check", "/nonexistent.toml"], "/nonexistent.toml");
}
