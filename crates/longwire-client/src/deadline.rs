//! The deadline of a connection attempt, and the step that the attempt has reached.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use longwire_handshake::WebSocketUri;

use crate::Error;

/// A step of a connection attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The host's name is resolved.
    Resolve,
    /// The host's addresses, or its Unix socket, are dialed.
    Connect,
    /// The proxy is reached, and connects to the host.
    Proxy,
    /// The TLS handshake.
    Tls,
    /// The request is sent, and the response is awaited.
    Response,
}

/// Formats as the middle of a sentence, before the name of a host.
impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving the name of",
            Self::Connect => "connecting to",
            Self::Proxy => "connecting through a proxy to",
            Self::Tls => "negotiating TLS with",
            Self::Response => "waiting for the response of",
        })
    }
}

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
