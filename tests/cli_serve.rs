//! How `serve` says that it cannot start.

#[path = "support/needs.rs"]
mod needs;

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

const USER: u32 = 64_999;

/// In a folder without a configuration of its own, and with none of the host's.
fn serve(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    command.arg("serve").args(words).current_dir(folder).env_clear();
    command
}

#[track_caller]
fn assert_failed(output: &Output, message: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr.contains(message), "{stderr}");
}

#[test]
fn a_configuration_that_is_wrong_or_missing_is_a_failure() {
    let folder = tempfile::tempdir().expect("tempdir");
    let wrong = folder.path().join("wrong.toml");
    fs::write(&wrong, "[worker]\nno_such_key = 1\n").expect("write");
    for (file, message) in [
        (wrong.as_path(), "no_such_key"),
        (Path::new("/nonexistent.toml"), "No such file"),
    ] {
        let file = file.to_str().expect("UTF-8");
        for more in [&[][..], &["--check-config"]] {
            let words = [&["--config", file][..], more].concat();
            let output = serve(folder.path(), &words).output().expect("the binary runs");
            assert_failed(&output, message);
        }
    }
}

#[test]
fn another_user_than_root_is_a_failure() {
    if !needs::needs_root() {
        return;
    }
    let program = fs::File::open(env!("CARGO_BIN_EXE_stockade")).expect("the program");
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&program));
    let output = Command::new(path)
        .arg("serve")
        .current_dir("/")
        .uid(USER)
        .gid(USER)
        .output()
        .expect("the binary runs");
    assert_failed(&output, "a worker needs root");
}

#[test]
fn an_address_that_is_taken_is_told_once() {
    if !needs::needs_root() {
        return;
    }
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let folder = tempfile::tempdir().expect("tempdir");
    let config = format!(
        "[grpc_server]\naddr = \"{}\"\n[worker]\nstate_dir = \"{}/state\"\n",
        taken.local_addr().expect("an address"),
        folder.path().display()
    );
    let file = folder.path().join("config.toml");
    fs::write(&file, config).expect("write");
    let output = serve(folder.path(), &["--config", file.to_str().expect("UTF-8")])
        .output()
        .expect("the binary runs");
    assert_failed(&output, "Address already in use");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr.matches("Address already in use").count(), 1, "{stderr}");
}
