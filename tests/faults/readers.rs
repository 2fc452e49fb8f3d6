//! Readers that stand still, readers that vanish, and jobs that write as fast as they can.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use stockade::proto::v1::{Cause, Limits, SignalJobRequest, StartJobRequest, StreamOutputResponse};
use tonic::Streaming;

use super::disks::read_stdout;
use super::exhaustion::open_files;
use super::rest::{Rest, answers};
use super::worker::traces::{SUPERVISOR, children, named, pump_of};
use super::worker::{Worker, able, eventually};
use super::{Client, Random, alone, in_runtime, output_of, python, query, rounds, shell, start, wait};

/// What the paced job takes where nothing holds it up.
const PACE_MS: u64 = 200;

/// KiB that a process has had in memory at most.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.expect("VmHWM").parse().expect("a number")
}

/// From a signal on, 40 MiB at 200 MiB/s, as far as nobody holds it up; then it says how many milliseconds it took, and
/// ends at another signal.
fn paced() -> StartJobRequest {
    python(
        "import os, signal, sys, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\nos.write(1, b'x')\nsignal.sigwait([signal.SIGUSR1])\nblock = b'x' * (1 << 20)\nbegan = time.monotonic()\nfor number in range(40):\n\
         \x20   left = block\n    while left: left = left[os.write(1, left):]\n\
         \x20   time.sleep(max(0, began + (number + 1) * 0.005 - time.monotonic()))\n\
         sys.stderr.write('%d\\n' % ((time.monotonic() - began) * 1000))\nsys.stderr.flush()\n\
         signal.sigwait([signal.SIGUSR1])",
    )
}

/// The paced job's process, and the one that moves its output.
fn processes(worker: &Worker, id: &str) -> [u32; 2] {
    let is_job =
        |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"python3"));
    let supervisors = named(worker.launcher(), SUPERVISOR).into_iter();
    let job = supervisors.flat_map(children).find(is_job);
    let pump = pump_of(worker.launcher(), &stdout_of(worker, id));
    [job.expect("its process"), pump.expect("its pump")]
}

fn stdout_of(worker: &Worker, id: &str) -> PathBuf {
    worker.dir.path().join("state/jobs").join(id).join("stdout")
}

/// Milliseconds for which these could have run and had no processor; but for a thread that nobody waits for.
fn without_processor(pids: [u32; 2]) -> u64 {
    let is_waited_for = |task: &PathBuf| {
        let name = fs::read_to_string(task.join("comm"));
        name.is_ok_and(|name| name != "stockade-hash\n")
    };
    let of_one = |task: PathBuf| -> u64 {
        let text = fs::read_to_string(task.join("schedstat")).expect("schedstat");
        text.split(' ')
            .nth(1)
            .expect("a second number")
            .parse()
            .expect("ns")
    };
    let tasks = pids.into_iter().flat_map(|pid| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))
            .expect("tasks")
            .flatten();
        tasks.map(|task| task.path())
    });
    tasks.filter(is_waited_for).map(of_one).sum::<u64>() / 1_000_000
}

/// Starts it, and waits until a signal lets it go.
async fn start_paced(worker: &Worker, client: &mut Client) -> String {
    let id = start(client, paced()).await;
    let output = stdout_of(worker, &id);
    eventually("it waits", || {
        output.metadata().is_ok_and(|found| found.len() == 1)
    });
    id
}

/// Lets it go; milliseconds that it says, but for those in which other work on this machine had the processors.
async fn took(worker: &Worker, client: &mut Client, id: &str) -> u64 {
    let request = SignalJobRequest {
        job_id: id.to_owned(),
        signal: "USR1".to_owned(),
    };
    let processes = processes(worker, id);
    let before = without_processor(processes);
    client.signal_job(request.clone()).await.expect("signal");
    let said = worker.dir.path().join("state/jobs").join(id).join("stderr");
    let mut took = String::new();
    eventually("it has written all", || {
        took = fs::read_to_string(&said).unwrap_or_default();
        took.ends_with('\n')
    });
    let others = without_processor(processes) - before;
    client.signal_job(request).await.expect("signal");
    let job = wait(client, id).await;
    assert_eq!((job.cause(), job.exit_code), (Cause::Exited, Some(0)), "{job:?}");
    let took: u64 = took.trim_end().parse().expect("a number");
    took.saturating_sub(others).max(PACE_MS)
}

async fn open(client: &mut Client, id: &str) -> Streaming<StreamOutputResponse> {
    client
        .stream_output(output_of(id))
        .await
        .expect("stream")
        .into_inner()
}

#[test]
fn slow_and_dead_readers_hold_up_nobody() {
    if !able() {
        return;
    }
    let _alone = alone();
    let mut random = Random::new();
    let worker = Worker::start();
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let mut client = worker.client().await;
        answers(&mut client).await;
        let server = worker.server().expect("a server");
        let files = open_files(server);
        // So that no more of them are there at one time than are opened together.
        let gone = || eventually("they have gone", || open_files(server) <= files);
        for _ in 0..rounds(1) {
            let (mut without, mut with) = (u64::MAX, u64::MAX);
            // The best of some: other work on this machine is nobody's fault here.
            for _ in 0..5 {
                let id = start_paced(&worker, &mut client).await;
                without = without.min(took(&worker, &mut client, &id).await);
                let id = start_paced(&worker, &mut client).await;
                let mut stalled = Vec::new();
                let mut resets = Vec::new();
                for _ in 0..100 {
                    // Each on a connection of its own.
                    stalled.push(open(&mut worker.client().await, &id).await);
                    let mut stream = open(&mut worker.client().await, &id).await;
                    let pause = random.micros(200_000);
                    resets.push(async move {
                        stream.message().await.expect("a first byte");
                        let _ = tokio::time::timeout(pause, stream.message()).await;
                    });
                }
                let resets = tokio::spawn(async move { futures_util::future::join_all(resets).await });
                with = with.min(took(&worker, &mut client, &id).await);
                resets.await.expect("no panic");
                drop(stalled);
                gone();
            }
            // One that reads, beside many that do not, loses nothing.
            let id = start_paced(&worker, &mut client).await;
            let mut stalled = Vec::new();
            for _ in 0..100 {
                stalled.push(open(&mut worker.client().await, &id).await);
            }
            let (mut reader, id_of_read) = (worker.client().await, id.clone());
            let whole = tokio::spawn(async move { read_stdout(&mut reader, &id_of_read).await });
            took(&worker, &mut client, &id).await;
            let (bytes, gaps, _) = whole.await.expect("no panic");
            assert_eq!((bytes.len(), gaps.len()), ((40 << 20) + 1, 0));
            drop(stalled);
            gone();
            let peak = peak_kib(server);
            println!("{without} ms without readers, {with} ms with them; the server had {peak} KiB");
            assert!(
                with * 10 <= without * 11,
                "{without} ms without readers, {with} ms with them"
            );
            assert!(peak < 200 << 10, "{peak} KiB");
        }
        drop(client);
        rest.again(&worker).await;
    });
    worker.shut_down();
}

#[test]
fn floods_are_cut_and_told() {
    if !able() {
        return;
    }
    let _alone = alone();
    const CAP: u64 = 1 << 20;
    // Where there is time, and the machine for these tests alone: only there does a time say something.
    const LONG_S: u64 = 30;
    let worker = Worker::start();
    let seconds = if rounds(1) > 1 { LONG_S } else { 4 };
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let mut client = worker.client().await;
        let mut ids = Vec::new();
        for _ in 0..50 {
            let flood = StartJobRequest {
                limits: Some(Limits {
                    output_bytes: CAP,
                    wall_time_ms: seconds * 1000,
                    ..Limits::default()
                }),
                ..shell("yes >&2 & exec yes")
            };
            ids.push(start(&mut client, flood).await);
        }
        let mut latencies = Vec::new();
        let end = Instant::now() + Duration::from_secs(seconds - 1);
        while Instant::now() < end {
            let began = Instant::now();
            query(&mut client, &ids[latencies.len() % ids.len()]).await;
            latencies.push(began.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        for id in &ids {
            let job = wait(&mut client, id).await;
            assert_eq!(job.cause(), Cause::WallTime, "{job:?}");
            let folder = worker.dir.path().join("state/jobs").join(id);
            let size = |name: &str| folder.join(name).metadata().expect(name).len();
            assert_eq!((size("stdout"), size("stderr")), (CAP, CAP));
            let stdout = job.output.expect("output").stdout.expect("stdout");
            assert_eq!(stdout.total_bytes - stdout.dropped_bytes, CAP);
            assert!(stdout.dropped_bytes > 0);
        }
        let (bytes, gaps, _) = read_stdout(&mut client, &ids[0]).await;
        assert_eq!(
            (bytes.len() as u64, gaps.len(), gaps[0].0),
            (CAP, 1, CAP),
            "the cut is marked"
        );
        latencies.sort_unstable();
        let p99 = latencies[latencies.len() * 99 / 100];
        println!(
            "{} queries, half within {:?}, 99 % within {p99:?}",
            latencies.len(),
            latencies[latencies.len() / 2]
        );
        if seconds == LONG_S {
            assert!(p99 < Duration::from_millis(100), "99 % of queries within {p99:?}");
        }
        drop(client);
        rest.again(&worker).await;
    });
    worker.shut_down();
}
