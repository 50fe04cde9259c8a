//! The streams that a connection runs over.

use tokio::io::{AsyncRead, AsyncWrite};

/// A stream that a connection can run over: any tokio stream that can be moved between threads.
///
/// A stream that is not [`Unpin`] can be wrapped in a `Pin<Box<_>>`.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for T {}
