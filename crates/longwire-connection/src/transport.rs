//! The streams that a connection runs over.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

/// A stream that a connection can run over: any tokio stream that can be moved between threads.
///
/// A stream that is not [`Unpin`] can be wrapped in a `Pin<Box<_>>`.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for T {}

/// Returns whether an operation must be repeated because a signal has interrupted it.
#[cold]
pub(crate) fn is_interrupted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// Implements `AsyncRead` and `AsyncWrite` for an enum of streams, by delegation to the stream of its variant.
///
/// The patterns name the variants and bind the stream to the given name. The caller needs tokio.
#[doc(hidden)]
#[macro_export]
macro_rules! delegate_io {
    ($type:ty, $stream:ident => { $($(#[$attribute:meta])* $variant:pat),+ $(,)? }) => {
        impl ::tokio::io::AsyncRead for $type {
            #[inline]
            fn poll_read(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &mut ::tokio::io::ReadBuf<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                match self.get_mut() {
                    $($(#[$attribute])* $variant => ::std::pin::Pin::new($stream).poll_read(cx, buf),)+
                }
            }
        }

        impl ::tokio::io::AsyncWrite for $type {
            #[inline]
            fn poll_write(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &[u8],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                match self.get_mut() {
                    $($(#[$attribute])* $variant => ::std::pin::Pin::new($stream).poll_write(cx, buf),)+
                }
            }

            #[inline]
            fn poll_write_vectored(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                bufs: &[::std::io::IoSlice<'_>],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                match self.get_mut() {
                    $($(#[$attribute])* $variant => ::std::pin::Pin::new($stream).poll_write_vectored(cx, bufs),)+
                }
            }

            #[inline]
            fn is_write_vectored(&self) -> bool {
                match self {
                    $($(#[$attribute])* $variant => $stream.is_write_vectored(),)+
                }
            }

            #[inline]
            fn poll_flush(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                match self.get_mut() {
                    $($(#[$attribute])* $variant => ::std::pin::Pin::new($stream).poll_flush(cx),)+
                }
            }

            #[inline]
            fn poll_shutdown(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                match self.get_mut() {
                    $($(#[$attribute])* $variant => ::std::pin::Pin::new($stream).poll_shutdown(cx),)+
                }
            }
        }
    };
}
