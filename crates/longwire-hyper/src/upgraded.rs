//! The transport of a mounted socket, and its recovery from hyper.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::Http2Stream;

/// The stream that carries a client's connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum UpgradedStream {
    /// Plain TCP, recovered from hyper, with `TCP_NODELAY` set.
    Tcp(TcpStream),
    /// A Unix socket, recovered from hyper.
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
    /// TLS of `tokio-rustls` over TCP, recovered from hyper, with `TCP_NODELAY` set.
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    /// Any other HTTP/1.1 stream, such as TLS of another library, used through hyper.
    Upgraded(TokioIo<Upgraded>),
    /// One stream of an HTTP/2 connection.
    Http2(Http2Stream),
}

impl UpgradedStream {
    /// Takes over a connection from hyper: returns the transport, and the bytes already read from it. An HTTP/2
    /// stream may take `linger` to end.
    pub(crate) fn recover(upgraded: Upgraded, version: Version, linger: Duration) -> (Self, Bytes) {
        if version >= Version::HTTP_2 {
            return (Self::Http2(Http2Stream::new(upgraded, linger)), Bytes::new());
        }
        let upgraded = match downcast(upgraded) {
            Ok((stream, read)) => {
                set_no_delay(&stream);
                return (Self::Tcp(stream), read);
            }
            Err(upgraded) => upgraded,
        };
        #[cfg(unix)]
        let upgraded = match downcast(upgraded) {
            Ok((stream, read)) => return (Self::Unix(stream), read),
            Err(upgraded) => upgraded,
        };
        #[cfg(feature = "tls")]
        let upgraded = match downcast::<tokio_rustls::server::TlsStream<TcpStream>>(upgraded) {
            Ok((stream, read)) => {
                set_no_delay(stream.get_ref().0);
                return (Self::Tls(Box::new(stream)), read);
            }
            Err(upgraded) => upgraded,
        };
        // This stream yields the bytes read ahead by itself.
        (Self::Upgraded(TokioIo::new(upgraded)), Bytes::new())
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Some(stream.get_ref().0),
            #[cfg(unix)]
            Self::Unix(_) => None,
            Self::Upgraded(_) | Self::Http2(_) => None,
        }
    }

    /// Returns the peer's address, if known.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.tcp()?.peer_addr().ok()
    }

    /// Returns the local address, if known.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp()?.local_addr().ok()
    }
}

/// Returns the stream and the bytes already read from it, if it is of this type.
fn downcast<T>(upgraded: Upgraded) -> Result<(T, Bytes), Upgraded>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    match upgraded.downcast::<TokioIo<T>>() {
        Ok(parts) => Ok((parts.io.into_inner(), parts.read_buf)),
        // hyper-util's builder for both versions, which axum also uses, wraps the stream in its own type.
        Err(upgraded) => auto::upgrade::downcast::<TokioIo<T>>(upgraded)
            .map(|parts| (parts.io.into_inner(), parts.read_buf)),
    }
}

fn set_no_delay(stream: &TcpStream) {
    // Fails if the connection is gone, which the first read reports as well.
    let _ = stream.set_nodelay(true);
}

longwire_connection::delegate_io! {
    UpgradedStream, stream => {
        Self::Tcp(stream),
        #[cfg(unix)]
        Self::Unix(stream),
        #[cfg(feature = "tls")]
        Self::Tls(stream),
        Self::Upgraded(stream),
        Self::Http2(stream),
    }
}
