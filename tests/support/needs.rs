//! What a test needs of the machine, which may lack it.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Whether it is there. Where it is not, that is told; with `STOCKADE_TEST_REQUIRE` set, the test fails instead.
pub(crate) fn needs(what: &str, is_there: bool) -> bool {
    if !is_there {
        println!("skipped: needs {what}");
        assert!(
            std::env::var_os("STOCKADE_TEST_REQUIRE").is_none(),
            "needs {what}"
        );
    }
    is_there
}

pub(crate) fn needs_root() -> bool {
    needs("root", rustix::process::geteuid().is_root())
}

/// Whether real sandboxes can be made here. Not asked of Stockade itself: what it cannot do any more must not pass for
/// something that the machine lacks.
pub(crate) fn needs_sandboxes() -> bool {
    static LACKING: OnceLock<Option<&str>> = OnceLock::new();
    let lacking = *LACKING.get_or_init(|| {
        let found = [
            ("root", rustix::process::geteuid().is_root()),
            (
                "namespaces",
                succeeds("unshare --user --mount --pid --net --ipc --uts --cgroup --fork true"),
            ),
            ("cgroups that are writable", has_cgroups()),
            ("python3, which many of the jobs are", succeeds("python3 -c pass")),
        ];
        let lacking = found.into_iter().find(|(_, is_there)| !is_there);
        lacking.map(|(what, _)| what)
    });
    needs(lacking.unwrap_or_default(), lacking.is_none())
}

/// Whether this command line, without quotes, does.
fn succeeds(command: &str) -> bool {
    let mut words = command.split(' ');
    let status = Command::new(words.next().unwrap_or_default())
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// By a trial in the first hierarchy that there is.
fn has_cgroups() -> bool {
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"].map(Path::new);
    let trial = format!("stockade-trial-{}", std::process::id());
    let made = |root: &&Path| {
        let trial = root.join(&trial);
        fs::create_dir(&trial).is_ok() && fs::remove_dir(&trial).is_ok()
    };
    let is_cgroup = |root: &&Path| root.join("cgroup.procs").exists();
    roots.iter().copied().filter(is_cgroup).any(|root| made(&root))
}
