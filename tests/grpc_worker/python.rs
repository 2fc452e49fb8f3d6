//! The existing scheduler's contract through another implementation of gRPC. Needs Python 3 with venv, and the
//! package index the first time; skips without, unless STOCKADE_TEST_REQUIRE is set.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::TestWorker;

const EXPECTED: &str = "\
start 'true': ok
end of 'true': done=True error=False text=''
start 'missing': INVALID_ARGUMENT: exec: \"missing\": executable file not found in $PATH
start '/missing': INVALID_ARGUMENT: fork/exec /missing: no such file or directory
start '': INVALID_ARGUMENT: exec: no command
query 'sleep': done=False error=False text=''
stop 'sleep': ok
end of 'sleep': done=True error=True text='signal: terminated'
stop 'sleep' again: ok
query 'stubborn': done=False error=False text=''
stop 'stubborn': ok
end of 'stubborn': done=True error=True text='signal: killed'
stop 'stubborn' again: ok
query '': NOT_FOUND: job not found
stop '': NOT_FOUND: job not found
query 'unknown': NOT_FOUND: job not found
stop 'unknown': NOT_FOUND: job not found
query '0e8c8ab4-6b4e-4b0e-9f6e-1f1f1f1f1f1f': NOT_FOUND: job not found
stop '0e8c8ab4-6b4e-4b0e-9f6e-1f1f1f1f1f1f': NOT_FOUND: job not found
";

#[test]
fn a_client_made_by_grpcio_is_served() {
    let python = match python_with_grpc() {
        Ok(python) => python,
        Err(reason) => {
            assert!(std::env::var_os("STOCKADE_TEST_REQUIRE").is_none(), "{reason}");
            eprintln!("skipped: {reason}");
            return;
        }
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = port.local_addr().expect("address").to_string();
    drop(port);
    let _worker = TestWorker::start_with(|config| config.grpc_server.addr.clone_from(&address));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python)
        .arg(root.join("tests/python/old_client.py"))
        .arg(&address)
        .arg(root.join("proto/jobscheduler"))
        .output()
        .expect("python");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), EXPECTED, "{errors}");
}

/// An environment beneath target/, made once.
fn python_with_grpc() -> Result<PathBuf, String> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let python = venv.join("bin/python");
    let has_grpc = || run(Command::new(&python).args(["-c", "import grpc, grpc_tools.protoc"]));
    if has_grpc().is_ok() {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "grpcio-tools>=1.60,<2"]))?;
    has_grpc()?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    ))
}
