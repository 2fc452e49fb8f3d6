//! At level debug the log names the steps of each launch in the server; at the usual level it does not.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use stockade::proto::v1;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

mod support;

use support::{TestWorker, command, eventually};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        let bytes = self.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    fn lines_of(&self, job: &str) -> Vec<String> {
        let text = self.text();
        let of_job = text.lines().filter(|line| line.contains(job));
        of_job.map(str::to_owned).collect()
    }
}

fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("{name}=")).expect(line);
    rest.split_whitespace().next().expect(line).trim_matches('"')
}

async fn launch(worker: &TestWorker) -> String {
    let mut client = worker.client().await;
    let mut request = command(&["exit", "0"]);
    request.env.insert("TOKEN".into(), "hush".into());
    request.script = b"#!/bin/sh\n# hush\n".to_vec();
    request.stdin = b"hush".to_vec();
    request.files.push(v1::File {
        path: "input".into(),
        content: b"hush".to_vec(),
        mode: 0,
    });
    let answer = client.start_job(request).await.expect("start").into_inner();
    let job_id = answer.job.expect("job").id;
    let request = v1::WaitJobRequest {
        job_id: job_id.clone(),
        timeout_ms: 0,
    };
    client.wait_job(request).await.expect("wait");
    job_id
}

#[tokio::test]
async fn every_step_of_a_launch_has_its_time() {
    let log = Log::default();
    let writer = log.clone();
    let (level, handle) = reload::Layer::new(LevelFilter::INFO);
    tracing_subscriber::registry()
        .with(level)
        .with(fmt::layer().with_ansi(false).with_writer(move || writer.clone()))
        .init();
    let worker = TestWorker::start();
    let silent = launch(&worker).await;
    handle.reload(LevelFilter::DEBUG).expect("reload");
    let told = launch(&worker).await;
    let steps = || -> Vec<String> {
        let lines = log.lines_of(&told).into_iter();
        lines.filter(|line| line.contains("step=")).collect()
    };
    eventually("the last step", || steps().len() >= 7).await;
    let names: Vec<String> = steps()
        .iter()
        .map(|line| field(line, "step").to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "policy",
            "admission",
            "store",
            "launcher",
            "started",
            "finished",
            "recorded"
        ]
    );
    let mut sum = 0;
    for line in steps() {
        assert!(line.contains("DEBUG"), "{line}");
        sum += field(&line, "us").parse::<u64>().expect("µs");
        let total: u64 = field(&line, "total_us").parse().expect("µs");
        // Each step is rounded down.
        assert!(sum <= total && total < sum + 8, "{sum}: {line}");
    }
    assert!(log.lines_of(&silent).is_empty(), "{:?}", log.lines_of(&silent));
    assert_that_nothing_of_a_request_is_logged(&worker, &log, &handle).await;
}

/// At no level, by no crate.
async fn assert_that_nothing_of_a_request_is_logged(
    worker: &TestWorker,
    log: &Log,
    level: &reload::Handle<LevelFilter, Registry>,
) {
    level.reload(LevelFilter::TRACE).expect("reload");
    let told = launch(worker).await;
    eventually("its lines", || !log.lines_of(&told).is_empty()).await;
    let text = log.text();
    assert!(text.contains("TRACE"), "{text}");
    let secret: Vec<_> = text.lines().filter(|line| line.contains("hush")).collect();
    assert!(secret.is_empty(), "{secret:#?}");
}
