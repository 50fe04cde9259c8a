//! TLS: the trusted roots, the client certificate, and the TLS handshake.
//!
//! This module creates the rustls configurations.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{ResolvesClientCert, WantsClientCert};
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    self, ClientConfig, ConfigBuilder, DEFAULT_VERSIONS, DigitallySignedStruct, KeyLogFile, RootCertStore,
    SignatureScheme, SupportedProtocolVersion, WantsVerifier,
};
use tracing::warn;

use crate::ClientStream;

mod error;
mod provider;

pub use error::{PemError, TlsError};

/// The trusted roots and the client certificate for URLs that require TLS.
///
/// The default presents no certificate and trusts the operating system's roots (feature `platform-roots`), or else
/// Mozilla's list (feature `webpki-roots`, also if the system has no roots). TLS versions 1.2 and 1.3 are supported.
/// ALPN requests `http/1.1`, because some servers otherwise choose HTTP/2.
///
/// A process-wide default of the cryptography is neither needed nor changed: it is from aws-lc-rs with the feature of
/// that name, otherwise from *ring* with the feature `ring`. Only if neither is on, the provider that the process has
/// installed is used.
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
    is_tls13_only: bool,
    logs_keys: bool,
}

#[derive(Clone, Default)]
enum Trust {
    /// The roots selected by the features.
    #[default]
    Default,
    /// Certificates issued under one of these roots.
    Only(Vec<CertificateDer<'static>>),
    /// Any certificate.
    Anyone,
    /// A complete configuration from the caller.
    Custom(Arc<ClientConfig>),
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl TlsConfig {
    /// Creates the default configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts only the root certificates in a PEM text and those of earlier calls.
    ///
    /// # Errors
    ///
    /// [`TlsError::Pem`] if the text is malformed, [`TlsError::NoCertificate`] if it contains no certificate.
    pub fn root_certificates_pem(mut self, pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        self.check_adjustable()?;
        let mut added = certificates(pem.as_ref())?;
        match &mut self.trust {
            Trust::Only(roots) => roots.append(&mut added),
            trust => *trust = Trust::Only(added),
        }
        Ok(self)
    }

    /// Trusts only the root certificates in a PEM file and those of earlier calls. Reads the file immediately,
    /// blocking.
    ///
    /// # Errors
    ///
    /// [`TlsError::File`] if the file cannot be read; otherwise as for
    /// [`root_certificates_pem`](Self::root_certificates_pem).
    pub fn root_certificates_file(self, path: impl AsRef<Path>) -> Result<Self, TlsError> {
        self.root_certificates_pem(read(path.as_ref())?)
    }

    /// Presents this certificate to a server that requests one. Both the chain, which starts with the client's own
    /// certificate, and its key are in PEM.
    ///
    /// # Errors
    ///
    /// [`TlsError::Pem`] if a text is malformed or has no key, [`TlsError::NoCertificate`] if the chain is empty.
    /// The key is compared with the certificate only when the configuration is used.
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

    /// As [`client_certificate_pem`](Self::client_certificate_pem), from two files, which are read immediately,
    /// blocking.
    ///
    /// # Errors
    ///
    /// [`TlsError::File`] if a file cannot be read; otherwise the same.
    pub fn client_certificate_files(
        self,
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        self.client_certificate_pem(read(chain.as_ref())?, read(key.as_ref())?)
    }

    /// Fails for a rustls configuration: it is complete, and additions would be ignored or would replace it.
    fn check_adjustable(&self) -> Result<(), TlsError> {
        match self.trust {
            Trust::Custom(_) => Err(TlsError::RustlsConfig),
            _ => Ok(()),
        }
    }

    /// Accepts any server certificate: expired, for another host, or issued by anyone.
    ///
    /// An attacker on the path can then read and change everything, credentials included. Use it only for tests on
    /// your own machine. It replaces a `rustls::ClientConfig` from which this configuration was made.
    pub fn dangerously_accept_any_certificate(mut self) -> Self {
        self.trust = Trust::Anyone;
        self
    }

    /// Refuses TLS 1.2. Default: versions 1.2 and 1.3.
    ///
    /// If this configuration was made from a `rustls::ClientConfig`, connecting fails with [`TlsError::RustlsConfig`].
    pub fn tls13_only(mut self) -> Self {
        self.is_tls13_only = true;
        self
    }

    /// Appends the secrets of all sessions to the file that the environment variable `SSLKEYLOGFILE` names, in the
    /// format of Wireshark, for debugging. Nothing is written if the variable is not set, or if the file cannot be
    /// opened.
    ///
    /// Whoever reads the file can decrypt every recorded connection. Do not call this in a program that is deployed,
    /// unless an explicit setting asks for it. If this configuration was made from a `rustls::ClientConfig`,
    /// connecting fails with [`TlsError::RustlsConfig`].
    pub fn dangerously_log_keys(mut self) -> Self {
        self.logs_keys = true;
        self
    }

    /// Builds the rustls configuration.
    pub(crate) fn build(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let builder = match &self.trust {
            Trust::Custom(_) if self.is_tls13_only || self.logs_keys => return Err(TlsError::RustlsConfig),
            Trust::Custom(config) => return Ok(Arc::clone(config)),
            Trust::Default => default_roots(self.needs_roots()?)?,
            Trust::Only(certificates) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates {
                    roots.add(certificate.clone()).map_err(TlsError::Config)?;
                }
                self.needs_roots()?.with_root_certificates(roots)
            }
            Trust::Anyone => {
                let builder = self.needs_roots()?;
                let algorithms = builder.crypto_provider().signature_verification_algorithms;
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
        if self.logs_keys {
            if std::env::var_os("SSLKEYLOGFILE").is_some() {
                warn!("the secrets of TLS sessions are written to the file that SSLKEYLOGFILE names");
            }
            config.key_log = Arc::new(KeyLogFile::new());
        }
        Ok(Arc::new(config))
    }

    fn needs_roots(&self) -> Result<NeedsRoots, TlsError> {
        let versions = if self.is_tls13_only { TLS13_ONLY } else { DEFAULT_VERSIONS };
        ClientConfig::builder_with_provider(provider::provider()?)
            .with_protocol_versions(versions)
            .map_err(TlsError::Config)
    }
}

/// Uses a rustls configuration unchanged, with its roots and its client certificate. Its ALPN must be `http/1.1` or
/// empty.
impl From<Arc<ClientConfig>> for TlsConfig {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self { trust: Trust::Custom(config), ..Self::default() }
    }
}

impl fmt::Debug for TlsConfig {
    /// Omits the key.
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
            .field("is_tls13_only", &self.is_tls13_only)
            .field("logs_keys", &self.logs_keys)
            .finish()
    }
}

/// Establishes TLS with `host` over a stream.
pub(crate) async fn wrap(
    io: ClientStream,
    host: &str,
    config: Option<&Arc<ClientConfig>>,
) -> Result<ClientStream, crate::Error> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::ServerName)?;
    let config = match config {
        Some(config) => Arc::clone(config),
        None => default_config().await?,
    };
    match TlsConnector::from(config).connect(name, io).await {
        Ok(stream) => Ok(ClientStream::Tls(Box::new(stream))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(crate::Error::ClosedEarly),
        Err(error) => Err(error.into()),
    }
}

/// Returns the same configuration without the client certificate.
pub(crate) fn without_certificate(config: Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut config = Arc::unwrap_or_clone(config);
    // A resumed session would carry the earlier identity, but rustls resumes no session of another resolver.
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    Arc::new(config)
}

/// A resolver that presents no certificate.
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

/// Returns the default configuration, built once for the process: loading the system's certificates takes tens of
/// milliseconds. A failure is not cached.
async fn default_config() -> Result<Arc<ClientConfig>, TlsError> {
    static DEFAULT: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();
    let make = || async {
        // Building reads files.
        let made = tokio::task::spawn_blocking(|| TlsConfig::default().build()).await;
        made.unwrap_or_else(|error| Err(TlsError::Config(rustls::Error::General(error.to_string()))))
    };
    DEFAULT.get_or_try_init(make).await.cloned()
}

static TLS13_ONLY: &[&SupportedProtocolVersion] = &[&TLS13];

/// Adds the roots that the features select, the operating system's first.
fn default_roots(builder: NeedsRoots) -> Result<NeedsIdentity, TlsError> {
    #[cfg(feature = "platform-roots")]
    let builder = {
        use rustls_platform_verifier::BuilderVerifierExt as _;
        match builder.clone().with_platform_verifier() {
            // Containers often have no roots.
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

/// A verifier that accepts any certificate; signatures are still verified, so the peer must have the certificate's
/// key.
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
