//! Leaving together: every client is told, given time, and dropped if it takes longer.

use std::time::Duration;

use longwire_connection::{CloseCode, CloseFrame};
use tokio::time::{Instant, timeout};

use crate::waiting::give_way;
use crate::{Client, Hub, HubError};

/// How a hub takes its leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// The close code. Default 1001, going away.
    pub code: CloseCode,
    /// The close reason, of at most 123 bytes. Default: none.
    pub reason: String,
    /// After how long connections are dropped whose closing handshake or handler has not ended, from the call on and
    /// whenever they were told. Default 10 s.
    pub deadline: Duration,
    /// Over how long the close frames are spread, evenly and in the order in which the clients came, so that they do not
    /// all come back at once. Default: they are sent at once. What is longer than the deadline is cut to it.
    pub spread: Duration,
}

impl Default for Farewell {
    fn default() -> Self {
        Self {
            code: CloseCode::GOING_AWAY,
            reason: String::new(),
            deadline: Duration::from_secs(10),
            spread: Duration::ZERO,
        }
    }
}

/// How a shutdown ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Clients whose connection was dropped because they had not left by the deadline.
    pub aborted: usize,
}

impl Hub {
    /// Closes every client and waits until all have left.
    ///
    /// From this call on nobody is admitted. Each client gets a close frame with this code (1001, going away, says it
    /// best) behind what is queued for it; its handler receives what the peer still sends and then `None`. Handlers that
    /// have not ended by the deadline are dropped with their connections. A second shutdown waits for the same end,
    /// with a deadline of its own.
    ///
    /// # Errors
    ///
    /// [`HubError::InvalidClose`] for a code that must not be sent or a reason above 123 bytes: nothing was begun.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the clients stay closed to newcomers and told, but nobody is dropped at the deadline.
    pub async fn shutdown(
        &self,
        code: impl Into<CloseCode>,
        reason: &str,
        deadline: Duration,
    ) -> Result<Drained, HubError> {
        let reason = reason.to_owned();
        let farewell = Farewell { code: code.into(), reason, deadline, ..Farewell::default() };
        self.shutdown_with(&farewell, |_| None).await
    }

    /// Closes every client as [`shutdown`](Self::shutdown) does, spread over time, and some with a close frame of their
    /// own: where `frame_for` gives one that can be sent, the client is told that, such as where to reconnect to.
    ///
    /// `frame_for` is asked when the client is about to be told.
    ///
    /// # Errors
    ///
    /// As for [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// As for [`shutdown`](Self::shutdown); those that were not told are not told any more.
    pub async fn shutdown_with(
        &self,
        farewell: &Farewell,
        mut frame_for: impl FnMut(&Client) -> Option<CloseFrame>,
    ) -> Result<Drained, HubError> {
        let general = CloseFrame::new(farewell.code, &*farewell.reason);
        general.check()?;
        let start = Instant::now();
        let spread = farewell.spread.min(farewell.deadline);
        let clients = self.stop_admitting(general.clone());
        for (index, client) in clients.iter().enumerate() {
            give_way(index).await;
            let early = share(spread, index, clients.len()).saturating_sub(start.elapsed());
            if !early.is_zero() && timeout(early, self.emptied()).await.is_ok() {
                return Ok(Drained::default());
            }
            let frame = frame_for(client).filter(|frame| frame.check().is_ok());
            let frame = frame.as_ref().unwrap_or(&general);
            // Those that are closing already need no second frame.
            let _ = client.sender().close(frame.code, &frame.reason);
        }
        drop(clients);
        if timeout(farewell.deadline.saturating_sub(start.elapsed()), self.emptied()).await.is_ok() {
            return Ok(Drained::default());
        }
        let late = self.clients();
        let mut aborted = 0;
        for (index, client) in late.iter().enumerate() {
            give_way(index).await;
            // Some leave by themselves meanwhile.
            aborted += usize::from(client.entry.departure() == 0);
            client.entry.kill();
        }
        drop(late);
        // Each handler's task has to run once more to see it; one that blocks its thread never does.
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

/// The part of `whole` that `index` of `count` have.
fn share(whole: Duration, index: usize, count: usize) -> Duration {
    let nanos = whole.as_nanos().saturating_mul(index as u128) / (count.max(1) as u128);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How long handlers that are dropped at the deadline have to be gone.
const GRACE: Duration = Duration::from_secs(1);
