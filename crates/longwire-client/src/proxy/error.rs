//! The errors of proxies.

use std::io;

use http::{Response, StatusCode};
use longwire_handshake::HeadError;

/// The reason why a proxy did not connect to the server.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The name of the proxy could not be resolved.
    #[error("cannot resolve proxy {host}")]
    Resolve {
        /// The host of the proxy's URL.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// No address of the proxy accepted a connection.
    #[error("cannot connect to proxy {host} port {port}")]
    Connect {
        /// The host of the proxy's URL.
        host: String,
        /// The port.
        port: u16,
        /// The error of the last attempt.
        source: io::Error,
    },
    /// An HTTP proxy refused or asked for credentials: its status is not 2xx.
    #[error("proxy answered with status {}", .response.status())]
    Refused {
        /// The head of the response; its body is not read.
        response: Box<Response<()>>,
    },
    /// An HTTP proxy's response is not HTTP/1.1, or its head exceeds 16 KiB or 100 fields.
    #[error("malformed response from the proxy: {0}")]
    Head(HeadError),
    /// A SOCKS proxy's response is not SOCKS version 5.
    #[error("proxy does not speak SOCKS version 5")]
    NotSocks,
    /// A SOCKS proxy requires a login and none is set, or it accepts no kind of login that was offered.
    #[error("proxy requires a login, or a kind of login that is not supported")]
    LoginRequired,
    /// A SOCKS proxy refused the user and password.
    #[error("proxy refused the user name and password")]
    LoginRefused,
    /// A SOCKS proxy could not or would not connect (RFC 1928 §6).
    #[error("proxy did not connect: {}", meaning(*.code))]
    Socks {
        /// The proxy's reply code, at least 1.
        code: u8,
    },
    /// The server's name is longer than the 255 bytes that SOCKS can carry.
    #[error("host name is too long for a SOCKS proxy")]
    HostTooLong,
    /// The proxy closed the connection before its response was complete.
    #[error("proxy closed the connection before its response was complete")]
    ClosedEarly,
    /// The TLS handshake with the proxy failed: its certificate is untrusted, expired or for another host, it refused
    /// the client's certificate, or it does not speak TLS.
    #[cfg(feature = "tls")]
    #[error("TLS handshake with the proxy failed{}", crate::diagnosis::proxy_hint(.0))]
    TlsHandshake(#[source] tokio_rustls::rustls::Error),
    /// TLS with the proxy cannot be set up.
    #[cfg(feature = "tls")]
    #[error("TLS with the proxy failed")]
    Tls(#[source] crate::TlsError),
}

longwire_connection::debug_with_causes!(ProxyError);

impl From<HeadError> for ProxyError {
    fn from(error: HeadError) -> Self {
        Self::Head(error)
    }
}

impl ProxyError {
    /// Returns whether another attempt can succeed: not if the proxy would refuse the same request again.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Refused { response } => !is_final(response.status()),
            Self::LoginRequired | Self::LoginRefused | Self::HostTooLong => false,
            // "connection not allowed by ruleset", "Command not supported", "Address type not supported" (RFC 1928 §6)
            Self::Socks { code } => !matches!(code, 2 | 7 | 8),
            Self::Head(_) | Self::NotSocks => false,
            #[cfg(feature = "tls")]
            Self::TlsHandshake(error) => crate::diagnosis::may_pass(error),
            #[cfg(feature = "tls")]
            Self::Tls(error) => error.is_temporary(),
            Self::Resolve { .. } | Self::Connect { .. } | Self::ClosedEarly => true,
        }
    }
}

/// Returns whether a request answered with this status would get the same response again.
pub(crate) fn is_final(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 408 | 425 | 429)
}

/// Returns the meaning of a SOCKS proxy's reply other than 0 (RFC 1928 §6).
fn meaning(code: u8) -> &'static str {
    match code {
        1 => "general failure",
        2 => "not allowed by the proxy's rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "unknown reason",
    }
}
