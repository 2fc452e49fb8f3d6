//! What this machine must have for such a test.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use needs::{needs, needs_sandboxes};

#[path = "../../support/needs.rs"]
mod needs;

/// Whether sandboxes can be made here at all.
///
/// Nearly every test of this suite needs root, since it looks at the host's side as well.
pub fn able() -> bool {
    needs_sandboxes()
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
    needs(
        "user namespaces of ordinary users",
        trial.is_ok_and(|status| status.success()),
    )
}
