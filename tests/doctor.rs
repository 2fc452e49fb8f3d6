//! `stockade doctor`: what it says of hosts that are made worse for the test. Needs root.

#![allow(dead_code, unreachable_pub)]

#[path = "containment/harness/able.rs"]
mod able;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use able::{able, able_as_user};
use serde_json::Value;

const USER: u32 = 64_999;

/// The program, where any user can execute it.
fn program() -> String {
    use std::os::fd::AsRawFd;
    static FILE: std::sync::OnceLock<fs::File> = std::sync::OnceLock::new();
    let file = FILE.get_or_init(|| fs::File::open(env!("CARGO_BIN_EXE_stockade")).expect("the program"));
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn doctor(command: &mut Command) -> (Vec<Value>, Output) {
    let output = command
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .expect("run");
    let lines = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (lines, output)
}

fn line<'a>(lines: &'a [Value], name: &str) -> &'a Value {
    let found = lines.iter().find(|line| line["name"] == name);
    found.unwrap_or_else(|| panic!("no line {name}: {lines:?}"))
}

/// A shell that makes the host worse, and then becomes doctor.
fn after(script: &str) -> Command {
    let mut command = Command::new("bash");
    let whole = format!("{script} {} doctor -o json", env!("CARGO_BIN_EXE_stockade"));
    command.args(["-c", &whole]);
    command
}

#[test]
fn all_that_is_amiss_has_a_reason_and_a_mend() {
    if !able() {
        return;
    }
    let (lines, output) = doctor(Command::new(program()).args(["doctor", "-o", "json"]));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for found in &lines {
        let text = |key: &str| found[key].as_str().expect("text").to_owned();
        assert!(!text("detail").is_empty(), "{found}");
        assert_eq!(text("mend").is_empty(), text("status") == "ok", "{found}");
    }
    for name in [
        "privilege",
        "capabilities",
        "cgroups",
        "user namespaces",
        "policy default",
        "policy strict",
    ] {
        assert_eq!(line(&lines, name)["status"], "ok", "{name}");
    }
}

#[test]
fn a_missing_capability_is_named_with_the_flag_of_the_engine() {
    if !able() {
        return;
    }
    let without = "exec setpriv --bounding-set -net_admin --inh-caps -net_admin";
    let mut command = after(&format!("KUBERNETES_SERVICE_HOST=10.0.0.1 {without}"));
    let (lines, output) = doctor(&mut command);
    assert_eq!(
        output.status.code(),
        Some(1),
        "a default job cannot start without it"
    );
    let found = line(&lines, "capabilities");
    assert_eq!(found["status"], "missing", "{found}");
    assert_eq!(found["detail"], "without NET_ADMIN");
    assert_eq!(found["mend"], "securityContext.capabilities.add: [NET_ADMIN]");
    assert!(
        line(&lines, "container")["detail"]
            .as_str()
            .is_some_and(|text| text.contains("Kubernetes"))
    );
    let default = line(&lines, "policy default");
    assert_eq!(default["status"], "missing", "{default}");
    assert!(
        default["detail"]
            .as_str()
            .is_some_and(|text| text.contains("network")),
        "{default}"
    );
}

#[test]
fn hidden_cgroups_are_told_with_a_mend_and_what_would_hold_without() {
    if !able() {
        return;
    }
    let mut command = Command::new("unshare");
    let script = format!(
        "umount --recursive --lazy /sys/fs/cgroup && exec {} doctor -o json",
        env!("CARGO_BIN_EXE_stockade")
    );
    let (lines, output) = doctor(command.args(["--mount", "bash", "-c", &script]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(line(&lines, "cgroups")["status"], "missing");
    let strict = line(&lines, "policy strict");
    assert_eq!(strict["status"], "missing", "its job does not start: {strict}");
    let without = line(&lines, "policy default with limits = \"best-effort\"");
    assert_eq!(without["status"], "weaker", "{without}");
    let detail = without["detail"].as_str().expect("text");
    assert!(
        detail.contains("a trial job ran") && detail.contains("limits.memory"),
        "{detail}"
    );
}

#[test]
fn a_default_policy_that_is_none_is_missing() {
    if !able() {
        return;
    }
    let config = tempfile::NamedTempFile::new().expect("tempfile");
    fs::write(config.path(), "[worker]\ndefault_policy = \"nosuch\"\n").expect("write");
    let mut command = Command::new(program());
    let (lines, output) = doctor(
        command
            .args(["doctor", "-o", "json", "--config"])
            .arg(config.path()),
    );
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let found = line(&lines, "default policy");
    assert_eq!(found["status"], "missing", "{found}");
    assert_eq!(found["detail"], "there is no policy named nosuch");
}

#[test]
fn an_ordinary_user_is_told_what_holds() {
    if !able_as_user() {
        return;
    }
    let mut command = Command::new(program());
    let (lines, output) = doctor(command.args(["doctor", "-o", "json"]).uid(USER).gid(USER));
    assert_eq!(line(&lines, "privilege")["status"], "weaker");
    assert_eq!(line(&lines, "user namespaces")["status"], "ok");
    let limited = line(&lines, "cgroups")["status"] == "ok";
    let fails = line(&lines, "policy default")["status"] == "missing";
    assert_eq!(output.status.code(), Some(i32::from(fails)), "{lines:?}");
    for policy in ["default", "strict", "ci"].map(|name| line(&lines, &format!("policy {name}"))) {
        let ran = policy["detail"]
            .as_str()
            .is_some_and(|text| text.contains("a trial job ran"));
        assert_eq!(policy["status"] == "missing", !ran, "{policy}");
    }
    if !limited {
        let mend = line(&lines, "cgroups")["mend"].as_str().expect("text");
        assert!(mend.contains("stockade run"), "{mend}");
        let without = line(&lines, "policy default with limits = \"best-effort\"");
        assert!(
            without["detail"]
                .as_str()
                .is_some_and(|text| text.contains("host uid")),
            "{without}"
        );
    }
}

/// By the setting of a user namespace around it, which is that of the whole host to what is inside.
#[test]
fn what_forbids_user_namespaces_is_named_with_the_command_that_allows_them() {
    if !able_as_user() {
        return;
    }
    let script = format!(
        "echo 0 >/proc/sys/user/max_user_namespaces && exec {} doctor -o json",
        program()
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "bash", "-c", &script]);
    // The descriptor of the program has to outlive three programs.
    keep_open(&mut command);
    let (lines, output) = doctor(command.uid(USER).gid(USER));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let found = line(&lines, "user namespaces");
    assert_eq!(found["status"], "missing", "{found}");
    assert!(
        found["detail"]
            .as_str()
            .is_some_and(|text| text.contains("user.max_user_namespaces = 0")),
        "{found}"
    );
    assert_eq!(found["mend"], "as root: sysctl -w user.max_user_namespaces=65536");
}

fn keep_open(command: &mut Command) {
    let fd: i32 = program()
        .rsplit('/')
        .next()
        .and_then(|fd| fd.parse().ok())
        .expect("a number");
    // SAFETY: it makes one system call.
    unsafe { command.pre_exec(move || keep_through_exec(fd)) };
}

fn keep_through_exec(fd: i32) -> std::io::Result<()> {
    // SAFETY: plain numbers; this process keeps the descriptor.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
