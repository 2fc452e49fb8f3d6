use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::config::{GrpcServer, PemError, Pems, Scheduler};

use super::ServerError;

/// What the server shows and asks of its clients.
#[derive(Debug, Clone)]
pub(super) struct ServerTls {
    pub(super) config: Arc<ServerConfig>,
}

/// What the worker shows and asks of its scheduler.
#[derive(Debug, Clone)]
pub(super) struct ClientTls {
    pub(super) config: tonic::transport::ClientTlsConfig,
}

impl ServerTls {
    pub(super) fn read(server: &GrpcServer) -> Result<Self, ServerError> {
        let pems = Pems::read(server).map_err(|PemError { path, source }| invalid(&path)(source))?;
        Self::of(server, &pems)
    }

    /// `pems` is what is in the files of `server`.
    pub(super) fn of(server: &GrpcServer, pems: &Pems) -> Result<Self, ServerError> {
        let chain = certificates(&server.crt_file, &pems.chain)?;
        let key = PrivateKeyDer::from_pem_slice(&pems.key).map_err(invalid(&server.key_file))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(invalid(&server.crt_file))?;
        let builder = match (&server.client_ca_file, &pems.client_ca) {
            (Some(file), Some(pem)) => {
                let roots = Arc::new(roots(file, pem)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(invalid(file))?;
                builder.with_client_cert_verifier(verifier)
            }
            (Some(file), None) => return Err(invalid(file)("was not read")),
            (None, _) => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(invalid(&server.crt_file))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            config: Arc::new(config),
        })
    }
}

impl ClientTls {
    pub(super) fn read(scheduler: &Scheduler) -> Result<Self, ServerError> {
        let mut config = tonic::transport::ClientTlsConfig::new();
        config = match &scheduler.ca_file {
            Some(file) => config.ca_certificate(tonic::transport::Certificate::from_pem(text(file)?)),
            None => config.with_native_roots(),
        };
        if let (Some(certificate), Some(key)) = (&scheduler.crt_file, &scheduler.key_file) {
            config = config.identity(tonic::transport::Identity::from_pem(
                text(certificate)?,
                text(key)?,
            ));
        }
        if let Some(name) = &scheduler.server_name {
            config = config.domain_name(name);
        }
        Ok(Self { config })
    }
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(invalid(file))?;
    if certificates.is_empty() {
        return Err(invalid(file)("holds no certificate"));
    }
    Ok(certificates)
}

fn roots(file: &Path, pem: &[u8]) -> Result<RootCertStore, ServerError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, pem)? {
        roots.add(certificate).map_err(invalid(file))?;
    }
    Ok(roots)
}

fn text(file: &PathBuf) -> Result<Vec<u8>, ServerError> {
    std::fs::read(file).map_err(invalid(file))
}

fn invalid<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> ServerError {
    move |error| ServerError::Tls {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
