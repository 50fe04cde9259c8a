//! Shutdown: every client is sent a close frame, given time to leave, and dropped if it takes longer.

use std::time::Duration;

use longwire_connection::{CloseCode, CloseFrame};
use tokio::time::{Instant, timeout};

use crate::entry::ClientHandle;
use crate::error::HubError;
use crate::registry::Hub;
use crate::waiting::give_way;

/// The parameters of a shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// The close code. Default 1001, going away.
    pub code: CloseCode,
    /// The close reason, of at most 123 bytes. Default: none.
    pub reason: String,
    /// The time limit for closing handshakes and handlers, after which their connections are dropped. It counts
    /// from the call, whenever a client was sent its close frame. Default 10 s.
    pub deadline: Duration,
    /// The period over which the close frames are spread, evenly and in the order in which the clients connected,
    /// so that the clients do not all reconnect at once. Default: all are sent at once. At most the deadline is used.
    pub spread: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            code: CloseCode::GOING_AWAY,
            reason: String::new(),
            deadline: Duration::from_secs(10),
            spread: Duration::ZERO,
        }
    }
}

impl Shutdown {
    /// Sets [`code`](Self::code).
    #[must_use]
    pub fn with_code(mut self, code: impl Into<CloseCode>) -> Self {
        self.code = code.into();
        self
    }

    /// Sets [`reason`](Self::reason).
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Sets [`deadline`](Self::deadline).
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets [`spread`](Self::spread).
    #[must_use]
    pub fn with_spread(mut self, spread: Duration) -> Self {
        self.spread = spread;
        self
    }
}

/// The outcome of a shutdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// The number of clients whose connection was dropped because they had not left by the deadline.
    pub aborted: usize,
}

impl Hub {
    /// Closes every client and waits until all have left.
    ///
    /// From this call on, the hub admits no clients. Each client gets a close frame with this code (1001, going
    /// away, fits best) after its queued messages; its handler receives what the peer still sends, then `None`.
    /// Handlers that have not ended by the deadline are dropped with their connections. A second shutdown waits
    /// for the same end, with its own deadline.
    ///
    /// # Errors
    ///
    /// [`HubError::InvalidClose`] for a code that must not be sent or a reason above 123 bytes; nothing was started.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the hub still admits no clients and close frames that were sent stand, but no
    /// client is dropped at the deadline.
    pub async fn shutdown(
        &self,
        code: impl Into<CloseCode>,
        reason: &str,
        deadline: Duration,
    ) -> Result<Drained, HubError> {
        let reason = reason.to_owned();
        let shutdown = Shutdown::default().with_code(code.into()).with_reason(reason).with_deadline(deadline);
        self.shutdown_with(&shutdown, |_| None).await
    }

    /// Closes every client as [`shutdown`](Self::shutdown) does, but spread over time, and some with their own
    /// close frame: if `frame_for` returns a frame that can be sent, the client gets that one. It can say where
    /// to reconnect, for example.
    ///
    /// `frame_for` is called for a client just before its close frame is sent.
    ///
    /// # Errors
    ///
    /// As for [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// As for [`shutdown`](Self::shutdown); clients not yet notified will not be notified.
    pub async fn shutdown_with(
        &self,
        shutdown: &Shutdown,
        mut frame_for: impl FnMut(&ClientHandle) -> Option<CloseFrame>,
    ) -> Result<Drained, HubError> {
        let general = CloseFrame::new(shutdown.code, &*shutdown.reason);
        general.check()?;
        let start = Instant::now();
        let spread = shutdown.spread.min(shutdown.deadline);
        let clients = self.stop_admitting(general.clone());
        for (index, client) in clients.iter().enumerate() {
            give_way(index).await;
            let early = share(spread, index, clients.len()).saturating_sub(start.elapsed());
            if !early.is_zero() && timeout(early, self.emptied()).await.is_ok() {
                return Ok(Drained::default());
            }
            let frame = frame_for(client).filter(|frame| frame.check().is_ok());
            let frame = frame.as_ref().unwrap_or(&general);
            // Clients that are already closing need no second frame.
            let _ = client.sender().start_close(frame.code, &frame.reason);
        }
        drop(clients);
        if timeout(shutdown.deadline.saturating_sub(start.elapsed()), self.emptied()).await.is_ok() {
            return Ok(Drained::default());
        }
        let late = self.clients();
        let mut aborted = 0;
        for (index, client) in late.iter().enumerate() {
            give_way(index).await;
            // Some clients have left in the meantime.
            aborted += usize::from(client.entry.departure() == 0);
            client.entry.kill();
        }
        drop(late);
        // Each handler's task must run once more to notice; a handler that blocks its thread never does.
        let _ = timeout(GRACE, self.emptied()).await;
        Ok(Drained { aborted })
    }

    /// Waits until no client is connected.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.inner.emptied.notified();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }
}

/// Returns the part of `whole` that precedes item `index` of `count`.
fn share(whole: Duration, index: usize, count: usize) -> Duration {
    let nanos = whole.as_nanos().saturating_mul(index as u128) / (count.max(1) as u128);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The time allowed for handlers to go away after they are dropped at the deadline.
const GRACE: Duration = Duration::from_secs(1);
