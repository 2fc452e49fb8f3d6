//! Disks that are full or broken.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::statfs;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use sha2::{Digest, Sha256};
use stockade::proto::v1::stream_output_response::Part;
use stockade::proto::v1::{Cause, End, State, StopJobRequest, Stream};
use tonic::Code;

use super::rest::{Rest, answers};
use super::switch::worker_with;
use super::worker::traces::Nap;
use super::worker::{Setup, Worker, able, eventually, kill};
use super::{Client, alone, in_runtime, output_of, query, rounds, shell, start, try_start, wait};

/// A worker with a small file system at `folder`.
fn worker_on(folder: &str, options: &std::ffi::CStr) -> (Worker, PathBuf) {
    let mut place = PathBuf::new();
    let worker = Worker::start_as(Setup::default(), |dir| {
        place = dir.join(folder);
        fs::create_dir_all(&place).expect("mkdir");
        mount("tmpfs", &place, "tmpfs", MountFlags::empty(), Some(options)).expect("tmpfs");
    });
    (worker, place)
}

fn end(worker: Worker, place: &Path) {
    worker.shut_down_and(|| unmount(place, UnmountFlags::DETACH).expect("unmount"));
}

/// Takes the last byte.
fn fill_bytes(place: &Path) -> PathBuf {
    let filler = place.join("filler");
    let mut file = File::create(&filler).expect("filler");
    while file.write(&[1; 4096]).is_ok_and(|count| count > 0) {}
    assert_eq!(statfs(place).expect("statfs").f_bavail, 0);
    filler
}

/// Takes the last inode.
fn fill_inodes(place: &Path) -> PathBuf {
    let filler = place.join("filler");
    fs::create_dir(&filler).expect("mkdir");
    let mut number = 0;
    while File::create(filler.join(number.to_string())).is_ok() {
        number += 1;
    }
    filler
}

fn free(filler: &Path) {
    if filler.is_dir() {
        fs::remove_dir_all(filler).expect("remove");
    } else {
        fs::remove_file(filler).expect("remove");
    }
}

/// Refused for want of space, or accepted, and then ended for it as soon as that can be told.
async fn start_on_a_full_disk(client: &mut Client) -> Option<String> {
    match try_start(client, shell("echo ran; exit 3")).await {
        Ok(id) => Some(id),
        Err(error) => {
            assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
            None
        }
    }
}

fn a_full_disk(fill: impl Fn(&Path) -> PathBuf, options: &std::ffi::CStr) {
    let nap = Nap::new();
    let (worker, place) = worker_on("state", options);
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        for round in 0..rounds(2) {
            let mut client = worker.client().await;
            let runs = start(&mut client, shell(&format!("sleep {nap}"))).await;
            eventually("it runs", || nap.sleepers() == 1);
            let filler = fill(&place);
            let (mut accepted, mut refused) = (Vec::new(), 0_usize);
            for _ in 0..20 {
                match start_on_a_full_disk(&mut client).await {
                    Some(id) => accepted.push(id),
                    None => refused += 1,
                }
                answers(&mut client).await;
            }
            query(&mut client, &runs).await;
            let order = StopJobRequest {
                job_id: runs.clone(),
                grace_ms: Some(100),
                ..StopJobRequest::default()
            };
            client.stop_job(order).await.expect("stop");
            eventually("the stop works", || nap.sleepers() == 0);
            if round % 2 == 1 {
                let server = worker.server();
                kill(server.expect("a server"), libc::SIGKILL);
                eventually("it is gone", || worker.server() != server);
            }
            free(&filler);
            let began = Instant::now();
            let mut client = worker.client().await;
            let stopped = wait(&mut client, &runs).await;
            assert_eq!(
                (stopped.state(), stopped.cause()),
                (State::Finished, Cause::Stopped),
                "{stopped:?}"
            );
            for id in &accepted {
                let job = wait(&mut client, id).await;
                if job.cause() == Cause::StartFailed {
                    let failure = job.start_failure.expect("the step");
                    assert_eq!(
                        (failure.step.as_str(), failure.errno.as_str()),
                        ("state-dir", "ENOSPC")
                    );
                    refused += 1;
                } else {
                    assert_eq!((job.cause(), job.exit_code), (Cause::Exited, Some(3)), "{job:?}");
                    // It ran, and its output had no place.
                    let stdout = job.output.expect("output").stdout.expect("stdout");
                    refused += usize::from(stdout.dropped_bytes == 4);
                }
            }
            assert!(refused > 0, "the disk was not full");
            let took = began.elapsed();
            assert!(took < Duration::from_secs(8), "all is as before after {took:?}");
        }
        rest.again(&worker).await;
    });
    end(worker, &place);
}

#[test]
fn a_disk_without_space() {
    if able() {
        let _alone = alone();
        a_full_disk(fill_bytes, c"size=16m,mode=755");
    }
}

#[test]
fn a_disk_without_inodes() {
    if able() {
        let _alone = alone();
        a_full_disk(fill_inodes, c"size=64m,nr_inodes=600,mode=755");
    }
}

/// What a reader gets of stdout: the bytes, the gaps, the end.
pub(crate) async fn read_stdout(client: &mut Client, id: &str) -> (Vec<u8>, Vec<(u64, u64)>, End) {
    let mut stream = client
        .stream_output(output_of(id))
        .await
        .expect("stream")
        .into_inner();
    let (mut bytes, mut gaps) = (Vec::new(), Vec::new());
    while let Some(answer) = stream.message().await.expect("message") {
        match answer.part.expect("part") {
            Part::Chunk(chunk) if chunk.stream() == Stream::Stdout => {
                assert_eq!(chunk.offset, bytes.len() as u64);
                bytes.extend(chunk.data);
            }
            Part::Gap(gap) if gap.stream() == Stream::Stdout => gaps.push((gap.from, gap.to)),
            Part::End(end) => return (bytes, gaps, end),
            _ => {}
        }
    }
    panic!("no end");
}

/// The job goes on to its end, and what is lost is told.
async fn check_marked_loss(client: &mut Client, id: &str, total: u64) {
    let (bytes, gaps, end) = read_stdout(client, id).await;
    let kept = bytes.len() as u64;
    assert!(kept < total);
    assert_eq!(gaps, [(kept, total)], "the loss is marked");
    let job = end.job.expect("job");
    assert_eq!((job.cause(), job.exit_code), (Cause::Exited, Some(5)), "{job:?}");
    let stdout = end.output.expect("output").stdout.expect("stdout");
    assert_eq!((stdout.total_bytes, stdout.dropped_bytes), (total, total - kept));
    let digest = Sha256::digest(&bytes);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(stdout.sha256, digest);
}

/// User and system time so far.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = fields.split(' ').skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// Less than a tenth of a CPU.
fn does_not_spin(worker: &Worker) {
    let pids = [worker.launcher(), worker.server().expect("a server")];
    let ticks = || pids.map(cpu_ticks).iter().sum::<u64>();
    let before = ticks();
    std::thread::sleep(Duration::from_secs(1));
    assert!(ticks() - before < 10, "{} ticks in 1 s", ticks() - before);
}

/// output and exit records are on a file system of their own, which the output fills.
#[test]
fn output_that_fills_its_disk() {
    if !able() {
        return;
    }
    let _alone = alone();
    let (worker, place) = worker_on("state/jobs", c"size=8m,mode=755");
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        for _ in 0..rounds(2) {
            let mut client = worker.client().await;
            let flood = "head -c 20000000 /dev/zero; sleep 0.2; echo on; exit 5";
            let id = start(&mut client, shell(flood)).await;
            check_marked_loss(&mut client, &id, 20_000_003).await;
            assert_eq!(statfs(&place).expect("statfs").f_bavail, 0);
            does_not_spin(&worker);
            let request = stockade::proto::v1::DeleteJobRequest { job_id: id };
            client.delete_job(request).await.expect("delete");
        }
        rest.again(&worker).await;
    });
    end(worker, &place);
}

/// The outcome of a job whose record finds no space survives both server and launcher, once there is some.
#[test]
fn an_exit_record_that_finds_no_space_is_written_later() {
    if !able() {
        return;
    }
    let _alone = alone();
    let (mut worker, switch) = worker_with("record.write=ENOSPC", Setup::default());
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        for round in 0..rounds(2) {
            let mut client = worker.client().await;
            let id = start(&mut client, shell("sleep 0.3; exit 6")).await;
            let long = start(&mut client, shell("sleep 1.2; exit 7")).await;
            eventually("they run", || worker.control_folders() == 2);
            tokio::time::sleep(Duration::from_millis(100)).await;
            switch.arm(0);
            assert_eq!(wait(&mut client, &id).await.exit_code, Some(6));
            // Without server and launcher the second one ends, too.
            kill(worker.server().expect("a server"), libc::SIGKILL);
            kill(worker.launcher(), libc::SIGKILL);
            tokio::time::sleep(Duration::from_millis(1500)).await;
            assert!(switch.passed(0) > 1);
            if round % 2 == 0 {
                worker.start_again();
                switch.disarm();
            } else {
                switch.disarm();
                worker.start_again();
            }
            let mut client = worker.client().await;
            assert_eq!(wait(&mut client, &id).await.exit_code, Some(6));
            assert_eq!(wait(&mut client, &long).await.exit_code, Some(7));
        }
        rest.again(&worker).await;
    });
    worker.shut_down();
}

/// the disk is broken for some time.
#[test]
fn output_that_cannot_be_written() {
    if !able() {
        return;
    }
    let _alone = alone();
    let errnos = ["EIO", "ENOSPC", "EDQUOT"];
    let rules = errnos.map(|errno| format!("supervisor.output={errno}@3"));
    let (worker, switch) = worker_with(&rules.join(";"), Setup::default());
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let mut client = worker.client().await;
        for round in 0..rounds(1) * errnos.len() {
            let number = round % errnos.len();
            switch.arm(number);
            let script = "for i in 1 2 3 4; do echo $i; sleep 0.05; done; exit 5";
            let id = start(&mut client, shell(script)).await;
            check_marked_loss(&mut client, &id, 8).await;
            assert!(switch.passed(number) >= 3, "{}", errnos[number]);
            switch.disarm();
        }
        does_not_spin(&worker);
        drop(client);
        rest.again(&worker).await;
    });
    worker.shut_down();
}
