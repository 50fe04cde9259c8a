//! TLS: the server's certificate, and its requirements for clients' certificates.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientCertVerifierBuilder, NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore};

/// The TLS configuration of a server: versions 1.2 and 1.3, with `http/1.1` as the negotiated protocol.
///
/// The cryptography is from *ring*; a process-wide default is neither needed nor changed.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), longwire_server::Error> {
/// use longwire_server::{Server, TlsConfig};
///
/// let tls = TlsConfig::from_files("cert.pem", "key.pem")?;
/// let server = Server::bind("0.0.0.0:443").await?.tls(tls);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TlsConfig {
    config: Arc<rustls::ServerConfig>,
}

impl TlsConfig {
    /// Reads the certificate chain, the server's own certificate first, and its private key from PEM files.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if a file cannot be read or has the wrong content.
    pub fn from_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_file_iter(chain)?.collect::<Result<Vec<_>, _>>()?;
        Self::build(chain, PrivateKeyDer::from_pem_file(key)?, None)
    }

    /// Takes the certificate chain, the server's own certificate first, and its private key as PEM.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if they have the wrong content.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates(chain)?;
        Self::build(chain, PrivateKeyDer::from_pem_slice(key)?, None)
    }

    /// Does the same as [`from_pem`](Self::from_pem), and requires from each client a certificate signed by one of
    /// these authorities (PEM).
    ///
    /// [`Request::peer_certificates`](crate::Request::peer_certificates) returns the certificate, for instance in a
    /// hook that decides on the client.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if they have the wrong content.
    pub fn from_pem_with_clients(chain: &[u8], key: &[u8], authorities: &[u8]) -> Result<Self, TlsError> {
        Self::with_clients(chain, key, authorities, |verifier| verifier)
    }

    /// Does the same as [`from_pem_with_clients`](Self::from_pem_with_clients), but also accepts clients without a
    /// certificate: the application decides on them, for instance in
    /// [`Server::authorize`](crate::Server::authorize). A certificate that has expired or is not signed by one of
    /// the authorities still ends the TLS handshake.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if they have the wrong content.
    pub fn from_pem_with_optional_clients(
        chain: &[u8],
        key: &[u8],
        authorities: &[u8],
    ) -> Result<Self, TlsError> {
        Self::with_clients(chain, key, authorities, ClientCertVerifierBuilder::allow_unauthenticated)
    }

    fn with_clients(
        chain: &[u8],
        key: &[u8],
        authorities: &[u8],
        set_up: impl FnOnce(ClientCertVerifierBuilder) -> ClientCertVerifierBuilder,
    ) -> Result<Self, TlsError> {
        let chain = certificates(chain)?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(authorities)? {
            roots.add(authority)?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        Self::build(chain, PrivateKeyDer::from_pem_slice(key)?, Some(set_up(verifier)))
    }

    fn build(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        clients: Option<ClientCertVerifierBuilder>,
    ) -> Result<Self, TlsError> {
        if chain.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        // Named, because `builder()` panics if two providers are compiled in and none was chosen for the process.
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let builder =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let has_clients = clients.is_some();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier.build()?),
        };
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if has_clients {
            // A resumed session would bring back a certificate that was checked once and may have expired since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self { config: Arc::new(config) })
    }

    pub(crate) fn acceptor(self) -> TlsAcceptor {
        TlsAcceptor::from(self.config)
    }
}

impl From<Arc<rustls::ServerConfig>> for TlsConfig {
    /// Takes your own configuration. It should negotiate `http/1.1` or nothing.
    fn from(config: Arc<rustls::ServerConfig>) -> Self {
        Self { config }
    }
}

impl fmt::Debug for TlsConfig {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").finish_non_exhaustive()
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    Ok(CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?)
}

/// An error in the certificates or the key given to a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, is not PEM, or has no key.
    #[error("cannot read certificates or key: {0}")]
    Pem(#[from] pem::Error),
    /// The PEM has no certificate.
    #[error("no certificate was given")]
    NoCertificate,
    /// The key does not fit the certificate, or is of a kind that is not supported.
    #[error("invalid certificates or key: {0}")]
    Rustls(#[from] rustls::Error),
    /// Clients' certificates cannot be verified with these authorities.
    #[error("cannot set up the verification of client certificates: {0}")]
    Clients(#[from] rustls::server::VerifierBuilderError),
}
