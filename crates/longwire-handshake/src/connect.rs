//! The opening handshake over HTTP/2 and 3: an extended CONNECT (RFC 8441 §4 and §5, RFC 9220 §3).
//!
//! The client opens a stream instead of taking over a connection, so there is no `Upgrade`, no `Connection` and no
//! key: that functionality "has been superseded by the :protocol pseudo-header field" (RFC 8441 §5). Owns the parts
//! specific to this form; the parts common to both forms are in [`server`](crate::server) and
//! [`client`](crate::client). The HTTP library sends and reads the pseudo-header `:protocol`.

use http::header::{HOST, SEC_WEBSOCKET_VERSION};
use http::uri::{Parts, Scheme};
use http::{HeaderValue, Method, Request, Uri, Version, response};

use crate::checks::{check_no_body, check_protocol_version, check_target};
use crate::client::{Agreement, ClientOptions, Offered, OptionsError, ResponseError};
use crate::field::Field;
use crate::origin::split_authority;
use crate::rejection::Rejection;
use crate::request::RequestView;
use crate::text::PeerText;
use crate::uri::WebSocketUri;

/// The value of `:protocol` (RFC 8441 §5).
pub const WEBSOCKET: &str = "websocket";

/// Runs the checks of this form, in the same order as those of the HTTP/1.1 form.
pub(crate) fn check_extended_connect(request: RequestView<'_>) -> Result<(), Rejection> {
    if request.method != Method::CONNECT {
        return Err(Rejection::ConnectRequired { method: PeerText::new(request.method.as_str()) });
    }
    match request.protocol {
        Some(WEBSOCKET) => {}
        Some(other) => return Err(Rejection::Protocol { protocol: PeerText::new(other) }),
        None => return Err(Rejection::MissingProtocol),
    }
    // "On requests that contain the :protocol pseudo-header field, the :scheme and :path pseudo-header fields of the
    // target URI MUST also be included" (RFC 8441 §4)
    if request.uri.scheme().is_none() {
        return Err(Rejection::Target);
    }
    check_target(request.uri)?;
    check_authority(request)?;
    check_no_body(request.headers)?;
    check_protocol_version(request.headers).map_err(|rejection| match rejection {
        // A 426 must name the protocol to upgrade to (RFC 9110 §15.5.22), and HTTP/2 has no upgrade.
        Rejection::ProtocolVersion { version } => Rejection::ConnectProtocolVersion { version },
        other => other,
    })
}

/// `:authority` names the host; a `Host` field beside it "that identifies an entity that differs" makes the request
/// malformed (RFC 9113 §8.3.1).
fn check_authority(request: RequestView<'_>) -> Result<(), Rejection> {
    let host = request.host().and_then(split_authority).ok_or(Rejection::Host)?;
    match Field::of(request.headers, &HOST) {
        Field::Missing => Ok(()),
        Field::One(value) if value.to_str().ok().and_then(split_authority) == Some(host) => Ok(()),
        Field::One(_) | Field::Repeated => Err(Rejection::Host),
    }
}

/// One opening handshake of a client over HTTP/2 or 3: the request, and the expected response.
///
/// # Examples
///
/// ```
/// use longwire_handshake::{ClientOptions, ConnectHandshake, WebSocketUri};
///
/// let uri = WebSocketUri::parse("wss://example.com/chat")?;
/// let handshake = ConnectHandshake::new(&uri, &ClientOptions::default())?;
/// assert_eq!(handshake.request().method(), "CONNECT");
/// assert_eq!(handshake.request().uri(), "https://example.com/chat");
/// // Send it with `:protocol`, as the HTTP library provides, set to `longwire_handshake::WEBSOCKET`.
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConnectHandshake {
    request: Request<()>,
    offered: Offered,
}

impl ConnectHandshake {
    /// Builds the request with the scheme `http` or `https`, as RFC 8441 §5 maps `ws` and `wss`. A `Host` among the
    /// caller's fields becomes its authority.
    ///
    /// # Errors
    ///
    /// As for [`ClientHandshake::new`](crate::ClientHandshake::new).
    pub fn new(uri: &WebSocketUri, options: &ClientOptions) -> Result<Self, OptionsError> {
        let offered = Offered::new(options)?;
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        offered.write(uri, options, request.headers_mut());
        let host = request.headers_mut().remove(HOST).unwrap_or_else(|| uri.host_header());
        *request.uri_mut() = absolute(uri, &host)?;
        Ok(Self { request, offered })
    }

    /// Returns the request, without its `:protocol`.
    pub fn request(&self) -> &Request<()> {
        &self.request
    }

    /// Checks the server's response.
    ///
    /// # Errors
    ///
    /// [`ResponseError::ConnectStatus`] unless the status is a 2xx; any other error if the server selected
    /// something that was not offered.
    pub fn verify(&self, answer: &response::Parts) -> Result<Agreement, ResponseError> {
        if !answer.status.is_success() {
            return Err(ResponseError::ConnectStatus { status: answer.status });
        }
        self.offered.verify(&answer.headers)
    }
}

fn absolute(uri: &WebSocketUri, host: &HeaderValue) -> Result<Uri, OptionsError> {
    let mut parts = Parts::default();
    parts.scheme = Some(if uri.is_secure() { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(host.as_bytes().try_into().map_err(|_| OptionsError::Host)?);
    parts.path_and_query = Some(uri.target().clone());
    Uri::from_parts(parts).map_err(|_| OptionsError::Host)
}
