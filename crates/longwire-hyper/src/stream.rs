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
        poll_write_bounded(Pin::new(&mut self.get_mut().io), cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_gathered(Pin::new(&mut self.get_mut().io), cx, bufs)
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

fn poll_write_bounded(
    io: Pin<&mut impl AsyncWrite>,
    cx: &mut Context<'_>,
    buf: &[u8],
) -> Poll<io::Result<usize>> {
    io.poll_write(cx, &buf[..buf.len().min(MAX_WRITE)])
}

fn poll_write_gathered(
    mut io: Pin<&mut impl AsyncWrite>,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut pieces = bufs.iter().filter(|piece| !piece.is_empty());
    let (Some(first), second) = (pieces.next(), pieces.next()) else {
        return Poll::Ready(Ok(0));
    };
    if second.is_none() || first.len() >= MAX_WRITE {
        return poll_write_bounded(io, cx, first);
    }
    // Ready as soon as there is room for a write: nothing is gathered in vain.
    ready!(io.as_mut().poll_flush(cx))?;
    poll_write_bounded(io, cx, &gather(bufs))
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
    use std::task::Waker;

    use super::*;

    #[test]
    fn gathers_pieces_into_one_write_up_to_the_bound() {
        let long = vec![b'x'; MAX_WRITE];
        let longer = vec![b'x'; 1 << 20];
        for (case, pieces, len) in [
            ("nothing", &[][..], 0),
            ("nothing but empty ones", &[&b""[..], b""], 0),
            ("header and payload", &[b"ab", b"cde"], 5),
            ("an empty one between", &[b"ab", b"", b"c"], 3),
            ("one alone", &[b"", b"abc"], 3),
            ("one alone above the bound", &[&longer], MAX_WRITE),
            ("a long one first", &[&longer, b"ab"], MAX_WRITE),
            ("more than the bound", &[b"ab", &long], MAX_WRITE),
            ("the bound met exactly", &[&long[2..], b"ab", b"c"], MAX_WRITE),
        ] {
            let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            // A `Vec` takes any length at once, as hyper does.
            let mut written = Vec::new();
            let mut cx = Context::from_waker(Waker::noop());
            let polled = poll_write_gathered(Pin::new(&mut written), &mut cx, &slices);
            assert!(matches!(polled, Poll::Ready(Ok(n)) if n == len), "{case}: {polled:?}");
            assert!(written == pieces.concat()[..len], "{case}");
        }
    }
}
