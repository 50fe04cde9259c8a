//! The cryptography of TLS, as selected by the features.
//!
//! A provider is always named: `rustls::ServerConfig::builder()` panics if two are compiled in and the process has
//! not chosen one, and another crate may enable the second at any time.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::CryptoProvider;
#[cfg(feature = "aws-lc-rs")]
use tokio_rustls::rustls::crypto::aws_lc_rs as selected;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use tokio_rustls::rustls::crypto::ring as selected;
use tokio_rustls::rustls::server::ProducesTickets;

use crate::TlsError;

/// Returns the provider.
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
#[allow(clippy::unnecessary_wraps, reason = "without the features there may be none")]
pub(crate) fn provider() -> Result<Arc<CryptoProvider>, TlsError> {
    Ok(Arc::new(selected::default_provider()))
}

/// Returns the provider that the process has installed.
#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
pub(crate) fn provider() -> Result<Arc<CryptoProvider>, TlsError> {
    CryptoProvider::get_default().cloned().ok_or(TlsError::NoProvider)
}

/// Returns a producer of session tickets, if the provider has one. It replaces its key every 6 hours.
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub(crate) fn ticketer() -> Result<Option<Arc<dyn ProducesTickets>>, TlsError> {
    Ok(Some(selected::Ticketer::new()?))
}

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
#[allow(clippy::unnecessary_wraps, reason = "with the features it may fail")]
pub(crate) fn ticketer() -> Result<Option<Arc<dyn ProducesTickets>>, TlsError> {
    Ok(None)
}
