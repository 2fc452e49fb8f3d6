use std::time::Duration;

use sha2::{Digest, Sha256};
use stockade::job::{Cause, JobId};
use stockade::proto::v1;
use stockade::proto::v1::stream_output_response::Part;
use tonic::{Code, Status, Streaming};

use crate::support::{Client, MEMORY, TestWorker, eventually, offsets, start};

const EXITED: Cause = Cause::Exited { code: 0 };

#[derive(Default, Debug)]
struct Read {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    gaps: Vec<(v1::Stream, u64, u64)>,
    end: Option<v1::End>,
}

async fn open(client: &mut Client, request: v1::StreamOutputRequest) -> Streaming<v1::StreamOutputResponse> {
    client.stream_output(request).await.expect("stream").into_inner()
}

/// Reads to the end and checks that offsets have no holes.
async fn read_all(mut stream: Streaming<v1::StreamOutputResponse>, from: (u64, u64)) -> Result<Read, Status> {
    let mut read = Read::default();
    while let Some(answer) = stream.message().await? {
        assert!(read.end.is_none(), "nothing follows the end");
        match answer.part.expect("part") {
            Part::Chunk(chunk) => {
                let (bytes, start) = match chunk.stream() {
                    v1::Stream::Stdout => (&mut read.stdout, from.0),
                    v1::Stream::Stderr => (&mut read.stderr, from.1),
                    v1::Stream::Unspecified => panic!("no stream"),
                };
                assert_eq!(chunk.offset, start + bytes.len() as u64);
                assert!(!chunk.data.is_empty() && chunk.data.len() <= 64 << 10);
                bytes.extend(chunk.data);
            }
            Part::Gap(gap) => read.gaps.push((gap.stream(), gap.from, gap.to)),
            Part::End(end) => read.end = Some(end),
        }
    }
    Ok(read)
}

fn hexadecimal(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A running job with its folder in place.
async fn running(worker: &TestWorker, client: &mut Client) -> JobId {
    let id = start(client, &["sleep"]).await;
    eventually("launch", || worker.launcher.knows(id)).await;
    let state = || v1::QueryJobRequest {
        job_id: id.to_string(),
    };
    while client
        .query_job(state())
        .await
        .expect("query")
        .into_inner()
        .job
        .expect("job")
        .state()
        != v1::State::Running
    {}
    id
}

async fn finished(worker: &TestWorker, client: &mut Client, stdout: &[u8], dropped: u64) -> JobId {
    let id = running(worker, client).await;
    worker.launcher.write(id, "stdout", stdout);
    worker.launcher.finish_dropping(id, EXITED, dropped);
    let wait = v1::WaitJobRequest {
        job_id: id.to_string(),
        timeout_ms: 0,
    };
    client.wait_job(wait).await.expect("wait");
    id
}

#[tokio::test]
async fn both_streams_come_byte_for_byte_with_totals_and_digests() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = running(&worker, &mut client).await;
    let stdout: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    worker.launcher.write(id, "stdout", &stdout);
    worker.launcher.write(id, "stderr", b"\x00\xff no newline");
    worker.launcher.finish(id, EXITED);
    let stream = open(&mut client, offsets(id, 0, 0, true)).await;
    let read = read_all(stream, (0, 0)).await.expect("output");
    assert_eq!(read.stdout, stdout);
    assert_eq!(read.stderr, b"\x00\xff no newline");
    assert!(read.gaps.is_empty());
    let end = read.end.expect("end");
    assert_eq!(end.job.expect("job").state(), v1::State::Finished);
    let totals = end.output.expect("totals");
    let (out, err) = (totals.stdout.expect("stdout"), totals.stderr.expect("stderr"));
    assert_eq!((out.total_bytes, out.dropped_bytes), (1_000_000, 0));
    assert_eq!(out.sha256, hexadecimal(&stdout));
    assert_eq!(err.sha256, hexadecimal(b"\x00\xff no newline"));
}

#[tokio::test]
async fn twenty_followers_see_everything_as_it_is_written() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = running(&worker, &mut client).await;
    let readers: Vec<_> = (0..20_u64)
        .map(|from| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let stream = open(&mut client, offsets(id, from, 0, true)).await;
                read_all(stream, (from, 0)).await.expect("output")
            })
        })
        .collect();
    let mut written = Vec::new();
    for line in 0..500 {
        let line = format!("line {line}\n");
        worker.launcher.write(id, "stdout", line.as_bytes());
        written.extend(line.into_bytes());
        if written.len() % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    worker.launcher.finish(id, EXITED);
    for (from, reader) in readers.into_iter().enumerate() {
        let read = reader.await.expect("reader");
        assert_eq!(read.stdout, written[from..], "reader from {from}");
        assert!(read.end.is_some());
    }
}

#[tokio::test]
async fn a_follower_is_woken_by_a_write() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = running(&worker, &mut client).await;
    let mut stream = open(&mut client, offsets(id, 0, 0, true)).await;
    for round in 0..20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let written = std::time::Instant::now();
        worker.launcher.write(id, "stderr", b"x");
        let Some(Part::Chunk(chunk)) = stream.message().await.expect("answer").expect("answer").part else {
            panic!("no chunk");
        };
        assert_eq!((chunk.stream(), chunk.offset), (v1::Stream::Stderr, round));
        assert!(written.elapsed() < Duration::from_millis(500));
    }
}

#[tokio::test]
async fn a_follower_of_a_waiting_job_waits_with_it() {
    let worker = TestWorker::start_with(|config| config.worker.max_running = 1);
    let mut client = worker.client().await;
    let first = start(&mut client, &["sleep"]).await;
    let second = start(&mut client, &["echo", "at last"]).await;
    let mut follower = client.clone();
    let reading = tokio::spawn(async move {
        let stream = open(&mut follower, offsets(second, 0, 0, true)).await;
        read_all(stream, (0, 0)).await.expect("output")
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    worker.launcher.finish(first, EXITED);
    assert_eq!(reading.await.expect("task").stdout, b"at last");
}

#[tokio::test]
async fn a_follower_of_a_job_that_never_started_sees_its_end() {
    let worker = TestWorker::start_with(|config| config.worker.max_running = 1);
    let mut client = worker.client().await;
    start(&mut client, &["sleep"]).await;
    let second = start(&mut client, &["true"]).await;
    let stream = open(&mut client, offsets(second, 0, 0, true)).await;
    let stop = v1::StopJobRequest {
        job_id: second.to_string(),
        ..Default::default()
    };
    client.stop_job(stop).await.expect("stop");
    let read = read_all(stream, (0, 0)).await.expect("output");
    let totals = read
        .end
        .expect("end")
        .output
        .expect("totals")
        .stdout
        .expect("stdout");
    assert_eq!((totals.total_bytes, totals.sha256), (0, hexadecimal(b"")));
}

#[tokio::test]
async fn dropped_bytes_are_a_gap() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = finished(&worker, &mut client, b"kept", 100).await;
    for (from, text, gap) in [(0, "kept", 4), (2, "pt", 4), (4, "", 4), (50, "", 50)] {
        let stream = open(&mut client, offsets(id, from, 0, false)).await;
        let read = read_all(stream, (from, 0)).await.expect("output");
        assert_eq!(read.stdout, text.as_bytes(), "from {from}");
        assert_eq!(read.gaps, [(v1::Stream::Stdout, gap, 104)]);
        let totals = read
            .end
            .expect("end")
            .output
            .expect("totals")
            .stdout
            .expect("stdout");
        assert_eq!((totals.total_bytes, totals.dropped_bytes), (104, 100));
        assert_eq!(totals.sha256, hexadecimal(b"kept"));
    }
    let stream = open(&mut client, offsets(id, 104, 0, false)).await;
    assert!(read_all(stream, (104, 0)).await.expect("output").gaps.is_empty());
}

#[tokio::test]
async fn an_offset_beyond_the_end_is_refused() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = finished(&worker, &mut client, b"kept", 0).await;
    for offset in [5, 1 << 63, u64::MAX] {
        let refused = client
            .stream_output(offsets(id, offset, 0, true))
            .await
            .expect_err("beyond");
        assert_eq!(refused.code(), Code::InvalidArgument, "{offset}");
        assert!(
            refused.message().contains("stdout_offset"),
            "{}",
            refused.message()
        );
    }
    // Of a running job it is known only at the end.
    let id = running(&worker, &mut client).await;
    let stream = open(&mut client, offsets(id, 0, 10, true)).await;
    worker.launcher.finish(id, EXITED);
    let refused = read_all(stream, (0, 10)).await.expect_err("beyond");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn without_follow_a_running_job_gives_what_there_is() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = running(&worker, &mut client).await;
    worker.launcher.write(id, "stdout", b"so far");
    let stream = open(&mut client, offsets(id, 0, 0, false)).await;
    let read = read_all(stream, (0, 0)).await.expect("output");
    assert_eq!(read.stdout, b"so far");
    let end = read.end.expect("end");
    assert_eq!(end.job.expect("job").state(), v1::State::Running);
    assert_eq!(end.output.expect("totals").stdout.expect("stdout").total_bytes, 6);
}

#[tokio::test]
async fn one_stream_alone() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = running(&worker, &mut client).await;
    worker.launcher.write(id, "stdout", b"out");
    worker.launcher.write(id, "stderr", b"err");
    worker.launcher.finish(id, EXITED);
    let request = v1::StreamOutputRequest {
        streams: vec![v1::Stream::Stderr.into()],
        ..offsets(id, 0, 1, true)
    };
    let read = read_all(open(&mut client, request).await, (0, 1))
        .await
        .expect("output");
    assert_eq!(
        (read.stdout.as_slice(), read.stderr.as_slice()),
        (&b""[..], &b"rr"[..])
    );
    let unknown = v1::StreamOutputRequest {
        streams: vec![7],
        ..offsets(id, 0, 0, true)
    };
    let refused = client.stream_output(unknown).await.expect_err("unknown stream");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_reader_that_stalls_costs_only_itself() {
    let _memory = MEMORY.lock().await;
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = running(&worker, &mut client).await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        // Connections of their own: on a shared one they would share its window.
        let mut client = worker.client().await;
        stalled.push(open(&mut client, offsets(id, 0, 0, true)).await);
    }
    let reading = tokio::spawn({
        let stream = open(&mut client, offsets(id, 0, 0, true)).await;
        async move { read_all(stream, (0, 0)).await.expect("output").stdout.len() }
    });
    let before = resident_bytes();
    let block = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        worker.launcher.write(id, "stdout", &block);
    }
    worker.launcher.finish(id, EXITED);
    assert_eq!(reading.await.expect("reader"), 64 << 20);
    // The one reader holds its 64 MiB here, in this process.
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < (64 + 64) << 20, "grew by {grown} bytes");
    drop(stalled);
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = text.split(' ').nth(1).expect("resident").parse().expect("number");
    pages * 4096
}

#[tokio::test]
async fn readers_that_vanish_leave_nothing_behind() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = running(&worker, &mut client).await;
    worker.launcher.write(id, "stdout", b"x");
    for _ in 0..200 {
        let mut stream = open(&mut client, offsets(id, 0, 0, true)).await;
        stream.message().await.expect("answer").expect("chunk");
    }
    eventually("output files are closed", || {
        let open_files = std::fs::read_dir("/proc/self/fd").expect("fd").flatten();
        let folder = worker.config.worker.state_dir.join("jobs").join(id.to_string());
        open_files
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .filter(|target| target.starts_with(&folder))
            .count()
            == 0
    })
    .await;
}

#[tokio::test]
async fn a_reader_goes_on_at_its_offset_after_a_restart() {
    let mut worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = running(&worker, &mut client).await;
    worker.launcher.write(id, "stdout", b"before ");
    let mut stream = open(&mut client, offsets(id, 0, 0, true)).await;
    let first = stream.message().await.expect("part").expect("part").part;
    let Some(Part::Chunk(chunk)) = first else {
        panic!("{first:?}")
    };
    assert_eq!(&chunk.data[..], b"before ");
    worker.kill();
    worker.launcher.write(id, "stdout", b"meanwhile ");
    worker.revive();
    let mut client = worker.client().await;
    let stream = open(&mut client, offsets(id, 7, 0, true)).await;
    worker.launcher.write(id, "stdout", b"after");
    worker.launcher.finish_dropping(id, EXITED, 3);
    let read = read_all(stream, (7, 0)).await.expect("output");
    assert_eq!(read.stdout, b"meanwhile after");
    assert_eq!(read.gaps, [(v1::Stream::Stdout, 22, 25)]);
    let totals = read.end.and_then(|end| end.output).expect("totals");
    let stdout = totals.stdout.expect("stdout");
    assert_eq!((stdout.total_bytes, stdout.dropped_bytes), (25, 3));
    assert_eq!(stdout.sha256, hexadecimal(b"before meanwhile after"));
}
