//! logs, and start --follow.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use stockade::proto::v1::stream_output_response::Part;
use stockade::proto::v1::{Chunk, End, Gap, Stream};

use super::fake::{Act, FAILED, Fake, RUNNING, finished};
use super::harness::{Outcome, Served, command, stockade};

fn chunk(stream: Stream, offset: u64, data: &[u8]) -> Act<Part> {
    Act::Send(Part::Chunk(Chunk {
        stream: stream.into(),
        offset,
        data: data.to_vec().into(),
    }))
}

fn gap(stream: Stream, from: u64, to: u64) -> Act<Part> {
    Act::Send(Part::Gap(Gap {
        stream: stream.into(),
        from,
        to,
    }))
}

fn end(code: i32) -> Act<Part> {
    Act::Send(Part::End(End {
        job: Some(finished(RUNNING, code)),
        output: None,
    }))
}

#[test]
fn bytes_go_where_they_came_from() {
    let fake = Fake::with_jobs();
    let every_byte: Vec<u8> = (0..=255).collect();
    fake.script().output.push_back(vec![
        chunk(Stream::Stdout, 0, &every_byte),
        chunk(Stream::Stderr, 0, b"no newline \xff"),
        chunk(Stream::Stdout, 256, b"\n"),
        end(0),
    ]);
    let served = Served::on_tcp(&fake);
    let output = command(&served.endpoint, &["logs", FAILED])
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, [&every_byte[..], b"\n"].concat());
    assert_eq!(output.stderr, b"no newline \xff");
    let asked = fake.script().streamed.pop().expect("one request");
    assert_eq!(
        (asked.stdout_offset, asked.stderr_offset, asked.follow),
        (0, 0, false)
    );
    assert!(asked.streams.is_empty());
}

#[test]
fn stream_and_offset_are_asked_for() {
    let fake = Fake::with_jobs();
    fake.script()
        .output
        .push_back(vec![chunk(Stream::Stderr, 2048, b"x"), end(0)]);
    let served = Served::on_tcp(&fake);
    let outcome = served
        .stockade(&["logs", "--stream", "stderr", "--offset", "2K", FAILED])
        .succeeded();
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("", "x"));
    let asked = fake.script().streamed.pop().expect("one request");
    assert_eq!(
        (asked.stderr_offset, &asked.streams[..]),
        (2048, &[Stream::Stderr as i32][..])
    );
}

#[test]
fn of_both_streams_one_that_ends_before_the_offset_is_empty() {
    let fake = Fake::with_jobs();
    let served = Served::on_tcp(&fake);
    let show = |lengths, chunks: Vec<Act<Part>>, words: &[&str]| {
        fake.script().lengths = Some(lengths);
        fake.script().output = [chunks].into();
        served.stockade(&[&["logs", "--offset", "500"][..], words].concat())
    };
    let out = || vec![chunk(Stream::Stdout, 500, b"out"), end(0)];
    let err = || vec![chunk(Stream::Stderr, 500, b"err"), end(0)];
    for words in [&[FAILED][..], &["-f", FAILED]] {
        let outcome = show((1000, 0), out(), words).succeeded();
        assert_eq!((&*outcome.stdout, &*outcome.stderr), ("out", ""));
        let outcome = show((0, 1000), err(), words).succeeded();
        assert_eq!((&*outcome.stdout, &*outcome.stderr), ("", "err"));
        let outcome = show((0, 499), Vec::new(), words).succeeded();
        assert_eq!((&*outcome.stdout, &*outcome.stderr), ("", ""));
    }
    show((0, 1000), err(), &["--stream", "stdout", FAILED])
        .failed(1, "beyond the 0 bytes that the job wrote");
}

#[test]
fn a_gap_is_told_on_stderr() {
    let fake = Fake::with_jobs();
    fake.script().output.push_back(vec![
        chunk(Stream::Stdout, 0, b"ab"),
        gap(Stream::Stdout, 2, 90),
        chunk(Stream::Stdout, 90, b"yz"),
        end(0),
    ]);
    let outcome = Served::on_tcp(&fake).stockade(&["logs", FAILED]).succeeded();
    assert_eq!(outcome.stdout, "abyz");
    assert_eq!(outcome.stderr, "stockade: stdout: bytes 2 to 90 were not kept\n");
}

/// Waits for a condition that another process brings about.
fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn follow_goes_on_at_its_offset_when_the_connection_breaks() {
    let fake = Fake::with_jobs();
    fake.script().output.extend([
        vec![
            chunk(Stream::Stdout, 0, b"one "),
            chunk(Stream::Stderr, 0, b"err"),
            Act::Hang,
        ],
        // A worker may send more than was asked for: nothing is shown twice.
        vec![chunk(Stream::Stdout, 2, b"e two "), Act::Hang],
        vec![chunk(Stream::Stdout, 8, b"three\n"), end(0)],
    ]);
    let served = Served::on_tcp(&fake);
    let proxy = served.proxy();
    let mut client = command(&proxy.endpoint, &["logs", "-f", RUNNING])
        .spawn()
        .expect("the binary runs");
    let mut stdout = client.stdout.take().expect("a pipe");
    let mut shown = [0; 4];
    stdout.read_exact(&mut shown).expect("the first chunk");
    assert_eq!(&shown, b"one ");
    proxy.cut();
    let mut shown = [0; 4];
    stdout.read_exact(&mut shown).expect("the second chunk");
    assert_eq!(&shown, b"two ");
    proxy.cut();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("the third chunk");
    assert_eq!(rest, "three\n");
    let outcome = Outcome::from(client.wait_with_output().expect("it ends")).succeeded();
    assert!(outcome.stderr.starts_with("err"), "{outcome:?}");
    assert_eq!(
        outcome.stderr.matches("connection is lost").count(),
        2,
        "{outcome:?}"
    );
    let asked: Vec<_> = fake
        .script()
        .streamed
        .iter()
        .map(|asked| (asked.stdout_offset, asked.stderr_offset, asked.follow))
        .collect();
    assert_eq!(asked, [(0, 0, true), (4, 3, true), (8, 3, true)]);
}

#[test]
fn a_stream_that_ends_before_the_job_is_taken_up_again() {
    let fake = Fake::with_jobs();
    fake.script().output.extend([
        vec![chunk(Stream::Stdout, 0, b"a")],
        vec![chunk(Stream::Stdout, 1, b"b"), end(0)],
    ]);
    let outcome = Served::on_tcp(&fake)
        .stockade(&["logs", "-f", RUNNING])
        .succeeded();
    assert_eq!(outcome.stdout, "ab");
}

#[test]
fn patience_with_a_lost_worker_ends() {
    let fake = Fake::with_jobs();
    fake.script()
        .output
        .push_back(vec![chunk(Stream::Stdout, 0, b"a"), Act::Hang]);
    let served = Served::on_tcp(&fake);
    let words = ["logs", "-f", "--reconnect", "500ms", RUNNING];
    let client = command(&served.endpoint, &words)
        .spawn()
        .expect("the binary runs");
    until("the stream is open", || !fake.script().streamed.is_empty());
    drop(served);
    let outcome = Outcome::from(client.wait_with_output().expect("it ends"));
    outcome.failed(1, "stockade: the connection to the worker is lost: ");
}

#[test]
fn a_job_that_is_gone_is_not_waited_for() {
    let fake = Fake::with_jobs();
    Served::on_tcp(&fake)
        .stockade(&["logs", "-f", "missing"])
        .failed(1, "job not found (NOT_FOUND)");
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let fake = Fake::with_jobs();
    let parts = (0..4096).map(|index| chunk(Stream::Stdout, index * 4096, &[b'x'; 4096]));
    fake.script().output.push_back(parts.chain([end(0)]).collect());
    let served = Served::on_tcp(&fake);
    let mut client = command(&served.endpoint, &["logs", FAILED])
        .spawn()
        .expect("the binary runs");
    let mut first = [0; 10];
    client
        .stdout
        .take()
        .expect("a pipe")
        .read_exact(&mut first)
        .expect("output");
    let outcome = Outcome::from(client.wait_with_output().expect("it ends")).succeeded();
    assert_eq!(outcome.stderr, "");
}

#[test]
fn a_closed_pipe_takes_no_status_from_a_start_that_waits() {
    let fake = Fake::with_jobs();
    let parts = (0..4096).map(|index| chunk(Stream::Stdout, index * 4096, &[b'x'; 4096]));
    let last = [chunk(Stream::Stderr, 0, b"the rest"), end(9)];
    fake.script().output.push_back(parts.chain(last).collect());
    fake.script().jobs.insert(RUNNING.into(), finished(RUNNING, 9));
    let served = Served::on_tcp(&fake);
    for (option, stderr) in [("--follow", "the rest"), ("--wait", "")] {
        let mut client = command(&served.endpoint, &["start", option, "true"])
            .spawn()
            .expect("the binary runs");
        drop(client.stdout.take());
        let outcome = Outcome::from(client.wait_with_output().expect("it ends"));
        assert!(outcome.stderr.ends_with(stderr), "{outcome:?}");
        outcome.failed(9, "");
    }
}

#[test]
fn start_can_follow() {
    let fake = Fake::with_jobs();
    fake.script()
        .output
        .push_back(vec![chunk(Stream::Stdout, 0, b"hello\n"), end(9)]);
    let served = Served::on_tcp(&fake);
    let outcome = stockade(&served.endpoint, &["start", "--follow", "true"]).failed(9, RUNNING);
    assert_eq!(outcome.stdout, "hello\n");
}

#[test]
fn nobody_reads_what_is_written_to_a_full_disk() {
    let fake = Fake::with_jobs();
    fake.script()
        .output
        .push_back(vec![chunk(Stream::Stdout, 0, b"hello\n"), end(0)]);
    let served = Served::on_tcp(&fake);
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let output = command(&served.endpoint, &["logs", FAILED])
        .stdout(Stdio::from(full))
        .output()
        .expect("the binary runs");
    Outcome::from(output).failed(1, "No space left on device");
}
