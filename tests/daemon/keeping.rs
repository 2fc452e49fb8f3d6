//! What is kept of jobs that are over, and what cannot be removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use stockade::proto::v1::stream_output_response::Part;
use stockade::proto::v1::{
    DeleteJobRequest, End, Gap, GetWorkerRequest, GetWorkerResponse, QueryJobRequest, Stream,
    StreamOutputRequest,
};
use tonic::Code;

use super::worker::needs::needs;
use super::worker::{Worker, able, eventually};
use super::{Client, in_runtime, shell, start, wait};

async fn worker_of(client: &mut Client) -> GetWorkerResponse {
    let answer = client.get_worker(GetWorkerRequest {}).await;
    answer.expect("worker").into_inner()
}

async fn until_cleaned_up(client: &mut Client) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !worker_of(client).await.clean_up.is_empty() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn finished(client: &mut Client, script: &str) -> String {
    let id = start(client, shell(script)).await;
    assert_eq!(wait(client, &id).await.exit_code, Some(0));
    id
}

/// Deletes a job whose folder stays: accepted at once, and told.
async fn delete_what_stays(client: &mut Client, id: &str, why: &str) {
    let before = Instant::now();
    let request = DeleteJobRequest {
        job_id: id.to_owned(),
    };
    client.delete_job(request).await.expect("delete");
    assert!(
        before.elapsed() < Duration::from_secs(2),
        "{:?}",
        before.elapsed()
    );
    is_told(client, id, why).await;
}

async fn is_told(client: &mut Client, id: &str, why: &str) {
    let query = QueryJobRequest {
        job_id: id.to_owned(),
    };
    let gone = client.query_job(query).await.expect_err("deleted");
    assert_eq!(gone.code(), Code::NotFound);
    let told = worker_of(client).await.clean_up;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(id) && told[0].contains(why), "{told:?}");
    assert!(!told[0].contains("/"), "no host path: {told:?}");
}

fn folder_of(worker: &Worker, id: &str) -> PathBuf {
    worker.dir.path().join("state/jobs").join(id)
}

/// Makes a file immutable, or no longer; false where its file system knows no such thing.
fn set_immutable(file: &Path, immutable: bool) -> bool {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let file = fs::File::open(file).expect("open");
    let Ok(mut flags) = ioctl_getflags(&file) else {
        return false;
    };
    flags.set(IFlags::IMMUTABLE, immutable);
    ioctl_setflags(&file, flags).is_ok()
}

#[test]
fn a_folder_with_a_mount_in_it_is_removed_when_the_mount_has_gone() {
    if !able() {
        return;
    }
    let mut worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let id = finished(&mut client, "echo x").await;
        let folder = folder_of(&worker, &id);
        let precious = worker.dir.path().join("precious");
        fs::write(&precious, "precious").expect("write");
        mount_bind(&precious, folder.join("stdout")).expect("bind");
        delete_what_stays(&mut client, &id, "stdout: ").await;
        // It is remembered by whoever comes next.
        worker.die_and_start_again(|_| {});
        let mut client = worker.client().await;
        let deadline = Instant::now() + Duration::from_secs(5);
        while worker_of(&mut client).await.clean_up.is_empty() {
            assert!(Instant::now() < deadline);
        }
        is_told(&mut client, &id, "stdout: ").await;
        unmount(folder.join("stdout"), UnmountFlags::DETACH).expect("unmount");
        until_cleaned_up(&mut client).await;
        assert!(!folder.exists());
        assert_eq!(fs::read(&precious).expect("read"), b"precious");
    });
    worker.shut_down();
}

#[test]
fn nothing_that_is_mounted_on_a_folder_is_removed() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let id = finished(&mut client, "echo x").await;
        let folder = folder_of(&worker, &id);
        mount("tmpfs", &folder, "tmpfs", MountFlags::empty(), None).expect("tmpfs");
        fs::write(folder.join("stdout"), "precious").expect("write");
        delete_what_stays(&mut client, &id, "mounted").await;
        assert_eq!(fs::read(folder.join("stdout")).expect("read"), b"precious");
        unmount(&folder, UnmountFlags::DETACH).expect("unmount");
        until_cleaned_up(&mut client).await;
        assert!(!folder.exists());
    });
    worker.shut_down();
}

#[test]
fn a_control_folder_that_stays_takes_no_output_with_it() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let id = start(&mut client, shell("echo kept; sleep 1")).await;
        let output = folder_of(&worker, &id).join("stdout");
        eventually("it has written", || {
            fs::read(&output).is_ok_and(|text| text == b"kept\n")
        });
        let held = worker.control().join(&id).join("held");
        fs::create_dir(&held).expect("mkdir");
        mount("tmpfs", &held, "tmpfs", MountFlags::empty(), None).expect("tmpfs");
        assert_eq!(wait(&mut client, &id).await.exit_code, Some(0));
        let deadline = Instant::now() + Duration::from_secs(10);
        while worker_of(&mut client).await.clean_up.is_empty() {
            assert!(Instant::now() < deadline, "it is told");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        unmount(&held, UnmountFlags::DETACH).expect("unmount");
        until_cleaned_up(&mut client).await;
        eventually("it has gone", || worker.control_folders() == 0);
        assert_eq!(fs::read(&output).expect("output"), b"kept\n");
    });
    worker.shut_down();
}

/// Needs a file system with immutable files.
#[test]
fn an_immutable_file_stays_until_it_is_none() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let id = finished(&mut client, "echo x; echo y >&2").await;
        let folder = folder_of(&worker, &id);
        if set_immutable(&folder.join("stdout"), true) {
            delete_what_stays(&mut client, &id, "stdout: Operation not permitted").await;
            assert!(!folder.join("stderr").exists(), "the rest goes");
            assert!(set_immutable(&folder.join("stdout"), false));
        } else {
            needs("files that can be made immutable", false);
            let request = DeleteJobRequest { job_id: id };
            client.delete_job(request).await.expect("delete");
        }
        until_cleaned_up(&mut client).await;
        assert!(!folder.exists());
    });
    worker.shut_down();
}

#[test]
fn what_came_into_a_folder_goes_with_it_and_links_are_not_followed() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let id = finished(&mut client, "echo x").await;
        let folder = folder_of(&worker, &id);
        let precious = worker.dir.path().join("precious");
        fs::create_dir(&precious).expect("mkdir");
        fs::write(precious.join("file"), "precious").expect("write");
        fs::create_dir_all(folder.join("a/b")).expect("mkdir");
        fs::write(folder.join("a/b/file"), "x").expect("write");
        std::os::unix::fs::symlink(&precious, folder.join("a/link")).expect("symlink");
        let request = DeleteJobRequest { job_id: id };
        client.delete_job(request).await.expect("delete");
        assert!(!folder.exists());
        assert_eq!(worker_of(&mut client).await.clean_up, [""; 0]);
        assert_eq!(fs::read(precious.join("file")).expect("read"), b"precious");
    });
    worker.shut_down();
}

/// Bytes that came, gaps, and the end.
async fn read(client: &mut Client, id: &str, offset: u64) -> (usize, Vec<Gap>, End) {
    let request = StreamOutputRequest {
        job_id: id.to_owned(),
        stdout_offset: offset,
        streams: vec![Stream::Stdout.into()],
        ..StreamOutputRequest::default()
    };
    let mut parts = client.stream_output(request).await.expect("stream").into_inner();
    let (mut bytes, mut gaps) = (0, Vec::new());
    loop {
        match parts.message().await.expect("part").expect("end").part {
            Some(Part::Chunk(chunk)) => bytes += chunk.data.len(),
            Some(Part::Gap(gap)) => gaps.push(gap),
            Some(Part::End(end)) => return (bytes, gaps, end),
            None => panic!("an empty part"),
        }
    }
}

#[test]
fn output_beyond_the_bytes_to_keep_becomes_a_gap() {
    if !able() {
        return;
    }
    let mut worker = Worker::start_with(|config| config + "[retention]\nmax_bytes = 250000\n");
    in_runtime(async {
        let mut client = worker.client().await;
        let mut ids = Vec::new();
        for _ in 0..4 {
            ids.push(finished(&mut client, "head -c 100000 /dev/zero").await);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while worker_of(&mut client).await.output_bytes_kept > 250_000 {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(worker_of(&mut client).await.output_bytes_kept, 200_000);
        assert_eq!(worker_of(&mut client).await.tenant_output_bytes_kept, 200_000);
        // Before and after a restart alike.
        for _ in 0..2 {
            let mut client = worker.client().await;
            for id in &ids[..2] {
                let (bytes, gaps, end) = read(&mut client, id, 10).await;
                assert_eq!((bytes, gaps.len()), (0, 1));
                assert_eq!((gaps[0].from, gaps[0].to), (10, 100_000));
                let stdout = end.output.expect("output").stdout.expect("stdout");
                assert_eq!((stdout.total_bytes, stdout.dropped_bytes), (100_000, 100_000));
                assert_eq!(end.job.expect("job").exit_code, Some(0), "the record stays");
                assert!(!folder_of(&worker, id).join("stdout").exists());
            }
            for id in &ids[2..] {
                let (bytes, gaps, end) = read(&mut client, id, 10).await;
                assert_eq!((bytes, gaps.len()), (99_990, 0));
                let stdout = end.output.expect("output").stdout.expect("stdout");
                assert_eq!((stdout.total_bytes, stdout.dropped_bytes), (100_000, 0));
                assert_eq!(stdout.sha256.len(), 64);
            }
            worker.die_and_start_again(|_| {});
        }
    });
    worker.shut_down();
}

#[test]
fn output_that_no_record_tells_of_is_swept_at_the_start() {
    if !able() {
        return;
    }
    let mut worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let known = finished(&mut client, "echo x").await;
        let unknown = stockade::job::JobId::random().to_string();
        let strange = folder_of(&worker, "not-a-job");
        worker.die_and_start_again(|state| {
            let folder = state.join("jobs").join(&unknown);
            fs::create_dir(&folder).expect("mkdir");
            fs::write(folder.join("stdout"), "x").expect("write");
            fs::create_dir(&strange).expect("mkdir");
        });
        let unknown = folder_of(&worker, &unknown);
        eventually("it is swept", || !unknown.exists());
        let (bytes, gaps, _) = read(&mut worker.client().await, &known, 0).await;
        assert_eq!((bytes, gaps.len()), (2, 0));
        assert!(strange.exists(), "what is none of ours stays");
    });
    worker.shut_down();
}
