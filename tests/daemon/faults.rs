//! What the host refuses is an outcome, and leaves nothing behind.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::statfs;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use stockade::proto::v1::Cause;

use super::sandboxes::IDLE_CHILDREN;
use super::worker::{Holdings, Worker, able, children, eventually};
use super::{in_runtime, shell, start, wait};

/// Takes all inodes of the file system but `left`.
fn fill(folder: &Path, left: u64) -> Vec<std::path::PathBuf> {
    let free = statfs(folder).expect("statfs").f_ffree;
    let fillers: Vec<_> = (0..free - left)
        .map(|number| folder.join(format!("filler{number}")))
        .collect();
    for filler in &fillers {
        File::create(filler).expect("filler");
    }
    fillers
}

#[test]
fn a_job_whose_folder_cannot_be_made_fails_and_leaves_nothing() {
    if !able() {
        return;
    }
    let worker = Worker::start_in(|dir| {
        let state = dir.join("state");
        fs::create_dir(&state).expect("mkdir");
        let options = Some(c"size=64m,nr_inodes=300,mode=755");
        mount("tmpfs", &state, "tmpfs", MountFlags::empty(), options).expect("tmpfs");
    });
    let state = worker.dir.path().join("state");
    let launcher = worker.launcher();
    in_runtime(async {
        let mut client = worker.client().await;
        let id = start(&mut client, shell("exit 3")).await;
        assert_eq!(wait(&mut client, &id).await.exit_code, Some(3));
        eventually("it is idle", || children(launcher).len() == IDLE_CHILDREN);
        let before = Holdings::at_rest(launcher);
        // A job's folder takes four: itself, two outputs, and what says that it may run.
        for left in [0, 1, 2, 3] {
            let fillers = fill(&state, left);
            let id = start(&mut client, shell("exit 3")).await;
            let job = wait(&mut client, &id).await;
            assert_eq!(job.cause(), Cause::StartFailed, "{left} left: {job:?}");
            let failure = job.start_failure.expect("the step");
            assert_eq!(
                (failure.step.as_str(), failure.errno.as_str()),
                ("state-dir", "ENOSPC")
            );
            fillers
                .iter()
                .for_each(|filler| fs::remove_file(filler).expect("remove"));
            eventually("nothing is left", || {
                children(launcher).len() == IDLE_CHILDREN && Holdings::of(launcher) == before
            });
        }
        let id = start(&mut client, shell("exit 4")).await;
        assert_eq!(
            wait(&mut client, &id).await.exit_code,
            Some(4),
            "without a restart"
        );
    });
    worker.shut_down_and(|| unmount(&state, UnmountFlags::DETACH).expect("unmount"));
}
