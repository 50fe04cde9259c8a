//! TLS to a broker.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::CryptoProvider;
#[cfg(feature = "aws-lc-rs")]
use tokio_rustls::rustls::crypto::aws_lc_rs as selected;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use tokio_rustls::rustls::crypto::ring as selected;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::backplane::BackplaneError;

/// Returns a configuration that trusts what the operating system trusts.
///
/// The provider of cryptography is always named: rustls panics if two are compiled in and the process has not chosen
/// one.
pub(crate) fn default_config() -> Result<ClientConfig, BackplaneError> {
    let mut roots = RootCertStore::empty();
    // A certificate that cannot be read is none to trust. Without any, each handshake fails and says why.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(provider()?)
        .with_safe_default_protocol_versions()
        .map_err(BackplaneError::new)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
#[allow(clippy::unnecessary_wraps, reason = "without the features there may be none")]
fn provider() -> Result<Arc<CryptoProvider>, BackplaneError> {
    Ok(Arc::new(selected::default_provider()))
}

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
fn provider() -> Result<Arc<CryptoProvider>, BackplaneError> {
    CryptoProvider::get_default()
        .cloned()
        .ok_or_else(|| BackplaneError::new("TLS has no provider of cryptography"))
}
