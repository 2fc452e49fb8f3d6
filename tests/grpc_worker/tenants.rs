//! Several tenants: what each may have, and what is for operators.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use rcgen::DnType;
use stockade::config::{Config, Quota, TenantsFrom};
use stockade::job::Cause;
use stockade::proto::v1;
use stockade::proto::v1::worker_client::WorkerClient;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, RootCertStore};
use tonic::body::Body;
use tonic::codegen::http::Request;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status, Streaming};
use tower::ServiceExt;

use crate::support::{Client, MEMORY, TestWorker, command, eventually, offsets, start};
use crate::tls::{Authority, use_tls};

const EXITED: Cause = Cause::Exited { code: 0 };

/// A worker that tells tenants apart, and how to become one of them.
pub(crate) struct Tenants {
    pub(crate) worker: TestWorker,
    authority: Authority,
}

impl Tenants {
    pub(crate) fn start(change: impl FnOnce(&mut Config)) -> Self {
        let authority = Authority::new();
        let worker = TestWorker::start_with(|config| {
            use_tls(config, &authority.sign("worker.test"), Some(&authority));
            change(config);
        });
        Self { worker, authority }
    }

    /// A connection that speaks HTTP/2 and then neither says nor reads anything.
    async fn mute(&self, tenant: &str) -> TlsStream<TcpStream> {
        let signed = self.authority.sign_with("client.test", |params| {
            params.distinguished_name.push(DnType::CommonName, tenant);
        });
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.authority.pem())).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![certificate(&signed.certificate)],
                PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).expect("a key"),
            )
            .expect("an identity");
        let addr = &self.worker.config.grpc_server.addr;
        let stream = TcpStream::connect(addr).await.expect("connect");
        let name = "worker.test".try_into().expect("a name");
        let mut stream = TlsConnector::from(Arc::new(tls))
            .connect(name, stream)
            .await
            .expect("handshake");
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await
            .expect("preface");
        stream
    }

    pub(crate) async fn client(&self, tenant: &str) -> Client {
        WorkerClient::new(self.channel(tenant).await)
    }

    async fn channel(&self, tenant: &str) -> Channel {
        let signed = self.authority.sign_with("client.test", |params| {
            params.distinguished_name.push(DnType::CommonName, tenant);
        });
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.pem()))
            .identity(signed.identity())
            .domain_name("worker.test");
        let addr = &self.worker.config.grpc_server.addr;
        Endpoint::from_shared(format!("https://{addr}"))
            .and_then(|endpoint| endpoint.tls_config(tls))
            .expect("endpoint")
            .connect()
            .await
            .expect("connect")
    }
}

pub(crate) async fn worker_of(client: &mut Client) -> v1::GetWorkerResponse {
    let answer = client.get_worker(v1::GetWorkerRequest {}).await;
    answer.expect("worker").into_inner()
}

#[tokio::test]
async fn a_quota_binds_its_tenant_alone() {
    let tenants = Tenants::start(|config| {
        let quota = Quota {
            max_running: 1,
            max_pending: 1,
            max_memory: 0,
        };
        config.tenants.quotas.insert("alice".to_owned(), quota);
    });
    let launcher = &tenants.worker.launcher;
    let mut alice = tenants.client("alice").await;
    let mut bob = tenants.client("bob").await;
    let runs = start(&mut alice, &["sleep"]).await;
    let waits = start(&mut alice, &["sleep"]).await;
    let refused = alice.start_job(command(&["sleep"])).await.expect_err("full");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let others = [
        start(&mut bob, &["sleep"]).await,
        start(&mut bob, &["sleep"]).await,
    ];
    eventually("others run", || others.iter().all(|id| launcher.knows(*id))).await;
    assert!(!launcher.knows(waits));
    let counts = worker_of(&mut alice).await;
    assert_eq!((counts.tenant_jobs_running, counts.tenant_jobs_pending), (1, 1));
    assert_eq!((counts.jobs_running, counts.jobs_pending), (3, 1));
    launcher.finish(runs, EXITED);
    eventually("its turn", || launcher.knows(waits)).await;
}

#[tokio::test]
async fn a_certificate_without_a_name_is_not_served() {
    let tenants = Tenants::start(|_| {});
    let signed = tenants.authority.sign_with("client.test", |params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
    });
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(tenants.authority.pem()))
        .identity(signed.identity())
        .domain_name("worker.test");
    let addr = &tenants.worker.config.grpc_server.addr;
    let channel = Endpoint::from_shared(format!("https://{addr}"))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .expect("endpoint")
        .connect_lazy();
    let refused = WorkerClient::new(channel)
        .get_worker(v1::GetWorkerRequest {})
        .await;
    refused.expect_err("nobody");
}

/// A reader that stays until it is dropped.
async fn read(
    client: &mut Client,
    id: stockade::job::JobId,
) -> Result<Streaming<v1::StreamOutputResponse>, Status> {
    let answer = client.stream_output(offsets(id, 0, 0, true)).await?;
    Ok(answer.into_inner())
}

#[tokio::test]
async fn readers_of_one_tenant_leave_places_for_those_of_another() {
    let tenants = Tenants::start(|_| {});
    let mut alice = tenants.client("alice").await;
    let mut bob = tenants.client("bob").await;
    let of_alice = start(&mut alice, &["sleep"]).await;
    let of_bob = start(&mut bob, &["sleep"]).await;
    let mut readers = Vec::new();
    let refused = loop {
        match read(&mut alice, of_alice).await {
            Ok(reader) => readers.push(reader),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("of this tenant"), "{refused}");
    let mut others = Vec::new();
    for _ in 0..readers.len() / 2 {
        others.push(read(&mut bob, of_bob).await.expect("a place of its own"));
    }
    // A reader that goes makes room for another one.
    drop((readers, others));
    let mut again = read(&mut alice, of_alice).await;
    while again.is_err() {
        tokio::task::yield_now().await;
        again = read(&mut alice, of_alice).await;
    }
}

/// Asks for a job with all of the largest request but its last byte; the refusal.
async fn stalled_start(channel: Channel, bytes: Bytes) -> Status {
    let frames = stream::once(async { Ok::<_, Status>(Frame::data(bytes)) });
    let body = StreamBody::new(frames.chain(stream::pending()));
    let request = Request::post("http://worker.test/stockade.v1.Worker/StartJob")
        .header("content-type", "application/grpc")
        .body(Body::new(body))
        .expect("request");
    let answer = channel.oneshot(request).await.expect("an answer");
    Status::from_header_map(answer.headers()).expect("a status")
}

#[tokio::test]
async fn requests_under_way_of_one_tenant_leave_room_for_those_of_another() {
    const REQUEST_BYTES: usize = 4 << 20;
    let _memory = MEMORY.lock().await;
    let tenants = Tenants::start(|_| {});
    let alice = tenants.channel("alice").await;
    let mut message = vec![0; 5 + REQUEST_BYTES - 1];
    message[1..5].copy_from_slice(&u32::try_from(REQUEST_BYTES).expect("u32").to_be_bytes());
    let message = Bytes::from(message);
    let mut stalled = JoinSet::new();
    // More than the calls of all tenants may hold.
    for _ in 0..72 {
        stalled.spawn(stalled_start(alice.clone(), message.clone()));
    }
    let refused = tokio::time::timeout(Duration::from_secs(20), stalled.join_next()).await;
    let refused = refused
        .expect("refused at once")
        .expect("a call")
        .expect("no panic");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("of this tenant"), "{refused}");

    let large = || v1::StartJobRequest {
        stdin: vec![0; 3 << 20],
        ..command(&["cat"])
    };
    let mut bob = tenants.client("bob").await;
    bob.start_job(large()).await.expect("room of its own");
    // What is given up makes room.
    drop(stalled);
    let mut alice = tenants.client("alice").await;
    let room_is_back = async {
        while alice.start_job(large()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), room_is_back)
        .await
        .expect("room");
}

#[tokio::test]
async fn only_an_operator_drains_a_worker_of_several_tenants() {
    let drain = v1::DrainWorkerRequest {};
    let tenants = Tenants::start(|config| config.tenants.operators = vec!["ops".to_owned()]);
    let mut alice = tenants.client("alice").await;
    for name in ["alice", "default", "op", "ops2"] {
        let refused = tenants.client(name).await.drain_worker(drain).await;
        assert_eq!(refused.expect_err(name).code(), Code::PermissionDenied);
    }
    // Nothing of it was done.
    assert!(!worker_of(&mut alice).await.draining);
    start(&mut alice, &["sleep"]).await;
    let mut operator = tenants.client("ops").await;
    operator.drain_worker(drain).await.expect("an operator");
    assert!(worker_of(&mut alice).await.draining);
    let refused = alice.start_job(command(&["sleep"])).await.expect_err("draining");
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn without_operators_nobody_drains_a_worker_of_several_tenants() {
    let tenants = Tenants::start(|_| {});
    for name in ["alice", "default"] {
        let mut client = tenants.client(name).await;
        let refused = client.drain_worker(v1::DrainWorkerRequest {}).await;
        assert_eq!(refused.expect_err(name).code(), Code::PermissionDenied);
        assert!(!worker_of(&mut client).await.draining);
    }
}

#[tokio::test]
async fn clients_with_certificates_that_are_one_tenant_are_its_operators() {
    let tenants = Tenants::start(|config| config.tenants.from = TenantsFrom::None);
    let mut client = tenants.client("alice").await;
    client
        .drain_worker(v1::DrainWorkerRequest {})
        .await
        .expect("everybody's worker");
    assert!(worker_of(&mut client).await.draining);
}

#[tokio::test]
async fn no_tenant_has_all_connections() {
    let tenants = Tenants::start(|config| config.grpc_server.max_connections = 4);
    let mut greedy = Vec::new();
    for _ in 0..2 {
        let mut client = tenants.client("greedy").await;
        worker_of(&mut client).await;
        greedy.push(client);
    }
    let mut one_too_many = tenants.client("greedy").await;
    let refused = one_too_many.get_worker(v1::GetWorkerRequest {}).await;
    let refused = refused.expect_err("half of the places are for others");
    let told = format!("{refused:?}");
    assert!(told.contains("too many connections of this tenant"), "{told}");
    drop(one_too_many);

    let mut modest = tenants.client("modest").await;
    worker_of(&mut modest).await;
    drop((greedy, modest));
    let place_is_back = async {
        while tenants
            .client("greedy")
            .await
            .get_worker(v1::GetWorkerRequest {})
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), place_is_back)
        .await
        .expect("a place that is given up is free again");
}

#[tokio::test]
async fn connections_that_are_refused_hold_no_place() {
    let tenants = Tenants::start(|config| config.grpc_server.max_connections = 8);
    let mut greedy = Vec::new();
    for _ in 0..4 {
        let mut client = tenants.client("greedy").await;
        worker_of(&mut client).await;
        greedy.push(client);
    }
    let begin = Instant::now();
    let _refused = join_all((0..12).map(|_| tenants.mute("greedy"))).await;
    let mut modest = tenants.client("modest").await;
    worker_of(&mut modest).await;
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}
