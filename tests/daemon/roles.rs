//! What the processes beside a job may do, as the host sees them.

use std::collections::BTreeMap;
use std::fs;

use stockade::proto::v1::{Cause, GetWorkerRequest, Limits, OnOutputLimit, StartJobRequest};

use super::worker::traces::{SUPERVISOR, branches_of, children, named, pump_of};
use super::worker::{Setup, Worker, able, eventually};
use super::{in_runtime, shell, start, wait};

fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect()
}

fn capabilities(status: &BTreeMap<String, String>) -> [u64; 3] {
    ["CapEff", "CapPrm", "CapInh"].map(|set| u64::from_str_radix(&status[set], 16).expect("a set"))
}

#[test]
fn who_reads_what_a_job_writes_can_do_nothing_else() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    let launcher = worker.launcher();
    in_runtime(async {
        let mut client = worker.client().await;
        let id = start(&mut client, shell("echo kept; exec sleep 6841")).await;
        let stdout = worker.dir.path().join("state/jobs").join(&id).join("stdout");
        eventually("its line is kept", || {
            fs::read(&stdout).is_ok_and(|bytes| bytes == b"kept\n")
        });
        let pump = pump_of(launcher, &stdout).expect("a pump");
        let of_pump = status(pump);
        assert_eq!(capabilities(&of_pump), [0; 3], "{of_pump:?}");
        assert_eq!((&*of_pump["NoNewPrivs"], &*of_pump["Groups"]), ("1", ""));
        let supervisors = named(launcher, SUPERVISOR);
        let jobs = supervisors.iter().flat_map(|pid| children(*pid));
        let uid = |status: &BTreeMap<String, String>| status["Uid"].clone();
        let others: Vec<String> = jobs
            .chain([launcher, worker.server().expect("a server")])
            .map(|pid| uid(&status(pid)))
            .collect();
        assert!(
            !others.contains(&uid(&of_pump)),
            "{} of {others:?}",
            uid(&of_pump)
        );
        // Its standard streams, its supervisor, the lock of its id, the pipe and the file.
        let open = fs::read_dir(format!("/proc/{pump}/fd"))
            .expect("descriptors")
            .count();
        assert_eq!(open, 7);
        for supervisor in supervisors {
            assert!(
                fs::read_dir(format!("/proc/{supervisor}/fd"))
                    .expect("descriptors")
                    .flatten()
                    .filter_map(|fd| fs::read_link(fd.path()).ok())
                    .all(|path| !path.to_string_lossy().starts_with("/dev/pts"))
            );
        }
    });
    worker.shut_down();
}

#[test]
fn a_supervisor_keeps_what_it_takes_to_make_its_sandbox_ready() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        // CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, SYS_ADMIN
        const KEPT: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 21;
        let mut client = worker.client().await;
        start(&mut client, shell("exec sleep 6842")).await;
        let supervisors = || named(worker.launcher(), SUPERVISOR);
        eventually("some wait", || supervisors().len() > 2);
        let has_job = |pid: &u32| !children(*pid).is_empty();
        for supervisor in supervisors().into_iter().filter(has_job) {
            let sets = capabilities(&status(supervisor));
            assert!(sets.iter().all(|set| set & !KEPT == 0), "{sets:x?}");
        }
    });
    worker.shut_down();
}

/// As docs/docker.md gives them. A receipt tells all the same what the kernel has of the job.
#[test]
fn a_worker_with_a_containers_capabilities_reads_back_all_namespaces() {
    if !able() {
        return;
    }
    let few =
        "-all,+chown,+dac_override,+fowner,+kill,+net_admin,+setgid,+setpcap,+setuid,+sys_admin,+sys_chroot";
    let setup = Setup {
        before: format!("set -- setpriv --bounding-set={few} --inh-caps=-all \"$@\""),
        ..Setup::default()
    };
    let worker = Worker::start_as(setup, |_| {});
    in_runtime(async {
        let mut client = worker.client().await;
        for policy in ["default", "ci"] {
            let request = StartJobRequest {
                policy: policy.to_owned(),
                ..shell("exit 3")
            };
            let id = start(&mut client, request).await;
            let job = wait(&mut client, &id).await;
            assert_eq!(job.exit_code, Some(3), "{policy}: {job:?}");
            let namespaces = job.isolation.expect("a receipt").namespaces;
            assert_eq!(
                namespaces,
                ["user", "pid", "mnt", "net", "uts", "ipc", "cgroup"],
                "{policy}"
            );
        }
    });
    worker.shut_down();
}

/// To the kernel's CPU scheduler all jobs of a worker are one group.
#[test]
fn a_branch_of_cgroups_weighs_several_jobs() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    // The branch is found by a supervisor's membership.
    eventually("it weighs eight", || {
        let files = branches_of(worker.launcher())
            .into_iter()
            .flat_map(|branch| ["cpu.shares", "cpu.weight"].map(|file| branch.join(file)));
        let mut weights = files.filter_map(|file| fs::read_to_string(file).ok());
        weights.any(|weight| ["8192", "800"].contains(&weight.trim()))
    });
    worker.shut_down();
}

#[test]
fn who_writes_too_much_and_ends_at_once_is_told_as_that() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        for round in 0..20 {
            let request = StartJobRequest {
                limits: Some(Limits {
                    output_bytes: 1000,
                    ..Limits::default()
                }),
                on_output_limit: OnOutputLimit::Kill.into(),
                ..shell("head -c 2000 /dev/zero; exit 0")
            };
            let id = start(&mut client, request).await;
            let job = wait(&mut client, &id).await;
            assert_eq!(job.cause(), Cause::OutputLimit, "round {round}: {job:?}");
            let stdout = job.output.and_then(|output| output.stdout).expect("stdout");
            assert_eq!((stdout.total_bytes, stdout.dropped_bytes), (2000, 1000));
        }
    });
    worker.shut_down();
}

/// What a worker says of its host is what its jobs get.
#[test]
fn a_worker_tells_the_cgroups_that_its_jobs_get() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let id = start(&mut client, shell("true")).await;
        let receipt = wait(&mut client, &id).await.isolation.expect("a receipt");
        let told = client.get_worker(GetWorkerRequest {}).await.expect("worker");
        let host = told.into_inner().host;
        let cgroups = host.iter().find(|ability| ability.name == "cgroups");
        assert_eq!(cgroups.expect("cgroups").detail, receipt.cgroup_version);
    });
    worker.shut_down();
}
