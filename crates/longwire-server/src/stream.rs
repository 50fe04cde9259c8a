//! The streams under connections.

use std::fmt;
use std::net::SocketAddr;

use tokio::net::TcpStream;

/// The stream under a client's connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerStream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
    /// TLS over TCP.
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    /// Any other stream that a custom [`Listen`](crate::Listen) accepts; see [`ServerStream::other`].
    Other(OtherStream),
}

/// A stream of a type that this crate does not know.
pub struct OtherStream(Box<dyn AnyStream>);

trait AnyStream: longwire_connection::Transport + Sync {}

impl<T: longwire_connection::Transport + Sync> AnyStream for T {}

impl ServerStream {
    /// Wraps any stream as a transport: one in memory, a virtual socket, a stream of another protocol.
    ///
    /// It gets no TLS, has no known addresses, and does not count as encrypted.
    pub fn other(io: impl longwire_connection::Transport + Sync) -> Self {
        Self::Other(OtherStream(Box::new(io)))
    }

    /// Returns the peer's address, if there is one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            #[cfg(unix)]
            Self::Unix(_) => None,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.get_ref().0.peer_addr().ok(),
            Self::Other(_) => None,
        }
    }

    /// Returns the local address, if there is one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            #[cfg(unix)]
            Self::Unix(_) => None,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.get_ref().0.local_addr().ok(),
            Self::Other(_) => None,
        }
    }

    /// Returns the TLS session, which has the client's certificates and the negotiated parameters.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&tokio_rustls::rustls::ServerConnection> {
        match self {
            Self::Tls(stream) => Some(stream.get_ref().1),
            _ => None,
        }
    }

    /// Returns whether the transport is encrypted.
    pub fn is_secure(&self) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(_) => true,
            _ => false,
        }
    }
}

longwire_connection::delegate_io! {
    ServerStream, stream => {
        Self::Tcp(stream),
        #[cfg(unix)]
        Self::Unix(stream),
        #[cfg(feature = "tls")]
        Self::Tls(stream),
        Self::Other(OtherStream(stream)),
    }
}

impl fmt::Debug for OtherStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtherStream(..)")
    }
}
