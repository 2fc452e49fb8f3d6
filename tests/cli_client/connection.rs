//! Addresses and TLS.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::fake::Fake;
use super::harness::{Served, stockade};

#[test]
fn a_unix_socket_is_an_endpoint() {
    let folder = tempfile::tempdir().expect("tempdir");
    let served = Served::on_unix(&Fake::with_jobs(), &folder.path().join("s"));
    let worker = served.stockade(&["worker", "-o", "json"]).succeeded().json();
    assert_eq!(worker["version"], "9.8.7");
    let missing = format!("unix:{}", folder.path().join("missing").display());
    stockade(&missing, &["worker"]).failed(1, &format!("cannot reach {missing}: No such file"));
}

#[test]
fn the_option_goes_before_the_variable() {
    let served = Served::on_tcp(&Fake::with_jobs());
    stockade("http://127.0.0.1:1", &["worker", "--endpoint", &served.endpoint]).succeeded();
}

#[test]
fn nobody_there_is_told_at_once() {
    let start = Instant::now();
    stockade("http://127.0.0.1:1", &["worker"])
        .failed(1, "cannot reach http://127.0.0.1:1: Connection refused");
    stockade("http://127.0.0.1:1", &["wait", "x"]).failed(125, "Connection refused");
    assert!(start.elapsed() < Duration::from_secs(4));
    stockade("127.0.0.1:50000", &["worker"]).failed(2, "neither http://HOST:PORT");
}

#[test]
fn a_port_that_speaks_something_else_is_told_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("https://{}", silent.local_addr().expect("an address"));
    let pki = Pki::new();
    let ca = pki.file("ca.pem");
    let start = Instant::now();
    stockade(&endpoint, &["worker", "--tls-ca", &ca]).failed(1, "cannot reach");
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
}

#[test]
fn a_peer_that_says_nothing_is_told_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let start = Instant::now();
    stockade(&endpoint, &["list"]).failed(1, &format!("cannot reach {endpoint}: no answer within 5 s"));
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
}

/// An authority, a worker's certificate for "localhost" and a client's.
struct Pki {
    folder: TempDir,
}

impl Pki {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(authority, key).expect("a certificate");
        let pki = Self { folder };
        fs::write(pki.path("ca.pem"), issuer.pem()).expect("write");
        for name in ["localhost", "client"] {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new([name.to_owned()]).expect("a name");
            let certificate = params.signed_by(&key, &issuer).expect("a certificate");
            fs::write(pki.path(&format!("{name}.pem")), certificate.pem()).expect("write");
            fs::write(pki.path(&format!("{name}.key")), key.serialize_pem()).expect("write");
        }
        pki
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("a file of the test's own")
    }

    fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new().identity(Identity::from_pem(
            self.read("localhost.pem"),
            self.read("localhost.key"),
        ))
    }
}

#[test]
fn tls_needs_the_authority_that_signed() {
    let (pki, other) = (Pki::new(), Pki::new());
    let served = Served::with_tls(&Fake::with_jobs(), pki.server());
    served
        .stockade(&["worker", "--tls-ca", &pki.file("ca.pem")])
        .succeeded();
    served
        .stockade(&["worker"])
        .failed(1, "--tls-ca is needed with https://");
    served
        .stockade(&["worker", "--tls-ca", &other.file("ca.pem")])
        .failed(1, "certificate");
    served
        .stockade(&["worker", "--tls-ca", "/nonexistent"])
        .failed(1, "--tls-ca /nonexistent: No such file");
}

#[test]
fn tls_checks_the_name() {
    let pki = Pki::new();
    let served = Served::with_tls(&Fake::with_jobs(), pki.server());
    let by_address = served.endpoint.replace("localhost", "127.0.0.1");
    let ca = pki.file("ca.pem");
    stockade(&by_address, &["worker", "--tls-ca", &ca]).failed(1, "certificate");
    stockade(
        &by_address,
        &["worker", "--tls-ca", &ca, "--tls-server-name", "localhost"],
    )
    .succeeded();
}

#[test]
fn a_client_shows_its_certificate() {
    let pki = Pki::new();
    let mutual = pki
        .server()
        .client_ca_root(Certificate::from_pem(pki.read("ca.pem")));
    let served = Served::with_tls(&Fake::with_jobs(), mutual);
    let (ca, certificate, key) = (pki.file("ca.pem"), pki.file("client.pem"), pki.file("client.key"));
    let words = [
        "worker",
        "--tls-ca",
        &ca,
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
    ];
    served.stockade(&words).succeeded();
    served
        .stockade(&words[..3])
        .failed(1, "; the worker may want --tls-cert\n");
    served.stockade(&words[..5]).failed(2, "--tls-key");
}

#[test]
fn a_file_that_tls_cannot_use_is_named_with_its_option() {
    let pki = Pki::new();
    let served = Served::with_tls(&Fake::with_jobs(), pki.server());
    fs::write(pki.path("script.sh"), "#!/bin/sh\n").expect("write");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(pki.path("broken.pem"), broken).expect("write");
    for (ca, certificate, key, wrong) in [
        ("script.sh", "client.pem", "client.key", "--tls-ca"),
        ("client.key", "client.pem", "client.key", "--tls-ca"),
        ("broken.pem", "client.pem", "client.key", "--tls-ca"),
        ("ca.pem", "script.sh", "client.key", "--tls-cert"),
        ("ca.pem", "client.pem", "script.sh", "--tls-key"),
        ("ca.pem", "client.pem", "client.pem", "--tls-key"),
    ] {
        let (ca, certificate, key) = (pki.file(ca), pki.file(certificate), pki.file(key));
        let options = ["--tls-ca", &ca, "--tls-cert", &certificate, "--tls-key", &key];
        let at = options
            .iter()
            .position(|option| *option == wrong)
            .expect("an option");
        served
            .stockade(&[&["worker"][..], &options].concat())
            .failed(1, &format!("stockade: {wrong} {}: ", options[at + 1]));
    }
}

#[test]
fn tls_options_without_tls_are_no_security() {
    let pki = Pki::new();
    let served = Served::on_tcp(&Fake::with_jobs());
    let folder = tempfile::tempdir().expect("tempdir");
    let local = Served::on_unix(&Fake::with_jobs(), &folder.path().join("socket"));
    for served in [&served, &local] {
        for option in [
            ["--tls-ca", &pki.file("ca.pem")],
            ["--tls-server-name", "worker.internal"],
        ] {
            served
                .stockade(&[&["worker"][..], &option].concat())
                .failed(1, "is not encrypted: use https://");
        }
    }
}
