//! StartJob → exit seen by the client, over a Unix socket: latency and throughput.
//!
//! Talks to the worker at STOCKADE_ENDPOINT and runs ARGV there (default: `true`).
//! Prints one JSON object a line, so that two builds can be compared.

use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use stockade::proto::v1::worker_client::WorkerClient;
use stockade::proto::v1::{StartJobRequest, WaitJobRequest};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn connect() -> Result<WorkerClient<Channel>, Failure> {
    let endpoint = std::env::var("STOCKADE_ENDPOINT").unwrap_or_else(|_| "http://127.0.0.1:50000".to_owned());
    let channel = match endpoint.strip_prefix("unix:").map(str::to_owned) {
        Some(path) => {
            let dial = move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            };
            Endpoint::from_static("http://worker")
                .connect_with_connector(service_fn(dial))
                .await?
        }
        None => Endpoint::from_shared(endpoint)?.connect().await?,
    };
    Ok(WorkerClient::new(channel))
}

async fn one(client: &mut WorkerClient<Channel>, argv: &[String]) -> Result<Duration, Failure> {
    let started = Instant::now();
    let request = StartJobRequest {
        argv: argv.to_vec(),
        ..StartJobRequest::default()
    };
    let job = client
        .start_job(request)
        .await?
        .into_inner()
        .job
        .ok_or("no job")?;
    let request = WaitJobRequest {
        job_id: job.id,
        timeout_ms: 0,
    };
    let job = client.wait_job(request).await?.into_inner().job.ok_or("no job")?;
    if job.exit_code != Some(0) {
        return Err(format!("the job did not exit with 0: {}", job.error_text).into());
    }
    Ok(started.elapsed())
}

fn percentiles(mut samples: Vec<Duration>) -> String {
    samples.sort_unstable();
    let at = |share: f64| {
        // Truncation is meant: the index of a sample.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let index = ((samples.len() - 1) as f64 * share) as usize;
        samples[index].as_micros()
    };
    format!(
        "\"p50_us\":{},\"p90_us\":{},\"p99_us\":{},\"max_us\":{}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    )
}

async fn latency(name: &str, argv: &[String], count: usize, pause: Duration) -> Result<(), Failure> {
    let mut client = connect().await?;
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        tokio::time::sleep(pause).await;
        samples.push(one(&mut client, argv).await?);
    }
    println!(
        "{{\"name\":\"{name}\",\"jobs\":{count},{}}}",
        percentiles(samples)
    );
    Ok(())
}

async fn throughput(argv: &[String], clients: usize, length: Duration) -> Result<(), Failure> {
    let end = Instant::now() + length;
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let argv = argv.to_vec();
        tasks.push(tokio::spawn(async move {
            let mut client = connect().await?;
            let mut samples = Vec::new();
            while Instant::now() < end {
                samples.push(one(&mut client, &argv).await?);
            }
            Ok::<_, Failure>(samples)
        }));
    }
    let mut samples = Vec::new();
    for task in tasks {
        samples.extend(task.await??);
    }
    let jobs = samples.len();
    let rate = jobs as u128 * 1_000_000 / length.as_micros();
    println!(
        "{{\"name\":\"throughput\",\"clients\":{clients},\"jobs_per_s\":{rate},{}}}",
        percentiles(samples)
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    // `cargo bench` adds --bench.
    let argv: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let argv = if argv.is_empty() {
        vec!["true".to_owned()]
    } else {
        argv
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        latency("back to back", &argv, 500, Duration::ZERO).await?;
        latency("quiet, 100 ms idle", &argv, 40, Duration::from_millis(100)).await?;
        for clients in [1, 2, 4, 8] {
            throughput(&argv, clients, Duration::from_secs(3)).await?;
        }
        Ok(())
    })
}
