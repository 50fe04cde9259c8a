//! The deadline of a connection attempt, and the step that the attempt has reached.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use longwire_handshake::WebSocketUri;

use crate::Error;
use crate::stage::Stage;

/// The time by which an attempt must be complete, counted from its start.
#[derive(Debug)]
pub(crate) struct Deadline {
    limit: Duration,
    at: longwire_connection::Deadline,
    stage: Mutex<Stage>,
}

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        let at = longwire_connection::Deadline::after(limit);
        Self { limit, at, stage: Mutex::new(Stage::Resolve) }
    }

    /// Records the step that begins.
    pub(crate) fn enter(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    /// Runs a part of the attempt to connect to the server of a URL.
    pub(crate) async fn run<T>(
        &self,
        uri: &WebSocketUri,
        part: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.at.run(part).await.unwrap_or_else(|_| {
            let stage = *self.stage.lock().unwrap_or_else(PoisonError::into_inner);
            Err(Error::Timeout { limit: self.limit, host: uri.host().to_owned(), port: uri.port(), stage })
        })
    }
}
