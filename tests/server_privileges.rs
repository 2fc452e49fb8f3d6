//! What is left of root in the server process. Needs root, and skips without; STOCKADE_TEST_REQUIRE makes it fail.

#[path = "support/needs.rs"]
mod needs;

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use stockade::config::Config;
use stockade::server::drop_privileges;

const STATE_DIR: &str = "STOCKADE_TEST_STATE_DIR";

/// Runs in a process of its own, started by the test below: privileges do not come back.
#[test]
fn child() {
    let Some(state_dir) = std::env::var_os(STATE_DIR) else {
        return;
    };
    let mut config = Config::default();
    config.worker.state_dir = state_dir.into();
    drop_privileges(&config).expect("drop privileges");
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("status");
    println!("{status}");
    assert!(std::fs::write(config.worker.state_dir.join("jobs/x"), "").is_err());
    std::fs::write(config.worker.state_dir.join("server/x"), "").expect("its own folder");
    assert!(nix::unistd::setuid(nix::unistd::Uid::from_raw(0)).is_err());
    assert!(std::fs::read("/etc/shadow").is_err());
}

#[test]
fn nothing_is_left_of_root() {
    if !needs::needs_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    // The server must get at its folder through the one of the test.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child", "--nocapture"])
        .env(STATE_DIR, dir.path())
        .output()
        .expect("child");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{name}:")));
        line.expect(name).split_whitespace().skip(1).collect::<Vec<_>>()
    };
    assert_eq!(field("Uid"), ["64901"; 4]);
    assert_eq!(field("Gid"), ["64901"; 4]);
    assert!(field("Groups").is_empty());
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    assert_eq!(field("NoNewPrivs"), ["1"]);
    let owner = |name: &str| {
        let found = dir.path().join(name).metadata().expect(name);
        (found.uid(), found.gid(), found.mode() & 0o7777)
    };
    assert_eq!(owner("server"), (64901, 64901, 0o700));
    // With its group for all that is made in it.
    assert_eq!(owner("jobs"), (0, 64901, 0o2750));
}
