//! Why there is no connection, and what that means for another attempt.

use std::fmt;
use std::time::Duration;

use longwire_connection::{CloseCode, CloseFrame};

use crate::proxy::is_final;
use crate::{Error, RedirectError};

/// What a hook fails with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Outage {
    /// It could not be made.
    #[error(transparent)]
    Connect(#[from] Error),
    /// It was made, and [`on_connect`](super::Builder::on_connect) failed.
    #[error("setting up the connection failed: {0}")]
    Setup(#[source] BoxError),
    /// It was made, and [`on_connect`](super::Builder::on_connect) took too long.
    #[error("setting up the connection was not complete within {limit:?}")]
    SetupTimeout {
        /// The time allowed.
        limit: Duration,
    },
    /// It ended other than well.
    #[error(transparent)]
    Lost(#[from] longwire_connection::Error),
    /// The peer closed it with code 1000, 1001 or none.
    #[error("the peer closed the connection{}", Described(.0.as_ref()))]
    Closed(Option<CloseFrame>),
    /// A message was not delivered within [`delivery_timeout`](super::Builder::delivery_timeout).
    #[error("a message was not delivered within {limit:?}")]
    Undelivered {
        /// The time allowed.
        limit: Duration,
    },
    /// The task that keeps the connection is gone: the runtime ended, or a hook panicked.
    #[error("the task that keeps the connection is gone")]
    TaskGone,
}

impl Outage {
    /// Whether another attempt can do better, which is what decides unless [`retry_if`](super::Builder::retry_if) does.
    ///
    /// Not where nothing was sent because of what was asked for, such as an invalid URL; not where the server, or an HTTP proxy,
    /// answered with a status of 400 to 499 other than 408, 425 and 429; not where a SOCKS proxy refused the login or, by its
    /// rules, the connection; not where the peer broke the protocol or crossed a limit; and not where it
    /// closed with 1000, the end, or 1002, 1003, 1007, 1008, 1009 or 1010, which say that what it was sent will not do: a
    /// message that is refused every time would come again every time.
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

    /// Whether it is how a connection ends that has done its work: closed with 1000.
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

/// The close codes that end it for good.
const FINAL: [CloseCode; 7] = [
    CloseCode::NORMAL,
    CloseCode::PROTOCOL_ERROR,
    CloseCode::UNSUPPORTED_DATA,
    CloseCode::INVALID_PAYLOAD,
    CloseCode::POLICY_VIOLATION,
    CloseCode::MESSAGE_TOO_BIG,
    CloseCode::MANDATORY_EXTENSION,
];

/// A close frame as the end of a sentence.
struct Described<'a>(Option<&'a CloseFrame>);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |frame| write!(f, ": {frame}"))
    }
}

/// What [`retry_if`](super::Builder::retry_if) decides about.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Failure<'a> {
    /// What happened.
    pub outage: &'a Outage,
    /// How many failures in a row this makes, from 1 on. A connection that lasted for
    /// [`Backoff::reset_after`](super::Backoff::reset_after) begins a new row.
    pub attempt: u32,
    /// How long ago the row began: since [`start`](super::Builder::start), or since the loss of the connection that had lasted.
    pub elapsed: Duration,
}

/// A time without a connection, between two. Messages that the peer sent meanwhile were missed, and also those that it sent
/// before the outage and that had not arrived.
#[derive(Debug)]
#[non_exhaustive]
pub struct Gap {
    /// How the connection before it ended.
    pub outage: Outage,
    /// How many attempts it took to connect again, at least 1.
    pub attempts: u32,
    /// How long it lasted, with the time that [`on_connect`](super::Builder::on_connect) took.
    pub duration: Duration,
}
