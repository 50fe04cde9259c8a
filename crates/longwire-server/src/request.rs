//! The request of a client, with the client's address.

use std::any::Any;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;

#[cfg(feature = "tls")]
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::route::Route;
use crate::{ServerStream, TrustedProxies};

/// The head of a client's request: an [`http::Request`] with the addresses of the connection.
///
/// If it is dropped before the handler waits, it costs an idle connection nothing.
///
/// # Examples
///
/// ```
/// fn name(request: &longwire_server::Request) -> Option<&str> {
///     request.uri().query()?.strip_prefix("name=")
/// }
/// ```
pub struct Request {
    /// Boxed, so that it takes only one pointer in the handler's future.
    inner: Box<Inner>,
}

/// The facts that TLS established about a client.
#[derive(Default)]
pub(crate) struct Security {
    is_secure: bool,
    #[cfg(feature = "tls")]
    certificates: Vec<CertificateDer<'static>>,
    #[cfg(feature = "tls")]
    server_name: Option<String>,
}

impl Security {
    pub(crate) fn of(io: &ServerStream) -> Self {
        Self {
            is_secure: io.is_secure(),
            #[cfg(feature = "tls")]
            certificates: io.tls().and_then(|tls| tls.peer_certificates()).unwrap_or_default().to_vec(),
            #[cfg(feature = "tls")]
            server_name: io.tls().and_then(|tls| tls.server_name()).map(str::to_owned),
        }
    }
}

struct Inner {
    head: http::Request<()>,
    peer_addr: Option<SocketAddr>,
    local_addr: Option<SocketAddr>,
    client_ip: Option<IpAddr>,
    security: Security,
    data: Option<Box<dyn Any + Send + Sync>>,
    route: Option<Route>,
}

impl Request {
    pub(crate) fn new(
        head: http::request::Parts,
        peer_addr: Option<SocketAddr>,
        local_addr: Option<SocketAddr>,
        proxies: &TrustedProxies,
        security: Security,
    ) -> Self {
        let head = http::Request::from_parts(head, ());
        let client_ip = proxies.find_client(head.headers(), peer_addr.map(|peer| peer.ip()));
        let inner = Inner { head, peer_addr, local_addr, client_ip, security, data: None, route: None };
        Self { inner: Box::new(inner) }
    }

    pub(crate) fn set_data(&mut self, data: Box<dyn Any + Send + Sync>) {
        self.inner.data = Some(data);
    }

    pub(crate) fn set_route(&mut self, route: Route) {
        self.inner.route = Some(route);
    }

    pub(crate) fn route(&self) -> Option<&Route> {
        self.inner.route.as_ref()
    }

    /// Returns the client's address, or `None` if it has none, such as on a Unix socket. Behind a proxy, it is the
    /// proxy's, unless [`ServerConfig::proxy_protocol`](crate::ServerConfig::proxy_protocol) applies to it.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.inner.peer_addr
    }

    /// Returns the client's address as reported by the proxies in front of the server, as far as they are trusted
    /// ([`ServerConfig::trusted_proxies`](crate::ServerConfig::trusted_proxies)); by default the peer's address.
    /// `None` if the peer has no address, such as on a Unix socket, and no trusted proxy names one.
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.inner.client_ip
    }

    /// Returns whether the client connected over TLS that this server terminates.
    pub fn is_secure(&self) -> bool {
        self.inner.security.is_secure
    }

    /// Returns the certificates that the client presented, its own first; empty if it presented none or connected
    /// without TLS.
    ///
    /// They are verified: see [`TlsConfig::from_pem_with_clients`](crate::TlsConfig::from_pem_with_clients). Use an
    /// X.509 parser to extract the identity. They are also available from a socket, in
    /// [`ServerStream::tls`](crate::ServerStream::tls).
    #[cfg(feature = "tls")]
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.inner.security.certificates
    }

    /// Returns the server name that the client requested in its TLS handshake (SNI, RFC 6066 §3), in lower case.
    /// `None` without TLS, and if the client sent an address or nothing. The request's `Host` is independent of it
    /// and may differ.
    #[cfg(feature = "tls")]
    pub fn server_name(&self) -> Option<&str> {
        self.inner.security.server_name.as_deref()
    }

    /// Returns the value attached by [`Server::authorize`](crate::Server::authorize), if it is of this type.
    pub fn data<D: Any + Send + Sync>(&self) -> Option<&D> {
        self.inner.data.as_deref()?.downcast_ref()
    }

    /// Removes and returns the value attached by [`Server::authorize`](crate::Server::authorize), if it is of this
    /// type.
    pub fn take_data<D: Any + Send + Sync>(&mut self) -> Option<D> {
        match self.inner.data.take()?.downcast() {
            Ok(data) => Some(*data),
            Err(other) => {
                self.inner.data = Some(other);
                None
            }
        }
    }

    /// Returns the text in the path that matched `{name}` in its route; see
    /// [`Server::route`](crate::Server::route). The text is as the client sent it, without percent-decoding.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.inner.route.as_ref()?.param(name)
    }

    /// Returns the address that the client connected to, if there is one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.local_addr
    }

    /// Discards the addresses and returns only the head.
    pub fn into_http(self) -> http::Request<()> {
        self.inner.head
    }
}

impl Deref for Request {
    type Target = http::Request<()>;

    fn deref(&self) -> &http::Request<()> {
        &self.inner.head
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("head", &self.inner.head)
            .field("peer_addr", &self.inner.peer_addr)
            .field("local_addr", &self.inner.local_addr)
            .finish()
    }
}
