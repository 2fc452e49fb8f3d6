//! What the host refuses is an outcome, and leaves nothing behind.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::statfs;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use stockade::proto::v1::Cause;

use super::sandboxes::IDLE_CHILDREN;
use super::worker::traces::{Holdings, children};
use super::worker::{Worker, able, eventually};
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
fn output_that_has_no_place_is_told_as_lost_and_nothing_else_is() {
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
        let before = Holdings::at_rest(&worker);
        // Output takes two: a folder and a file.
        for left in [0, 1] {
            let fillers = fill(&state, left);
            let id = start(&mut client, shell("exit 3")).await;
            assert_eq!(wait(&mut client, &id).await.exit_code, Some(3), "{left} left");
            let id = start(&mut client, shell("echo lost; exit 3")).await;
            let job = wait(&mut client, &id).await;
            assert_eq!((job.cause(), job.exit_code), (Cause::Exited, Some(3)), "{job:?}");
            let stdout = job.output.expect("output").stdout.expect("stdout");
            assert_eq!((stdout.total_bytes, stdout.dropped_bytes), (5, 5));
            fillers
                .iter()
                .for_each(|filler| fs::remove_file(filler).expect("remove"));
            eventually("nothing is left", || {
                children(launcher).len() == IDLE_CHILDREN && Holdings::of(&worker) == before
            });
        }
        let id = start(&mut client, shell("echo kept; exit 4")).await;
        let job = wait(&mut client, &id).await;
        assert_eq!(job.exit_code, Some(4), "without a restart");
        let stdout = job.output.expect("output").stdout.expect("stdout");
        assert_eq!((stdout.total_bytes, stdout.dropped_bytes), (5, 0));
    });
    worker.shut_down_and(|| unmount(&state, UnmountFlags::DETACH).expect("unmount"));
}
