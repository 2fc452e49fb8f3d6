use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use stockade::config::Config;
use stockade::proto::v1;
use stockade::proto::v1::worker_client::WorkerClient;
use stockade::server::ServerError;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::support::TestWorker;

/// An authority and what it signed.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("self-signed"),
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn sign(&self, name: &str) -> Signed {
        self.sign_with(name, |_| {})
    }

    pub(crate) fn sign_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        change(&mut params);
        Signed {
            certificate: params.signed_by(&key, &self.issuer).expect("sign").pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Signed {
    pub(crate) fn identity(&self) -> Identity {
        Identity::from_pem(&self.certificate, &self.key)
    }

    fn write(&self, folder: &Path) {
        std::fs::write(folder.join("server.pem"), &self.certificate).expect("write");
        std::fs::write(folder.join("server.key"), &self.key).expect("write");
    }
}

pub(crate) fn use_tls(config: &mut Config, signed: &Signed, client_ca: Option<&Authority>) {
    let folder = config.worker.state_dir.clone();
    signed.write(&folder);
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    config.grpc_server.addr = port.local_addr().expect("address").to_string();
    config.grpc_server.use_tls = true;
    config.grpc_server.crt_file = folder.join("server.pem");
    config.grpc_server.key_file = folder.join("server.key");
    config.grpc_server.client_ca_file = client_ca.map(|authority| {
        let file = folder.join("clients.pem");
        std::fs::write(&file, authority.pem()).expect("write");
        file
    });
}

/// Whether a call with these settings is answered.
async fn call(worker: &TestWorker, tls: Option<ClientTlsConfig>) -> bool {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut endpoint =
        Endpoint::from_shared(format!("{scheme}://{}", worker.config.grpc_server.addr)).expect("endpoint");
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls.domain_name("worker.test")).expect("tls");
    }
    let Ok(channel) = endpoint.connect().await else {
        return false;
    };
    WorkerClient::new(channel)
        .get_worker(v1::GetWorkerRequest {})
        .await
        .is_ok()
}

fn trusting(authority: &Authority) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()))
}

#[tokio::test]
async fn tls_serves_those_who_trust_the_certificate() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let worker = TestWorker::start_with(|config| use_tls(config, &authority.sign("worker.test"), None));
    assert!(call(&worker, Some(trusting(&authority))).await);
    assert!(!call(&worker, Some(trusting(&stranger))).await);
    assert!(!call(&worker, None).await, "plaintext to a TLS port");
}

#[tokio::test]
async fn mutual_tls_serves_clients_of_its_authority_alone() {
    let (authority, clients, stranger) = (Authority::new(), Authority::new(), Authority::new());
    let worker =
        TestWorker::start_with(|config| use_tls(config, &authority.sign("worker.test"), Some(&clients)));
    let with = |identity: Identity| Some(trusting(&authority).identity(identity));
    assert!(call(&worker, with(clients.sign("client").identity())).await);
    assert!(!call(&worker, with(stranger.sign("client").identity())).await);
    assert!(!call(&worker, Some(trusting(&authority))).await, "no certificate");
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_by_a_reload() {
    let (old, new) = (Authority::new(), Authority::new());
    let worker = TestWorker::start_with(|config| use_tls(config, &old.sign("worker.test"), None));
    assert!(call(&worker, Some(trusting(&old))).await);
    new.sign("worker.test").write(&worker.config.worker.state_dir);
    worker.running().reload().await;
    assert!(call(&worker, Some(trusting(&new))).await);
    assert!(!call(&worker, Some(trusting(&old))).await);
    std::fs::write(&worker.config.grpc_server.crt_file, "garbage").expect("write");
    worker.running().reload().await;
    assert!(
        call(&worker, Some(trusting(&new))).await,
        "garbage changes nothing"
    );
}

#[test]
fn files_that_make_no_sense_are_named() {
    let authority = Authority::new();
    for broken in ["server.pem", "server.key"] {
        let mut worker = TestWorker::stopped(|config| use_tls(config, &authority.sign("worker.test"), None));
        std::fs::write(worker.config.worker.state_dir.join(broken), "garbage").expect("write");
        let refused = worker.try_revive().expect_err(broken);
        assert!(matches!(&refused, ServerError::Tls { .. }), "{refused}");
        assert!(refused.to_string().contains(broken), "{refused}");
    }
}
