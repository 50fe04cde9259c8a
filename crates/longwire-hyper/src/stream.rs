//! An HTTP/2 stream as bytes.
//!
//! hyper copies the bytes of each write into its own buffer and accepts any length at once: each write would
//! become a frame of HTTP/2, however short, and a long one would take unbounded memory. Therefore several pieces
//! are gathered into one write of bounded size.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// One stream of an HTTP/2 connection, opened by an extended CONNECT (RFC 8441).
///
/// If it is dropped after it has ended its own direction and before the peer has, a separate task waits for the
/// peer's end, for at most the connection's [`close_timeout`](longwire_connection::Config::close_timeout): hyper
/// would reset the stream at once, which means to a browser what a reset of TCP does (RFC 8441 §5). If it is
/// dropped before it has ended its own direction, hyper sends what it has accepted, up to 128 KiB, ends the stream and
/// resets it. A peer that does not read keeps these bytes and the stream until it reads or the connection ends, also if
/// its socket was aborted or dropped at a deadline: `max_concurrent_streams` and the number of connections limit them.
#[derive(Debug)]
pub struct Http2Stream {
    /// `None` once the stream is dropped.
    io: Option<TokioIo<Upgraded>>,
    /// The time to wait for the peer's end.
    linger: Duration,
    is_shut: bool,
    is_read_out: bool,
}

impl Http2Stream {
    pub(crate) fn new(upgraded: Upgraded, linger: Duration) -> Self {
        Self { io: Some(TokioIo::new(upgraded)), linger, is_shut: false, is_read_out: false }
    }

    fn io(&mut self) -> Pin<&mut TokioIo<Upgraded>> {
        Pin::new(self.io.as_mut().expect("it is there until it is dropped"))
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        let (Some(mut io), Ok(runtime)) = (self.io.take(), Handle::try_current()) else { return };
        if self.is_shut && !self.is_read_out {
            let linger = self.linger;
            drop(runtime.spawn(async move {
                // Read in pieces, which are dropped as they arrive.
                let mut dropped = vec![0; 4096];
                let reading = async {
                    let mut left = MAX_DRAINED;
                    while left > 0
                        && let Ok(n @ 1..) = io.read(&mut dropped).await
                    {
                        left = left.saturating_sub(n);
                        tokio::task::consume_budget().await;
                    }
                };
                // The stream is dropped after this, whether or not the peer has ended it.
                let _ = timeout(linger, reading).await;
            }));
        }
    }
}

impl AsyncRead for Http2Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = this.io().poll_read(cx, buf);
        if let Poll::Ready(read) = &polled {
            this.is_read_out |= read.is_err() || (buf.filled().len() == before && buf.remaining() > 0);
        }
        polled
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        poll_write_bounded(self.get_mut().io(), cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_gathered(self.get_mut().io(), cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().io().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.io().poll_shutdown(cx))?;
        this.is_shut = true;
        Poll::Ready(Ok(()))
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
    // Ready as soon as hyper accepts a write, so that nothing is gathered in vain.
    ready!(io.as_mut().poll_flush(cx))?;
    poll_write_bounded(io, cx, &gather(bufs))
}

/// Returns the first [`MAX_WRITE`] bytes of all pieces.
fn gather(pieces: &[IoSlice<'_>]) -> Vec<u8> {
    let len: usize = pieces.iter().map(|piece| piece.len()).fold(0, usize::saturating_add);
    let mut gathered = Vec::with_capacity(len.min(MAX_WRITE));
    for piece in pieces {
        let room = MAX_WRITE - gathered.len();
        gathered.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    gathered
}

/// The maximum number of bytes in one write: two frames of the size that HTTP/2 allows from the start (RFC 9113
/// §6.5.2). Up to four writes can wait within hyper.
const MAX_WRITE: usize = 32 * 1024;

/// The stream window for HTTP/2 connections that carry sockets: 256 KiB. A socket can have that much in transit,
/// and that much waits for an application that does not read.
///
/// Pass it to hyper's builder as `initial_stream_window_size`. With hyper's default windows, one or two sockets that
/// are not read use up the [window of the connection](CONNECTION_WINDOW), and all other streams stall until they are.
///
/// A peer can make this end keep that much for each stream: 50 MiB for a connection with 200 streams, which hyper
/// allows by default; and half as much of what is sent, if it does not read ([`Http2Stream`]). A smaller window or
/// `max_concurrent_streams` reduces the total; a larger window makes a single socket faster over a long distance.
///
/// ```
/// use hyper_util::rt::TokioExecutor;
/// use hyper_util::server::conn::auto;
/// use longwire_hyper::{CONNECTION_WINDOW, STREAM_WINDOW};
///
/// let mut http = auto::Builder::new(TokioExecutor::new());
/// http.http2()
///     .enable_connect_protocol()
///     .initial_stream_window_size(STREAM_WINDOW)
///     .initial_connection_window_size(CONNECTION_WINDOW);
/// ```
pub const STREAM_WINDOW: u32 = 256 * 1024;

/// The window of the whole connection to use with [`STREAM_WINDOW`], as `initial_connection_window_size`: 64 MiB.
/// This is enough for 256 streams that are not read, more than the 200 that hyper allows by default.
/// It reserves no memory.
///
/// It is no larger because `h2` allows small frames that wait to be read to take half of it in memory, in
/// addition to the bytes in them. A peer that exceeds that loses the whole connection (`ENHANCE_YOUR_CALM`).
pub const CONNECTION_WINDOW: u32 = 64 << 20;

/// The number of bytes to read and drop after the end of a stream, as the server does over TCP.
const MAX_DRAINED: usize = 1 << 20;

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
            // A `Vec` accepts any length at once, as hyper does.
            let mut written = Vec::new();
            let mut cx = Context::from_waker(Waker::noop());
            let polled = poll_write_gathered(Pin::new(&mut written), &mut cx, &slices);
            assert!(matches!(polled, Poll::Ready(Ok(n)) if n == len), "{case}: {polled:?}");
            assert!(written == pieces.concat()[..len], "{case}");
        }
    }
}
