//! The deadline of a connection attempt.

use std::time::Duration;

use crate::Error;

/// The time by which an attempt must be complete, counted from its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    limit: Duration,
    at: longwire_connection::Deadline,
}

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        Self { limit, at: longwire_connection::Deadline::after(limit) }
    }

    /// Runs one step of the attempt.
    pub(crate) async fn run<T>(self, step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.at.run(step).await.unwrap_or(Err(Error::Timeout { limit: self.limit }))
    }
}
