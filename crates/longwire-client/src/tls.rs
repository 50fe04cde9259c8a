//! TLS: whom a client trusts, what it shows of itself, and the TLS handshake.
//!
//! Owns the making of rustls configurations. The provider is always ring and always named, so that nothing has to be installed for
//! the process and another crate's choice cannot break this one's.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{ResolvesClientCert, WantsClientCert};
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{
    self, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier,
};

use crate::Transport;

/// Whom a client trusts, and what it shows of itself, where a URL asks for TLS.
///
/// The default shows no certificate and trusts what the operating system trusts (feature `platform-roots`), or else Mozilla's list
/// (feature `webpki-roots`, also where the system has none). Versions 1.2 and 1.3 are spoken, and ALPN asks for `http/1.1`, without which some servers choose HTTP/2.
///
/// # Examples
///
/// ```no_run
/// use longwire_client::{Client, TlsConfig};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = TlsConfig::new().root_certificates_file("ca.pem")?;
/// let (mut ws, _) = Client::new("wss://internal.example/").tls(tls).connect().await?;
/// ws.close(1000, "").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use = "a configuration does nothing until a client uses it"]
pub struct TlsConfig {
    trust: Trust,
    identity: Option<Arc<Identity>>,
}

#[derive(Clone, Default)]
enum Trust {
    /// Whom the features say.
    #[default]
    Default,
    /// Whoever one of these vouches for.
    Only(Vec<CertificateDer<'static>>),
    /// Whoever answers.
    Anyone,
    /// All is as the caller says.
    Custom(Arc<ClientConfig>),
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl TlsConfig {
    /// Makes the default configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificates of a PEM text, and no others; those of an earlier call stay.
    ///
    /// # Errors
    ///
    /// [`TlsError::Pem`] if the text is malformed, [`TlsError::NoCertificate`] if it holds none.
    pub fn root_certificates_pem(mut self, pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        self.check_adjustable()?;
        let mut added = certificates(pem.as_ref())?;
        match &mut self.trust {
            Trust::Only(roots) => roots.append(&mut added),
            trust => *trust = Trust::Only(added),
        }
        Ok(self)
    }

    /// Trusts the certificates of a PEM file, and no others; those of an earlier call stay. Reads the file now, blocking.
    ///
    /// # Errors
    ///
    /// [`TlsError::File`] if it cannot be read; else as for [`root_certificates_pem`](Self::root_certificates_pem).
    pub fn root_certificates_file(self, path: impl AsRef<Path>) -> Result<Self, TlsError> {
        self.root_certificates_pem(read(path.as_ref())?)
    }

    /// Shows this certificate to a server that asks for one: the chain, the client's own certificate first, and its key, both PEM.
    ///
    /// # Errors
    ///
    /// [`TlsError::Pem`] if a text is malformed or has no key, [`TlsError::NoCertificate`] if the chain is empty. Whether the two
    /// belong together is found out when the configuration is used.
    pub fn client_certificate_pem(
        mut self,
        chain: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<Self, TlsError> {
        self.check_adjustable()?;
        let chain = certificates(chain.as_ref())?;
        let key = PrivateKeyDer::from_pem_slice(key.as_ref()).map_err(pem_error)?;
        self.identity = Some(Arc::new(Identity { chain, key }));
        Ok(self)
    }

    /// As [`client_certificate_pem`](Self::client_certificate_pem), from two files that are read now, blocking.
    ///
    /// # Errors
    ///
    /// [`TlsError::File`] if one cannot be read; else the same.
    pub fn client_certificate_files(
        self,
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        self.client_certificate_pem(read(chain.as_ref())?, read(key.as_ref())?)
    }

    /// A configuration of rustls is complete: what is added to it would be ignored, or replace it.
    fn check_adjustable(&self) -> Result<(), TlsError> {
        match self.trust {
            Trust::Custom(_) => Err(TlsError::RustlsConfig),
            _ => Ok(()),
        }
    }

    /// Accepts whatever certificate a server shows, expired, for another host or made by anyone.
    ///
    /// Whoever sits between can then read and change everything, credentials included. For tests on one's own machine only. It
    /// replaces a whole `rustls::ClientConfig` that this was made from.
    pub fn dangerously_accept_any_certificate(mut self) -> Self {
        self.trust = Trust::Anyone;
        self
    }

    /// Makes what rustls works with.
    pub(crate) fn build(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Config)?;
        let builder = match &self.trust {
            Trust::Custom(config) => return Ok(Arc::clone(config)),
            Trust::Default => default_roots(builder)?,
            Trust::Only(certificates) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates {
                    roots.add(certificate.clone()).map_err(TlsError::Config)?;
                }
                builder.with_root_certificates(roots)
            }
            Trust::Anyone => {
                let algorithms = provider.signature_verification_algorithms;
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
            }
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
                .map_err(TlsError::Config)?,
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Uses a configuration of rustls as it is, with its roots and its client certificate. Its ALPN has to be `http/1.1` or empty.
impl From<Arc<ClientConfig>> for TlsConfig {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self { trust: Trust::Custom(config), identity: None }
    }
}

impl fmt::Debug for TlsConfig {
    /// Leaves out the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trust = match &self.trust {
            Trust::Default => "default",
            Trust::Only(_) => "own roots",
            Trust::Anyone => "anyone",
            Trust::Custom(_) => "custom",
        };
        f.debug_struct("TlsConfig")
            .field("trust", &trust)
            .field("shows_certificate", &self.identity.is_some())
            .finish()
    }
}

/// Why TLS could not be set up, or what was wrong with the peer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read.
    #[error("cannot read {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A text is no PEM, or has no private key.
    #[error("invalid PEM")]
    Pem(#[source] Arc<PemError>),
    /// A PEM text has no certificate.
    #[error("no certificate in the PEM text")]
    NoCertificate,
    /// The [`TlsConfig`] was made from a whole `rustls::ClientConfig`, to which nothing can be added: it has to have the roots
    /// and the certificate already.
    #[error("TLS configuration made from a rustls::ClientConfig cannot be changed")]
    RustlsConfig,
    /// The build has no certificates to trust by default: neither `platform-roots` nor `webpki-roots` is on.
    #[error("nobody to trust: set root certificates, or turn on platform-roots or webpki-roots")]
    NoRoots,
    /// The configuration is impossible, or the system's trusted certificates could not be loaded.
    #[error("cannot set up TLS")]
    Config(#[source] rustls::Error),
    /// The host of the URL can have no certificate.
    #[error("host is no name that a certificate can be for")]
    ServerName,
    /// The handshake failed: the peer's certificate is not trusted, expired or for another host, the peer refused ours, or
    /// does not speak TLS.
    #[error("TLS handshake failed")]
    Handshake(#[source] rustls::Error),
}

#[doc(no_inline)]
pub use pem::Error as PemError;

/// Speaks TLS over a stream to `host`.
pub(crate) async fn wrap(
    io: Transport,
    host: &str,
    config: Option<&Arc<ClientConfig>>,
) -> Result<Transport, crate::Error> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::ServerName)?;
    let config = match config {
        Some(config) => Arc::clone(config),
        None => default_config().await?,
    };
    match TlsConnector::from(config).connect(name, io).await {
        Ok(stream) => Ok(Transport::Tls(Box::new(stream))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(crate::Error::ClosedEarly),
        Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(fault) => Err(TlsError::Handshake(fault.clone()).into()),
            None => Err(error.into()),
        },
    }
}

/// The same configuration without the client's certificate.
pub(crate) fn without_certificate(config: Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut config = Arc::unwrap_or_clone(config);
    // A session that is resumed would bring the identity of the one before, but rustls resumes none of another resolver's.
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    Arc::new(config)
}

/// Shows nothing to whoever asks.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// The default configuration, made once for the process: the system's certificates take tens of milliseconds to load. A failure is
/// not kept.
async fn default_config() -> Result<Arc<ClientConfig>, TlsError> {
    static DEFAULT: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();
    let make = || async {
        // Reads files.
        let made = tokio::task::spawn_blocking(|| TlsConfig::default().build()).await;
        made.unwrap_or_else(|error| Err(TlsError::Config(rustls::Error::General(error.to_string()))))
    };
    DEFAULT.get_or_try_init(make).await.cloned()
}

/// Takes whom the features say; the operating system first.
fn default_roots(builder: NeedsRoots) -> Result<NeedsIdentity, TlsError> {
    #[cfg(feature = "platform-roots")]
    let builder = {
        use rustls_platform_verifier::BuilderVerifierExt as _;
        match builder.clone().with_platform_verifier() {
            // Containers often have none.
            Err(_) if cfg!(feature = "webpki-roots") => builder,
            outcome => return outcome.map_err(TlsError::Config),
        }
    };
    mozilla_roots(builder)
}

#[cfg(feature = "webpki-roots")]
#[allow(clippy::unnecessary_wraps, reason = "without the list there is an error")]
fn mozilla_roots(builder: NeedsRoots) -> Result<NeedsIdentity, TlsError> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    Ok(builder.with_root_certificates(roots))
}

#[cfg(not(feature = "webpki-roots"))]
fn mozilla_roots(_: NeedsRoots) -> Result<NeedsIdentity, TlsError> {
    Err(TlsError::NoRoots)
}

type NeedsRoots = ConfigBuilder<ClientConfig, WantsVerifier>;
type NeedsIdentity = ConfigBuilder<ClientConfig, WantsClientCert>;

fn pem_error(error: PemError) -> TlsError {
    TlsError::Pem(Arc::new(error))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(pem_error)?;
    if found.is_empty() { Err(TlsError::NoCertificate) } else { Ok(found) }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source: Arc::new(source) })
}

/// Believes every certificate, but not every signature: the peer must still have the key of the one it shows.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
