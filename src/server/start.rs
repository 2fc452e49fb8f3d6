use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::isolation::ipc::Launch;
use crate::job::{InvalidField, IsolationFloor, JobId, JobRequest, State, Timestamp, bounds};
use crate::policy::{Resolved, Tenant};

use super::jobs::{Found, LaunchTrace};
use super::store::{IdempotencyKey, NewJob, WriteError};
use super::view::{JobFacts, JobView};
use super::{Refusal, Server, scripts};

/// Until a full disk may have room again.
const FULL_DISK: Duration = Duration::from_secs(5);

/// A job that is durable.
#[derive(Debug)]
pub struct Accepted {
    found: Found,
    /// It waits for a place to run, which may take any time.
    pub waits: bool,
}

impl Accepted {
    #[must_use]
    pub fn job(&self) -> JobView {
        self.found.view()
    }

    /// The job once its command runs, or once it is clear that it never will.
    pub async fn started(&self) -> JobView {
        self.found.reached(State::Running).await
    }
}

impl Server {
    /// Accepts a job, or tells why not. The same key and request give the same job.
    pub async fn start(
        &self,
        tenant: &Tenant,
        request: JobRequest,
        key: Option<String>,
    ) -> Result<Accepted, Refusal> {
        let mut trace = LaunchTrace::begin();
        check_key(key.as_deref())?;
        // Encoded for the store and for the comparison of keys.
        let bytes = postcard::to_stdvec(&request)
            .map_err(|error| Refusal::unavailable("the request could not be recorded", &error))?;
        let key = key.map(|key| IdempotencyKey {
            key,
            request_hash: Some(Sha256::digest(&bytes).into()),
        });
        if let Some(known) = self.known_by_key(tenant, key.as_ref())? {
            return Ok(known);
        }
        let resolved = self.decide(tenant, &request).await?;
        let launch = Launch {
            id: JobId::random(),
            tenant: tenant.name.clone(),
            created_at: Timestamp::now(),
            request,
            idempotency_key: key.as_ref().map(|key| key.key.clone()),
        };
        trace.name(launch.id);
        trace.mark("policy");
        let job = NewJob {
            view: JobView::pending(facts(&launch, resolved)),
            key: key.clone(),
            request: Some(bytes),
        };
        let recording = self.jobs.record(job, launch, trace)?;
        match recording.durable.await {
            Ok(Ok(())) => Ok(Accepted {
                found: Found::Live(recording.live),
                waits: recording.waits,
            }),
            // Another call with the same key was a moment faster.
            Ok(Err(WriteError::Duplicate)) => self
                .known_by_key(tenant, key.as_ref())?
                .ok_or(Refusal::Unavailable("the job could not be recorded")),
            Ok(Err(WriteError::DiskFull)) => Err(Refusal::Exhausted {
                what: "no space is left to record the job",
                retry_after: FULL_DISK,
            }),
            Ok(Err(error)) => Err(Refusal::unavailable("the job could not be recorded", &error)),
            Err(error) => Err(Refusal::unavailable("the job could not be recorded", &error)),
        }
    }

    /// The job of an earlier call with this key.
    fn known_by_key(
        &self,
        tenant: &Tenant,
        key: Option<&IdempotencyKey>,
    ) -> Result<Option<Accepted>, Refusal> {
        let Some(key) = key else { return Ok(None) };
        let Some((id, earlier)) = self.store.find_key(&tenant.name, &key.key)? else {
            return Ok(None);
        };
        if !key.stands_for_same(&earlier) {
            return Err(Refusal::KeyTaken);
        }
        let found = self.jobs.find(tenant, id)?;
        Ok(Some(Accepted { found, waits: false }))
    }

    /// Refuses what no job can meet. What only a job's own receipt can tell is left to its supervisor.
    async fn check_floor(&self, floor: &IsolationFloor, resolved: &Resolved) -> Result<(), Refusal> {
        if *floor == IsolationFloor::default() {
            return Ok(());
        }
        let Some(ceiling) = self.ceiling().await else {
            return Ok(());
        };
        match floor.out_of_reach(&resolved.sandbox, ceiling) {
            None => Ok(()),
            Some(unmet) => Err(Refusal::Unattainable {
                policy: resolved.policy.clone(),
                unmet,
            }),
        }
    }

    /// What the policy and the scripts folder say, before anything is recorded.
    async fn decide(&self, tenant: &Tenant, request: &JobRequest) -> Result<Resolved, Refusal> {
        request.check()?;
        let resolved = self.policies().resolve(request, &self.site, tenant)?;
        self.check_floor(&request.require, &resolved).await?;
        if let Some(path) = &request.path {
            check_script(self.site.scripts_dir.clone(), path.clone()).await?;
        }
        Ok(resolved)
    }
}

/// Off the async threads: the folder may be on a file system that takes its time.
async fn check_script(scripts_dir: Option<PathBuf>, path: String) -> Result<(), Refusal> {
    tokio::task::spawn_blocking(move || scripts::check(scripts_dir.as_deref(), &path))
        .await
        .map_err(|error| Refusal::unavailable("the script could not be examined", &error))?
}

fn facts(launch: &Launch, resolved: Resolved) -> JobFacts {
    JobFacts {
        id: launch.id,
        tenant: launch.tenant.clone(),
        policy: resolved.policy,
        policy_hash: resolved.policy_hash,
        labels: launch.request.labels.clone(),
        limits: Some(resolved.spec.limits),
        created_at: launch.created_at,
    }
}

fn check_key(key: Option<&str>) -> Result<(), InvalidField> {
    match key {
        Some(key) if key.len() > bounds::IDEMPOTENCY_KEY_BYTES => Err(InvalidField::new(
            "idempotency_key",
            format!("more than {} bytes", bounds::IDEMPOTENCY_KEY_BYTES),
        )),
        _ => Ok(()),
    }
}
