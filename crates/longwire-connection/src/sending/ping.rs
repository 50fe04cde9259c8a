//! Pings with a pending pong (RFC 6455 §5.5.2, §5.5.3).

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::Error;

/// The pings of one connection.
#[derive(Default)]
pub(crate) struct Pings {
    /// The number of unique payloads created.
    count: u64,
    /// The pings whose pong is awaited, oldest first.
    awaited: VecDeque<PendingPing>,
}

/// A ping whose pong has not arrived.
pub(crate) struct PendingPing {
    payload: Bytes,
    sent: Instant,
    done: oneshot::Sender<Duration>,
}

/// The pong to a ping, as a future of the round-trip time.
///
/// It resolves when the receiving side processes the pong, so a task must receive meanwhile. Dropping it has no
/// effect on the connection. A pong answers its ping and every earlier one, because the peer may answer only the
/// newest (RFC 6455 §5.5.3).
///
/// # Errors
///
/// [`Error::Closed`] if the connection ended first, or if more than [`Pong::MAX_PENDING`] newer pings were sent.
#[must_use = "the ping was sent; await this for its round-trip time"]
pub struct Pong {
    done: oneshot::Receiver<Duration>,
}

impl Pong {
    /// The maximum number of pings of one connection that can wait for their pong at a time.
    pub const MAX_PENDING: usize = 16;
}

impl Pings {
    /// Returns a payload that no ping of this connection had before.
    pub(crate) fn next_payload(&mut self) -> Bytes {
        self.count += 1;
        Bytes::copy_from_slice(&self.count.to_be_bytes())
    }

    /// Records that a ping with `payload` is sent now. Returns its pong, and the oldest ping if there were too
    /// many.
    pub(crate) fn sent(&mut self, payload: Bytes) -> (Pong, Option<PendingPing>) {
        let displaced = if self.awaited.len() == Pong::MAX_PENDING { self.awaited.pop_front() } else { None };
        let (done, receiver) = oneshot::channel();
        self.awaited.push_back(PendingPing { payload, sent: Instant::now(), done });
        (Pong { done: receiver }, displaced)
    }

    /// Removes and returns the ping that `payload` answers and all earlier ones.
    pub(crate) fn resolve(&mut self, payload: &Bytes) -> Vec<Answered> {
        // The newest of equal payloads, because an earlier one would be reported as slower than it was.
        let Some(at) = self.awaited.iter().rposition(|ping| ping.payload == payload) else {
            return Vec::new();
        };
        let now = Instant::now();
        self.awaited.drain(..=at).map(|ping| Answered { ping, now }).collect()
    }
}

/// A ping whose pong has arrived.
pub(crate) struct Answered {
    ping: PendingPing,
    now: Instant,
}

impl Answered {
    /// Resolves the [`Pong`].
    pub(crate) fn tell(self) {
        let Self { ping, now } = self;
        // The future may have been dropped.
        let _ = ping.done.send(now.duration_since(ping.sent));
    }
}

impl Future for Pong {
    type Output = Result<Duration, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(Pin::new(&mut self.done).poll(cx)).map_err(|_| Error::Closed))
    }
}

impl fmt::Debug for Pong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pong").finish_non_exhaustive()
    }
}
