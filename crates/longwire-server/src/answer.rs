//! Ending a connection with an HTTP answer that arrives.
//!
//! A socket that is closed with unread bytes in it is reset, and the reset can overtake the answer. So the sending
//! direction is shut down first, and what the peer still sends is read and dropped until its end, within bounds.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use tracing::trace;

use crate::Transport;

/// Writes the last bytes of a connection and sees to it that the peer can read them, for at most `limit`.
pub(crate) async fn finish(io: &mut Transport, answer: &[u8], limit: Duration) {
    let result = timeout(limit, async {
        write_last(io, answer).await?;
        drain(io).await
    });
    match result.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => trace!(%error, "an answer could not be delivered"),
        Err(_) => trace!("a client did not take its answer in time"),
    }
}

/// Writes the last bytes of a connection as far as they go at once, and leaves the rest to luck.
pub(crate) async fn finish_at_once(io: &mut Transport, answer: &[u8]) {
    // A limit of nothing still polls once.
    let _ = timeout(Duration::ZERO, write_last(io, answer)).await;
}

async fn write_last(io: &mut Transport, answer: &[u8]) -> io::Result<()> {
    write_whole(io, answer).await?;
    io.shutdown().await
}

/// Writes an answer and flushes it: a buffered stream sends nothing before that.
pub(crate) async fn write_whole(io: &mut Transport, answer: &[u8]) -> io::Result<()> {
    io.write_all(answer).await?;
    io.flush().await
}

async fn drain(io: &mut Transport) -> io::Result<()> {
    let mut left = MAX_DRAINED;
    while left > 0 {
        match read_some(io, <[u8]>::len).await? {
            0 => return Ok(()),
            n => left = left.saturating_sub(n),
        }
    }
    Ok(())
}

/// Reads once and shows what came to `take`; nothing is nothing to come. No buffer is held while it waits.
///
/// # Cancel safety
///
/// If the future is dropped, nothing was read.
pub(crate) async fn read_some<R>(io: &mut Transport, take: impl FnOnce(&[u8]) -> R) -> io::Result<R> {
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

/// How much of a refused client's bytes is read before it is dropped.
const MAX_DRAINED: usize = 1 << 20;

/// How much is read at once. What the first frames fill of it is copied for the connection.
const READ_SIZE: usize = 4096;
