//! A bundle of the OCI runtime specification with what the policy `default` gives.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::peers::Given;

const DEFAULT_FILTER: &str = include_str!("../../../policies/seccomp/default.toml");

pub(super) fn write_bundle(dir: &Path, given: &Given, shown: &[&str], command: &[&str]) -> io::Result<()> {
    let root = dir.join("rootfs");
    for name in shown.iter().copied().chain(["/proc", "/dev", "/tmp"]) {
        std::fs::create_dir_all(root.join(name.trim_start_matches('/')))?;
    }
    let text = serde_json::to_vec_pretty(&config(given, shown, command))?;
    std::fs::write(dir.join("config.json"), text)
}

fn config(given: &Given, shown: &[&str], command: &[&str]) -> Value {
    let limits = &given.spec.limits;
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]}),
        json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "size=16m"]}),
    ];
    mounts.extend(shown.iter().map(|path| {
        let options = ["rbind", "ro", "nosuid", "nodev"];
        json!({"destination": path, "type": "bind", "source": path, "options": options})
    }));
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "hostname": "sandbox",
        "root": {"path": "rootfs", "readonly": true},
        "mounts": mounts,
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "cwd": "/",
            "args": command,
            "env": ["PATH=/usr/bin:/bin"],
            "noNewPrivileges": true,
            "capabilities": {"bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": []},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": limits.open_files, "soft": limits.open_files}],
        },
        "linux": {
            "namespaces": namespaces,
            "resources": {
                "memory": {"limit": limits.memory_bytes},
                "pids": {"limit": limits.pids},
                "cpu": {"period": 100_000, "quota": limits.cpu_millis * 100},
            },
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "syscalls": [{"names": allowed_calls(), "action": "SCMP_ACT_ALLOW"}],
            },
        },
    })
}

/// What our filter allows, conditions on arguments apart.
fn allowed_calls() -> Vec<String> {
    let profile: toml::Table = DEFAULT_FILTER.parse().unwrap_or_default();
    let rules = profile.get("rule").and_then(|rules| rules.as_array());
    let allow = |rule: &&toml::Value| rule.get("action").and_then(|action| action.as_str()) == Some("allow");
    rules
        .into_iter()
        .flatten()
        .filter(allow)
        .filter_map(|rule| rule.get("calls")?.as_array())
        .flatten()
        .filter_map(|call| call.as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allowed_calls_are_found() {
        let calls = allowed_calls();
        assert!(calls.len() > 200, "{}", calls.len());
        assert!(calls.contains(&"execve".to_owned()));
        assert!(!calls.contains(&"kexec_load".to_owned()));
    }
}
