use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};

use crate::job::InvalidField;
use crate::proto::v1::{self, worker_server};
use crate::server::Server;

use super::convert::{
    job_id, job_request, job_to_wire, labels, listing, output_request, page_token, parse_signal,
    status_to_wire, stop_order,
};
use super::status::invalid;
use super::streams::{self, Answers};
use super::tenant;

/// Stockade's own interface.
#[derive(Debug)]
pub(super) struct Worker {
    server: Arc<Server>,
}

impl Worker {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl worker_server::Worker for Worker {
    type StreamOutputStream = Answers<v1::StreamOutputResponse>;
    type WatchJobsStream = Answers<v1::JobEvent>;

    async fn start_job(
        &self,
        request: Request<v1::StartJobRequest>,
    ) -> Result<Response<v1::StartJobResponse>, Status> {
        let tenant = tenant(&request);
        let (job, key) = job_request(request.into_inner()).map_err(invalid)?;
        let accepted = self.server.start(&tenant, job, key).await?;
        Ok(Response::new(v1::StartJobResponse {
            job: Some(job_to_wire(&accepted.job())),
        }))
    }

    async fn stop_job(
        &self,
        request: Request<v1::StopJobRequest>,
    ) -> Result<Response<v1::StopJobResponse>, Status> {
        let tenant = tenant(&request);
        let request = request.into_inner();
        let (id, wait) = (job_id(&request.job_id)?, request.wait);
        let order = stop_order(request, &tenant.name).map_err(invalid)?;
        let mut job = self.server.stop(&tenant, id, order).await?;
        if wait {
            job = self.server.wait(&tenant, id, None).await?;
        }
        Ok(Response::new(v1::StopJobResponse {
            job: Some(job_to_wire(&job)),
        }))
    }

    async fn query_job(
        &self,
        request: Request<v1::QueryJobRequest>,
    ) -> Result<Response<v1::QueryJobResponse>, Status> {
        let tenant = tenant(&request);
        let job = self.server.query(&tenant, job_id(&request.get_ref().job_id)?)?;
        Ok(Response::new(v1::QueryJobResponse {
            job: Some(job_to_wire(&job)),
        }))
    }

    async fn wait_job(
        &self,
        request: Request<v1::WaitJobRequest>,
    ) -> Result<Response<v1::WaitJobResponse>, Status> {
        let tenant = tenant(&request);
        let request = request.into_inner();
        let timeout = (request.timeout_ms != 0).then(|| Duration::from_millis(request.timeout_ms));
        let id = job_id(&request.job_id)?;
        let job = self.server.wait(&tenant, id, timeout).await?;
        Ok(Response::new(v1::WaitJobResponse {
            job: Some(job_to_wire(&job)),
        }))
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let tenant = tenant(&request);
        let listing = listing(request.into_inner()).map_err(invalid)?;
        let page = self.server.list(&tenant, listing).await?;
        Ok(Response::new(v1::ListJobsResponse {
            jobs: page.jobs.iter().map(job_to_wire).collect(),
            next_page_token: page_token(page.next),
        }))
    }

    async fn stream_output(
        &self,
        request: Request<v1::StreamOutputRequest>,
    ) -> Result<Response<Self::StreamOutputStream>, Status> {
        let tenant = tenant(&request);
        let request = request.into_inner();
        let id = job_id(&request.job_id)?;
        let wanted = output_request(&request).map_err(invalid)?;
        let stream = self.server.stream_output(&tenant, id, &wanted)?;
        Ok(Response::new(streams::output(stream)))
    }

    async fn watch_jobs(
        &self,
        request: Request<v1::WatchJobsRequest>,
    ) -> Result<Response<Self::WatchJobsStream>, Status> {
        let tenant = tenant(&request);
        let request = request.into_inner();
        let labels = labels(request.labels).map_err(invalid)?;
        let stream = self.server.watch(tenant, labels, request.since)?;
        Ok(Response::new(streams::events(stream)))
    }

    async fn signal_job(
        &self,
        request: Request<v1::SignalJobRequest>,
    ) -> Result<Response<v1::SignalJobResponse>, Status> {
        let tenant = tenant(&request);
        let request = request.into_inner();
        let id = job_id(&request.job_id)?;
        let signal = parse_signal("signal", &request.signal)
            .and_then(|signal| signal.ok_or_else(|| InvalidField::new("signal", "none given")))
            .map_err(invalid)?;
        let job = self.server.signal(&tenant, id, signal)?;
        Ok(Response::new(v1::SignalJobResponse {
            job: Some(job_to_wire(&job)),
        }))
    }

    async fn delete_job(
        &self,
        request: Request<v1::DeleteJobRequest>,
    ) -> Result<Response<v1::DeleteJobResponse>, Status> {
        let tenant = tenant(&request);
        let id = job_id(&request.get_ref().job_id)?;
        self.server.delete(&tenant, id).await?;
        Ok(Response::new(v1::DeleteJobResponse {}))
    }

    async fn get_worker(
        &self,
        request: Request<v1::GetWorkerRequest>,
    ) -> Result<Response<v1::GetWorkerResponse>, Status> {
        let status = self.server.status(&tenant(&request)).await?;
        Ok(Response::new(status_to_wire(status)))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        self.server.drain(&tenant(&request))?;
        Ok(Response::new(v1::DrainWorkerResponse {}))
    }
}
