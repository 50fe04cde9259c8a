//! The way to a server: TCP or something in its place, then TLS where the URL asks for it.

use crate::{Error, Transport, dial};
use longwire_handshake::WebSocketUri;

/// How a client reaches servers; nothing of it depends on the URL.
#[derive(Clone, Default)]
pub(crate) struct Route {
    /// What TLS uses; the default if none.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<std::sync::Arc<tokio_rustls::rustls::ClientConfig>>,
}

impl Route {
    /// Connects to the server of a URL, up to where HTTP begins.
    pub(crate) async fn open(&self, uri: &WebSocketUri) -> Result<Transport, Error> {
        let io = dial::tcp(uri.host(), uri.port()).await?;
        if uri.is_secure() { self.secure(io, uri.host()).await } else { Ok(io) }
    }

    #[cfg(feature = "tls")]
    async fn secure(&self, io: Transport, host: &str) -> Result<Transport, Error> {
        crate::tls::wrap(io, host, self.tls.as_ref()).await
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_async, reason = "with TLS it waits")]
    async fn secure(&self, _: Transport, _: &str) -> Result<Transport, Error> {
        Err(Error::TlsUnsupported)
    }
}
