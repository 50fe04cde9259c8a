//! What a mounted socket runs over, and how it is had from hyper.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Version;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::Http2Stream;

/// The stream under a client's connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum Transport {
    /// Plain TCP, with `TCP_NODELAY` set: hyper gave the connection back as it was.
    Tcp(TcpStream),
    /// Any other stream of HTTP/1.1, such as TLS, used through hyper.
    Upgraded(TokioIo<Upgraded>),
    /// One stream of an HTTP/2 connection.
    Http2(Http2Stream),
}

impl Transport {
    /// Takes over what hyper hands over: the transport, and what was read from it already.
    pub(crate) fn recover(upgraded: Upgraded, version: Version) -> (Self, Bytes) {
        if version >= Version::HTTP_2 {
            return (Self::Http2(Http2Stream::new(upgraded)), Bytes::new());
        }
        let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => return Self::from_tcp(parts.io, parts.read_buf),
            Err(upgraded) => upgraded,
        };
        // hyper-util's builder for both versions, which axum uses too, wraps the stream in a type of its own.
        match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
            Ok(parts) => Self::from_tcp(parts.io, parts.read_buf),
            // It yields what was read ahead by itself.
            Err(upgraded) => (Self::Upgraded(TokioIo::new(upgraded)), Bytes::new()),
        }
    }

    fn from_tcp(io: TokioIo<TcpStream>, read_ahead: Bytes) -> (Self, Bytes) {
        let stream = io.into_inner();
        // Fails on a connection that is gone, which the first read tells as well.
        let _ = stream.set_nodelay(true);
        (Self::Tcp(stream), read_ahead)
    }

    /// The address at the other end, where it is known.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Upgraded(_) | Self::Http2(_) => None,
        }
    }

    /// The address at this end, where it is known.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Upgraded(_) | Self::Http2(_) => None,
        }
    }
}

impl AsyncRead for Transport {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Upgraded(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Http2(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Upgraded(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Http2(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Upgraded(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Http2(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Upgraded(stream) => stream.is_write_vectored(),
            Self::Http2(stream) => stream.is_write_vectored(),
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Upgraded(stream) => Pin::new(stream).poll_flush(cx),
            Self::Http2(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Upgraded(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Http2(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
