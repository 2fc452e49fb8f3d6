use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stockade::config::{OnLoss, Scheduler};
use stockade::proto::jobscheduler::scheduler_server::{Scheduler as SchedulerService, SchedulerServer};
use stockade::proto::jobscheduler::{DeregisterReq, DeregisterRes, RegisterReq, RegisterRes};
use stockade::proto::v1;
use tokio::runtime::Runtime;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::support::{TestWorker, command, eventually, job, start};
use crate::tls::Authority;

/// What all lives of the scheduler have seen.
#[derive(Default)]
struct Seen {
    registered: Vec<(String, String)>,
    deregistered: Vec<String>,
}

#[derive(Clone, Default)]
struct FakeScheduler {
    seen: Arc<Mutex<Seen>>,
}

#[tonic::async_trait]
impl SchedulerService for FakeScheduler {
    async fn register_worker(&self, request: Request<RegisterReq>) -> Result<Response<RegisterRes>, Status> {
        let mut seen = self.seen.lock().expect("lock");
        let id = format!("worker-{}", seen.registered.len());
        seen.registered.push((request.into_inner().address, id.clone()));
        // As the real one: success is never set.
        Ok(Response::new(RegisterRes {
            success: false,
            worker_id: id,
        }))
    }

    async fn deregister_worker(
        &self,
        request: Request<DeregisterReq>,
    ) -> Result<Response<DeregisterRes>, Status> {
        self.seen
            .lock()
            .expect("lock")
            .deregistered
            .push(request.into_inner().worker_id);
        Ok(Response::new(DeregisterRes { success: true }))
    }
}

impl FakeScheduler {
    /// One life of the scheduler; it ends with the runtime.
    fn live(&self, addr: SocketAddr, tls: Option<ServerTlsConfig>) -> Life {
        let runtime = Runtime::new().expect("runtime");
        let service = SchedulerServer::new(self.clone());
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).expect("tls");
        }
        runtime.spawn(server.add_service(service).serve(addr));
        Life(Some(runtime))
    }

    fn registrations(&self) -> usize {
        self.seen.lock().expect("lock").registered.len()
    }

    fn deregistered(&self) -> Vec<String> {
        self.seen.lock().expect("lock").deregistered.clone()
    }
}

struct Life(Option<Runtime>);

impl Life {
    fn end(mut self) {
        self.0.take().expect("alive").shutdown_background();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("port")
}

fn scheduler_at(addr: SocketAddr) -> Scheduler {
    Scheduler {
        addr: addr.to_string(),
        advertise: Some("192.0.2.7:50000".into()),
        use_tls: false,
        ca_file: None,
        crt_file: None,
        key_file: None,
        server_name: None,
        on_loss: OnLoss::Keep,
        loss_timeout_s: 300,
    }
}

#[tokio::test]
async fn a_worker_registers_once_for_each_life_of_the_scheduler() {
    let scheduler = FakeScheduler::default();
    let addr = free_port();
    let first = scheduler.live(addr, None);
    let mut worker = TestWorker::start_with(|config| config.scheduler = Some(scheduler_at(addr)));
    eventually("registration", || scheduler.registrations() == 1).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(
        scheduler.registrations(),
        1,
        "no second one while the connection holds"
    );
    first.end();
    // It serves all the same.
    let mut client = worker.client().await;
    start(&mut client, &["true"]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let _second = scheduler.live(addr, None);
    eventually("second registration", || scheduler.registrations() == 2).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(scheduler.registrations(), 2);
    assert!(scheduler.deregistered().is_empty());
    worker.shut_down();
    assert_eq!(scheduler.deregistered(), ["worker-1"]);
    let seen = scheduler.seen.lock().expect("lock");
    assert!(
        seen.registered
            .iter()
            .all(|(address, _)| address == "192.0.2.7:50000")
    );
}

#[tokio::test]
async fn a_scheduler_that_comes_late_is_found() {
    let scheduler = FakeScheduler::default();
    let addr = free_port();
    let worker = TestWorker::start_with(|config| config.scheduler = Some(scheduler_at(addr)));
    let mut client = worker.client().await;
    start(&mut client, &["true"]).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let _life = scheduler.live(addr, None);
    eventually("registration", || scheduler.registrations() == 1).await;
}

#[tokio::test]
async fn a_worker_whose_scheduler_is_gone_shuts_down_in_time() {
    let mut worker = TestWorker::start_with(|config| config.scheduler = Some(scheduler_at(free_port())));
    let before = std::time::Instant::now();
    worker.shut_down();
    assert!(before.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn the_scheduler_is_spoken_to_over_mutual_tls() {
    let (authority, workers) = (Authority::new(), Authority::new());
    let tls = ServerTlsConfig::new()
        .identity({
            let signed = authority.sign("scheduler.test");
            Identity::from_pem(signed.certificate, signed.key)
        })
        .client_ca_root(Certificate::from_pem(workers.pem()));
    let scheduler = FakeScheduler::default();
    let addr = free_port();
    let _life = scheduler.live(addr, Some(tls));
    let mut worker = TestWorker::start_with(|config| {
        let folder = config.worker.state_dir.clone();
        let signed = workers.sign("worker");
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::write(&file, text).expect("write");
            Some(file)
        };
        config.scheduler = Some(Scheduler {
            use_tls: true,
            ca_file: write("ca.pem", &authority.pem()),
            crt_file: write("worker.pem", &signed.certificate),
            key_file: write("worker.key", &signed.key),
            server_name: Some("scheduler.test".into()),
            ..scheduler_at(addr)
        });
    });
    eventually("registration", || scheduler.registrations() == 1).await;
    worker.shut_down();
    assert_eq!(scheduler.deregistered(), ["worker-0"]);
}

/// A worker whose scheduler has gone for good after a first registration.
async fn abandoned(on_loss: OnLoss, scheduler: &FakeScheduler, addr: SocketAddr) -> TestWorker {
    let life = scheduler.live(addr, None);
    let worker = TestWorker::start_with(|config| {
        config.worker.max_running = 1;
        config.scheduler = Some(Scheduler {
            on_loss,
            loss_timeout_s: 1,
            ..scheduler_at(addr)
        });
    });
    eventually("registration", || scheduler.registrations() == 1).await;
    life.end();
    worker
}

#[tokio::test]
async fn jobs_of_a_lost_scheduler_go_on_unless_told_otherwise() {
    let (scheduler, addr) = (FakeScheduler::default(), free_port());
    let worker = abandoned(OnLoss::Keep, &scheduler, addr).await;
    let mut client = worker.client().await;
    let id = start(&mut client, &["sleep"]).await;
    tokio::time::sleep(Duration::from_millis(1700)).await;
    assert_eq!(job(&mut client, id).await.state(), v1::State::Running);
    start(&mut client, &["true"]).await;
}

#[tokio::test]
async fn jobs_of_a_lost_scheduler_are_stopped_and_their_outcomes_kept() {
    let (scheduler, addr) = (FakeScheduler::default(), free_port());
    let worker = abandoned(OnLoss::Stop, &scheduler, addr).await;
    let mut client = worker.client().await;
    let runs = start(&mut client, &["sleep"]).await;
    let waits = start(&mut client, &["sleep"]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        job(&mut client, runs).await.state(),
        v1::State::Running,
        "not yet"
    );
    for id in [runs, waits] {
        let wait = v1::WaitJobRequest {
            job_id: id.to_string(),
            timeout_ms: 5000,
        };
        let answer = client.wait_job(wait).await.expect("wait").into_inner();
        let stopped = answer.job.expect("job");
        assert_eq!(stopped.cause(), v1::Cause::Stopped);
        assert_eq!(stopped.stop.expect("stop").by, "scheduler");
    }
    let _back = scheduler.live(addr, None);
    eventually("return", || scheduler.registrations() == 2).await;
    assert_eq!(job(&mut client, runs).await.cause(), v1::Cause::Stopped);
    let id = start(&mut client, &["sleep"]).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(
        job(&mut client, id).await.state(),
        v1::State::Running,
        "it is back"
    );
}

#[tokio::test]
async fn a_worker_that_has_lost_its_scheduler_drains_until_it_is_back() {
    let (scheduler, addr) = (FakeScheduler::default(), free_port());
    let worker = abandoned(OnLoss::Drain, &scheduler, addr).await;
    let mut client = worker.client().await;
    let id = start(&mut client, &["sleep"]).await;
    tokio::time::sleep(Duration::from_millis(1700)).await;
    let refused = client.start_job(command(&["true"])).await.expect_err("draining");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert_eq!(job(&mut client, id).await.state(), v1::State::Running);
    let _back = scheduler.live(addr, None);
    eventually("return", || scheduler.registrations() == 2).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(2);
    while client.start_job(command(&["true"])).await.is_err() {
        assert!(std::time::Instant::now() < deadline);
    }
}

#[tokio::test]
async fn a_draining_worker_leaves_its_scheduler() {
    let (scheduler, addr) = (FakeScheduler::default(), free_port());
    let _life = scheduler.live(addr, None);
    let worker = TestWorker::start_with(|config| {
        config.scheduler = Some(Scheduler {
            on_loss: OnLoss::Stop,
            loss_timeout_s: 1,
            ..scheduler_at(addr)
        });
    });
    eventually("registration", || scheduler.registrations() == 1).await;
    let mut client = worker.client().await;
    let id = start(&mut client, &["sleep"]).await;
    client
        .drain_worker(v1::DrainWorkerRequest {})
        .await
        .expect("drain");
    eventually("deregistration", || scheduler.deregistered() == ["worker-0"]).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(scheduler.registrations(), 1, "and stays away");
    assert_eq!(job(&mut client, id).await.state(), v1::State::Running, "no loss");
}
