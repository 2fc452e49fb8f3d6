//! How `serve` says that it cannot start, and what a check of its configuration finds.

#[path = "support/needs.rs"]
mod needs;

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
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
    assert_failed(&serve_as_user(Path::new("/"), &[]), "a worker needs root");
}

fn serve_as_user(folder: &Path, words: &[&str]) -> Output {
    let program = fs::File::open(env!("CARGO_BIN_EXE_stockade")).expect("the program");
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&program));
    let mut command = Command::new(path);
    command.arg("serve").args(words).current_dir(folder);
    command.uid(USER).gid(USER).output().expect("the binary runs")
}

#[test]
fn a_default_file_that_cannot_be_read_is_no_missing_one() {
    let folder = tempfile::tempdir().expect("tempdir");
    let file = folder.path().join("config.toml");
    symlink("nowhere", &file).expect("symlink");
    let check = || serve(folder.path(), &["--check-config"]).output();
    assert_failed(&check().expect("the binary runs"), "config.toml: No such file");
    if !needs::needs_root() {
        return;
    }
    fs::remove_file(&file).expect("remove");
    fs::write(&file, "").expect("write");
    let modes = [(folder.path(), 0o755), (&file, 0o600)];
    for (path, mode) in modes {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
    }
    let output = serve_as_user(folder.path(), &["--check-config"]);
    assert_failed(&output, "config.toml: Permission denied");
}

#[test]
fn a_check_reads_the_tls_files_and_names_what_it_has_checked() {
    let folder = tempfile::tempdir().expect("tempdir");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("write");
    let check = || {
        let output = serve(folder.path(), &["--check-config"]).output();
        output.expect("the binary runs")
    };
    write("config.toml", "[grpc_server]\nuse_tls = true\n");
    assert_failed(&check(), "server.pem: No such file");
    let key = rcgen::KeyPair::generate().expect("a key");
    let own = rcgen::CertificateParams::new(["worker".to_owned()]).expect("parameters");
    write("server.pem", &own.self_signed(&key).expect("a certificate").pem());
    for (text, message) in [
        ("no key", "server.key: "),
        // Of another certificate.
        (
            &*rcgen::KeyPair::generate().expect("a key").serialize_pem(),
            "server.pem: ",
        ),
    ] {
        write("server.key", text);
        assert_failed(&check(), message);
    }
    write("server.key", &key.serialize_pem());
    let output = check();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"config.toml: fine\n");
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
