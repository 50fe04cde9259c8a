//! Why a connection could not be made.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Response};
use longwire_handshake::{InvalidLogin, InvalidSubprotocol, OptionsError, ResponseError, UriError};

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused, redirected or asked for credentials: its status is not 101.
    #[error("server answered with status {} instead of 101", .response.status())]
    UnexpectedResponse {
        /// The answer, with its body as far as it was read.
        response: Box<Response<Bytes>>,
        /// Whether the body is whole: neither cut off by the server, by the deadline, nor by the bound on its size.
        body_is_whole: bool,
    },
    /// The server's answer is malformed or does not complete the handshake (RFC 6455 §4.1).
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// The server closed the connection before its answer was complete.
    #[error("connection closed before the handshake was complete")]
    ClosedEarly,
    /// The attempt was not complete by its deadline.
    #[error("handshake was not complete within {limit:?}")]
    Timeout {
        /// The whole time allowed.
        limit: Duration,
    },
    /// The URL names no WebSocket; nothing was sent.
    #[error("invalid URL: {0}")]
    Uri(#[from] UriError),
    /// A header, origin or subprotocol is invalid; nothing was sent.
    #[error(transparent)]
    Option(#[from] InvalidOption),
    /// The headers or subprotocols cannot be sent together; nothing was sent.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The URL asks for TLS and the feature `tls` is off; nothing was sent.
    #[error("TLS is not supported by this build")]
    TlsUnsupported,
    /// The server redirected to where the client does not go.
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
        /// What the resolver said.
        source: io::Error,
    },
    /// None of the host's addresses took a connection.
    #[error("cannot connect to {host} port {port}")]
    Connect {
        /// The host's name or address.
        host: String,
        /// The port.
        port: u16,
        /// What the last attempt failed with.
        source: io::Error,
    },
    /// The Unix socket took no connection.
    #[error("cannot connect to {}", .path.display())]
    ConnectUnix {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// TLS failed, and nothing was sent over it.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] crate::TlsError),
    /// The connection failed during the handshake.
    #[error("connection failed during the handshake")]
    Io(#[from] io::Error),
}

/// An option of a [`Client`](crate::Client) that no request can carry.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidOption {
    /// The name of a header is not a token (RFC 9110 §5.1).
    #[error("invalid name of a header")]
    HeaderName,
    /// The value of a header has bytes that no value may have, such as a line break (RFC 9110 §5.5).
    #[error("invalid value of header {name}")]
    HeaderValue {
        /// The header.
        name: HeaderName,
    },
    /// There are more headers than a request can hold.
    #[error("too many headers")]
    TooManyHeaders,
    /// The name of a subprotocol is not a token.
    #[error(transparent)]
    Subprotocol(#[from] InvalidSubprotocol),
    /// User and password cannot be sent as `Basic` (RFC 7617 §2).
    #[error(transparent)]
    Login(#[from] InvalidLogin),
    /// A token has characters that `Bearer` cannot carry (RFC 6750 §2.1).
    #[error("invalid bearer token")]
    Bearer,
    /// A cookie's name or value has characters that it cannot have (RFC 6265 §4.1.1).
    #[error("invalid cookie {name:?}")]
    Cookie {
        /// The name that was given.
        name: String,
    },
    /// A `ws+unix` URL has no path to a socket, or what follows it is no path and query.
    #[error("invalid URL of a Unix socket, whose form is ws+unix:/socket:/path")]
    UnixSocket,
    /// The URL of a proxy is invalid.
    #[error("invalid URL of the proxy: {0}")]
    Proxy(#[source] Arc<UriError>),
    /// The environment variable that names the proxy for the URL holds an invalid URL.
    #[error("invalid URL of a proxy in the environment variable {name}: {source}")]
    ProxyVariable {
        /// The name of the variable.
        name: String,
        /// The fault in its value.
        source: Arc<UriError>,
    },
    /// The configuration of TLS is impossible.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] crate::TlsError),
}

impl From<std::convert::Infallible> for InvalidOption {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
