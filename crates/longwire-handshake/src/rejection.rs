//! The reasons to refuse a handshake, and the corresponding HTTP responses (RFC 6455 §4.2.2).

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::encode;
use crate::extension::ExtensionError;
use crate::head::HeadError;
use crate::key::InvalidKey;
use crate::subprotocol::{Subprotocol, SubprotocolError};
use crate::text::PeerText;

/// A refused handshake, with the status, headers and body of the response.
///
/// `Display` is meant for the server's log and may quote the peer (escaped). The body of the response never does, so
/// it cannot carry a script back into a page.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The request head is malformed (400), or too large (431, or 414 for its target).
    #[error("malformed request: {0}")]
    Head(HeadError),
    /// The method is not GET (RFC 6455 §4.2.1 item 1). Status 405 with `Allow`.
    #[error("method {method} instead of GET")]
    Method {
        /// The request's method.
        method: PeerText,
        /// Whether it is HEAD, whose response has no body.
        is_head: bool,
    },
    /// The request does not ask for a WebSocket: `Upgrade` is absent, or `Connection` does not list it, or another
    /// protocol is offered and there is no `Sec-WebSocket-Key`. Status 426.
    #[error("plain request without a WebSocket upgrade")]
    UpgradeRequired,
    /// `Upgrade` is repeated or does not list `websocket` (RFC 6455 §4.2.1 item 3). Status 400.
    #[error("Upgrade header is repeated or does not list websocket")]
    Upgrade,
    /// The request is not HTTP/1.1 (RFC 6455 §4.2.1 item 1). Status 400.
    #[error("upgrade requested with an HTTP version other than 1.1")]
    Version,
    /// The method of a request over HTTP/2 or 3 is not CONNECT, so it does not ask for a WebSocket (RFC 8441 §5).
    /// Status 405 with `Allow`.
    #[error("method {method} instead of CONNECT")]
    ConnectRequired {
        /// The request's method.
        method: PeerText,
    },
    /// The request is a plain CONNECT, without `:protocol`, which asks for a tunnel to another host (RFC 8441 §4).
    /// Status 400.
    #[error("CONNECT without :protocol")]
    MissingProtocol,
    /// The request is an extended CONNECT for something other than `websocket`. Status 501 (RFC 9220 §3).
    #[error("CONNECT for the protocol {protocol} instead of websocket")]
    Protocol {
        /// The pseudo-header `:protocol`.
        protocol: PeerText,
    },
    /// `Host` is absent, repeated or not a host (RFC 6455 §4.2.1 item 2), or differs from `:authority`. Status 400.
    #[error("missing, repeated or malformed Host header")]
    Host,
    /// The target is not a path or an absolute URI with one (RFC 6455 §4.2.1 item 1). Status 400.
    #[error("request target has no path")]
    Target,
    /// The request announces a body, which would be interpreted as frames. Status 400.
    #[error("upgrade request with a body")]
    Body,
    /// `Sec-WebSocket-Key` is absent or repeated (RFC 6455 §4.2.1 item 5). Status 400.
    #[error("missing or repeated Sec-WebSocket-Key header")]
    MissingKey,
    /// `Sec-WebSocket-Key` is not 16 bytes in base64 (RFC 6455 §4.2.1 item 5). Status 400.
    #[error("invalid Sec-WebSocket-Key header: {0}")]
    Key(InvalidKey),
    /// `Sec-WebSocket-Version` is absent, repeated or not a number (RFC 6455 §4.2.1 item 6). Status 400, naming
    /// version 13.
    #[error("missing or malformed Sec-WebSocket-Version header")]
    MissingProtocolVersion,
    /// `Sec-WebSocket-Version` is a number other than 13 (RFC 6455 §4.4). Status 426, naming version 13.
    #[error("WebSocket version {version} instead of 13")]
    ProtocolVersion {
        /// The requested version.
        version: u8,
    },
    /// The same as [`ProtocolVersion`](Self::ProtocolVersion), but over HTTP/2 or 3, which have no upgrade. Status
    /// 400, naming version 13.
    #[error("WebSocket version {version} instead of 13")]
    ConnectProtocolVersion {
        /// The requested version.
        version: u8,
    },
    /// `Sec-WebSocket-Protocol` breaks its grammar (RFC 6455 §4.2.1 item 8). Status 400.
    #[error("invalid Sec-WebSocket-Protocol header: {0}")]
    Subprotocol(SubprotocolError),
    /// `Sec-WebSocket-Extensions` breaks its grammar (RFC 6455 §9.1). Status 400.
    #[error("invalid Sec-WebSocket-Extensions header: {0}")]
    Extensions(ExtensionError),
    /// `Origin` is repeated. Status 400.
    #[error("repeated Origin header")]
    RepeatedOrigin,
    /// The page's origin is not allowed here (RFC 6455 §4.2.2 item 2, §10.2). Status 403.
    #[error("origin {origin} is not allowed")]
    Origin {
        /// The request's `Origin`; empty if there was none.
        origin: PeerText,
    },
    /// No WebSocket is served at this path. Status 404.
    #[error("no WebSocket at path {path}")]
    NotFound {
        /// The request's path.
        path: PeerText,
    },
    /// The handshake was not complete by its deadline. Status 408.
    #[error("request did not arrive in time")]
    Timeout,
    /// The server accepts no more connections, because it is full or shutting down. Status 503.
    #[error("server accepts no more connections")]
    Unavailable,
    /// The HTTP server that read the request cannot hand over its connection, because it was not set up for
    /// upgrades. Status 500.
    #[error("HTTP server cannot hand over the connection")]
    NoUpgrade,
    /// The application's own response, such as a 401 that asks for credentials.
    #[error("refused by the application with status {}", .0.status())]
    Response(Box<Response<Bytes>>),
}

longwire_frame::debug_with_causes!(Rejection);

impl From<HeadError> for Rejection {
    fn from(error: HeadError) -> Self {
        Self::Head(error)
    }
}

impl From<InvalidKey> for Rejection {
    fn from(error: InvalidKey) -> Self {
        Self::Key(error)
    }
}

impl From<SubprotocolError> for Rejection {
    fn from(error: SubprotocolError) -> Self {
        Self::Subprotocol(error)
    }
}

impl From<ExtensionError> for Rejection {
    fn from(error: ExtensionError) -> Self {
        Self::Extensions(error)
    }
}

impl Rejection {
    /// Creates a rejection from the application's own response.
    ///
    /// A status below 200 cannot end a handshake and is replaced by 500.
    pub fn from_response(mut response: Response<impl Into<Bytes>>) -> Self {
        if response.status().is_informational() {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        Self::Response(Box::new(response.map(Into::into)))
    }

    /// Creates a rejection from a status and a text for humans.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::StatusCode;
    /// use longwire_handshake::Rejection;
    ///
    /// let rejection = Rejection::new(StatusCode::FORBIDDEN, "members only\n");
    /// assert_eq!(rejection.status(), 403);
    /// ```
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let mut response = Response::new(body.into());
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
        Self::from_response(response)
    }

    /// Creates a rejection that asks for credentials: 401 with this challenge, such as `Basic realm="chat"` (RFC
    /// 9110 §11.6.1).
    ///
    /// # Panics
    ///
    /// If the challenge is not a valid header value.
    pub fn unauthorized(challenge: &'static str) -> Self {
        let mut response = Response::new(Bytes::from_static(b"Credentials are required\n"));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        Self::from_response(response)
    }

    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Head(error) => error.status(),
            Self::Method { .. } | Self::ConnectRequired { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::UpgradeRequired | Self::ProtocolVersion { .. } => StatusCode::UPGRADE_REQUIRED,
            Self::Upgrade
            | Self::Version
            | Self::Host
            | Self::Target
            | Self::Body
            | Self::MissingKey
            | Self::Key(_)
            | Self::MissingProtocolVersion
            | Self::MissingProtocol
            | Self::ConnectProtocolVersion { .. }
            | Self::Subprotocol(_)
            | Self::Extensions(_)
            | Self::RepeatedOrigin => StatusCode::BAD_REQUEST,
            Self::Origin { .. } => StatusCode::FORBIDDEN,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoUpgrade => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Protocol { .. } => StatusCode::NOT_IMPLEMENTED,
            Self::Response(response) => response.status(),
        }
    }

    /// Returns whether the request does not ask for a WebSocket at all, so another server or a page can answer it
    /// instead.
    pub fn is_plain_request(&self) -> bool {
        matches!(self, Self::UpgradeRequired | Self::Method { .. } | Self::ConnectRequired { .. })
    }

    /// Returns the headers of the response, without those that frame it (`Content-Length`, `Connection: close`).
    pub fn headers(&self) -> HeaderMap {
        if let Self::Response(response) = self {
            return response.headers().clone();
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, TEXT);
        match self {
            Self::Method { .. } => {
                headers.insert(ALLOW, HeaderValue::from_static("GET"));
            }
            Self::ConnectRequired { .. } => {
                headers.insert(ALLOW, HeaderValue::from_static("CONNECT"));
            }
            // "A server that sends a 426 response MUST send an Upgrade header field" (RFC 9110 §15.5.22), "A sender
            // of Upgrade MUST also send an "Upgrade" connection option in the Connection header field" (§7.8).
            Self::UpgradeRequired | Self::ProtocolVersion { .. } => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            Self::MissingProtocolVersion | Self::ConnectProtocolVersion { .. } => {
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            _ => {}
        }
        headers
    }

    /// Returns the body of the response: one line of text that quotes nothing from the request.
    pub fn body(&self) -> Bytes {
        let text = match self {
            Self::Response(response) => return response.body().clone(),
            Self::Head(HeadError::TargetTooLong { .. }) => "The request target is too long\n",
            Self::Head(error) if error.status() != StatusCode::BAD_REQUEST => {
                "The request head is too large\n"
            }
            Self::Head(_) => "The request is malformed\n",
            Self::Method { .. } => "A WebSocket handshake uses the method GET\n",
            Self::UpgradeRequired => "Upgrade Required: this resource speaks WebSocket\n",
            Self::ConnectRequired { .. } | Self::MissingProtocol | Self::Protocol { .. } => {
                "A WebSocket handshake over HTTP/2 is a CONNECT request with the protocol websocket\n"
            }
            Self::Upgrade => "Invalid Upgrade header\n",
            Self::Version => "A WebSocket handshake uses HTTP/1.1\n",
            Self::Host => "Missing or invalid Host header\n",
            Self::Target => "Invalid request target\n",
            Self::Body => "A WebSocket handshake has no body\n",
            Self::MissingKey | Self::Key(_) => "Missing or invalid Sec-WebSocket-Key header\n",
            Self::MissingProtocolVersion
            | Self::ProtocolVersion { .. }
            | Self::ConnectProtocolVersion { .. } => {
                "Missing or unsupported Sec-WebSocket-Version header: only version 13 is supported\n"
            }
            Self::Subprotocol(_) => "Invalid Sec-WebSocket-Protocol header\n",
            Self::Extensions(_) => "Invalid Sec-WebSocket-Extensions header\n",
            Self::RepeatedOrigin => "Repeated Origin header\n",
            Self::Origin { .. } => "Origin not allowed\n",
            Self::NotFound { .. } => "No WebSocket at this path\n",
            Self::Timeout => "The request did not arrive in time\n",
            Self::Unavailable => "The server accepts no more connections\n",
            Self::NoUpgrade => "The server cannot hand over this connection\n",
        };
        Bytes::from_static(text.as_bytes())
    }

    /// Returns the response for an HTTP server that adds the framing itself, such as hyper.
    pub fn to_response(&self) -> Response<Bytes> {
        let mut response = Response::new(self.body());
        *response.status_mut() = self.status();
        *response.headers_mut() = self.headers();
        if let Self::Response(own) = self {
            *response.version_mut() = own.version();
            response.extensions_mut().clone_from(own.extensions());
        }
        response
    }

    /// Returns the response as the bytes to send before the connection is closed, with `Connection: close` and an exact
    /// `Content-Length`.
    pub fn encode(&self) -> Bytes {
        let response = self.to_response();
        match self {
            Self::Method { is_head: true, .. } => encode::encode_refusal_without_body(&response),
            _ => encode::encode_refusal(&response),
        }
    }

    pub(crate) fn method(method: &Method) -> Self {
        Self::Method { method: PeerText::new(method.as_str()), is_head: *method == Method::HEAD }
    }
}

/// A change to a response that the handshake does not allow.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptedError {
    /// The subprotocol is not one of those offered.
    #[error("subprotocol {name} was not offered by the client")]
    NotOffered {
        /// The subprotocol.
        name: Subprotocol,
    },
    /// The handshake writes this field itself.
    #[error("header {name} belongs to the handshake")]
    Reserved {
        /// The field.
        name: HeaderName,
    },
    /// There are more fields than [`MAX_ADDED_HEADERS`](crate::MAX_ADDED_HEADERS).
    #[error("too many headers")]
    TooManyHeaders,
}

longwire_frame::debug_with_causes!(AcceptedError);

impl From<AcceptedError> for Rejection {
    /// Converts a mistake of the application. The client gets a 500 that does not describe it.
    fn from(_: AcceptedError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error\n")
    }
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
