//! The request of a client, with the client's address.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;

use longwire_handshake::{bearer, cookie};
use longwire_hub::ClientData;
#[cfg(feature = "tls")]
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::query::query;
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
    data: ClientData,
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
        let inner = Inner {
            head,
            peer_addr,
            local_addr,
            client_ip,
            security,
            data: ClientData::default(),
            route: None,
        };
        Self { inner: Box::new(inner) }
    }

    pub(crate) fn client_data(&self) -> &ClientData {
        &self.inner.data
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

    /// Returns the value of this type that [`Server::authorize`](crate::Server::authorize) attached. The socket and
    /// the client have it too: `Socket::data` and [`ClientHandle::data`](crate::ClientHandle::data).
    pub fn data<D: Any + Send + Sync>(&self) -> Option<&D> {
        self.inner.data.get()
    }

    /// Returns the text in the path that matched `{name}` in its route, percent-decoded; see
    /// [`Server::route`](crate::Server::route). It may contain any characters, also `/` and `..`: check it before it
    /// becomes part of a file's path.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.inner.route.as_ref()?.param(name)
    }

    /// Returns the first value of a parameter in the URL's query, decoded as HTML forms are encoded
    /// (`application/x-www-form-urlencoded`): `+` is a space, and bytes that are not UTF-8 become U+FFFD.
    ///
    /// A URL appears in the logs of proxies. A token in it should be valid only briefly.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn name(request: &longwire_server::Request) {
    /// // ws://127.0.0.1:8080/?name=Ada+L.
    /// let name = request.query("name"); // "Ada L."
    /// # }
    /// ```
    pub fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        query(self.uri().query()?, name)
    }

    /// Returns the value of a cookie, as [`cookie`](longwire_handshake::cookie) does.
    ///
    /// A browser sends a site's cookies with every WebSocket request, also one by a page of another site. A server
    /// that trusts cookies should check [`allowed_origins`](crate::Server::allowed_origins).
    pub fn cookie(&self, name: &str) -> Option<&str> {
        cookie(self.headers(), name)
    }

    /// Returns the token of `Authorization: Bearer` (RFC 6750 §2.1). Browsers cannot send this header with a
    /// WebSocket request.
    pub fn bearer(&self) -> Option<&str> {
        bearer(self.headers())
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

/// A request without addresses, for tests of handlers and hooks.
impl From<http::Request<()>> for Request {
    fn from(request: http::Request<()>) -> Self {
        Self::new(request.into_parts().0, None, None, &TrustedProxies::default(), Security::default())
    }
}

impl Deref for Request {
    type Target = http::Request<()>;

    fn deref(&self) -> &http::Request<()> {
        &self.inner.head
    }
}

/// Shows the method, the path and the names of header fields, but no values: they may be cookies and tokens.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers().keys().map(http::HeaderName::as_str).collect();
        f.debug_struct("Request")
            .field("method", self.method())
            .field("path", &self.uri().path())
            .field("headers", &headers)
            .field("peer_addr", &self.inner.peer_addr)
            .field("local_addr", &self.inner.local_addr)
            .finish_non_exhaustive()
    }
}
