use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::Status;
use tonic::codegen::http::Uri;
use tonic::transport::{self, Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::{Address, innermost};
use crate::cli::client_options::{ClientOptions, TlsOptions};
use crate::proto::v1::worker_client::WorkerClient;
use crate::sys::UnixConnection;

pub(in crate::cli) type Worker = WorkerClient<Channel>;

/// How long a connection may take to come about, TLS included, and then the first answer.
const CONNECT: Duration = Duration::from_secs(5);
/// A peer that has died without a word is noticed after the sum of these.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);
/// A page of jobs with the most and longest labels that a job may carry is 3 MiB.
const LONGEST_ANSWER_BYTES: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ConnectError {
    #[error("{option} {}: {source}", path.display())]
    Pem {
        option: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{option} {}: {reason}", path.display())]
    Unusable {
        option: &'static str,
        path: PathBuf,
        reason: String,
    },
    #[error("--tls-ca is needed with https://: the authority that signed the worker's certificate")]
    NoAuthority,
    #[error("TLS options, but {address} is not encrypted: use https://")]
    Plaintext { address: Address },
    #[error("TLS options: {0}")]
    Tls(String),
    #[error("cannot reach {address}: {}", innermost(source))]
    Unreachable {
        address: Address,
        source: transport::Error,
    },
    #[error("cannot reach {address}: no answer within {} s", CONNECT.as_secs())]
    Silent { address: Address },
    #[error("cannot reach {address}: {}", innermost(source))]
    Broken { address: Address, source: Status },
    #[error("{0}; the worker may want --tls-cert")]
    BrokenWithoutCertificate(Box<Self>),
}

/// Connects to who answers, or says why not: each of the two within [`CONNECT`].
pub(in crate::cli) async fn connect(options: &ClientOptions) -> Result<Worker, ConnectError> {
    connect_to(&options.endpoint, &options.tls).await
}

/// As [`connect`], for who knows the address.
pub(in crate::cli) async fn connect_to(
    address: &Address,
    options: &TlsOptions,
) -> Result<Worker, ConnectError> {
    let unreachable = |source| ConnectError::Unreachable {
        address: address.clone(),
        source,
    };
    let channel = match address {
        Address::Http(_) | Address::Unix(_) if options.is_given() => {
            return Err(ConnectError::Plaintext {
                address: address.clone(),
            });
        }
        Address::Http(uri) => endpoint(uri.clone()).connect().await,
        Address::Https(uri) => {
            let secured = endpoint(uri.clone())
                .tls_config(tls(options)?)
                .map_err(|error| ConnectError::Tls(innermost(&error)))?;
            secured.connect().await
        }
        Address::Unix(path) => connect_unix(path.clone()).await,
    };
    let channel = channel.map_err(unreachable)?;
    hear(channel.clone(), address, options).await?;
    Ok(WorkerClient::new(channel).max_decoding_message_size(LONGEST_ANSWER_BYTES))
}

/// Waits for an answer, whatever it says. A kernel takes connections for a process that is stuck, and with TLS 1.3 a
/// client learns only after its own handshake that its certificate is refused (RFC 8446, 4.4.2.4).
async fn hear(channel: Channel, address: &Address, options: &TlsOptions) -> Result<(), ConnectError> {
    let mut health = HealthClient::new(channel);
    let answer = timeout(CONNECT, health.check(HealthCheckRequest::default())).await;
    match answer {
        Err(_) => Err(ConnectError::Silent {
            address: address.clone(),
        }),
        Ok(Err(status)) if status.source().is_some() => {
            let broken = ConnectError::Broken {
                address: address.clone(),
                source: status,
            };
            Err(match address {
                Address::Https(_) if options.tls_cert.is_none() => {
                    ConnectError::BrokenWithoutCertificate(Box::new(broken))
                }
                _ => broken,
            })
        }
        Ok(_) => Ok(()),
    }
}

fn endpoint(uri: Uri) -> Endpoint {
    Endpoint::from(uri)
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .keep_alive_while_idle(true)
}

async fn connect_unix(path: PathBuf) -> Result<Channel, transport::Error> {
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixConnection::connect(&path).await.map(TokioIo::new) }
    });
    // The URI only fills the :authority header, which a Unix socket has none for.
    endpoint(Uri::from_static("http://localhost"))
        .connect_with_connector(connector)
        .await
}

fn tls(options: &TlsOptions) -> Result<ClientTlsConfig, ConnectError> {
    let authority = options.tls_ca.as_deref().ok_or(ConnectError::NoAuthority)?;
    let mut config = ClientTlsConfig::new()
        .timeout(CONNECT)
        .ca_certificate(Certificate::from_pem(authorities(authority)?));
    if let Some(name) = &options.tls_server_name {
        config = config.domain_name(name);
    }
    if let (Some(certificate), Some(key)) = (&options.tls_cert, &options.tls_key) {
        config = config.identity(Identity::from_pem(
            certificates("--tls-cert", certificate)?.0,
            private_key(key)?,
        ));
    }
    Ok(config)
}

/// Whoever makes a connection of these says only that TLS failed, or takes what it cannot read for nothing: each file is
/// looked at here.
fn authorities(path: &Path) -> Result<Vec<u8>, ConnectError> {
    let (text, found) = certificates("--tls-ca", path)?;
    let mut roots = RootCertStore::empty();
    for certificate in found {
        let added = roots.add(certificate);
        added.map_err(|error| unusable("--tls-ca", path, error.to_string()))?;
    }
    Ok(text)
}

fn certificates(
    option: &'static str,
    path: &Path,
) -> Result<(Vec<u8>, Vec<CertificateDer<'static>>), ConnectError> {
    let text = read(option, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unusable(option, path, "holds no certificate in PEM form")),
        Ok(found) => Ok((text, found)),
        Err(error) => Err(unusable(option, path, error.to_string())),
    }
}

fn private_key(path: &Path) -> Result<Vec<u8>, ConnectError> {
    let text = read("--tls-key", path)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(unusable("--tls-key", path, "holds no private key in PEM form")),
    }
}

fn unusable(option: &'static str, path: &Path, reason: impl Into<String>) -> ConnectError {
    ConnectError::Unusable {
        option,
        path: path.to_owned(),
        reason: reason.into(),
    }
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, ConnectError> {
    std::fs::read(path).map_err(|source| ConnectError::Pem {
        option,
        path: path.to_owned(),
        source,
    })
}
