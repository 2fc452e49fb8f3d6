//! A launcher of an ordinary user: the walls are the same, and what cannot be had is refused or told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use serde_json::Value;

use crate::harness::{Canary, Finished, Job, Probe, Setting, USER, able_as_user, marked_processes, unique};
use crate::{
    capabilities, channels, files, information, ipc, kernel_files, mounts, namespaces, network, processes,
    traces,
};

/// Takes what limits there are: on many hosts an ordinary user has no cgroup.
const DEFAULT: &str = "[sandbox]\nlimits = \"best-effort\"\n";
const CI: &str = "inherits = \"ci\"\n[sandbox]\nlimits = \"best-effort\"\n";

fn job() -> Job {
    Job::under_own(DEFAULT).by_user()
}

/// The entries of the receipt's `weaker` that begin so.
fn weaker<'a>(finished: &'a Finished, beginning: &str) -> Vec<&'a str> {
    let entries = finished.report["isolation"]["weaker"].as_array();
    let texts = entries.into_iter().flatten().filter_map(Value::as_str);
    texts.filter(|text| text.starts_with(beginning)).collect()
}

#[test]
fn privileges_and_namespaces_are_out_of_reach() {
    if able_as_user() {
        for probe in [capabilities::probe(), namespaces::probe()] {
            probe.is_contained_in(&[Setting::User(DEFAULT)]);
        }
        namespaces::probe().is_contained_in(&[Setting::User(CI)]);
    }
}

#[test]
fn the_machine_and_its_files_are_out_of_reach() {
    if able_as_user() {
        for probe in [
            traces::probe(),
            information::probe(),
            kernel_files::probe(),
            files::Planted::new().probe(),
        ] {
            probe.is_contained_in(&[Setting::User(DEFAULT)]);
        }
    }
}

#[test]
fn the_walls_do_not_move() {
    if able_as_user() {
        let planted = mounts::Planted::new();
        let policy = planted.policy("default");
        planted.probe().is_contained_in(&[Setting::User(&format!(
            "{policy}[sandbox]\nlimits = \"best-effort\"\n"
        ))]);
    }
}

#[test]
fn the_network_is_out_of_reach() {
    if able_as_user() {
        network::Services::start()
            .probe()
            .is_contained_in(&[Setting::User(DEFAULT), Setting::User(CI)]);
    }
}

#[test]
fn foreign_processes_are_out_of_reach() {
    if able_as_user() {
        let mut canary = Canary::start();
        // Of its own supervisor, which is the same user: it can only harm itself.
        processes::probe(&canary).is_contained_but(Setting::User(DEFAULT), &["limits_a_foreign_process"]);
        assert!(canary.is_alive());
    }
}

/// The supervisor is the same user: signals and limits from inside end neither it nor the job's deadline.
#[test]
fn a_job_outlasts_no_deadline_by_what_it_does_to_its_supervisor() {
    if !able_as_user() {
        return;
    }
    let script = "import ctypes, os, resource, time\n\
                  for number in range(1, 65):\n    try: os.kill(1, number)\n    except OSError: pass\n\
                  FORWARD, KILL = 35, 9\nctypes.CDLL(None).sigqueue(1, FORWARD, KILL)\ntime.sleep(0.1)\n\
                  for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_SIGPENDING, resource.RLIMIT_STACK):\n    \
                  try: resource.prlimit(1, kind, (0, 0))\n    except OSError: pass\n\
                  print('alive', flush=True)\ntime.sleep(30)\n";
    // A newer kernel's landlock holds signals back already.
    for landlock in ["best-effort", "off"] {
        let policy = format!("{DEFAULT}landlock = \"{landlock}\"\n");
        let job = Job::under_own(&policy).by_user();
        let finished = job.options(&["--wall-time", "1s"]).python(script).run();
        assert_eq!(
            (finished.cause(), finished.stdout.as_str()),
            ("WALL_TIME", "alive\n"),
            "{landlock}: {finished:?}"
        );
        assert!(finished.took < std::time::Duration::from_secs(10), "{finished:?}");
    }
}

/// A process of the same user on the host has the job's own host id.
#[test]
fn the_users_own_processes_are_out_of_reach() {
    if !able_as_user() {
        return;
    }
    let marker = unique("own");
    let mut own = std::process::Command::new("bash")
        .args(["-c", "exec -a \"$0\" sleep 600", &marker])
        .uid(USER)
        .gid(USER)
        .stdin(std::process::Stdio::null())
        .spawn()
        .expect("bash");
    while marked_processes(&marker).is_empty() {
        std::thread::yield_now();
    }
    let script = format!(
        "for p in 1 {pid} $PPID; do kill -9 $p 2>/dev/null; done; kill -9 -1; \
         grep -l {marker} /proc/[0-9]*/cmdline 2>/dev/null; ls /proc | grep -x {pid}; echo alive",
        pid = own.id()
    );
    let finished = job().bash(&script).run();
    let alive = own.try_wait().expect("waited for").is_none();
    let _ = own.kill();
    let _ = own.wait();
    assert!(alive, "{finished:?}");
    assert_eq!(finished.stdout, "alive\n", "{finished:?}");
}

#[test]
fn channels_are_closed_but_those_of_the_hosts_device_nodes() {
    if able_as_user() {
        ipc::Objects::make()
            .probe()
            .is_contained_in(&[Setting::User(DEFAULT)]);
        let busy = channels::Busy::start();
        let policy = format!("{}[sandbox]\nlimits = \"best-effort\"\n", busy.policy("default"));
        busy.probe()
            .is_contained_but(Setting::User(&policy), &["sees_devices_used"]);
    }
}

#[test]
fn the_receipt_tells_what_does_not_hold() {
    if !able_as_user() {
        return;
    }
    let finished = job().bash("id -u; id -G").run();
    assert_eq!(finished.stdout, "1000\n1000\n", "{finished:?}");
    let receipt = &finished.report["isolation"];
    assert_eq!(receipt["host_uid"], USER, "{receipt}");
    assert_eq!(
        receipt["namespaces"].as_array().map(Vec::len),
        Some(7),
        "{receipt}"
    );
    assert_eq!(receipt["no_new_privs"], true, "{receipt}");
    assert_eq!(receipt["seccomp_profile"], "default", "{receipt}");
    assert_eq!(weaker(&finished, "host uid: ").len(), 1, "{receipt}");
    assert!(weaker(&finished, "groups: ").is_empty(), "{receipt}");
    let without_cgroup = receipt["cgroup_version"] == "";
    let told = weaker(&finished, "limits.").len();
    assert_eq!(told, if without_cgroup { 4 } else { 0 }, "{receipt}");
}

#[test]
fn root_inside_is_one_id_and_its_root_is_writable() {
    if !able_as_user() {
        return;
    }
    let script = "set -e; id -u; echo x >/usr/bin/new; rm /usr/bin/yes; echo y >/usr/bin/yes; cat /usr/bin/yes; ! chown 5 /opt";
    let finished = Job::under_own(CI).by_user().bash(script).run();
    assert!(finished.status.success(), "{finished:?}");
    assert_eq!(finished.stdout, "0\ny\n", "{finished:?}");
    assert_eq!(weaker(&finished, "identity: one id").len(), 1, "{finished:?}");
    assert!(!weaker(&finished, "root: ").is_empty(), "{finished:?}");
    assert!(!std::path::Path::new("/usr/bin/new").exists());
}

/// No process of an ordinary user can leave them.
#[test]
fn groups_of_the_user_are_told() {
    if able_as_user() {
        let finished = job()
            .bash("id -G")
            .run_with(|command| with_groups(command, &[USER + 1, USER + 2]));
        assert_eq!(weaker(&finished, "groups: 2 ").len(), 1, "{finished:?}");
    }
}

fn with_groups(command: &mut std::process::Command, groups: &[u32]) {
    let groups: Vec<nix::unistd::Gid> = groups
        .iter()
        .map(|group| nix::unistd::Gid::from_raw(*group))
        .collect();
    // Instead of the harness's way, which leaves none.
    command.uid(0).gid(0);
    // SAFETY: it makes system calls alone, and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setgroups(&groups)?;
            nix::unistd::setgid(nix::unistd::Gid::from_raw(USER))?;
            Ok(nix::unistd::setuid(nix::unistd::Uid::from_raw(USER))?)
        });
    }
}

#[test]
fn limits_hold_without_a_cgroup_as_far_as_told() {
    if !able_as_user() {
        return;
    }
    let policy =
        format!("{DEFAULT}[limits]\nmemory = \"64M\"\npids = 20\ncpu_time = \"1s\"\nwall_time = \"30s\"\n");
    let under = || Job::under_own(&policy).by_user();
    let processes = "import os, time\nmade = 0\ntry:\n    while made < 100:\n        if os.fork() == 0: time.sleep(60)\n        \
                     made += 1\nexcept OSError: print('refused', made < 20)\n";
    assert_eq!(under().python(processes).run().stdout, "refused True\n");
    let memory = "try: b = bytearray(200 << 20)\nexcept MemoryError: print('refused')\n";
    let finished = under().python(memory).run();
    assert!(
        finished.stdout == "refused\n" || finished.cause() == "OUT_OF_MEMORY",
        "{finished:?}"
    );
    let finished = under().bash("while :; do :; done").run();
    assert_eq!(
        (finished.cause(), finished.status.code()),
        ("CPU_TIME", Some(124)),
        "{finished:?}"
    );
    let used = finished.report["usage"]["cpu_user_us"]
        .as_u64()
        .expect("a number");
    assert!(used >= 500_000, "{used}");
}

#[test]
fn a_policy_that_fails_closed_names_the_mend() {
    if !able_as_user() {
        return;
    }
    let finished = Job::under("default").by_user().bash("echo ran").run();
    if finished.status.success() {
        assert_eq!(weaker(&finished, "limits.").len(), 0, "{finished:?}");
        return;
    }
    assert_eq!(
        (finished.status.code(), finished.stdout.as_str()),
        (Some(125), ""),
        "{finished:?}"
    );
    assert_eq!(finished.report["start_failure"]["step"], "cgroup", "{finished:?}");
    for words in ["sudo stockade run", "sandbox.limits = \"best-effort\""] {
        let unified = fs::exists("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|exists| exists);
        assert!(unified || finished.stderr.contains(words), "{finished:?}");
    }
}

#[test]
fn a_demand_for_cgroup_limits_is_not_met_without() {
    if able_as_user() {
        let finished = job().options(&["--require-cgroup-limits"]).bash("echo ran").run();
        let version = finished.report["isolation"]["cgroup_version"].as_str();
        let limited = version.is_some_and(|version| !version.is_empty());
        assert!(finished.status.code() == Some(125) || limited, "{finished:?}");
        assert_eq!(finished.stdout.is_empty(), !limited, "{finished:?}");
    }
}

#[test]
fn the_script_is_not_the_jobs_to_change() {
    if able_as_user() {
        let script = "rm -f $0; echo x >>$0; touch /run/x; mv $0 /tmp/y; ls /run";
        let finished = job().bash(script).run();
        assert_eq!(finished.stdout, "script\n", "{finished:?}");
    }
}

#[test]
fn nothing_is_left_of_a_job() {
    if !able_as_user() {
        return;
    }
    let marker = unique("left");
    let script = format!("(setsid bash -c 'exec -a {marker} sleep 60' &) >/dev/null 2>&1; sleep 0.3; exit 4");
    let finished = job().bash(&script).run();
    assert_eq!(finished.status.code(), Some(4), "{finished:?}");
    assert!(marked_processes(&marker).is_empty());
}

#[test]
fn a_probe_of_resources_stays_within_what_each_process_may_have() {
    if able_as_user() {
        // Of the limits that need no cgroup.
        let script =
            "head -c 100M /dev/zero >/tmp/x 2>/dev/null; stat -c %s /tmp/x; ulimit -n 5000 2>&1 | grep -c .";
        let policy = format!("{DEFAULT}[limits]\ndisk = \"16M\"\nopen_files = 64\n");
        let finished = Job::under_own(&policy).by_user().bash(script).run();
        let mut lines = finished.stdout.lines();
        let size: u64 = lines.next().and_then(|line| line.parse().ok()).expect("a size");
        assert!(size <= 16 << 20, "{finished:?}");
        assert_eq!(lines.next(), Some("1"), "{finished:?}");
    }
}

/// Shown by a layer left out: without a filter a job's user namespace has privileges to try.
#[test]
fn the_filter_is_what_keeps_user_namespaces_away() {
    if able_as_user() {
        let unfiltered = format!("{DEFAULT}seccomp = \"none\"\n");
        let probe: Probe<'_> = namespaces::probe();
        assert!(probe.lets_through(Setting::User(&unfiltered), "unshares_a_user_namespace"));
    }
}

/// A copy of the program where any user can execute it.
struct Reachable {
    path: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Reachable {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let path = folder.path().join("stockade");
        // Not by this process: a fork of another test would hold it open for writing, and it could not be executed.
        let copied = std::process::Command::new("cp")
            .args([env!("CARGO_BIN_EXE_stockade").as_ref(), path.as_os_str()])
            .status();
        assert!(copied.is_ok_and(|status| status.success()));
        Self {
            path,
            _folder: folder,
        }
    }
}

/// As root of the host, makes the host worse, and then runs the job as the user.
fn on_a_host_after(preparation: &str, job: &Job) -> std::process::Output {
    let run = job.to_command();
    let script = format!("{preparation} && exec setpriv --reuid {USER} --regid {USER} --clear-groups \"$@\"");
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "bash", "-c", &script, "bash"]);
    let program = Reachable::new();
    command.arg(&program.path).args(run.get_args());
    command.current_dir(run.get_current_dir().expect("a folder"));
    command.output().expect("unshare")
}

#[test]
fn a_host_that_stands_in_the_way_is_told_by_its_reason() {
    if !able_as_user() {
        return;
    }
    for (preparation, words) in [
        ("mount -t tmpfs none /proc/driver", "covers a part of the /proc"),
        ("mount -t tmpfs none /usr/src", "mounted beneath it"),
    ] {
        let output = on_a_host_after(preparation, &job().bash("echo ran"));
        assert_eq!(output.status.code(), Some(125), "{preparation}: {output:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.stdout.is_empty() && told.contains(words),
            "{preparation}: {output:?}"
        );
    }
    let output = on_a_host_after("true", &job().bash("echo ran"));
    assert_eq!(output.stdout, b"ran\n", "{output:?}");
}

#[test]
fn a_worker_of_an_ordinary_user_says_what_it_needs() {
    if able_as_user() {
        let program = Reachable::new();
        let output = std::process::Command::new("setpriv")
            .args(["--reuid", "64999", "--regid", "64999", "--clear-groups"])
            .arg(&program.path)
            .arg("serve")
            .current_dir("/")
            .output()
            .expect("setpriv");
        assert!(!output.status.success(), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("needs root"),
            "{output:?}"
        );
    }
}
