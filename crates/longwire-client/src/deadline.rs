//! The deadline of a connection attempt.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::Error;

/// The time by which an attempt must be complete, counted from its start and never extended: a server that sends its
/// response byte by byte must not hold a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    limit: Duration,
    /// `None` if the limit exceeds the range of the clock.
    at: Option<Instant>,
}

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        Self { limit, at: Instant::now().checked_add(limit) }
    }

    /// Runs one step of the attempt.
    pub(crate) async fn run<T>(self, step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match self.at {
            None => step.await,
            Some(at) => timeout_at(at, step).await.unwrap_or(Err(Error::Timeout { limit: self.limit })),
        }
    }
}
