//! The error of TLS.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls;
#[doc(no_inline)]
pub use tokio_rustls::rustls::pki_types::pem::Error as PemError;

/// The reason why TLS could not be set up, or why its handshake failed.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read.
    #[error("cannot read {}", .path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// A text is not PEM or has no private key.
    #[error("invalid PEM")]
    Pem(#[source] Arc<PemError>),
    /// A PEM text has no certificate.
    #[error("no certificate in the PEM data")]
    NoCertificate,
    /// The [`TlsConfig`](crate::TlsConfig) was made from a complete `rustls::ClientConfig`, which cannot be extended:
    /// it must already contain the roots and the certificate.
    #[error("TLS configuration made from a rustls::ClientConfig cannot be changed")]
    RustlsConfig,
    /// No cryptography: neither of the features `ring` and `aws-lc-rs` is on, and the process has installed none.
    #[error(
        "no provider of cryptography: enable the feature ring (rustls in longwire) or aws-lc-rs, or install one for \
         the process"
    )]
    NoProvider,
    /// The build has no default roots: neither `platform-roots` nor `webpki-roots` is on.
    #[error("no root certificates: add some, or enable the feature platform-roots or webpki-roots")]
    NoRoots,
    /// The configuration is invalid, or the system's roots could not be loaded.
    #[error("cannot set up TLS")]
    Config(#[source] rustls::Error),
    /// No certificate can be issued for the host of the URL.
    #[error("host is not a name that a certificate can contain")]
    ServerName,
    /// The handshake failed: the peer's certificate is untrusted, expired or for another host, the peer refused the
    /// client's certificate, or the peer does not speak TLS.
    #[error("TLS handshake failed{}", crate::diagnosis::hint(.0))]
    Handshake(#[source] rustls::Error),
}

longwire_connection::debug_with_causes!(TlsError);

impl TlsError {
    /// Returns whether another attempt can succeed: not if the peer, its certificate or this end's configuration would
    /// have to change first.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(self, Self::Handshake(error) if crate::diagnosis::may_pass(error))
    }
}
