//! What a sandbox is made of may have served an earlier job: nothing tells of it.

use std::collections::BTreeSet;

use stockade::proto::v1::{Cause, Job, Limits, StartJobRequest, State, WatchJobsRequest};

use super::worker::traces::children;
use super::worker::{Worker, able};
use super::{in_runtime, output, shell, start, wait, worker_with_policies};

/// Uses what can be used, and leaves behind what can be left.
const BUSY: &str = "
exec 3<>/dev/udp/127.0.0.1/9; echo to nobody >&3; echo again >&3
for n in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 0.05 & done
ipcmk -M 4096 >/dev/null; echo mine >/tmp/left; echo mine >/dev/shm/left; echo mine >left
exec 8</usr/bin/env; flock -x 8
for n in $(seq 40000); do :; done
wait";

/// Ways to use the scratch space that leave nothing in it.
const TOUCHES: [&str; 7] = [
    "true >/tmp/gone; rm /tmp/gone",
    "mkdir gone; rmdir gone",
    "chmod 755 /workspace",
    "ls /dev/shm",
    "touch -d yesterday /workspace",
    "setfattr -n user.mark -v 1 /workspace || touch /workspace",
    "python3 -c \"import os; os.close(os.open('/tmp', os.O_TMPFILE | os.O_WRONLY))\"",
];

/// Prints what it finds of anybody else.
const LOOK: &str = "
[ $$ = 2 ] || echo \"number $$, as if others had been there\"
set -- /proc/[0-9]*; [ \"$*\" = /proc/2 ] || echo \"$*\"
awk '/lo:/ && $3 + $11 > 0 {print \"packets\", $0}' /proc/net/dev
awk '/^Udp: [0-9]/ && $2 + $3 + $5 > 0 {print \"udp\", $0}' /proc/net/snmp
awk 'FNR > 1' /proc/net/udp /proc/net/tcp
ipcs -m | grep 0x
awk '$41 != 0 {print \"policy\", $41}' /proc/self/stat
find /tmp /dev/shm /workspace -mindepth 1
exec 8</usr/bin/env; flock -n -x 8 || echo locked
true";

fn bash(script: &str) -> StartJobRequest {
    StartJobRequest {
        argv: ["bash", "-c", script].map(str::to_owned).to_vec(),
        ..StartJobRequest::default()
    }
}

fn used(job: &Job) -> (u64, u64) {
    let usage = job.usage.expect("usage");
    (usage.pids_peak, usage.cpu_user_us + usage.cpu_system_us)
}

#[test]
fn nothing_of_a_job_is_left_for_the_next() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        // More than sandboxes wait at the start, so that parts come back from jobs.
        for round in 0..30 {
            let id = start(&mut client, bash(BUSY)).await;
            let busy = wait(&mut client, &id).await;
            assert_eq!(busy.exit_code, Some(0), "{busy:?}");
            assert!(used(&busy).0 > 10, "{busy:?}");
            let id = start(&mut client, bash(LOOK)).await;
            let looker = wait(&mut client, &id).await;
            assert_eq!(output(&mut client, &id).await, "", "round {round}");
            assert_eq!(looker.exit_code, Some(0), "{looker:?}");
            let id = start(&mut client, shell("exit 3")).await;
            let (pids, cpu_us) = used(&wait(&mut client, &id).await);
            assert_eq!(pids, 1, "round {round}");
            assert!(cpu_us < used(&busy).1, "round {round}: {cpu_us} µs");
        }
    });
    worker.shut_down();
}

#[test]
fn one_sandbox_serves_one_job_after_another() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let mut keepers = BTreeSet::new();
        for number in 0..40 {
            let id = start(&mut client, shell(&format!("exit {number}"))).await;
            assert_eq!(wait(&mut client, &id).await.exit_code, Some(number));
            keepers.extend(children(worker.launcher()));
        }
        // More are made only where jobs are slow to come back, as on a busy machine.
        assert!(
            keepers.len() < 40,
            "{} processes have kept 40 jobs",
            keepers.len()
        );
    });
    worker.shut_down();
}

/// A scratch space that no job has used serves the next: what it shows must not depend on who was there before.
#[test]
fn who_touches_the_scratch_space_leaves_no_trace() {
    const SHOW: &str =
        "stat -c '%n %i %h %a %U' /workspace /tmp /dev/shm /run; test $(stat -c %Y /workspace) -gt 1700000000
        stat -c '%W %Z' /tmp /dev/shm /run /workspace | awk '$1 != $2'; true >/tmp/new; stat -c %i /tmp/new";
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        // Where no job has touched it, the numbers of inodes go on by one for each job.
        let mut seen = BTreeSet::new();
        for touch in TOUCHES {
            for _ in 0..10 {
                let id = start(&mut client, shell("true")).await;
                assert_eq!(wait(&mut client, &id).await.exit_code, Some(0));
                let id = start(&mut client, bash(touch)).await;
                assert_eq!(wait(&mut client, &id).await.exit_code, Some(0), "{touch}");
            }
            for _ in 0..12 {
                let id = start(&mut client, bash(SHOW)).await;
                assert_eq!(wait(&mut client, &id).await.exit_code, Some(0));
                let shown = output(&mut client, &id).await;
                let (folders, inode) = shown.trim_end().rsplit_once('\n').expect("lines");
                seen.insert(folders.to_owned());
                let inode: u64 = inode.parse().expect("a number");
                assert!(inode < 40, "{touch}: {shown}");
            }
        }
        assert_eq!(seen.len(), 1, "{seen:#?}");
    });
    worker.shut_down();
}

/// Looks for an earlier job's key by the keyring of the user, and keeps one there: "left" where there was one.
const KEEPS_A_KEY: &str = "
import ctypes
call = ctypes.CDLL(None, use_errno=True).syscall
USER_KEYRING, SEARCH, ADD_KEY, KEYCTL = -4, 10, 248, 250
if call(KEYCTL, SEARCH, USER_KEYRING, b'user', b'mark', 0) > 0: print('left')
print('kept' if call(ADD_KEY, b'user', b'mark', b'x', 1, USER_KEYRING) > 0 else ctypes.get_errno())
";

/// A user namespace serves several jobs only where none of them can leave a key in it.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_key_is_not_the_next_jobs() {
    const PROFILE: &str = "description = \"Keys\"\nextends = \"default\"\n[[rule]]\nreason = \"A test\"\n\
         action = \"allow\"\ncalls = [\"add_key\", \"request_key\", \"keyctl\"]\n";
    if !able() {
        return;
    }
    let policies = tempfile::tempdir().expect("tempdir");
    let profiles = policies.path().join("seccomp");
    std::fs::create_dir(&profiles).expect("mkdir");
    std::fs::write(profiles.join("keys.toml"), PROFILE).expect("profile");
    let policy = "description = \"Keys\"\n[sandbox]\nseccomp = \"keys\"\n";
    std::fs::write(policies.path().join("keys.toml"), policy).expect("policy");
    let worker = worker_with_policies(policies.path());
    in_runtime(async {
        let mut client = worker.client().await;
        for round in 0..25 {
            let request = StartJobRequest {
                argv: ["python3", "-c", KEEPS_A_KEY].map(str::to_owned).to_vec(),
                policy: "keys".to_owned(),
                ..StartJobRequest::default()
            };
            let id = start(&mut client, request).await;
            assert_eq!(wait(&mut client, &id).await.exit_code, Some(0));
            assert_eq!(output(&mut client, &id).await, "kept\n", "round {round}");
        }
    });
    worker.shut_down();
}

/// Makes one of each kind, and shows the numbers that they get: the first ones of a namespace. What is not allowed fails as
/// without anybody between.
const MAKES_IPC: &str = "
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
IPC_CREAT, IPC_RMID, SHM_HUGETLB = 0o1000, 0, 0o4000
made = libc.shmget(7, 4096, IPC_CREAT | 0o600), libc.semget(7, 1, IPC_CREAT | 0o600), libc.msgget(7, IPC_CREAT | 0o600)
libc.shmctl(made[0], IPC_RMID, None)
libc.msgctl(made[2], IPC_RMID, None)
libc.shmget(8, 2 << 20, IPC_CREAT | SHM_HUGETLB | 0o600)
print(*made, os.strerror(ctypes.get_errno()))
";

/// An IPC namespace serves several jobs as long as none of them has made anything in it.
#[test]
fn no_ipc_object_tells_of_a_job_before() {
    const ROUNDS: usize = 12;
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let mut namespaces = BTreeSet::new();
        for round in 0..2 * ROUNDS {
            let makes = round % 2 == 1;
            let argv: &[&str] = if makes {
                &["python3", "-c", MAKES_IPC]
            } else {
                &["readlink", "/proc/self/ns/ipc"]
            };
            // Two with the same namespace come only from jobs that have made nothing.
            for _ in 0..=usize::from(!makes) {
                let request = StartJobRequest {
                    argv: argv.iter().map(|word| (*word).to_owned()).collect(),
                    ..StartJobRequest::default()
                };
                let id = start(&mut client, request).await;
                assert_eq!(wait(&mut client, &id).await.exit_code, Some(0));
                let told = output(&mut client, &id).await;
                if makes {
                    assert_eq!(told, "0 0 0 Operation not permitted\n", "round {round}");
                } else {
                    namespaces.insert(told);
                }
            }
        }
        let quiet = 2 * ROUNDS;
        assert!(namespaces.len() < quiet, "each of {quiet} had its own");
    });
    worker.shut_down();
}

/// Of a short job its start is told with its end, and before it.
#[test]
fn who_watches_sees_short_jobs_run() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let mut events = client
            .watch_jobs(WatchJobsRequest::default())
            .await
            .expect("watch")
            .into_inner();
        for _ in 0..20 {
            let id = start(&mut client, shell("exit 3")).await;
            let mut states = Vec::new();
            while states.last() != Some(&State::Finished) {
                let event = events.message().await.expect("event").expect("no end");
                let job = event.job.expect("job");
                if job.id == id {
                    states.push(job.state());
                    let runs = job.state() == State::Running;
                    assert!(!runs || job.started_at.is_some(), "{job:?}");
                }
            }
            assert_eq!(states, [State::Pending, State::Running, State::Finished]);
        }
    });
    worker.shut_down();
}

/// A ring of sockets that carry each other, and a file of the scratch space: the kernel finds out late that nobody has
/// them any more.
const HIDES_A_FILE: &str = "
import array, socket
left, right = socket.socketpair()
held = open('/workspace/held', 'w')
fds = array.array('i', [left.fileno(), right.fileno(), held.fileno()])
for end in (left, right):
    end.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
";

#[test]
fn a_file_that_outlives_its_job_is_not_the_next_ones() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        for round in 0..20 {
            let hides = StartJobRequest {
                argv: ["python3", "-c", HIDES_A_FILE].map(str::to_owned).to_vec(),
                ..StartJobRequest::default()
            };
            let id = start(&mut client, hides).await;
            assert_eq!(wait(&mut client, &id).await.exit_code, Some(0), "round {round}");
            let id = start(&mut client, bash(LOOK)).await;
            let looker = wait(&mut client, &id).await;
            assert_eq!(output(&mut client, &id).await, "", "round {round}");
            assert_eq!(looker.exit_code, Some(0), "{looker:?}");
        }
    });
    worker.shut_down();
}

/// Its arguments alone take more memory than it may have, so that it dies on its way to its command.
fn crammed() -> StartJobRequest {
    StartJobRequest {
        argv: std::iter::once("/bin/true".to_owned())
            .chain((0..10).map(|_| "x".repeat(104_000)))
            .collect(),
        limits: Some(Limits {
            memory_bytes: 1 << 20,
            ..Limits::default()
        }),
        ..StartJobRequest::default()
    }
}

#[test]
fn no_death_is_the_next_ones() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        for round in 0..12 {
            let hungry = StartJobRequest {
                limits: Some(Limits {
                    memory_bytes: 16 << 20,
                    ..Limits::default()
                }),
                ..shell("head -c 64M /dev/zero | tail -c 64M >/dev/null; exit 0")
            };
            let id = start(&mut client, hungry).await;
            let dead = wait(&mut client, &id).await;
            assert_eq!(dead.cause(), Cause::OutOfMemory, "round {round}: {dead:?}");
            let id = start(&mut client, crammed()).await;
            let dead = wait(&mut client, &id).await;
            assert_eq!(dead.cause(), Cause::OutOfMemory, "round {round}: {dead:?}");
            assert_eq!(dead.started_at, None, "round {round}");
            let id = start(&mut client, shell("(setsid sleep 6811 &); exit 4")).await;
            let leaves = wait(&mut client, &id).await;
            assert_eq!((leaves.cause(), leaves.exit_code), (Cause::Exited, Some(4)));
            assert_eq!(leaves.usage.expect("usage").oom_kills, 0, "round {round}");
            let id = start(&mut client, shell("exit 5")).await;
            let calm = wait(&mut client, &id).await;
            assert_eq!(
                (calm.cause(), calm.exit_code),
                (Cause::Exited, Some(5)),
                "{calm:?}"
            );
        }
    });
    worker.shut_down();
}
