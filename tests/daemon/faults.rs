//! What the host refuses is an outcome, and leaves nothing behind.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use rustix::fs::statfs;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use stockade::proto::v1::{
    Cause, DeleteJobRequest, Job, ListJobsRequest, QueryJobRequest, StartJobRequest, StopJobRequest,
};
use tonic::Code;

use super::sandboxes::IDLE_CHILDREN;
use super::worker::traces::{Holdings, children};
use super::worker::{Worker, able, eventually};
use super::{Client, in_runtime, running, shell, start, wait};

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

/// Takes the last byte of the file system.
fn fill_up(folder: &Path) {
    let filler = File::options()
        .append(true)
        .create(true)
        .open(folder.join("filler"));
    let mut filler = filler.expect("filler");
    while filler.write(&[1; 4096]).is_ok_and(|count| count > 0) {}
    assert_eq!(statfs(folder).expect("statfs").f_bavail, 0);
}

async fn list(client: &mut Client) -> Vec<Job> {
    let answer = client.list_jobs(ListJobsRequest::default()).await;
    answer.expect("list").into_inner().jobs
}

#[test]
fn jobs_are_listed_and_deleted_while_no_end_can_be_recorded() {
    if !able() {
        return;
    }
    let worker = Worker::start_in(|dir| {
        let state = dir.join("state");
        fs::create_dir(&state).expect("mkdir");
        let options = Some(c"size=16m,mode=755");
        mount("tmpfs", &state, "tmpfs", MountFlags::empty(), options).expect("tmpfs");
    });
    let state = worker.dir.path().join("state");
    in_runtime(async {
        let mut client = worker.client().await;
        let over = start(&mut client, shell("echo kept; exit 3")).await;
        assert_eq!(wait(&mut client, &over).await.exit_code, Some(3));
        let runs = start(&mut client, shell("sleep 6876")).await;
        running(&mut client, &runs).await;
        fill_up(&state);
        // What is left of the log's last page takes some changes still.
        let one_more = StartJobRequest {
            labels: [("filler".to_owned(), "x".repeat(200))].into(),
            ..shell("exit 3")
        };
        while client.start_job(one_more.clone()).await.is_ok() {
            fill_up(&state);
        }
        let stop = StopJobRequest {
            job_id: runs.clone(),
            ..StopJobRequest::default()
        };
        client.stop_job(stop).await.expect("stop");
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        fill_up(&state);
        assert!(list(&mut client).await.iter().any(|job| job.id == runs));
        let delete = DeleteJobRequest { job_id: over.clone() };
        if let Err(refused) = client.delete_job(delete).await {
            assert_eq!(refused.code(), Code::Unavailable, "{refused}");
            list(&mut client).await;
        }
        fs::remove_file(state.join("filler")).expect("remove");
        assert_eq!(wait(&mut client, &runs).await.cause(), Cause::Stopped);
        // In one commit with that end, if it was not made at once.
        let query = QueryJobRequest { job_id: over };
        let gone = client.query_job(query).await.expect_err("deleted");
        assert_eq!(gone.code(), Code::NotFound);
    });
    worker.shut_down_and(|| unmount(&state, UnmountFlags::DETACH).expect("unmount"));
}
