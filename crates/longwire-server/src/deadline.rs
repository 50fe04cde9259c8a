//! The deadline of a handshake.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// The instant by which a handshake must be complete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    /// `None` if the limit is beyond what the clock can represent.
    at: Option<Instant>,
}

/// The deadline has passed.
#[derive(Debug)]
pub(crate) struct Late;

impl Deadline {
    /// Returns the deadline of a task that starts at `begun` and may take `limit`.
    pub(crate) fn after(begun: Instant, limit: Duration) -> Self {
        Self { at: begun.checked_add(limit) }
    }

    /// Runs one step of the handshake.
    ///
    /// # Errors
    ///
    /// [`Late`] once the deadline has passed.
    pub(crate) async fn run<T>(self, step: impl Future<Output = T>) -> Result<T, Late> {
        match self.at {
            None => Ok(step.await),
            Some(at) => timeout_at(at, step).await.map_err(|_| Late),
        }
    }
}
