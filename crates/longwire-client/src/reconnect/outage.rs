//! The reasons why there is no connection, and whether and when another attempt can succeed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::RETRY_AFTER;
use longwire_connection::{BoxError, CloseCode, CloseFrame};

use crate::proxy::is_final;
use crate::{Error, ProxyError};

/// The reason why there is no connection.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Outage {
    /// The connection could not be established.
    #[error(transparent)]
    Connect(#[from] Error),
    /// The connection was established, and [`on_connect`](super::Builder::on_connect) failed.
    #[error("setting up the connection failed")]
    Setup(#[source] BoxError),
    /// The connection was established, and [`on_connect`](super::Builder::on_connect) took too long.
    #[error("setting up the connection did not complete within {limit:?}")]
    SetupTimeout {
        /// The time allowed.
        limit: Duration,
    },
    /// The connection ended with an error. [`Closed`](longwire_connection::Error::Closed) if
    /// [`on_connect`](super::Builder::on_connect) returned a connection whose end it had already received.
    #[error(transparent)]
    Lost(#[from] longwire_connection::Error),
    /// The peer closed the connection with code 1000, 1001 or 1005, which represents no code.
    #[error("the peer closed the connection: {0}")]
    Closed(CloseFrame),
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

longwire_connection::debug_with_causes!(Outage);

impl Outage {
    /// Returns whether another attempt can succeed. It decides unless [`retry_if`](super::Builder::retry_if) does.
    ///
    /// It returns `false` if
    ///
    /// - the options prevent a request, for example an invalid URL or host, or a feature that is off;
    /// - the server, or an HTTP proxy, answered with a status of 400 to 499 other than 408, 425 and 429;
    /// - the response is not HTTP, or violates the handshake, for example with a subprotocol that was not offered;
    /// - a redirect could not be followed;
    /// - the server's certificate is not valid, TLS is set up wrongly, the peer refused the client's certificate, or
    ///   the peer does not speak TLS or shares no version and algorithm with this end;
    /// - a SOCKS proxy refused the login, refused the connection by its rules, cannot handle such a request, or does
    ///   not speak SOCKS version 5;
    /// - the peer violated the protocol or exceeded a limit on messages
    ///   ([`Protocol`](longwire_connection::Error::Protocol));
    /// - the peer closed with 1000, the normal end, or with 1002, 1003, 1007, 1008, 1009 or 1010, which reject a
    ///   message that would be sent again on every connection;
    /// - [`on_connect`](super::Builder::on_connect) failed with an error of the connection for which one of the last
    ///   two applies;
    /// - the task that maintains the connection has ended.
    ///
    /// In particular, it returns `true` for names that cannot be resolved, refused and lost connections, time limits,
    /// other errors of `on_connect`, statuses of 500 and above, and a message for which the memory budget has no room
    /// beside those of other connections ([`OutOfMemory`](longwire_connection::Error::OutOfMemory)). A message that
    /// takes more than the whole budget exceeds a limit.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Connect(error) => is_temporary(error),
            Self::Setup(error) => error.downcast_ref().is_none_or(is_loss_temporary),
            Self::Lost(error) => is_loss_temporary(error),
            Self::Closed(frame) => !FINAL.contains(&frame.code),
            Self::SetupTimeout { .. } | Self::Undelivered { .. } => true,
            Self::TaskGone => false,
        }
    }

    /// Returns how long the server or an HTTP proxy asks clients to wait: the `Retry-After` of a response with status
    /// 429 or 503, in seconds or as a date, which is compared with this system's clock. A date in the past is zero.
    ///
    /// `None` if there is none or it is malformed. A [`Backoff`](super::Backoff) honors it up to
    /// [`max_retry_after`](super::Backoff::max_retry_after).
    pub fn retry_after(&self) -> Option<Duration> {
        let (status, headers) = match self {
            Self::Connect(Error::UnexpectedResponse { response, .. }) => {
                (response.status(), response.headers())
            }
            Self::Connect(Error::Proxy(ProxyError::Refused { response })) => {
                (response.status(), response.headers())
            }
            _ => return None,
        };
        let asks = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let value = headers.get(RETRY_AFTER).filter(|_| asks)?.to_str().ok()?;
        parse_retry_after(value, SystemTime::now())
    }

    /// Returns whether the connection ended because its work is done: closed with 1000.
    pub(super) fn is_clean(&self) -> bool {
        matches!(self, Self::Closed(frame) if frame.code == CloseCode::NORMAL)
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
        | Error::Response(_)
        | Error::Redirect(_) => false,
        #[cfg(feature = "tls")]
        Error::Tls(error) => error.is_temporary(),
        _ => true,
    }
}

/// Returns whether another connection may last longer than one that ended with this error.
fn is_loss_temporary(error: &longwire_connection::Error) -> bool {
    match error {
        longwire_connection::Error::Protocol(_) => false,
        longwire_connection::Error::ClosedByPeer(frame) => !FINAL.contains(&frame.code),
        _ => true,
    }
}

/// Reads a `Retry-After` field: "an HTTP-date or a number of seconds" (RFC 9110 §10.2.3).
fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that overflow mean longer than any limit.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
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
    pub outage: Arc<Outage>,
    /// The reason why the last attempt before the successful one failed; the same as [`outage`](Self::outage) if
    /// the first attempt succeeded.
    pub last_failure: Arc<Outage>,
    /// The number of attempts until the connection was re-established, at least 1.
    pub attempts: u32,
    /// The duration of the gap, including the time that [`on_connect`](super::Builder::on_connect) took.
    pub duration: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_how_long_to_wait() {
        // Sun, 06 Nov 1994 08:49:37 GMT: the example of RFC 9110 §5.6.7.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun Nov  6 08:50:07 1994", Some(30)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 25:50:07 GMT", None),
        ] {
            assert_eq!(parse_retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }
}
