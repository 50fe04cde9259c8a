//! A stream of HTTP/2 as bytes.
//!
//! hyper copies what one write gives it into a box of its own and takes any length at once: each write would be a frame of
//! HTTP/2, however short, and a long one memory without bound. So several pieces are gathered into one write, of a bounded size.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One stream of an HTTP/2 connection, opened by an extended CONNECT (RFC 8441).
#[derive(Debug)]
pub struct Http2Stream {
    io: TokioIo<Upgraded>,
}

impl Http2Stream {
    pub(crate) fn new(upgraded: Upgraded) -> Self {
        Self { io: TokioIo::new(upgraded) }
    }
}

impl AsyncRead for Http2Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, &buf[..buf.len().min(MAX_WRITE)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut pieces = bufs.iter().filter(|piece| !piece.is_empty());
        let (Some(first), second) = (pieces.next(), pieces.next()) else {
            return Poll::Ready(Ok(0));
        };
        if second.is_none() || first.len() >= MAX_WRITE {
            return self.poll_write(cx, first);
        }
        let io = &mut self.get_mut().io;
        // Ready as soon as there is room for a write: nothing is gathered in vain.
        ready!(Pin::new(&mut *io).poll_flush(cx))?;
        Pin::new(io).poll_write(cx, &gather(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// The first [`MAX_WRITE`] bytes of all pieces.
fn gather(pieces: &[IoSlice<'_>]) -> Vec<u8> {
    let len: usize = pieces.iter().map(|piece| piece.len()).fold(0, usize::saturating_add);
    let mut gathered = Vec::with_capacity(len.min(MAX_WRITE));
    for piece in pieces {
        let room = MAX_WRITE - gathered.len();
        gathered.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    gathered
}

/// The most bytes of one write: two frames of the size that HTTP/2 allows from the start (RFC 9113 §6.5.2). Up to three writes
/// can wait within hyper.
const MAX_WRITE: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathers_pieces_up_to_the_bound() {
        let long = vec![b'x'; MAX_WRITE];
        for (case, pieces, len) in [
            ("header and payload", &[&b"ab"[..], b"cde"][..], 5),
            ("an empty one between", &[b"ab", b"", b"c"], 3),
            ("more than the bound", &[b"ab", &long], MAX_WRITE),
            ("the bound met exactly", &[&long[2..], b"ab", b"c"], MAX_WRITE),
        ] {
            let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            assert_eq!(gather(&slices), pieces.concat()[..len], "{case}");
        }
    }
}
