//! A certificate with its key, and the places that they come from.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::sign::CertifiedKey;

use super::TlsError;
use super::names::Name;

/// A certificate chain, the server's own certificate first, and its private key, as PEM.
///
/// It is read and checked by [`TlsBuilder::build`](crate::TlsBuilder::build).
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a certificate does nothing until a TlsBuilder gets it"]
pub struct TlsCertificate {
    source: Source,
}

#[derive(Clone, PartialEq, Eq)]
enum Source {
    Pem { chain: Vec<u8>, key: Vec<u8> },
    Files { chain: PathBuf, key: PathBuf },
}

impl TlsCertificate {
    /// Takes the chain and the key as PEM. They never change.
    pub fn from_pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self { source: Source::Pem { chain: chain.into(), key: key.into() } }
    }

    /// Takes the chain and the key from PEM files, and follows their changes: see
    /// [`TlsBuilder::reload_every`](crate::TlsBuilder::reload_every).
    pub fn from_files(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { source: Source::Files { chain: chain.into(), key: key.into() } }
    }

    /// Returns the file of the chain, if the chain is in a file.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.source {
            Source::Pem { .. } => None,
            Source::Files { chain, .. } => Some(chain),
        }
    }

    /// Returns the PEM as it is now. Reads files, blocking.
    pub(super) fn read(&self) -> Result<Content<'_>, TlsError> {
        match &self.source {
            Source::Pem { chain, key } => Ok(Content { chain: chain.into(), key: key.into() }),
            Source::Files { chain, key } => {
                Ok(Content { chain: read(chain)?.into(), key: read(key)?.into() })
            }
        }
    }
}

impl fmt::Debug for TlsCertificate {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsCertificate").field("file", &self.file()).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

/// The PEM of a certificate chain and its key.
pub(super) struct Content<'a> {
    chain: Cow<'a, [u8]>,
    key: Cow<'a, [u8]>,
}

impl Content<'_> {
    /// Returns the certificate for rustls.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if the PEM is malformed or incomplete, if the key is not that of the certificate, or if the
    /// certificate is not valid for one of the names.
    pub(super) fn certify(
        &self,
        names: &[Name],
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, TlsError> {
        let chain = certificates(&self.chain)?;
        let Some(own) = chain.first() else { return Err(TlsError::NoCertificate) };
        let parsed = ParsedCertificate::try_from(own)?;
        for name in names {
            verify_server_name(&parsed, &ServerName::DnsName(name.example()))
                .map_err(|source| TlsError::WrongName { name: name.to_string(), source })?;
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)?;
        Ok(CertifiedKey::from_der(chain, key, provider)?)
    }
}

/// A digest of what was read, so that a change is noticed without keeping another copy of the key. It is a random
/// function for each certificate.
#[derive(Debug, Default)]
pub(super) struct Fingerprint(RandomState);

impl Fingerprint {
    pub(super) fn of(&self, read: &Result<Content<'_>, TlsError>) -> u64 {
        let mut hasher = self.0.build_hasher();
        match read {
            Ok(Content { chain, key }) => (chain, key).hash(&mut hasher),
            Err(TlsError::File { path, source }) => (path, source.kind()).hash(&mut hasher),
            Err(_) => io::ErrorKind::Other.hash(&mut hasher),
        }
        hasher.finish()
    }
}

pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    Ok(CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?)
}
