//! The connector of a client, and the route that it takes to a server: TCP, a proxy or a Unix socket, then TLS if the
//! URL requires it.

#[cfg(unix)]
use std::path::{Path, PathBuf};
#[cfg(feature = "tls")]
use std::sync::Arc;

use longwire_handshake::WebSocketUri;
use tracing::debug;

use crate::deadline::Deadline;
use crate::dial::{self, Dialer};
use crate::proxy::{self, Proxies, ProxyOptions};
use crate::stage::Stage;
use crate::{ClientStream, Error};

/// The means by which a client reaches servers. None of them depends on the URL.
#[derive(Clone, Default)]
pub(crate) struct Connector {
    /// The Unix socket to use instead of any server's address.
    #[cfg(unix)]
    pub(crate) unix: Option<PathBuf>,
    pub(crate) proxies: Proxies,
    pub(crate) proxy_options: ProxyOptions,
    pub(crate) dialer: Dialer,
    /// The TLS configuration for servers; the default if `None`.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<tokio_rustls::rustls::ClientConfig>>,
}

impl Connector {
    /// Removes the client certificate, which must not be shown to another origin.
    #[cfg(feature = "tls")]
    pub(crate) fn leave_origin(&mut self) {
        self.tls = self.tls.take().map(crate::tls::without_certificate);
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_self, reason = "with TLS there may be a certificate")]
    pub(crate) fn leave_origin(&mut self) {}

    /// Connects to the server of a URL and stops before the HTTP request.
    pub(crate) async fn open(&self, uri: &WebSocketUri, deadline: &Deadline) -> Result<ClientStream, Error> {
        let io = self.connect(uri, deadline).await?;
        if !uri.is_secure() {
            return Ok(io);
        }
        deadline.enter(Stage::Tls);
        self.secure(io, uri.host()).await
    }

    async fn connect(&self, uri: &WebSocketUri, deadline: &Deadline) -> Result<ClientStream, Error> {
        #[cfg(unix)]
        if let Some(path) = &self.unix {
            deadline.enter(Stage::Connect);
            return unix(path).await;
        }
        if let Some(proxy) = self.proxies.find(uri)? {
            deadline.enter(Stage::Proxy);
            let io = proxy::connect(&self.dialer, &self.proxy_options, proxy, uri).await?;
            debug!(%proxy, "connected through a proxy");
            return Ok(io);
        }
        let host = dial::with_zone(uri.host(), uri.zone());
        deadline.enter(Stage::Resolve);
        let addresses = self.dialer.resolve(&host, uri.port()).await?;
        deadline.enter(Stage::Connect);
        self.dialer.dial(&host, uri.port(), addresses).await.map(ClientStream::Tcp)
    }

    #[cfg(feature = "tls")]
    async fn secure(&self, io: ClientStream, host: &str) -> Result<ClientStream, Error> {
        let io = crate::tls::wrap(io, host, self.tls.as_ref()).await?;
        debug!(version = ?io.tls().and_then(|session| session.protocol_version()), "TLS is established");
        Ok(io)
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_async, reason = "with TLS it waits")]
    async fn secure(&self, _: ClientStream, _: &str) -> Result<ClientStream, Error> {
        Err(Error::TlsUnsupported)
    }
}

#[cfg(unix)]
async fn unix(path: &Path) -> Result<ClientStream, Error> {
    match tokio::net::UnixStream::connect(path).await {
        Ok(stream) => {
            debug!(path = %path.display(), "connected to a Unix socket");
            Ok(ClientStream::Unix(stream))
        }
        Err(source) => Err(Error::ConnectUnix { path: path.to_owned(), source }),
    }
}
