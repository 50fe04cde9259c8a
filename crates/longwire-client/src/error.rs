//! Errors of a connection attempt.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Response};
use longwire_handshake::{InvalidLogin, InvalidSubprotocol, OptionsError, ResponseError, UriError};

use crate::Stage;

/// The reason why a connection attempt failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused, redirected or asked for credentials: its status is not 101.
    #[error("server answered with status {} instead of 101", .response.status())]
    UnexpectedResponse {
        /// The response, with the part of its body that was read.
        response: Box<Response<Bytes>>,
        /// `true` if the body is complete: not cut off by the server, the deadline or the limit on its size.
        body_is_whole: bool,
    },
    /// The server's response is malformed or does not complete the handshake (RFC 6455 §4.1).
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// The server closed the connection before its response was complete.
    #[error("connection closed before the handshake was complete")]
    ClosedEarly,
    /// The attempt did not complete by its deadline.
    #[error("timed out after {limit:?} while {stage} {host} port {port}")]
    Timeout {
        /// The time allowed for the whole attempt.
        limit: Duration,
        /// The server's name or address.
        host: String,
        /// The server's port.
        port: u16,
        /// The step that was not complete.
        stage: Stage,
    },
    /// The URL is not a valid WebSocket URL. Nothing was sent.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// An option of the client is invalid, such as a header or the proxy's URL. The request that it concerns was not
    /// sent; if that request follows a redirect, earlier ones were.
    #[error(transparent)]
    Option(#[from] InvalidOption),
    /// A header belongs to the handshake, or headers or subprotocols cannot be sent together. The request was not sent;
    /// if it follows a redirect, earlier ones were.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The URL of the server or of the proxy requires TLS, and the feature `tls` is off; nothing was sent to it.
    #[error(
        "TLS is not supported by this build: enable the feature rustls of longwire (platform-roots and ring of \
         longwire-client)"
    )]
    TlsUnsupported,
    /// The client did not follow the server's redirect.
    #[error(transparent)]
    Redirect(#[from] crate::RedirectError),
    /// The proxy did not connect to the server.
    #[error(transparent)]
    Proxy(#[from] crate::ProxyError),
    /// The host's name could not be resolved.
    #[error("cannot resolve {host}")]
    Resolve {
        /// The host's name.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// No address of the host accepted a connection.
    #[error("cannot connect to {host} port {port}")]
    Connect {
        /// The host's name or address.
        host: String,
        /// The port.
        port: u16,
        /// The error of the last attempt.
        source: io::Error,
    },
    /// The Unix socket did not accept a connection.
    #[error("cannot connect to {}", .path.display())]
    ConnectUnix {
        /// The path of the socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// TLS failed; nothing was sent over it.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] crate::TlsError),
    /// The connection failed during the handshake.
    #[error("connection failed during the handshake")]
    Io(#[source] io::Error),
}

longwire_connection::debug_with_causes!(Error, InvalidOption);

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        // In TLS 1.3, a server refuses a client's certificate after the client's handshake has ended.
        #[cfg(feature = "tls")]
        if let Some(error) = crate::diagnosis::within(&error) {
            return Self::Tls(crate::TlsError::Handshake(error.clone()));
        }
        Self::Io(error)
    }
}

/// An invalid option of a [`Client`](crate::Client).
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidOption {
    /// A header name is not a token (RFC 9110 §5.1).
    #[error("invalid header name")]
    HeaderName,
    /// A header value contains bytes that are not allowed, such as a line break (RFC 9110 §5.5).
    #[error("invalid value for header {name}")]
    HeaderValue {
        /// The name of the header.
        name: HeaderName,
    },
    /// There are more headers than a request can hold.
    #[error("too many headers")]
    TooManyHeaders,
    /// A subprotocol name is not a token.
    #[error(transparent)]
    Subprotocol(#[from] InvalidSubprotocol),
    /// The user and password cannot be sent as `Basic` (RFC 7617 §2).
    #[error(transparent)]
    Login(#[from] InvalidLogin),
    /// A token contains characters that `Bearer` cannot carry (RFC 6750 §2.1).
    #[error("invalid bearer token")]
    Bearer,
    /// A cookie's name or value contains characters that are not allowed (RFC 6265 §4.1.1).
    #[error("invalid cookie {name:?}")]
    Cookie {
        /// The name as given.
        name: String,
    },
    /// A `ws+unix` URL has no socket path, or the text after it is not a path and query.
    #[error("invalid URL for a Unix socket: the form is ws+unix:/socket:/path")]
    UnixSocket,
    /// The proxy's URL is invalid.
    #[error("invalid proxy URL: {0}")]
    Proxy(Arc<UriError>),
    /// The environment variable that names the proxy for the URL contains an invalid URL.
    #[error("invalid proxy URL in environment variable {name}: {error}")]
    ProxyVariable {
        /// The name of the variable.
        name: String,
        /// The error in its value.
        error: Arc<UriError>,
    },
    /// The TLS configuration is invalid.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] crate::TlsError),
}

impl From<std::convert::Infallible> for InvalidOption {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
