//! Several tenants on one worker: who asks for more does not get more.

use std::path::Path;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use stockade::proto::v1::worker_client::WorkerClient;
use stockade::proto::v1::{GetWorkerRequest, ListJobsRequest, QueryJobRequest, State};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::worker::{Worker, able};
use super::{Client, in_runtime, shell};

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        Self(CertifiedIssuer::self_signed(params, key).expect("authority"))
    }

    /// PEM: a certificate and its key.
    pub(crate) fn sign(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec!["worker.test".to_owned()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("key");
        let signed = params.signed_by(&key, &self.0).expect("sign");
        (signed.pem(), key.serialize_pem())
    }
}

pub(crate) fn worker(authority: &Authority, addr: &str, limits: &str) -> Worker {
    let write = |dir: &Path| {
        let (certificate, key) = authority.sign("worker");
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("write");
        write("ca.pem", &authority.0.pem());
        write("server.pem", &certificate);
        write("server.key", &key);
    };
    Worker::start_on_tcp(addr, write, limits)
}

async fn client(authority: &Authority, addr: &str, tenant: &str) -> Client {
    let client = client_who_trusts(authority, authority, addr, tenant).await;
    client.expect("connect")
}

/// A client of `authority` at a worker whose certificate is of `trusted`.
pub(crate) async fn client_who_trusts(
    trusted: &Authority,
    authority: &Authority,
    addr: &str,
    tenant: &str,
) -> Result<Client, tonic::transport::Error> {
    let (certificate, key) = authority.sign(tenant);
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(trusted.0.pem()))
        .identity(Identity::from_pem(certificate, key))
        .domain_name("worker.test");
    let endpoint = Endpoint::from_shared(format!("https://{addr}"))?.tls_config(tls)?;
    let channel: Channel = endpoint.connect().await?;
    Ok(WorkerClient::new(channel))
}

pub(crate) fn free_addr() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address").to_string()
}

async fn finished(client: &mut Client) -> usize {
    let mut request = ListJobsRequest {
        states: vec![State::Finished.into()],
        page_size: 1000,
        ..ListJobsRequest::default()
    };
    let mut count = 0;
    loop {
        let page = client
            .list_jobs(request.clone())
            .await
            .expect("list")
            .into_inner();
        count += page.jobs.len();
        if page.next_page_token.is_empty() {
            return count;
        }
        request.page_token = page.next_page_token;
    }
}

/// Starts jobs as fast as it can until `end`; how long each refusal took.
async fn overload(mut client: Client, end: Instant, script: &'static str) -> Vec<Duration> {
    let mut refusals = Vec::new();
    while Instant::now() < end {
        let before = Instant::now();
        match client.start_job(shell(script)).await {
            Ok(_) => {}
            Err(refused) => {
                assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
                refusals.push(before.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    refusals
}

#[test]
fn tenants_share_an_overloaded_worker_fairly() {
    if !able() {
        return;
    }
    let (authority, addr) = (Authority::new(), free_addr());
    let worker = worker(&authority, &addr, "max_running = 6\nmax_pending = 60\n");
    in_runtime(async {
        let end = Instant::now() + Duration::from_secs(8);
        let mut tasks = Vec::new();
        // The greedy one comes first, with twenty times the callers and with longer jobs.
        for _ in 0..20 {
            let caller = client(&authority, &addr, "greedy").await;
            tasks.push(tokio::spawn(overload(caller, end, "sleep 0.15")));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        for tenant in ["modest", "humble"] {
            let caller = client(&authority, &addr, tenant).await;
            tasks.push(tokio::spawn(overload(caller, end, "sleep 0.15")));
        }
        let mut refusals = Vec::new();
        for task in tasks {
            refusals.extend(task.await.expect("task"));
        }
        let mut done = Vec::new();
        for tenant in ["greedy", "modest", "humble"] {
            done.push(finished(&mut client(&authority, &addr, tenant).await).await);
        }
        refusals.sort_unstable();
        let median = refusals[refusals.len() / 2];
        let most = refusals[refusals.len() * 99 / 100];
        println!(
            "finished {done:?}; {} refusals, median {median:?}, 99 % within {most:?}",
            refusals.len()
        );
        assert!(!refusals.is_empty(), "it was overloaded");
        assert!(median < Duration::from_millis(50), "{median:?}");
        let share = done.iter().sum::<usize>() / done.len();
        for count in &done {
            assert!(*count >= share / 2, "{done:?}");
        }
    });
    worker.shut_down();
}

#[test]
fn another_tenants_job_is_as_unknown_as_none() {
    if !able() {
        return;
    }
    let (authority, addr) = (Authority::new(), free_addr());
    let worker = worker(&authority, &addr, "");
    in_runtime(async {
        let mut alice = client(&authority, &addr, "alice").await;
        let mut bob = client(&authority, &addr, "bob").await;
        let id = super::start(&mut alice, shell("echo secret; sleep 6895")).await;
        let query = |id: &str| QueryJobRequest {
            job_id: id.to_owned(),
        };
        assert_eq!(super::query(&mut alice, &id).await.tenant, "alice");
        let none = stockade::job::JobId::random().to_string();
        let unknown = bob.query_job(query(&none)).await.expect_err("none");
        let others = bob.query_job(query(&id)).await.expect_err("another's");
        assert_eq!(
            (others.code(), others.message()),
            (unknown.code(), unknown.message())
        );
        assert_eq!(others.code(), Code::NotFound);
        // What a request claims changes nothing.
        let mut claim = tonic::Request::new(query(&id));
        claim
            .metadata_mut()
            .insert("x-tenant", "alice".parse().expect("value"));
        assert_eq!(
            bob.query_job(claim).await.expect_err("claim").code(),
            Code::NotFound
        );
        let stop = stockade::proto::v1::StopJobRequest {
            job_id: id.clone(),
            ..Default::default()
        };
        assert_eq!(
            bob.stop_job(stop.clone()).await.expect_err("stop").code(),
            Code::NotFound
        );
        let wait = stockade::proto::v1::WaitJobRequest {
            job_id: id.clone(),
            timeout_ms: 1,
        };
        assert_eq!(bob.wait_job(wait).await.expect_err("wait").code(), Code::NotFound);
        let watch = stockade::proto::v1::WatchJobsRequest {
            since: 1,
            ..Default::default()
        };
        let mut events = bob.watch_jobs(watch).await.expect("watch").into_inner();
        let event = tokio::time::timeout(Duration::from_millis(100), events.message()).await;
        assert!(event.is_err(), "{event:?}");
        let stream = stockade::proto::v1::StreamOutputRequest {
            job_id: id.clone(),
            ..Default::default()
        };
        assert_eq!(
            bob.stream_output(stream).await.expect_err("read").code(),
            Code::NotFound
        );
        let signal = stockade::proto::v1::SignalJobRequest {
            job_id: id.clone(),
            signal: "TERM".to_owned(),
        };
        assert_eq!(
            bob.signal_job(signal).await.expect_err("signal").code(),
            Code::NotFound
        );
        let delete = stockade::proto::v1::DeleteJobRequest { job_id: id.clone() };
        assert_eq!(
            bob.delete_job(delete).await.expect_err("delete").code(),
            Code::NotFound
        );
        let list = bob.list_jobs(ListJobsRequest::default()).await.expect("list");
        assert!(list.into_inner().jobs.is_empty());
        let seen = bob
            .get_worker(GetWorkerRequest {})
            .await
            .expect("worker")
            .into_inner();
        assert_eq!((seen.tenant.as_str(), seen.tenant_jobs_running), ("bob", 0));
        // The same key of two tenants is two keys.
        for (client, code) in [(&mut alice, 3), (&mut bob, 4)] {
            let request = stockade::proto::v1::StartJobRequest {
                idempotency_key: "k".to_owned(),
                ..shell(&format!("exit {code}"))
            };
            let id = super::start(client, request).await;
            assert_eq!(super::wait(client, &id).await.exit_code, Some(code));
        }
        alice.stop_job(stop).await.expect("stop");
        super::wait(&mut alice, &id).await;
    });
    worker.shut_down();
}
