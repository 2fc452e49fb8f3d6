//! Who is at the other end of a connection, and whose jobs that makes theirs.

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::Config;
use crate::job::is_unprintable;
use crate::policy::Tenant;

use super::places::Share;

/// Of clients that are not told apart.
const EVERYBODY: &str = "default";
const NAME_BYTES: usize = 255;

/// What a connection has proved about its other end. Metadata of a request never says who it is from.
#[derive(Debug, Clone)]
pub struct Peer {
    tenant: Tenant,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client's certificate names no tenant: {0}")]
pub(super) struct Nameless(&'static str);

impl Default for Peer {
    fn default() -> Self {
        Self::of(EVERYBODY)
    }
}

impl Peer {
    fn of(name: &str) -> Self {
        Self {
            tenant: Tenant {
                name: name.to_owned(),
            },
        }
    }

    /// The tenant that a certificate's subject names, once an authority of ours has been found to vouch for it.
    pub(super) fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, Nameless> {
        let (_, certificate) =
            X509Certificate::from_der(certificate).map_err(|_| Nameless("it cannot be read"))?;
        let mut names = certificate.subject().iter_common_name();
        // Of two names each might be taken for the one that counts.
        let (Some(name), None) = (names.next(), names.next()) else {
            return Err(Nameless("its subject has not exactly one common name"));
        };
        match name.as_str() {
            Ok(name) if !name.is_empty() && name.len() <= NAME_BYTES && !name.chars().any(is_unprintable) => {
                Ok(Self::of(name))
            }
            _ => Err(Nameless("its common name is no plain text of 1 to 255 bytes")),
        }
    }

    #[must_use]
    pub const fn tenant(&self) -> &Tenant {
        &self.tenant
    }
}

/// Who makes the calls of a connection.
#[derive(Debug)]
pub struct Caller {
    peer: Peer,
    /// What its tenant's calls may hold.
    pub(super) calls: Share,
}

impl Caller {
    pub(super) const fn new(peer: Peer, calls: Share) -> Self {
        Self { peer, calls }
    }

    #[must_use]
    pub const fn tenant(&self) -> &Tenant {
        self.peer.tenant()
    }
}

/// Who may do what concerns every tenant of the worker.
#[derive(Debug)]
pub(super) enum Operators {
    /// Clients are not told apart.
    Everybody,
    Named(Vec<String>),
}

impl Operators {
    pub(super) fn of(config: &Config) -> Self {
        if config.tells_tenants_apart() {
            Self::Named(config.tenants.operators.clone())
        } else {
            Self::Everybody
        }
    }

    pub(super) fn include(&self, tenant: &Tenant) -> bool {
        match self {
            Self::Everybody => true,
            Self::Named(names) => names.contains(&tenant.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn peer(names: &[&str]) -> Result<Peer, Nameless> {
        let mut params = CertificateParams::new(vec!["someone.else".to_owned()]).expect("parameters");
        params.distinguished_name = DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        let key = KeyPair::generate().expect("key");
        Peer::of_certificate(params.self_signed(&key).expect("sign").der())
    }

    #[test]
    fn the_subject_names_the_tenant() {
        assert_eq!(peer(&["alice"]).expect("a name").tenant().name, "alice");
        assert_eq!(
            peer(&["Team Zürich"]).expect("a name").tenant().name,
            "Team Zürich"
        );
    }

    #[test]
    fn a_certificate_without_a_usable_name_is_nobodys() {
        let long = "x".repeat(NAME_BYTES + 1);
        for names in [&[][..], &[""], &["a\nb"], &["\u{202e}b"], &[&long]] {
            peer(names).expect_err("no name");
        }
        let garbage = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
        Peer::of_certificate(&garbage).expect_err("garbage");
    }
}
