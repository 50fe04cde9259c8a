//! The deadline of several steps, such as those of a handshake. Not part of the public interface: the crates above
//! share it.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// The instant by which several steps must be complete. It is never extended: a peer that sends its bytes one by one
/// must not hold the other end.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// `None` if the limit is beyond what the clock can represent.
    at: Option<Instant>,
}

/// The deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late;

impl Deadline {
    /// Returns the deadline of a task that starts now and may take `limit`.
    pub fn after(limit: Duration) -> Self {
        Self { at: Instant::now().checked_add(limit) }
    }

    /// Runs one step.
    ///
    /// # Errors
    ///
    /// [`Late`] once the deadline has passed.
    ///
    /// # Cancel safety
    ///
    /// As for the step, which is dropped when the deadline passes.
    pub async fn run<T>(self, step: impl Future<Output = T>) -> Result<T, Late> {
        match self.at {
            None => Ok(step.await),
            Some(at) => timeout_at(at, step).await.map_err(|_| Late),
        }
    }
}
