//! What a policy asks for and this host cannot give is a start that fails with the step named, never a weaker sandbox.

#![allow(dead_code, unreachable_pub)]

#[path = "containment/harness/able.rs"]
mod able;
#[path = "containment/harness/job.rs"]
mod job;
#[path = "containment/harness/process.rs"]
mod process;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use able::able;
use job::{Finished, Job};

/// The command must never have run.
fn assert_refused(finished: &Finished, step: &str, words: &str) {
    assert_eq!(finished.status.code(), Some(125), "{finished:?}");
    assert_eq!(finished.stdout, "", "{finished:?}");
    assert_eq!(finished.cause(), "START_FAILED", "{finished:?}");
    assert_eq!(finished.report["start_failure"]["step"], step, "{finished:?}");
    assert!(finished.stderr.contains(words), "{words}: {finished:?}");
}

fn limited(limits: &str) -> Job {
    Job::under_own(&format!("[limits]\n{limits}\n[maximum]\n{limits}\n")).bash("echo ran")
}

/// The command line of `job` as arguments of another.
fn wrapped(job: &Job, command: &[&str]) -> Command {
    let run = job.to_command();
    let mut wrapped = Command::new(command[0]);
    wrapped
        .args(&command[1..])
        .arg(run.get_program())
        .args(run.get_args());
    wrapped.current_dir(run.get_current_dir().expect("a folder"));
    wrapped
}

#[test]
fn more_open_files_than_the_host_gives() {
    if !able() {
        return;
    }
    let job = limited("open_files = 5000");
    // A launcher that is root raises its own limit, unless it may not.
    let without = "ulimit -n 4000; exec setpriv --bounding-set -sys_resource --inh-caps -sys_resource \"$@\"";
    let output = process::finish(&mut wrapped(&job, &["bash", "-c", without, "bash"]));
    assert_eq!(
        (output.status.code(), output.stdout.as_str()),
        (Some(125), ""),
        "{output:?}"
    );
    assert_eq!(job.report()["start_failure"]["step"], "rlimits");
    assert!(output.stderr.contains("5000 open files"), "{output:?}");
}

/// Not refused, since most hosts run no program for cores; but told.
#[test]
fn a_limit_of_cores_that_is_none() {
    if !able() {
        return;
    }
    let without = "ulimit -c 0; exec setpriv --bounding-set -sys_resource --inh-caps -sys_resource \"$@\"";
    for (before, told) in [(without, 1), ("exec \"$@\"", 0)] {
        let job = limited("open_files = 500");
        let output = process::finish(&mut wrapped(&job, &["bash", "-c", before, "bash"]));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let report = job.report();
        let weaker = report["isolation"]["weaker"].as_array().expect("a list");
        let cores = weaker
            .iter()
            .filter(|entry| entry.to_string().contains("RLIMIT_CORE"));
        assert_eq!(cores.count(), told, "{report}");
    }
}

#[test]
fn more_processes_than_the_kernel_counts() {
    if able() {
        let asked = (1_u64 << 22) + 1;
        let finished = limited(&format!("pids = {asked}")).run();
        assert!(
            finished.status.code() == Some(125) && finished.stdout.is_empty(),
            "{finished:?}"
        );
        assert!(finished.stderr.contains("pids"), "{finished:?}");
    }
}

#[test]
fn a_folder_to_mount_that_is_not_there() {
    if able() {
        let mount = "[[mounts]]\nsource = \"/nonexistent/data\"\ntarget = \"/data\"\n";
        let finished = Job::under_own(mount).bash("echo ran").run();
        assert_refused(&finished, "rootfs", "data");
        // A path of the host is not told to whoever reads the message.
        assert!(!finished.stderr.contains("/nonexistent"), "{finished:?}");
    }
}

#[test]
fn a_mount_that_would_hide_a_file_of_the_system() {
    if able() {
        let mount = "[[mounts]]\nsource = \"/usr/share\"\ntarget = \"/etc/os-release/x\"\n";
        let finished = Job::under_own(mount).bash("echo ran").run();
        assert_refused(&finished, "rootfs", "etc");
    }
}

#[test]
fn an_isolation_that_a_request_demands_and_its_policy_lacks() {
    if able() {
        let weak = "[sandbox]\nlandlock = \"off\"\n";
        let finished = Job::under_own(weak)
            .options(&["--require-landlock", "1"])
            .bash("echo ran")
            .run();
        assert_refused(&finished, "policy", "landlock");
    }
}

/// Without a cgroup hierarchy there are no limits: the mounts are taken away from a launcher in a namespace of its own.
#[test]
fn limits_without_cgroups() {
    if !able() {
        return;
    }
    let job = Job::under("default").bash("echo ran");
    let without = "umount --recursive --lazy /sys/fs/cgroup && exec \"$@\"";
    let output = process::finish(&mut wrapped(
        &job,
        &["unshare", "--mount", "bash", "-c", without, "bash"],
    ));
    assert_eq!(
        (output.status.code(), output.stdout.as_str()),
        (Some(125), ""),
        "{output:?}"
    );
    assert!(output.stderr.contains("cgroup"), "{output:?}");
}

/// Where the policy says so, the job runs, and its receipt tells each limit that is not there.
#[test]
fn limits_at_best_effort_without_cgroups() {
    if !able() {
        return;
    }
    let job = Job::under_own("[sandbox]\nlimits = \"best-effort\"\n").bash("echo ran; cat /proc/self/cgroup");
    let without = "umount --recursive --lazy /sys/fs/cgroup && exec \"$@\"";
    let output = process::finish(&mut wrapped(
        &job,
        &["unshare", "--mount", "bash", "-c", without, "bash"],
    ));
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.starts_with("ran\n"), "{output:?}");
    let receipt = &job.report()["isolation"];
    assert_eq!(receipt["cgroup_version"], "", "{receipt}");
    for limit in ["memory", "pids", "cpus", "cpu_time"] {
        let told = format!("limits.{limit}: ");
        let weaker = receipt["weaker"].as_array().expect("a list");
        let found = weaker
            .iter()
            .any(|entry| entry.as_str().is_some_and(|entry| entry.starts_with(&told)));
        assert!(found, "{told}{receipt}");
    }
    assert_eq!(receipt["limits"]["RLIMIT_NPROC"], "128", "{receipt}");
    assert!(receipt["limits"].get("RLIMIT_CPU").is_some(), "{receipt}");
    // Nowhere do they stand where there is a cgroup.
    let limited = Job::under_own("[sandbox]\nlimits = \"best-effort\"\n")
        .bash("true")
        .run();
    assert_eq!(
        limited.report["isolation"]["weaker"],
        serde_json::json!([]),
        "{limited:?}"
    );
    assert!(limited.report["isolation"]["limits"].get("RLIMIT_CPU").is_none());
}

/// A worker starts without cgroups where a policy takes that, and only jobs of such a policy run.
#[test]
fn a_worker_without_cgroups_runs_what_takes_none() {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::create_dir(dir.path().join("policies")).expect("mkdir");
    let loose = "[sandbox]\nlimits = \"best-effort\"\n";
    fs::write(dir.path().join("policies/loose.toml"), loose).expect("policy");
    let config = format!(
        "[grpc_server]\naddr = \"unix:{0}/socket\"\n[worker]\nstate_dir = \"{0}/state\"\npolicies_dir = \"{0}/policies\"\n\
         durability = \"process\"\non_shutdown = \"stop\"\n[log]\nlevel = \"error\"\n",
        dir.path().display()
    );
    fs::write(dir.path().join("config.toml"), config).expect("config");
    let program = env!("CARGO_BIN_EXE_stockade");
    let without = "umount --recursive --lazy /sys/fs/cgroup && exec \"$@\"";
    let mut worker = Command::new("unshare")
        .args([
            "--mount", "bash", "-c", without, "bash", program, "serve", "--config",
        ])
        .arg(dir.path().join("config.toml"))
        .spawn()
        .expect("worker");
    let began = Instant::now();
    while !dir.path().join("socket").exists() && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let endpoint = format!("unix:{}/socket", dir.path().display());
    let start = |policy: &str| {
        let mut command = Command::new(program);
        command.args([
            "start",
            "--endpoint",
            &endpoint,
            "--wait",
            "-o",
            "json",
            "--policy",
            policy,
            "--",
            "true",
        ]);
        let output = command.output().expect("start");
        let job: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), job)
    };
    let (loose, default) = (start("loose"), start("default"));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(worker.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signalled");
    assert!(worker.wait().expect("wait").success());
    assert_eq!(loose.0, Some(0), "{loose:?}");
    let told = loose.1["isolation"]["weaker"].to_string();
    assert!(told.contains("limits.memory"), "{told}");
    assert_eq!(
        (default.0, &default.1["start_failure"]["step"]),
        (Some(125), &"cgroup".into()),
        "{default:?}"
    );
}

#[test]
fn a_strict_policy_has_no_weaker_child() {
    for weaker in [
        "landlock = \"best-effort\"",
        "landlock = \"off\"",
        "limits = \"best-effort\"",
        "seccomp = \"none\"",
        "fail_closed = false",
        "proc = \"pid-only\"",
        "root = \"writable\"",
        "identity = \"root\"",
        "network = \"host\"",
    ] {
        let policy = format!("inherits = \"strict\"\n[sandbox]\n{weaker}\n");
        let finished = Job::under_own(&policy).bash("echo ran").run();
        assert_eq!(
            (finished.status.code(), finished.stdout.as_str()),
            (Some(125), ""),
            "{weaker}"
        );
        assert!(finished.stderr.contains("final"), "{weaker}: {}", finished.stderr);
    }
}

#[test]
fn a_policy_that_fails_closed_takes_no_weaker_layer() {
    for weaker in [
        "landlock = \"best-effort\"",
        "seccomp = \"none\"",
        "limits = \"best-effort\"",
    ] {
        let all = [
            "landlock = \"require\"",
            "seccomp = \"default\"",
            "limits = \"fail-closed\"",
        ];
        let key = weaker.split(' ').next().expect("a key");
        let others: Vec<_> = all
            .iter()
            .filter(|line| !line.starts_with(key))
            .copied()
            .collect();
        let policy = format!("[sandbox]\nfail_closed = true\n{}\n{weaker}\n", others.join("\n"));
        let finished = Job::under_own(&policy).bash("echo ran").run();
        assert_eq!(
            (finished.status.code(), finished.stdout.as_str()),
            (Some(125), ""),
            "{weaker}"
        );
        assert!(
            finished.stderr.contains("fail_closed"),
            "{weaker}: {}",
            finished.stderr
        );
    }
}
