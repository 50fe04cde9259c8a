//! Leaving together: every client is told, given time, and dropped if it takes longer.

use std::time::Duration;

use longwire_connection::{CloseCode, CloseFrame};
use tokio::time::timeout;

use crate::{Hub, HubError};

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
        let frame = CloseFrame::new(code.into(), reason);
        frame.check()?;
        for client in self.stop_admitting(frame.clone()).iter() {
            // Those that are closing already need no second frame.
            let _ = client.sender().close(frame.code, reason);
        }
        if timeout(deadline, self.emptied()).await.is_ok() {
            return Ok(Drained::default());
        }
        let late = self.clients();
        for client in late.iter() {
            client.entry.kill();
        }
        let aborted = late.len();
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

/// How long handlers that are dropped at the deadline have to be gone.
const GRACE: Duration = Duration::from_secs(1);
