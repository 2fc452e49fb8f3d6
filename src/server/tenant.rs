//! Who is at the other end of a connection, and whose jobs that makes theirs.

use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::policy::Tenant;

/// What a connection has proved about its other end.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The client's certificate, checked against `client_ca_file`.
    pub certificate: Option<CertificateDer<'static>>,
}

/// The tenant of a connection. Metadata of a request never says who it is from.
#[must_use]
pub fn tenant_of(_peer: &Peer) -> Tenant {
    // One tenant today; the certificate's subject will name it.
    Tenant {
        name: "default".to_owned(),
    }
}
