//! The reasons why there is no connection, and whether another attempt can succeed.

use std::fmt;
use std::time::Duration;

use longwire_connection::{BoxError, CloseCode, CloseFrame};

use crate::proxy::is_final;
use crate::{Error, RedirectError};

/// The reason why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Outage {
    /// The connection could not be established.
    #[error(transparent)]
    Connect(#[from] Error),
    /// The connection was established, and [`on_connect`](super::Builder::on_connect) failed.
    #[error("setting up the connection failed: {0}")]
    Setup(#[source] BoxError),
    /// The connection was established, and [`on_connect`](super::Builder::on_connect) took too long.
    #[error("setting up the connection did not complete within {limit:?}")]
    SetupTimeout {
        /// The time allowed.
        limit: Duration,
    },
    /// The connection ended with an error.
    #[error(transparent)]
    Lost(#[from] longwire_connection::Error),
    /// The peer closed the connection with code 1000, 1001 or 1005, which represents no code.
    #[error("the peer closed the connection{}", Described(.0.as_ref()))]
    Closed(Option<CloseFrame>),
    /// A message was not delivered within [`delivery_timeout`](super::Builder::delivery_timeout).
    #[error("a message was not delivered within {limit:?}")]
    Undelivered {
        /// The time allowed.
        limit: Duration,
    },
    /// The task that keeps the connection is gone: the runtime ended, or a hook panicked.
    #[error("the task that maintains the connection has ended")]
    TaskGone,
}

impl Outage {
    /// Returns whether another attempt can succeed. It decides unless [`retry_if`](super::Builder::retry_if) does.
    ///
    /// It returns `false` if
    ///
    /// - the options prevent a request, for example an invalid URL;
    /// - a redirect led from TLS to a plain connection;
    /// - the server, or an HTTP proxy, answered with a status of 400 to 499 other than 408, 425 and 429;
    /// - a SOCKS proxy refused the login, refused the connection by its rules, or cannot handle such a request;
    /// - the peer violated the protocol or exceeded a limit on messages
    ///   ([`Protocol`](longwire_connection::Error::Protocol));
    /// - the peer closed with 1000, the normal end, or with 1002, 1003, 1007, 1008, 1009 or 1010, which reject a
    ///   message that would be sent again on every connection;
    /// - the task that maintains the connection has ended.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Connect(error) => is_temporary(error),
            Self::Lost(longwire_connection::Error::Protocol(_)) | Self::TaskGone => false,
            Self::Lost(longwire_connection::Error::ClosedByPeer(frame)) | Self::Closed(Some(frame)) => {
                !FINAL.contains(&frame.code)
            }
            Self::Setup(_)
            | Self::SetupTimeout { .. }
            | Self::Lost(_)
            | Self::Closed(None)
            | Self::Undelivered { .. } => true,
        }
    }

    /// Returns whether the connection ended because its work is done: closed with 1000.
    pub(super) fn is_clean(&self) -> bool {
        matches!(self, Self::Closed(Some(frame)) if frame.code == CloseCode::NORMAL)
    }
}

fn is_temporary(error: &Error) -> bool {
    match error {
        Error::UnexpectedResponse { response, .. } => !is_final(response.status()),
        Error::Proxy(error) => error.is_temporary(),
        Error::Uri(_)
        | Error::Option(_)
        | Error::Options(_)
        | Error::TlsUnsupported
        | Error::Redirect(RedirectError::Plain { .. }) => false,
        _ => true,
    }
}

/// The close codes after which no further attempt is made.
const FINAL: [CloseCode; 7] = [
    CloseCode::NORMAL,
    CloseCode::PROTOCOL_ERROR,
    CloseCode::UNSUPPORTED_DATA,
    CloseCode::INVALID_PAYLOAD,
    CloseCode::POLICY_VIOLATION,
    CloseCode::MESSAGE_TOO_BIG,
    CloseCode::MANDATORY_EXTENSION,
];

/// A close frame, formatted as the end of a sentence.
struct Described<'a>(Option<&'a CloseFrame>);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |frame| write!(f, ": {frame}"))
    }
}

/// The input of [`retry_if`](super::Builder::retry_if).
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Failure<'a> {
    /// The reason for the failure.
    pub outage: &'a Outage,
    /// The number of failures in a row, including this one. A connection that lasted for
    /// [`Backoff::reset_after`](super::Backoff::reset_after) starts a new row.
    pub attempt: u32,
    /// The time since the row began: since [`start`](super::Builder::start), or since the loss of the connection that
    /// lasted.
    pub elapsed: Duration,
}

/// A period without a connection, between two connections. Messages that the peer sent during it were missed, and so
/// were those that it sent before the outage and that had not arrived.
#[derive(Debug)]
#[non_exhaustive]
pub struct Gap {
    /// The end of the connection before the gap.
    pub outage: Outage,
    /// The number of attempts until the connection was re-established, at least 1.
    pub attempts: u32,
    /// The duration of the gap, including the time that [`on_connect`](super::Builder::on_connect) took.
    pub duration: Duration,
}
