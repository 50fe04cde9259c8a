//! What a client asked for, and where it is.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;

/// The head of a client's request: an [`http::Request`], with the addresses of the connection.
///
/// Dropped before the handler waits, it costs an idle connection nothing.
///
/// # Examples
///
/// ```
/// fn name(request: &longwire_server::Request) -> Option<&str> {
///     request.uri().query()?.strip_prefix("name=")
/// }
/// ```
pub struct Request {
    /// One pointer wide, as it lies in the handler's future.
    inner: Box<Inner>,
}

struct Inner {
    head: http::Request<()>,
    peer_addr: Option<SocketAddr>,
    local_addr: Option<SocketAddr>,
}

impl Request {
    pub(crate) fn new(
        head: http::request::Parts,
        peer_addr: Option<SocketAddr>,
        local_addr: Option<SocketAddr>,
    ) -> Self {
        let head = http::Request::from_parts(head, ());
        Self { inner: Box::new(Inner { head, peer_addr, local_addr }) }
    }

    /// The client's address; `None` where there is none, such as on a Unix socket. Behind a proxy it is the proxy's.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.inner.peer_addr
    }

    /// The address that the client connected to, where there is one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.local_addr
    }

    /// Gives up the addresses for the head alone.
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
