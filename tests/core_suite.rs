//! The core suite on this host: the same that runs in a machine with pure cgroup v2 (tests/vm/run).

#[path = "support/needs.rs"]
mod needs;

use std::process::Command;

#[test]
fn the_core_suite_passes_here() {
    if !needs::needs_sandboxes() {
        return;
    }
    let suite = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm/suite");
    let output = Command::new("python3")
        .arg(suite)
        .env("STOCKADE", env!("CARGO_BIN_EXE_stockade"))
        .output();
    let output = output.expect("python3");
    let text = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("not ok") || line.starts_with("  #"))
        .collect();
    assert!(
        output.status.success(),
        "{}\n{}",
        failed.join("\n"),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains(" passed, 0 failed"), "{text}");
}
