//! The existing scheduler's interface, a thin adapter over stockade's own.
//!
//! The scheduler makes its calls with a deadline of one second and a global lock held, so each is answered
//! within 100 ms whatever the job does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

use crate::isolation::layout;
use crate::job::{Cause, InvalidField, JobRequest, StartStep, StopOrder};
use crate::policy::Tenant;
use crate::proto::jobscheduler::{
    QueryJobReq, QueryJobRes, StartJobReq, StartJobRes, StopJobReq, StopJobRes, worker_server,
};
use crate::server::{JobView, Server};

use super::convert::job_id;
use super::status::invalid;
use super::{go_text, tenant};

/// How long a start waits for the command to be executed, to tell at once if it cannot be.
const EXEC_OUTCOME: Duration = Duration::from_millis(80);

#[derive(Debug)]
pub(super) struct OldWorker {
    server: Arc<Server>,
}

impl OldWorker {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { server }
    }

    /// A start failure in Go's words, if it is known in time. That job is forgotten.
    async fn failure_at_start(&self, tenant: &Tenant, job: &JobView) -> Option<Status> {
        let exit = job.exit.as_ref()?;
        let Cause::StartFailed { step, .. } = &exit.cause else {
            return None;
        };
        let text = go_text::error_text(&exit.cause)?;
        let status = match step {
            StartStep::Exec => Status::invalid_argument(text),
            _ => Status::failed_precondition(text),
        };
        let (server, tenant, id) = (Arc::clone(&self.server), tenant.clone(), job.id());
        tokio::spawn(async move {
            if let Err(error) = server.delete(&tenant, id).await {
                tracing::warn!(job = %id, error = &error as &dyn std::error::Error, "forgetting a job");
            }
        });
        Some(status)
    }
}

#[tonic::async_trait]
impl worker_server::Worker for OldWorker {
    async fn start_job(&self, request: Request<StartJobReq>) -> Result<Response<StartJobRes>, Status> {
        let deadline = Instant::now() + EXEC_OUTCOME;
        let tenant = tenant(&request);
        let request = job_request(request.into_inner(), self.server.scripts_dir())?;
        let accepted = self.server.start(&tenant, request, None).await?;
        let job = accepted.job();
        if !accepted.waits
            && let Ok(job) = timeout_at(deadline, accepted.started()).await
            && let Some(failure) = self.failure_at_start(&tenant, &job).await
        {
            return Err(failure);
        }
        Ok(Response::new(StartJobRes {
            job_id: job.id().to_string(),
        }))
    }

    async fn stop_job(&self, request: Request<StopJobReq>) -> Result<Response<StopJobRes>, Status> {
        let tenant = tenant(&request);
        let id = job_id(&request.get_ref().job_id)?;
        let order = StopOrder {
            signal: None,
            grace_ms: None,
            by: "scheduler".to_owned(),
            reason: String::new(),
        };
        self.server.stop(&tenant, id, order).await?;
        Ok(Response::new(StopJobRes {}))
    }

    async fn query_job(&self, request: Request<QueryJobReq>) -> Result<Response<QueryJobRes>, Status> {
        let tenant = tenant(&request);
        let job = self.server.query(&tenant, job_id(&request.get_ref().job_id)?)?;
        let error = job
            .exit
            .as_ref()
            .and_then(|exit| go_text::error_text(&exit.cause));
        Ok(Response::new(QueryJobRes {
            done: job.exit.is_some(),
            error: error.is_some(),
            error_text: error.unwrap_or_default(),
        }))
    }
}

/// `[command, path]` and nothing else, as the scheduler's own worker ran it.
fn job_request(wire: StartJobReq, scripts_dir: Option<&Path>) -> Result<JobRequest, Status> {
    if wire.command.is_empty() {
        return Err(Status::invalid_argument(go_text::NO_COMMAND));
    }
    if wire.command.trim().is_empty() {
        return Err(Status::invalid_argument(go_text::exec_failed(
            &wire.command,
            libc::ENOENT,
        )));
    }
    let path = path_inside(wire.path, scripts_dir).map_err(invalid)?;
    Ok(JobRequest {
        argv: vec![wire.command, path],
        ..JobRequest::default()
    })
}

/// Where a script of the scripts folder is inside the sandbox. Any other absolute path is the sandbox's own.
fn path_inside(path: String, scripts_dir: Option<&Path>) -> Result<String, InvalidField> {
    if path.split('/').any(|component| component == "..") {
        return Err(InvalidField::new("path", "holds .."));
    }
    // The old worker passed it on like any other: what it means is the command's business.
    if path.is_empty() {
        return Ok(path);
    }
    let beneath = match scripts_dir {
        Some(dir) if path.starts_with('/') => Path::new(&path).strip_prefix(dir).ok(),
        _ => (!path.starts_with('/')).then(|| Path::new(&path)),
    };
    Ok(match beneath.and_then(Path::to_str) {
        Some(beneath) => format!("{}/{beneath}", layout::SCRIPTS),
        None => path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(path: &str) -> String {
        path_inside(path.to_owned(), Some(Path::new("/srv/scripts"))).expect(path)
    }

    #[test]
    fn scripts_are_looked_up_in_the_scripts_folder() {
        assert_eq!(inside("a.sh"), "/scripts/a.sh");
        assert_eq!(inside("sub/with space.sh"), "/scripts/sub/with space.sh");
        assert_eq!(inside("/srv/scripts/sub/a.sh"), "/scripts/sub/a.sh");
    }

    #[test]
    fn other_paths_are_the_sandboxes_own() {
        assert_eq!(inside("/etc/hostname"), "/etc/hostname");
        assert_eq!(inside("/srv/scripts2/a.sh"), "/srv/scripts2/a.sh");
        assert_eq!(inside(""), "");
        let without = path_inside("/srv/scripts/a.sh".to_owned(), None).expect("path");
        assert_eq!(without, "/srv/scripts/a.sh");
    }

    #[test]
    fn no_path_climbs() {
        for path in ["../a", "a/../b", "/srv/scripts/../x", ".."] {
            assert!(path_inside(path.to_owned(), None).is_err(), "{path}");
        }
    }

    #[test]
    fn an_empty_command_is_told_as_go_does() {
        let refusal = |command: &str| {
            let wire = StartJobReq {
                command: command.to_owned(),
                path: String::new(),
            };
            job_request(wire, None).expect_err("refused").message().to_owned()
        };
        assert_eq!(refusal(""), "exec: no command");
        assert_eq!(refusal("  "), "exec: \"  \": executable file not found in $PATH");
    }
}
