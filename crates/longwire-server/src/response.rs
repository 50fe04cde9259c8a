//! Ends a connection with an HTTP response, and makes sure that the response arrives.
//!
//! If a socket is closed with unread bytes in it, TCP resets the connection, and the reset can overtake the response.
//! So the sending direction is shut down first; then the peer's bytes are read and dropped until its end of stream,
//! within bounds.

use std::future::{pending, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use tracing::trace;

use crate::ServerStream;

/// Writes the last bytes of a connection and makes sure that the peer can read them.
///
/// `limit` is the maximum time without progress while writing, in steps of 16 KiB if the stream has a buffer, and then
/// the maximum time for the peer to end the connection. So a slow reader still gets a long response whole.
pub(crate) async fn finish(io: &mut ServerStream, response: &[u8], limit: Duration) {
    let result = async {
        for mut left in response.chunks(PIECE) {
            while !left.is_empty() {
                match within(limit, io.write(left)).await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    n => left = &left[n..],
                }
            }
            // TLS takes 64 KiB into its buffer, and whether that gets smaller is not seen before it is empty.
            within(limit, io.flush()).await?;
        }
        let ending = async {
            io.shutdown().await?;
            drain(io).await
        };
        within(limit, ending).await
    };
    if let Err(error) = result.await {
        trace!(%error, "a response could not be delivered");
    }
}

/// Runs one step, which fails if it takes longer than `limit`.
async fn within<T>(limit: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Writes as much of the last bytes of a connection as possible without waiting. The rest may be lost.
pub(crate) async fn finish_at_once(io: &mut ServerStream, response: &[u8]) {
    let ending = async {
        write_whole(io, response).await?;
        io.shutdown().await?;
        // Unread bytes would reset the connection.
        drain(io).await
    };
    // A timeout of zero still polls once.
    let _ = timeout(Duration::ZERO, ending).await;
}

/// Writes a response and flushes it, because a buffered stream sends nothing before the flush.
pub(crate) async fn write_whole(io: &mut ServerStream, response: &[u8]) -> io::Result<()> {
    io.write_all(response).await?;
    io.flush().await
}

async fn drain(io: &mut ServerStream) -> io::Result<()> {
    let mut left = MAX_DRAINED;
    while left > 0 {
        match read_some(io, <[u8]>::len).await? {
            0 => return Ok(()),
            n => left = left.saturating_sub(n),
        }
    }
    Ok(())
}

/// Waits until the connection has failed. Meanwhile, appends the client's bytes to `early`.
///
/// The end of the client's sending side is not a failure: the client can still receive. Once `early` holds 16 KiB,
/// nothing more is read, and a failure goes unnoticed until the response is written.
///
/// # Cancel safety
///
/// If the future is dropped, all bytes read so far are in `early`.
pub(crate) async fn lost(io: &mut ServerStream, early: &mut Vec<u8>) {
    while early.len() < MAX_EARLY {
        let read = read_some(io, |bytes| {
            early.extend_from_slice(bytes);
            bytes.len()
        });
        match read.await {
            Ok(0) => break,
            Ok(_) => {}
            // TLS that ends without `close_notify` is an end as well.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(_) => return,
        }
    }
    pending::<()>().await;
}

/// Reads once and passes the bytes to `take`; an empty slice means end of stream. Holds no buffer while it waits.
///
/// # Cancel safety
///
/// If the future is dropped, nothing was read.
pub(crate) async fn read_some<R>(io: &mut ServerStream, take: impl FnOnce(&[u8]) -> R) -> io::Result<R> {
    let mut take = Some(take);
    poll_fn(|cx| {
        let mut space = [MaybeUninit::uninit(); READ_SIZE];
        let mut buf = ReadBuf::uninit(&mut space);
        loop {
            match ready!(Pin::new(&mut *io).poll_read(cx, &mut buf)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(()) => break,
            }
        }
        let take = take.take().expect("a future that is ready is not polled again");
        Poll::Ready(Ok(take(buf.filled())))
    })
    .await
}

/// The number of bytes of a response that must leave within the limit: a record of TLS.
const PIECE: usize = 16 << 10;

/// The maximum number of bytes read from a refused client before the connection is dropped.
const MAX_DRAINED: usize = 1 << 20;

/// The maximum number of bytes read from a client before it is answered.
const MAX_EARLY: usize = 16 << 10;

/// The number of bytes per read. The part that holds the first frames is copied for the connection.
const READ_SIZE: usize = 4096;
