//! The stream under a dialed connection.

use tokio::net::TcpStream;

/// The stream under a connection that [`Client::connect`](crate::Client::connect) dialed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientStream {
    /// Plain TCP to the server or to a proxy, with `TCP_NODELAY` set.
    Tcp(TcpStream),
    /// A Unix socket.
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
    /// TLS over one of these.
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<ClientStream>>),
}

impl ClientStream {
    /// Returns the underlying TCP connection, for its addresses and options; `None` over a Unix socket.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            #[cfg(unix)]
            Self::Unix(_) => None,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.get_ref().0.tcp(),
        }
    }

    /// Returns the TLS session, for the peer's certificates and the negotiated parameters.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&tokio_rustls::rustls::ClientConnection> {
        match self {
            Self::Tls(stream) => Some(stream.get_ref().1),
            _ => None,
        }
    }
}

longwire_connection::delegate_io! {
    ClientStream, stream => {
        Self::Tcp(stream),
        #[cfg(unix)]
        Self::Unix(stream),
        #[cfg(feature = "tls")]
        Self::Tls(stream),
    }
}
