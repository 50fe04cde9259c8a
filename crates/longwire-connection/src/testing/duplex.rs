//! The two ends of an in-memory connection, as tokio sees them.
//!
//! Owns the trait implementations and the timer for latency. [`super::link`] decides what an operation does.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::faults::Faults;
use super::link::{Link, OnDrop, ReadAttempt, Side, Vectored};
use super::tap::Tap;

/// Creates two connected ends. Bytes written to one are read from the other.
///
/// `capacity` is the number of bytes that may be in flight in each direction. A write waits while that many are
/// unread, and accepts only part of its bytes if only a part fits. An end that is shut down or dropped ends the
/// stream that its peer reads (FIN). After a drop, the peer's writes fail with [`io::ErrorKind::BrokenPipe`].
///
/// All bytes are kept for [`Tap::written`] until both ends and all handles are dropped.
///
/// # Panics
///
/// If `capacity` is 0.
///
/// # Examples
///
/// ```
/// use longwire_connection::testing::duplex;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (mut client, mut server) = duplex(1024);
/// client.write_all(b"hello").await?;
/// client.shutdown().await?;
///
/// let mut received = Vec::new();
/// server.read_to_end(&mut received).await?;
/// assert_eq!(received, b"hello");
///
/// server.write_all(b"the other direction is still open").await?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn duplex(capacity: usize) -> (Pipe, Pipe) {
    let link = Arc::new(Link::new(capacity));
    let end = |side| Pipe { tap: Tap { link: Arc::clone(&link), side }, sleep: None };
    (end(Side::First), end(Side::Second))
}

/// One end of a [`duplex`].
///
/// At most one task at a time can wait for reading and one for writing: the last one that was pending is woken.
pub struct Pipe {
    tap: Tap,
    /// Set while a read waits for bytes in flight. The bytes that arrive first stay first until that read has them,
    /// so the time never changes.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pipe {
    /// Gives this end a plan of faults, replacing any previous one.
    #[must_use]
    pub fn with_faults(self, faults: Faults) -> Self {
        self.tap.set_faults(faults);
        self
    }

    /// Sets the number of bytes written by this end that may be in flight.
    ///
    /// # Panics
    ///
    /// If `capacity` is 0.
    #[must_use]
    pub fn with_capacity(self, capacity: usize) -> Self {
        self.tap.link.with(|state, _| state.end(self.tap.side).wire.set_capacity(capacity));
        self
    }

    /// Makes this end accept only the first buffer of a vectored write, and report that it does.
    ///
    /// By default vectored writes are supported.
    #[must_use]
    pub fn without_vectored_writes(self) -> Self {
        self.tap.link.with(|state, _| state.end(self.tap.side).vectored = Vectored::Unsupported);
        self
    }

    /// Makes the drop of this end reset the connection (RST) instead of ending it.
    ///
    /// Every operation of the peer then fails with [`io::ErrorKind::ConnectionReset`], and bytes that it has not
    /// read are lost.
    #[must_use]
    pub fn resetting_on_drop(self) -> Self {
        self.tap.link.with(|state, _| state.end(self.tap.side).on_drop = OnDrop::Reset);
        self
    }

    /// Returns a handle that watches and controls this end while a WebSocket or a task owns it.
    pub fn tap(&self) -> Tap {
        self.tap.clone()
    }

    fn poll_sleep(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        sleep.as_mut().poll(cx)
    }

    fn poll_write_parts(&self, cx: &Context<'_>, parts: &[&[u8]]) -> Poll<io::Result<usize>> {
        if parts.iter().all(|part| part.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.tap.link.with(|state, wakeups| state.write(self.tap.side, cx, parts, wakeups))
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            let side = this.tap.side;
            match this.tap.link.with(|state, wakeups| state.read(side, cx, buf, wakeups)) {
                ReadAttempt::Done(result) => {
                    this.sleep = None;
                    return Poll::Ready(result);
                }
                ReadAttempt::Wait => return Poll::Pending,
                // If the time has come meanwhile, nothing would wake the task, so try again.
                ReadAttempt::WaitUntil(at) => std::task::ready!(this.poll_sleep(at, cx)),
            }
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_parts(cx, &[buf])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut parts: Vec<&[u8]> = bufs.iter().map(|buf| &**buf).filter(|buf| !buf.is_empty()).collect();
        if !self.is_write_vectored() {
            parts.truncate(1);
        }
        self.poll_write_parts(cx, &parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tap.link.with(|state, _| state.end(self.tap.side).vectored == Vectored::Supported)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tap.link.with(|state, wakeups| state.flush(self.tap.side, cx, wakeups))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tap.link.with(|state, wakeups| state.shutdown(self.tap.side, cx, wakeups))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.tap.link.with(|state, wakeups| state.drop_end(self.tap.side, wakeups));
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").field("tap", &self.tap).finish_non_exhaustive()
    }
}
