//! TLS: the server's certificates, and its requirements for clients.
//!
//! Owns the configuration as a whole. Its parts are in the modules below: the certificates and their files, their
//! names, and the times at which files are read again.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem;
use tokio_rustls::server::TlsStream;

use reload::Reload;
use resolver::Resolver;

mod builder;
mod certificate;
mod names;
mod provider;
mod reload;
mod resolver;

pub use builder::TlsBuilder;
pub use certificate::TlsCertificate;

/// The TLS configuration of a server: versions 1.2 and 1.3, with `http/1.1` as the negotiated protocol.
///
/// A process-wide default of the cryptography is neither needed nor changed: it is from aws-lc-rs with the feature of
/// that name, otherwise from *ring* with the feature `ring`. Only if neither is on, the provider that the process has
/// installed is used.
///
/// A clone shares the certificates and the keys of session tickets. Give the servers of a process clones of one
/// configuration, so that a client can resume its session at each of them.
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
    /// The certificates, unless the configuration is the caller's.
    resolver: Option<Arc<Resolver>>,
    reload: Option<Arc<Reload>>,
}

impl TlsConfig {
    /// Starts a configuration with more than one certificate, or with other options.
    pub fn builder() -> TlsBuilder {
        TlsBuilder::default()
    }

    /// Reads the certificate chain, the server's own certificate first, and its private key from PEM files. Changed
    /// files are read again, at most once a minute: see [`TlsBuilder::reload_every`].
    ///
    /// # Errors
    ///
    /// [`TlsError`] if a file cannot be read or has the wrong content.
    pub fn from_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        Self::builder().certificate(TlsCertificate::from_files(chain.as_ref(), key.as_ref())).build()
    }

    /// Takes the certificate chain, the server's own certificate first, and its private key as PEM.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if they have the wrong content.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::builder().certificate(TlsCertificate::from_pem(chain, key)).build()
    }

    /// Does the same as [`from_pem`](Self::from_pem), and requires from each client a certificate signed by one of
    /// these authorities (PEM): see [`TlsBuilder::require_client_certificates`].
    ///
    /// # Errors
    ///
    /// [`TlsError`] if they have the wrong content.
    pub fn from_pem_with_clients(chain: &[u8], key: &[u8], authorities: &[u8]) -> Result<Self, TlsError> {
        let builder = Self::builder().certificate(TlsCertificate::from_pem(chain, key));
        builder.require_client_certificates(authorities).build()
    }

    /// Does the same as [`from_pem_with_clients`](Self::from_pem_with_clients), but also accepts clients without a
    /// certificate: see [`TlsBuilder::request_client_certificates`].
    ///
    /// # Errors
    ///
    /// [`TlsError`] if they have the wrong content.
    pub fn from_pem_with_optional_clients(
        chain: &[u8],
        key: &[u8],
        authorities: &[u8],
    ) -> Result<Self, TlsError> {
        let builder = Self::builder().certificate(TlsCertificate::from_pem(chain, key));
        builder.request_client_certificates(authorities).build()
    }

    /// Reads the certificates' files again now, blocking, for instance after a signal. Handshakes that begin after
    /// the call use them; established connections are not affected. Clones share the certificates.
    ///
    /// A configuration without files does nothing.
    ///
    /// # Errors
    ///
    /// The first [`TlsError`] if files cannot be read or used. Their previous certificates stay in use; certificates
    /// without an error are replaced nevertheless.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.resolver.as_ref().map_or(Ok(()), |resolver| resolver.reload())
    }

    /// Performs the TLS handshake of a connection.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        if let Some(reload) = &self.reload {
            reload.look().await;
        }
        TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await
    }
}

impl From<Arc<rustls::ServerConfig>> for TlsConfig {
    /// Takes your own configuration. It should negotiate `http/1.1` or nothing.
    fn from(config: Arc<rustls::ServerConfig>) -> Self {
        Self { config, resolver: None, reload: None }
    }
}

impl fmt::Debug for TlsConfig {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").finish_non_exhaustive()
    }
}

/// The configuration that [`ServerHandle::set_tls`](crate::ServerHandle::set_tls) has set for all servers of a group.
#[derive(Debug, Default)]
pub(crate) struct Replacement(RwLock<Option<TlsConfig>>);

impl Replacement {
    pub(crate) fn set(&self, tls: TlsConfig) {
        let old = self.0.write().unwrap_or_else(PoisonError::into_inner).replace(tls);
        drop(old);
    }

    pub(crate) fn get(&self) -> Option<TlsConfig> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An error in the certificates or the key given to a server.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A text is not PEM, or has no key.
    #[error("cannot read certificates or key")]
    Pem(#[from] pem::Error),
    /// The PEM has no certificate.
    #[error("no certificate was given")]
    NoCertificate,
    /// The key does not fit the certificate, or is of a kind that is not supported.
    #[error("invalid certificates or key")]
    Rustls(#[from] rustls::Error),
    /// The certificate of an authority that signs clients' certificates is invalid.
    #[error("invalid certificate of an authority for client certificates")]
    Authority(#[source] rustls::Error),
    /// Clients' certificates cannot be verified with these authorities.
    #[error("cannot set up the verification of client certificates")]
    Clients(#[from] rustls::server::VerifierBuilderError),
    /// A certificate is not valid for a name that it was given for.
    #[error("certificate is not valid for {name}")]
    WrongName {
        /// The name.
        name: String,
        /// The error of rustls.
        source: rustls::Error,
    },
    /// Neither a host name nor a wildcard such as `*.example.com`.
    #[error("{name} is neither a host name nor a wildcard of one")]
    InvalidName {
        /// The name.
        name: String,
    },
    /// Two certificates were given for one name.
    #[error("more than one certificate for {name}")]
    RepeatedName {
        /// The name.
        name: String,
    },
    /// No cryptography: neither of the features `ring` and `aws-lc-rs` is on, and the process has installed none.
    #[error(
        "no provider of cryptography: enable the feature ring (rustls in longwire) or aws-lc-rs, or install one for \
         the process"
    )]
    NoProvider,
}

longwire_connection::debug_with_causes!(TlsError);
