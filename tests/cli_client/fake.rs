//! A worker that answers from a script: what the client makes of each answer is what the tests look at.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use prost_types::Timestamp;
use stockade::proto::v1::stream_output_response::Part;
use stockade::proto::v1::worker_server::Worker;
use stockade::proto::v1::*;
use tokio_stream::Stream as TokioStream;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

pub(crate) const RUNNING: &str = "11111111-1111-4111-8111-111111111111";
pub(crate) const FAILED: &str = "22222222-2222-4222-8222-222222222222";

/// What one call of StreamOutput or WatchJobs does.
#[derive(Debug, Clone)]
pub(crate) enum Act<T> {
    Send(T),
    /// Neither goes on nor ends: the test breaks the connection.
    Hang,
}

#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) jobs: HashMap<String, Job>,
    /// One entry a call; the last one stays.
    pub(crate) output: VecDeque<Vec<Act<Part>>>,
    /// How long stdout and stderr are; an offset beyond is refused.
    pub(crate) lengths: Option<(u64, u64)>,
    pub(crate) events: VecDeque<Vec<Act<JobEvent>>>,
    /// Answers of WaitJob before the job is over.
    pub(crate) waits_before_the_end: u32,
    pub(crate) started: Vec<StartJobRequest>,
    pub(crate) stopped: Vec<StopJobRequest>,
    pub(crate) streamed: Vec<StreamOutputRequest>,
    pub(crate) watched: Vec<WatchJobsRequest>,
    pub(crate) waited: Vec<WaitJobRequest>,
    pub(crate) listed: Vec<ListJobsRequest>,
    pub(crate) signalled: Vec<SignalJobRequest>,
    pub(crate) deleted: Vec<String>,
    pub(crate) draining: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<Script>>);

type Streamed<T> = Pin<Box<dyn TokioStream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

impl Fake {
    pub(crate) fn with_jobs() -> Self {
        let fake = Self::default();
        fake.script().jobs = HashMap::from([
            (RUNNING.to_owned(), running()),
            (FAILED.to_owned(), finished(FAILED, 3)),
        ]);
        fake
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().expect("no test panics with the lock")
    }

    fn job(&self, id: &str) -> Result<Job, Status> {
        let found = self.script().jobs.get(id).cloned();
        found.ok_or_else(|| Status::not_found("job not found"))
    }
}

pub(crate) fn running() -> Job {
    Job {
        id: RUNNING.into(),
        tenant: "ci".into(),
        policy: "default".into(),
        labels: HashMap::from([("build".into(), "42".into())]),
        state: State::Running.into(),
        created_at: Some(Timestamp {
            seconds: 1_700_000_000,
            nanos: 0,
        }),
        started_at: Some(Timestamp {
            seconds: 1_700_000_001,
            nanos: 0,
        }),
        ..Job::default()
    }
}

pub(crate) fn finished(id: &str, code: i32) -> Job {
    Job {
        id: id.into(),
        state: State::Finished.into(),
        cause: Cause::Exited.into(),
        exit_code: Some(code),
        error_text: if code == 0 {
            String::new()
        } else {
            format!("exit status {code}")
        },
        finished_at: Some(Timestamp {
            seconds: 1_700_000_004,
            nanos: 0,
        }),
        usage: Some(Usage {
            wall_ms: 3000,
            ..Usage::default()
        }),
        isolation: Some(Isolation {
            namespaces: vec!["user".into(), "pid".into()],
            no_new_privs: true,
            ..Isolation::default()
        }),
        ..running()
    }
}

fn perform<T: Send + 'static>(acts: Vec<Act<T>>) -> Streamed<T> {
    let stream = futures_util::stream::unfold(acts.into_iter(), |mut acts| async move {
        match acts.next()? {
            Act::Send(item) => Some((Ok(item), acts)),
            Act::Hang => std::future::pending().await,
        }
    });
    Box::pin(stream)
}

/// As the real worker does.
fn check_offsets(request: &StreamOutputRequest, lengths: (u64, u64)) -> Result<(), Status> {
    let is_asked_for =
        |stream: Stream| request.streams.is_empty() || request.streams.contains(&stream.into());
    for (stream, field, offset, length) in [
        (Stream::Stdout, "stdout_offset", request.stdout_offset, lengths.0),
        (Stream::Stderr, "stderr_offset", request.stderr_offset, lengths.1),
    ] {
        if is_asked_for(stream) && offset > length {
            let reason = format!("beyond the {length} bytes that the job wrote");
            let details = ErrorDetails::with_bad_request_violation(field, &reason);
            let message = format!("{field}: {reason}");
            return Err(Status::with_error_details(
                Code::InvalidArgument,
                message,
                details,
            ));
        }
    }
    Ok(())
}

fn next<T: Clone>(acts: &mut VecDeque<T>) -> Option<T> {
    if acts.len() > 1 {
        acts.pop_front()
    } else {
        acts.front().cloned()
    }
}

#[tonic::async_trait]
impl Worker for Fake {
    type StreamOutputStream = Streamed<StreamOutputResponse>;
    type WatchJobsStream = Streamed<JobEvent>;

    async fn start_job(&self, request: Request<StartJobRequest>) -> Answer<StartJobResponse> {
        let request = request.into_inner();
        if request.policy == "nosuch" {
            let details = ErrorDetails::with_bad_request_violation("policy", "there is no such policy");
            let message = "policy: there is no such policy";
            return Err(Status::with_error_details(
                Code::InvalidArgument,
                message,
                details,
            ));
        }
        self.script().started.push(request);
        Ok(Response::new(StartJobResponse { job: Some(running()) }))
    }

    async fn stop_job(&self, request: Request<StopJobRequest>) -> Answer<StopJobResponse> {
        let request = request.into_inner();
        let mut job = self.job(&request.job_id)?;
        job.state = State::Stopping.into();
        self.script().stopped.push(request);
        Ok(Response::new(StopJobResponse { job: Some(job) }))
    }

    async fn query_job(&self, request: Request<QueryJobRequest>) -> Answer<QueryJobResponse> {
        let job = self.job(&request.into_inner().job_id)?;
        Ok(Response::new(QueryJobResponse { job: Some(job) }))
    }

    async fn wait_job(&self, request: Request<WaitJobRequest>) -> Answer<WaitJobResponse> {
        let request = request.into_inner();
        let mut job = self.job(&request.job_id)?;
        let pause = std::time::Duration::from_millis(request.timeout_ms.min(20));
        {
            let mut script = self.script();
            script.waited.push(request.clone());
            if job.state != State::Finished as i32 && script.waits_before_the_end > 0 {
                script.waits_before_the_end -= 1;
                if script.waits_before_the_end == 0 {
                    job = finished(&request.job_id, 0);
                }
            }
        }
        tokio::time::sleep(pause).await;
        Ok(Response::new(WaitJobResponse { job: Some(job) }))
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Answer<ListJobsResponse> {
        let request = request.into_inner();
        let all = self.script().jobs.len();
        let first: usize = request.page_token.parse().unwrap_or(0);
        let size = usize::try_from(request.page_size).unwrap_or(usize::MAX).min(2);
        let mut ids: Vec<_> = self.script().jobs.keys().cloned().collect();
        ids.sort();
        let page = ids.iter().skip(first).take(size);
        let jobs = page.map(|id| self.job(id)).collect::<Result<_, _>>()?;
        self.script().listed.push(request);
        let next = first + size;
        Ok(Response::new(ListJobsResponse {
            jobs,
            next_page_token: if next < all {
                next.to_string()
            } else {
                String::new()
            },
        }))
    }

    async fn stream_output(&self, request: Request<StreamOutputRequest>) -> Answer<Self::StreamOutputStream> {
        let request = request.into_inner();
        self.job(&request.job_id)?;
        let mut script = self.script();
        let lengths = script.lengths.unwrap_or((u64::MAX, u64::MAX));
        script.streamed.push(request.clone());
        check_offsets(&request, lengths)?;
        let acts = next(&mut script.output).unwrap_or_default();
        let respond = |act| match act {
            Act::Send(part) => Act::Send(StreamOutputResponse { part: Some(part) }),
            Act::Hang => Act::Hang,
        };
        Ok(Response::new(perform(acts.into_iter().map(respond).collect())))
    }

    async fn watch_jobs(&self, request: Request<WatchJobsRequest>) -> Answer<Self::WatchJobsStream> {
        let mut script = self.script();
        script.watched.push(request.into_inner());
        let acts = next(&mut script.events).unwrap_or_default();
        Ok(Response::new(perform(acts)))
    }

    async fn signal_job(&self, request: Request<SignalJobRequest>) -> Answer<SignalJobResponse> {
        let request = request.into_inner();
        let job = self.job(&request.job_id)?;
        self.script().signalled.push(request);
        Ok(Response::new(SignalJobResponse { job: Some(job) }))
    }

    async fn delete_job(&self, request: Request<DeleteJobRequest>) -> Answer<DeleteJobResponse> {
        let id = request.into_inner().job_id;
        if self.job(&id)?.state != State::Finished as i32 {
            return Err(Status::failed_precondition("the job is not over"));
        }
        self.script().deleted.push(id);
        Ok(Response::new(DeleteJobResponse {}))
    }

    async fn get_worker(&self, _: Request<GetWorkerRequest>) -> Answer<GetWorkerResponse> {
        Ok(Response::new(GetWorkerResponse {
            version: "9.8.7".into(),
            jobs_running: 1,
            jobs_max: 8,
            policies: vec!["default".into()],
            draining: self.script().draining,
            ..GetWorkerResponse::default()
        }))
    }

    async fn drain_worker(&self, _: Request<DrainWorkerRequest>) -> Answer<DrainWorkerResponse> {
        self.script().draining = true;
        Ok(Response::new(DrainWorkerResponse {}))
    }
}
