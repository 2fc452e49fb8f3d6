//! Many jobs leave nothing behind.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use stockade::proto::v1::{Cause, DeleteJobRequest, Limits, StartJobRequest, StopJobRequest};

use super::worker::traces::{Holdings, Nap, SUPERVISOR, children, named};
use super::worker::{Setup, Worker, able, eventually, kill};
use super::{in_runtime, running, shell, start, wait, worker_with_policies};

/// Sandboxes that wait for jobs, and the server.
pub(crate) const IDLE_CHILDREN: usize = 17;

#[test]
fn many_jobs_leave_nothing_behind() {
    if !able() {
        return;
    }
    let nap = Nap::new();
    let worker = Worker::start();
    let launcher = worker.launcher();
    in_runtime(async {
        let mut client = worker.client().await;
        let id = start(&mut client, shell("true")).await;
        wait(&mut client, &id).await;
        eventually("it is idle", || children(launcher).len() == IDLE_CHILDREN);
        let before = Holdings::at_rest(&worker);
        for number in 0..500 {
            let id = start(&mut client, shell(&format!("echo {number}; exit {}", number % 7))).await;
            let job = wait(&mut client, &id).await;
            assert_eq!(job.exit_code, Some(number % 7), "{job:?}");
            let output = job.output.expect("output").stdout.expect("stdout");
            assert_eq!(output.total_bytes, number.to_string().len() as u64 + 1);
        }
        let mut ids = Vec::new();
        for _ in 0..100 {
            ids.push(
                start(
                    &mut client,
                    shell(&format!("sleep 0.3; (setsid sleep {nap} &); exit 5")),
                )
                .await,
            );
        }
        for id in &ids {
            assert_eq!(wait(&mut client, id).await.exit_code, Some(5));
            client
                .delete_job(DeleteJobRequest { job_id: id.clone() })
                .await
                .expect("delete");
        }
        eventually("it is idle again", || children(launcher).len() == IDLE_CHILDREN);
        assert_eq!(nap.sleepers(), 0);
        eventually("it holds what it held", || Holdings::of(&worker) == before);
        let kept = std::fs::read_dir(worker.dir.path().join("state/jobs"))
            .expect("jobs")
            .count();
        assert_eq!(kept, 500, "one folder for each job that has written something");
        eventually("nothing is kept for a restart", || worker.control_folders() == 0);
    });
    worker.shut_down();
}

/// As a kernel short of memory does with a sandbox that waits, right when it is given a job.
#[test]
fn a_job_that_no_sandbox_has_received_was_not_started() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    let launcher = worker.launcher();
    in_runtime(async {
        let mut client = worker.client().await;
        let id = start(&mut client, shell("true")).await;
        wait(&mut client, &id).await;
        eventually("it is idle", || children(launcher).len() == IDLE_CHILDREN);
        let waiting = named(launcher, SUPERVISOR);
        for pid in &waiting {
            kill(*pid, libc::SIGSTOP);
        }
        let id = start(&mut client, shell("exit 3")).await;
        let launched = || worker.control().join(&id).join("job").exists();
        eventually("it is given to one", launched);
        // The file is written right before.
        tokio::time::sleep(Duration::from_millis(200)).await;
        for pid in &waiting {
            kill(*pid, libc::SIGKILL);
        }
        let job = wait(&mut client, &id).await;
        assert_eq!(job.cause(), Cause::StartFailed, "{job:?}");
        let failure = job.start_failure.as_ref().expect("a failure");
        assert_eq!(failure.step, "supervisor", "{failure:?}");
        assert!(
            job.error_text.contains("before it had received the job"),
            "{}",
            job.error_text
        );
        // One that is still dying would be given the next job.
        eventually("the others have gone, too", || {
            named(launcher, SUPERVISOR)
                .iter()
                .all(|pid| !waiting.contains(pid))
        });
        let id = start(&mut client, shell("exit 3")).await;
        assert_eq!(wait(&mut client, &id).await.exit_code, Some(3));
    });
    worker.shut_down();
}

/// As a package's upgrade may do.
#[test]
fn a_folder_that_jobs_see_may_go_while_the_worker_runs() {
    if !able() {
        return;
    }
    // On the mount of the root and at the same place inside, as /usr is.
    let shown = tempfile::tempdir_in("/srv").expect("tempdir");
    let policies = tempfile::tempdir().expect("tempdir");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(shown.path(), open).expect("chmod");
    let path = shown.path().display().to_string();
    let policy = format!("inherits = \"default\"\n[[mounts]]\nsource = {path:?}\ntarget = {path:?}\n");
    std::fs::write(policies.path().join("shown.toml"), policy).expect("policy");
    let worker = worker_with_policies(policies.path());
    in_runtime(async {
        let mut client = worker.client().await;
        let job = || StartJobRequest {
            policy: "shown".to_owned(),
            ..shell(&format!("ls {path}; sleep 0.5"))
        };
        let id = start(&mut client, job()).await;
        assert_eq!(wait(&mut client, &id).await.exit_code, Some(0));
        shown.close().expect("rmdir");
        // More at one time than sandboxes wait.
        let mut ids = Vec::new();
        for _ in 0..12 {
            ids.push(start(&mut client, job()).await);
        }
        for id in &ids {
            let job = wait(&mut client, id).await;
            assert_eq!(job.exit_code, Some(0), "{job:?}");
        }
    });
    worker.shut_down();
}

/// A sandbox that a job has left as it was is made ready for another size, which jobs of its policy have meanwhile.
#[test]
fn a_sandbox_serves_on_where_the_next_job_has_another_disk_limit() {
    const NAP: &str = "2.0417";
    if !able() {
        return;
    }
    let policies = tempfile::tempdir().expect("tempdir");
    // As many as make a launcher forget what jobs of another one mostly have.
    let others = ["one", "two", "three", "four"];
    for other in others {
        let policy = format!("inherits = \"default\"\n[sandbox]\nhostname = \"{other}\"\n");
        std::fs::write(policies.path().join(format!("{other}.toml")), policy).expect("policy");
    }
    let worker = worker_with_policies(policies.path());
    in_runtime(async {
        let mut client = worker.client().await;
        let id = start(&mut client, shell(&format!("exec sleep {NAP}"))).await;
        let sleeps = |pid: &u32| {
            let of_child = |child: u32| std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            let text = format!("sleep\0{NAP}\0");
            children(*pid)
                .into_iter()
                .any(|child| of_child(child) == text.as_bytes())
        };
        let mut keeper = None;
        eventually("it runs", || {
            keeper = named(worker.launcher(), SUPERVISOR).into_iter().find(sleeps);
            keeper.is_some()
        });
        let keeper = keeper.expect("a supervisor");
        for other in others {
            let request = StartJobRequest {
                policy: other.to_owned(),
                ..shell("exit 3")
            };
            let other = start(&mut client, request).await;
            assert_eq!(wait(&mut client, &other).await.exit_code, Some(3));
        }
        let limits = Limits {
            disk_bytes: 16 << 20,
            ..Limits::default()
        };
        let sized = StartJobRequest {
            limits: Some(limits),
            ..shell("exit 4")
        };
        let sized = start(&mut client, sized).await;
        assert_eq!(wait(&mut client, &sized).await.exit_code, Some(4));
        assert!(sleeps(&keeper), "it was to sleep for longer");
        assert_eq!(wait(&mut client, &id).await.exit_code, Some(0));
        eventually("it has a stub again", || !children(keeper).is_empty());
    });
    worker.shut_down();
}

#[test]
fn a_stop_is_over_when_nothing_is_left() {
    if !able() {
        return;
    }
    let nap = Nap::new();
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let stubborn = format!(
            "trap '' TERM; (setsid sh -c \"trap '' TERM; sleep {nap}\" &); sleep {nap} & sleep {nap}; sleep {nap}"
        );
        let id = start(&mut client, shell(&stubborn)).await;
        eventually("it runs", || nap.sleepers() == 3);
        let request = StopJobRequest {
            job_id: id,
            grace_ms: Some(200),
            reason: "a test".to_owned(),
            wait: true,
            ..StopJobRequest::default()
        };
        let job = client
            .stop_job(request)
            .await
            .expect("stop")
            .into_inner()
            .job
            .expect("job");
        assert_eq!(nap.sleepers(), 0, "at the very moment of the answer");
        assert_eq!((job.cause(), job.signal), (Cause::Stopped, Some(9)));
        let stop = job.stop.expect("stop");
        assert!(stop.escalated && stop.killed >= 4, "{stop:?}");
        assert_eq!(stop.reason, "a test");
    });
}

/// The soft limit that most systems start services with.
#[test]
fn the_usual_limit_of_open_files_bounds_no_jobs() {
    const JOBS: usize = 80;
    if !able() {
        return;
    }
    let setup = Setup {
        before: "ulimit -Sn 1024".to_owned(),
        ..Setup::default()
    };
    let worker = Worker::start_as(setup, |_| {});
    in_runtime(async {
        let mut client = worker.client().await;
        let mut ids = Vec::new();
        for _ in 0..JOBS {
            ids.push(start(&mut client, shell("sleep 60")).await);
        }
        for id in &ids {
            running(&mut client, id).await;
        }
    });
    worker.shut_down();
}
