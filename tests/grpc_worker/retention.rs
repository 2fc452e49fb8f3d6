//! What is kept and for whom, and what cannot be removed.

use std::path::Path;
use std::time::{Duration, Instant};

use stockade::job::{Cause, JobId};
use stockade::proto::v1;
use tonic::Code;

use crate::support::{Client, TestWorker, eventually, start};
use crate::tenants::{Tenants, worker_of};

const EXITED: Cause = Cause::Exited { code: 0 };

async fn state(client: &mut Client, id: JobId) -> v1::State {
    let request = v1::QueryJobRequest {
        job_id: id.to_string(),
    };
    let answer = client.query_job(request).await.expect("query").into_inner();
    answer.job.expect("job").state()
}

async fn finished(worker: &TestWorker, client: &mut Client, bytes: usize) -> JobId {
    let id = start(client, &["sleep"]).await;
    while state(client, id).await != v1::State::Running {}
    worker.launcher.write(id, "stdout", &vec![b'x'; bytes]);
    worker.launcher.finish(id, EXITED);
    let wait = v1::WaitJobRequest {
        job_id: id.to_string(),
        timeout_ms: 0,
    };
    client.wait_job(wait).await.expect("wait");
    id
}

fn has_output(worker: &TestWorker, id: JobId) -> bool {
    let jobs = worker.config.worker.state_dir.join("jobs");
    jobs.join(id.to_string()).join("stdout").exists()
}

/// The files go first, then the record tells so.
async fn told_as_kept(client: &mut Client, bytes: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let told = worker_of(client).await.output_bytes_kept;
        if told == bytes {
            return;
        }
        assert!(Instant::now() < deadline, "{told} bytes are told");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn delete(id: JobId) -> v1::DeleteJobRequest {
    v1::DeleteJobRequest {
        job_id: id.to_string(),
    }
}

#[tokio::test]
async fn each_tenant_keeps_its_bytes() {
    let tenants = Tenants::start(|config| config.retention.max_bytes_per_tenant = 2500);
    let mut alice = tenants.client("alice").await;
    let mut bob = tenants.client("bob").await;
    let mut jobs = Vec::new();
    for client in [&mut alice, &mut bob] {
        jobs.push(finished(&tenants.worker, client, 1000).await);
    }
    for _ in 0..3 {
        jobs.push(finished(&tenants.worker, &mut alice, 1000).await);
    }
    let kept = || {
        let kept = jobs.iter().map(|id| has_output(&tenants.worker, *id));
        kept.collect::<Vec<_>>()
    };
    eventually("removal", || kept() == [false, true, false, true, true]).await;
    told_as_kept(&mut alice, 3000).await;
    let of_alice = worker_of(&mut alice).await;
    assert_eq!(
        (of_alice.tenant.as_str(), of_alice.tenant_output_bytes_kept),
        ("alice", 2000)
    );
    assert_eq!(worker_of(&mut bob).await.tenant_output_bytes_kept, 1000);
}

#[tokio::test]
async fn each_tenant_keeps_its_number_of_jobs() {
    let tenants = Tenants::start(|config| config.retention.max_jobs_per_tenant = 1);
    let mut alice = tenants.client("alice").await;
    let mut bob = tenants.client("bob").await;
    let of_bob = finished(&tenants.worker, &mut bob, 1).await;
    let first = finished(&tenants.worker, &mut alice, 1).await;
    let second = finished(&tenants.worker, &mut alice, 1).await;
    let launcher = &tenants.worker.launcher;
    eventually("removal", || !launcher.knows(first)).await;
    assert!(launcher.knows(second) && launcher.knows(of_bob));
}

#[tokio::test]
async fn output_that_stays_keeps_no_other() {
    let worker = TestWorker::start_with(|config| config.retention.max_bytes = 1500);
    let mut client = worker.client().await;
    let stays = finished(&worker, &mut client, 1000).await;
    worker.launcher.hold_fast(stays);
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(finished(&worker, &mut client, 1000).await);
    }
    eventually("removal", || others.iter().all(|id| !has_output(&worker, *id))).await;
    assert!(has_output(&worker, stays));
    told_as_kept(&mut client, 1000).await;
}

#[tokio::test]
async fn a_job_whose_folder_stays_is_deleted_and_told_of() {
    let mut worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = finished(&worker, &mut client, 10).await;
    worker.launcher.hold_fast(id);
    client.delete_job(delete(id)).await.expect("accepted");
    let gone = client.delete_job(delete(id)).await.expect_err("twice");
    assert_eq!(gone.code(), Code::NotFound);
    let told = worker_of(&mut client).await.clean_up;
    assert_eq!(told, [format!("folder of job {id}: held fast")]);
    // The next server does not take it for a job, and asks again for its removal.
    worker.kill();
    worker.revive();
    let mut client = worker.client().await;
    let jobs = client
        .list_jobs(v1::ListJobsRequest::default())
        .await
        .expect("list");
    assert!(jobs.into_inner().jobs.is_empty());
    while worker_of(&mut client).await.clean_up.is_empty() {}
    worker.launcher.let_go(id);
    eventually("removal", || !worker.launcher.knows(id)).await;
    while !worker_of(&mut client).await.clean_up.is_empty() {}
    client
        .list_jobs(v1::ListJobsRequest::default())
        .await
        .expect("everything is written");
    worker.kill();
    assert_eq!(buried(&worker.config.worker.state_dir), 0);
}

/// Deleted jobs whose folders are still to be removed.
fn buried(state: &Path) -> u64 {
    let database = rusqlite::Connection::open(state.join("server/stockade.db")).expect("open");
    database
        .query_row("SELECT count(*) FROM buried", [], |row| row.get(0))
        .expect("count")
}

#[tokio::test]
async fn a_delete_whose_client_hangs_up_is_made_all_the_same() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = finished(&worker, &mut client, 10).await;
    worker.launcher.take_for_removals(Duration::from_millis(300));
    let gone = tokio::time::timeout(Duration::from_millis(50), client.delete_job(delete(id))).await;
    assert!(gone.is_err(), "{gone:?}");
    let deadline = Instant::now() + Duration::from_secs(20);
    let query = v1::QueryJobRequest {
        job_id: id.to_string(),
    };
    while client.query_job(query.clone()).await.is_ok() {
        assert!(Instant::now() < deadline, "its record stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!has_output(&worker, id));
}
