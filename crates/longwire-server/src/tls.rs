//! TLS: the server's certificate, and what it asks of clients.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientCertVerifierBuilder, NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore};

/// How a server speaks TLS: 1.2 and 1.3, with `http/1.1` as the protocol that it negotiates.
///
/// The cryptography is that of *ring*; a process-wide default is neither needed nor changed.
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
    /// Reads the chain of certificates, the server's own first, and its private key from files in PEM.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if a file cannot be read or does not hold what it should.
    pub fn from_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_file_iter(chain)?.collect::<Result<Vec<_>, _>>()?;
        Self::build(chain, PrivateKeyDer::from_pem_file(key)?, None)
    }

    /// Takes the chain of certificates, the server's own first, and its private key as PEM.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if they are not what they should be.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates(chain)?;
        Self::build(chain, PrivateKeyDer::from_pem_slice(key)?, None)
    }

    /// As [`from_pem`](Self::from_pem), and demands of each client a certificate that one of these authorities (PEM) has
    /// signed.
    ///
    /// [`Request::peer_certificates`](crate::Request::peer_certificates) has it where the client is decided about.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if they are not what they should be.
    pub fn from_pem_with_clients(chain: &[u8], key: &[u8], authorities: &[u8]) -> Result<Self, TlsError> {
        Self::with_clients(chain, key, authorities, |verifier| verifier)
    }

    /// As [`from_pem_with_clients`](Self::from_pem_with_clients), but a client without a certificate is let in as well: the
    /// application decides about it, such as in [`Server::authorize`](crate::Server::authorize). A certificate that is shown and is not signed by one
    /// of the authorities, or has expired, still ends the TLS handshake.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if they are not what they should be.
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
        // Named, as `builder()` panics where two providers are compiled in and none was chosen for the process.
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
            // A session that is resumed would bring a certificate that was checked once and may have expired since.
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
    /// Takes a configuration of your own. It should negotiate `http/1.1` or nothing.
    fn from(config: Arc<rustls::ServerConfig>) -> Self {
        Self { config }
    }
}

impl fmt::Debug for TlsConfig {
    /// Leaves out the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").finish_non_exhaustive()
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    Ok(CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?)
}

/// Why a server cannot speak TLS with what it was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is no PEM, or has no key.
    #[error("cannot read certificates or key: {0}")]
    Pem(#[from] pem::Error),
    /// There is no certificate in it.
    #[error("no certificate was given")]
    NoCertificate,
    /// The key does not fit the certificate, or is of a kind that is not supported.
    #[error("certificates or key cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
    /// Certificates of clients cannot be checked with these authorities.
    #[error("clients cannot be checked: {0}")]
    Clients(#[from] rustls::server::VerifierBuilderError),
}
