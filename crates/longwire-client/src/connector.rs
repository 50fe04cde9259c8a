//! The connector of a client, and the route that it takes to a server: TCP, a proxy or a Unix socket, then TLS if the URL requires it.

use std::net::{IpAddr, SocketAddr};
#[cfg(unix)]
use std::path::{Path, PathBuf};
#[cfg(feature = "tls")]
use std::sync::Arc;

use http::HeaderMap;
use longwire_handshake::WebSocketUri;

use crate::dial::{self, Resolver};
use crate::proxy::{self, Proxies};
use crate::{ClientStream, Error};

/// The means by which a client reaches servers. None of them depends on the URL.
#[derive(Clone, Default)]
pub(crate) struct Connector {
    /// The Unix socket to use instead of any server's address.
    #[cfg(unix)]
    pub(crate) unix: Option<PathBuf>,
    pub(crate) proxies: Proxies,
    /// The header fields of CONNECT besides `Host`.
    pub(crate) proxy_headers: HeaderMap,
    pub(crate) resolver: Resolver,
    pub(crate) local_addr: Option<IpAddr>,
    /// The TLS configuration for servers; the default if `None`.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<tokio_rustls::rustls::ClientConfig>>,
    /// The TLS configuration for proxies; the default if `None`.
    #[cfg(feature = "tls")]
    pub(crate) proxy_tls: Option<Arc<tokio_rustls::rustls::ClientConfig>>,
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
    pub(crate) async fn open(&self, uri: &WebSocketUri) -> Result<ClientStream, Error> {
        let io = self.connect(uri).await?;
        if uri.is_secure() { self.secure(io, uri.host()).await } else { Ok(io) }
    }

    async fn connect(&self, uri: &WebSocketUri) -> Result<ClientStream, Error> {
        #[cfg(unix)]
        if let Some(path) = &self.unix {
            return unix(path).await;
        }
        match self.proxies.find(uri)? {
            Some(proxy) => proxy::connect(self, proxy, uri).await,
            None => self.tcp(&dial::with_zone(uri.host(), uri.zone()), uri.port()).await,
        }
    }

    /// Connects to a server or a proxy over TCP.
    pub(crate) async fn tcp(&self, host: &str, port: u16) -> Result<ClientStream, Error> {
        let addresses = self.resolve(host, port).await?;
        dial::tcp(host, port, addresses, self.local_addr).await.map(ClientStream::Tcp)
    }

    /// Resolves the addresses of a host.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        self.resolver.resolve(host, port).await
    }

    #[cfg(feature = "tls")]
    async fn secure(&self, io: ClientStream, host: &str) -> Result<ClientStream, Error> {
        crate::tls::wrap(io, host, self.tls.as_ref()).await
    }

    /// Establishes TLS with a proxy. It uses neither the roots nor the certificate that are meant for servers.
    #[cfg(feature = "tls")]
    pub(crate) async fn secure_proxy(&self, io: ClientStream, host: &str) -> Result<ClientStream, Error> {
        crate::tls::wrap(io, host, self.proxy_tls.as_ref()).await.map_err(|error| match error {
            Error::Tls(error) => proxy::ProxyError::Tls(error).into(),
            Error::ClosedEarly => proxy::ProxyError::ClosedEarly.into(),
            error => error,
        })
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_async, reason = "with TLS it waits")]
    async fn secure(&self, _: ClientStream, _: &str) -> Result<ClientStream, Error> {
        Err(Error::TlsUnsupported)
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_async, reason = "with TLS it waits")]
    pub(crate) async fn secure_proxy(&self, _: ClientStream, _: &str) -> Result<ClientStream, Error> {
        Err(Error::TlsUnsupported)
    }
}

#[cfg(unix)]
async fn unix(path: &Path) -> Result<ClientStream, Error> {
    let connected = tokio::net::UnixStream::connect(path).await;
    connected.map(ClientStream::Unix).map_err(|source| Error::ConnectUnix { path: path.to_owned(), source })
}
