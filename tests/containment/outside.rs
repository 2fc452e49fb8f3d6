//! A job as its host sees it: whose processes they are, and what its supervisor has left.

use std::collections::BTreeMap;
use std::fs;
use std::process::Child;

use crate::harness::{Job, able, marked_process, unique};

/// A job that sleeps until it is killed.
struct Sleeper {
    _job: Job,
    launcher: Child,
    payload: u32,
}

impl Sleeper {
    fn start(policy: &str) -> Self {
        let marker = unique("sleeper");
        let job = Job::under(policy).bash(&format!("exec -a {marker} sleep 60"));
        let mut launcher = job.to_command().spawn().expect("spawned");
        let payload = marked_process(&marker, &mut launcher);
        Self {
            _job: job,
            launcher,
            payload,
        }
    }

    fn supervisor(&self) -> u32 {
        status(self.payload)["PPid"].parse().expect("a number")
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let pid = i32::try_from(self.launcher.id()).expect("a pid");
        for _ in 0..2 {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.launcher.wait();
    }
}

fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect()
}

fn ids(status: &BTreeMap<String, String>, key: &str) -> Vec<u32> {
    status[key]
        .split_whitespace()
        .map(|id| id.parse().expect("a number"))
        .collect()
}

#[test]
fn jobs_are_users_of_their_own_on_the_host() {
    if !able() {
        return;
    }
    let sleepers = ["default", "default", "strict", "ci"].map(Sleeper::start);
    let mut seen = Vec::new();
    for sleeper in &sleepers {
        let status = status(sleeper.payload);
        let uids = ids(&status, "Uid");
        let gids = ids(&status, "Gid");
        // The range of the configuration: far from all users.
        assert!(
            uids[0] >= 1_500_000_000 && uids.iter().all(|uid| *uid == uids[0]),
            "{uids:?}"
        );
        assert_eq!(uids, gids);
        assert_eq!(status["Groups"], "");
        assert!(!seen.contains(&uids[0]), "{} twice", uids[0]);
        seen.push(uids[0]);
    }
}

#[test]
fn a_supervisor_keeps_what_it_needs_to_signal_its_job() {
    if !able() {
        return;
    }
    let sleeper = Sleeper::start("default");
    let supervisor = sleeper.supervisor();
    let status = status(supervisor);
    let cap_kill = "0000000000000020";
    assert_eq!(
        (status["CapEff"].as_str(), status["CapPrm"].as_str()),
        (cap_kill, cap_kill)
    );
    assert_eq!(status["NoNewPrivs"], "1");
    let namespace = |pid: u32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a link");
    // Not in those that the job's processes are born into, in all others of its sandbox.
    for kind in ["user", "ipc"] {
        assert_ne!(
            namespace(supervisor, kind),
            namespace(sleeper.payload, kind),
            "{kind}"
        );
    }
    for kind in ["mnt", "net", "uts"] {
        assert_eq!(
            namespace(supervisor, kind),
            namespace(sleeper.payload, kind),
            "{kind}"
        );
        assert_ne!(
            namespace(supervisor, kind),
            namespace(std::process::id(), kind),
            "{kind}"
        );
    }
    let cgroup = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroups");
    assert_ne!(cgroup(supervisor), cgroup(sleeper.payload));
}

/// The worker's environment and command line were in the memory that a supervisor is a copy of.
#[test]
fn a_supervisor_forgets_environment_and_arguments() {
    if !able() {
        return;
    }
    let sleeper = Sleeper::start("default");
    for file in ["environ", "cmdline"] {
        let bytes = fs::read(format!("/proc/{}/{file}", sleeper.supervisor())).expect(file);
        let rest: Vec<u8> = bytes.into_iter().filter(|byte| *byte != 0).collect();
        assert!(rest.is_empty(), "{file}: {}", String::from_utf8_lossy(&rest));
    }
}

#[test]
fn nothing_of_a_job_stays_on_the_host() {
    if !able() {
        return;
    }
    let sleeper = Sleeper::start("default");
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", sleeper.payload)).expect("cgroups");
    let of_the_job: Vec<String> = cgroups
        .lines()
        .filter_map(|line| line.rsplit_once(':').map(|(_, path)| path.to_owned()))
        .filter(|path| path.contains("/run-"))
        .collect();
    assert!(!of_the_job.is_empty(), "{cgroups}");
    let (payload, supervisor) = (sleeper.payload, sleeper.supervisor());
    drop(sleeper);
    for pid in [payload, supervisor] {
        assert!(!fs::exists(format!("/proc/{pid}")).expect("/proc"), "{pid}");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let roots = mounts.lines().filter(|line| line.contains(" - cgroup"));
    for root in roots.filter_map(|line| line.split(' ').nth(4)) {
        for path in &of_the_job {
            assert!(
                !fs::exists(format!("{root}{path}")).expect("stat"),
                "{root}{path}"
            );
        }
    }
}
