//! What this machine must have for such a test.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Whether sandboxes can be made here at all.
///
/// Nearly every test of this suite needs root, since it looks at the host's side as well.
pub fn able() -> bool {
    let able = nix::unistd::geteuid().is_root();
    if !able {
        println!("skipped: needs root");
        assert!(
            std::env::var_os("STOCKADE_TEST_REQUIRE").is_none(),
            "root is required"
        );
    }
    able
}

/// Whether an ordinary user's launcher can be tried here: needs root, to become that user, and a host that lets users
/// make user namespaces.
pub fn able_as_user() -> bool {
    if !able() {
        return false;
    }
    let trial = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "true"])
        .uid(64_999)
        .gid(64_999)
        .stderr(Stdio::null())
        .status();
    let able = trial.is_ok_and(|status| status.success());
    if !able {
        println!("skipped: needs user namespaces of ordinary users");
        assert!(
            std::env::var_os("STOCKADE_TEST_REQUIRE").is_none(),
            "user namespaces of ordinary users are required"
        );
    }
    able
}
