//! The client's side: building a request and verifying the response (RFC 6455 §4.1).
//!
//! Sockets, deadlines and randomness belong to the caller.

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, EXPECT, HOST, HeaderName, ORIGIN, PROXY_AUTHORIZATION, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TE, TRAILER,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, response};

use crate::checks::{MAX_ADDED_HEADERS, is_reserved};
#[cfg(feature = "deflate")]
use crate::deflate::DeflateOptions;
use crate::encode::encode_request;
use crate::extension::{ExtensionError, ExtensionOffer};
use crate::field::{Field, list_has};
use crate::head::{CompleteHead, HeadError, HeadLimits, HeadReader, Kind, parse_fault};
use crate::key::{AcceptKey, Key};
use crate::origin::split_authority;
use crate::subprotocol::{Subprotocol, first_duplicate};
use crate::text::PeerText;
use crate::uri::WebSocketUri;

/// The options of a client's handshake, beyond the URI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientOptions {
    /// Fields to add to the request, none of which the handshake writes itself. `Host` replaces the URI's, and
    /// `Authorization` replaces its credentials.
    pub headers: HeaderMap,
    /// The value of `Origin`, which only browsers must send. None by default.
    pub origin: Option<HeaderValue>,
    /// Subprotocols to offer, in order of preference. None by default.
    pub subprotocols: Vec<Subprotocol>,
    /// The parameters with which permessage-deflate is offered (RFC 7692). Default: `None`, so it is not offered.
    #[cfg(feature = "deflate")]
    pub deflate: Option<DeflateOptions>,
}

impl ClientOptions {
    /// Sets [`headers`](Self::headers).
    #[must_use]
    pub fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    /// Sets [`origin`](Self::origin).
    #[must_use]
    pub fn with_origin(mut self, origin: impl Into<Option<HeaderValue>>) -> Self {
        self.origin = origin.into();
        self
    }

    /// Sets [`subprotocols`](Self::subprotocols).
    #[must_use]
    pub fn with_subprotocols(mut self, subprotocols: impl Into<Vec<Subprotocol>>) -> Self {
        self.subprotocols = subprotocols.into();
        self
    }

    /// Sets [`deflate`](Self::deflate).
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn with_deflate(mut self, deflate: impl Into<Option<DeflateOptions>>) -> Self {
        self.deflate = deflate.into();
        self
    }
}

/// One opening handshake of a client: the request, and the expected response.
#[derive(Debug, Clone)]
pub struct ClientHandshake {
    request: Request<()>,
    accept: AcceptKey,
    offered: Offered,
}

impl ClientHandshake {
    /// Builds the request.
    ///
    /// The bytes of `key` must be random and fresh. The handshake's fields come first, then the caller's.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] if `options` sets a field that belongs to the handshake, to HTTP's framing or to a proxy,
    /// repeats a field that is sent only once, has more than [`MAX_ADDED_HEADERS`] fields or a malformed `Host`, or
    /// names a subprotocol twice.
    pub fn new(uri: &WebSocketUri, key: Key, options: &ClientOptions) -> Result<Self, OptionsError> {
        let offered = Offered::new(options)?;
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from(uri.target().clone());
        let headers = request.headers_mut();
        headers.insert(HOST, uri.host_header());
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(SEC_WEBSOCKET_KEY, key.to_header_value());
        offered.write(uri, options, headers);
        Ok(Self { request, accept: key.accept(), offered })
    }

    /// Returns the request.
    pub fn request(&self) -> &Request<()> {
        &self.request
    }

    /// Returns the request as the bytes to send.
    pub fn request_bytes(&self) -> Bytes {
        encode_request(&self.request)
    }

    /// Checks the server's response.
    ///
    /// # Errors
    ///
    /// [`ResponseError::Status`] if the server did not switch protocols: the response may be a redirect or a request
    /// for credentials. Any other error if it switched in a way that the client must refuse; in that case no byte
    /// after the head may be interpreted as a frame.
    pub fn verify(&self, answer: &response::Parts) -> Result<Agreement, ResponseError> {
        let headers = &answer.headers;
        if answer.status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ResponseError::Status { status: answer.status });
        }
        if answer.version != Version::HTTP_11 {
            return Err(ResponseError::Version);
        }
        match Field::of(headers, &UPGRADE) {
            Field::One(value) if value.as_bytes().eq_ignore_ascii_case(b"websocket") => {}
            _ => return Err(ResponseError::Upgrade),
        }
        if !list_has(headers, &CONNECTION, "upgrade") {
            return Err(ResponseError::Connection);
        }
        match Field::of(headers, &SEC_WEBSOCKET_ACCEPT) {
            Field::One(value) if value == self.accept.as_str() => {}
            _ => return Err(ResponseError::Accept),
        }
        self.offered.verify(headers)
    }
}

/// A client's offers, in either form of the handshake, and the checks of the response to them.
#[derive(Debug, Clone)]
pub(crate) struct Offered {
    subprotocols: Vec<Subprotocol>,
    #[cfg(feature = "deflate")]
    deflate: Vec<longwire_deflate::Offer>,
}

impl Offered {
    /// Checks the options.
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, OptionsError> {
        check_headers(options)?;
        if let Some(name) = first_duplicate(&options.subprotocols) {
            return Err(OptionsError::RepeatedSubprotocol { name: name.clone() });
        }
        Ok(Self {
            subprotocols: options.subprotocols.clone(),
            #[cfg(feature = "deflate")]
            deflate: options.deflate.as_ref().map_or_else(Vec::new, DeflateOptions::offers),
        })
    }

    /// Writes the offers and the other optional fields, then the caller's fields, which replace them.
    pub(crate) fn write(&self, uri: &WebSocketUri, options: &ClientOptions, headers: &mut HeaderMap) {
        if let Some(list) = Subprotocol::list_to_header_value(&self.subprotocols) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, list);
        }
        #[cfg(feature = "deflate")]
        if !self.deflate.is_empty() {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, crate::deflate::list_value(&self.deflate));
        }
        if let Some(origin) = &options.origin {
            headers.insert(ORIGIN, origin.clone());
        }
        if let Some(credentials) = uri.credentials() {
            headers.insert(AUTHORIZATION, credentials.clone());
        }
        for name in options.headers.keys() {
            headers.remove(name);
            for value in options.headers.get_all(name) {
                headers.append(name, value.clone());
            }
        }
    }

    /// Checks the server's selection.
    pub(crate) fn verify(&self, headers: &HeaderMap) -> Result<Agreement, ResponseError> {
        let extensions = ExtensionOffer::parse_list(headers.get_all(SEC_WEBSOCKET_EXTENSIONS))?;
        #[cfg(feature = "deflate")]
        let (deflate, extensions) = crate::deflate::verify(&extensions, &self.deflate)?;
        // An extension that was not offered cannot be agreed on, and one that was offered can be agreed on only
        // once.
        if let Some(extension) = extensions.first() {
            return Err(ResponseError::Extension { name: PeerText::new(extension.name()) });
        }
        Ok(Agreement {
            subprotocol: self.verify_subprotocol(headers)?,
            #[cfg(feature = "deflate")]
            deflate,
        })
    }

    /// Checks the selected subprotocol. A server that speaks none of those offered omits the field (RFC 6455 §4.2.2
    /// item 5).
    fn verify_subprotocol(&self, headers: &HeaderMap) -> Result<Option<Subprotocol>, ResponseError> {
        match Field::of(headers, &SEC_WEBSOCKET_PROTOCOL) {
            Field::Missing => Ok(None),
            Field::Repeated => Err(ResponseError::RepeatedSubprotocol),
            Field::One(value) => {
                let named = self.subprotocols.iter().find(|offered| value == offered.as_str());
                let named = named.ok_or_else(|| ResponseError::Subprotocol { name: PeerText::new(value) })?;
                Ok(Some(named.clone()))
            }
        }
    }
}

/// The result of the negotiation between client and server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Agreement {
    /// The agreement on compression.
    #[cfg(feature = "deflate")]
    pub deflate: Option<longwire_deflate::Agreement>,
    /// The subprotocol that both sides will speak: one of those offered, or none.
    pub subprotocol: Option<Subprotocol>,
}

/// An error in the options of a handshake, found while its request is built.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The field belongs to the handshake (such as `Upgrade`), to HTTP's framing (such as `Content-Length`) or to a
    /// proxy (such as `Proxy-Authorization`).
    #[error("header {name} cannot be set: it belongs to the handshake")]
    ReservedHeader {
        /// The field.
        name: HeaderName,
    },
    /// The field is sent at most once (`Host`, `Origin`, `Authorization`), but has several values. For `Origin`,
    /// [`ClientOptions::origin`] counts as one.
    #[error("header {name} has more than one value")]
    RepeatedHeader {
        /// The field.
        name: HeaderName,
    },
    /// There are more fields than [`MAX_ADDED_HEADERS`].
    #[error("too many headers")]
    TooManyHeaders,
    /// The `Host` field is not a host with an optional port.
    #[error("Host header is not a host with an optional port")]
    Host,
    /// A subprotocol is offered twice (RFC 6455 §4.1 item 10).
    #[error("subprotocol {name} is offered twice")]
    RepeatedSubprotocol {
        /// The subprotocol.
        name: Subprotocol,
    },
}

longwire_frame::debug_with_causes!(OptionsError);

/// A response that does not complete the handshake (RFC 6455 §4.1).
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The head of the response breaks HTTP's grammar, is not that of an HTTP/1 response, or exceeds a limit.
    #[error("malformed response: {0}")]
    Head(HeadError),
    /// The server does not speak HTTP.
    #[error("server did not answer with HTTP, but with {received}")]
    NotHttp {
        /// The first bytes that arrived.
        received: PeerText,
    },
    /// The server speaks TLS on this port.
    #[error("server answered with TLS instead of HTTP: a wss URL is needed")]
    Tls,
    /// The server did not switch protocols: the status is not 101.
    #[error("server answered with status {status} instead of 101")]
    Status {
        /// The status.
        status: StatusCode,
    },
    /// The server did not open the stream of an extended CONNECT: the status is not a 2xx (RFC 8441 §5).
    #[error("server answered with status {status} instead of 2xx")]
    ConnectStatus {
        /// The status.
        status: StatusCode,
    },
    /// The 101 is an HTTP/1.0 response, but only HTTP/1.1 can switch protocols.
    #[error("server switched protocols with an HTTP version other than 1.1")]
    Version,
    /// `Upgrade` is absent, repeated or something other than `websocket`.
    #[error("Upgrade header of the response is not exactly websocket")]
    Upgrade,
    /// `Connection` does not list `upgrade`.
    #[error("Connection header of the response does not list upgrade")]
    Connection,
    /// `Sec-WebSocket-Accept` is absent, repeated or does not match the key.
    #[error("Sec-WebSocket-Accept header of the response does not match the key")]
    Accept,
    /// `Sec-WebSocket-Extensions` breaks its grammar.
    #[error("invalid Sec-WebSocket-Extensions header in the response: {0}")]
    Extensions(ExtensionError),
    /// The server agreed to permessage-deflate with parameters that no offer allows.
    #[cfg(feature = "deflate")]
    #[error("permessage-deflate was not negotiated: {0}")]
    Deflate(longwire_deflate::AnswerError),
    /// The server selected an extension that was not offered, or selected one twice.
    #[error("server selected extension {name}, which was not offered or is repeated")]
    Extension {
        /// The extension.
        name: PeerText,
    },
    /// The server selected a subprotocol that was not offered, or several.
    #[error("server selected subprotocol {name}, which was not offered")]
    Subprotocol {
        /// The field's value.
        name: PeerText,
    },
    /// `Sec-WebSocket-Protocol` is repeated.
    #[error("server selected a subprotocol more than once")]
    RepeatedSubprotocol,
}

longwire_frame::debug_with_causes!(ResponseError);

impl ResponseError {
    /// Returns the error for a connection that starts with these bytes; `None` if an HTTP response may start with
    /// them.
    ///
    /// [`ResponseParser`] fails for such bytes as well, but without quoting them, and possibly later.
    pub fn of_start(bytes: &[u8]) -> Option<Self> {
        const START: &[u8] = b"HTTP/";
        let len = bytes.len().min(START.len());
        match bytes {
            _ if bytes[..len].eq_ignore_ascii_case(&START[..len]) => None,
            // An alert or a handshake record, and the first byte of its version (RFC 8446 §5.1).
            [0x15 | 0x16] | [0x15 | 0x16, 0x03, ..] => Some(Self::Tls),
            _ => Some(Self::NotHttp { received: PeerText::new(bytes) }),
        }
    }
}

impl From<HeadError> for ResponseError {
    fn from(error: HeadError) -> Self {
        Self::Head(error)
    }
}

impl From<ExtensionError> for ResponseError {
    fn from(error: ExtensionError) -> Self {
        Self::Extensions(error)
    }
}

#[cfg(feature = "deflate")]
impl From<longwire_deflate::AnswerError> for ResponseError {
    fn from(error: longwire_deflate::AnswerError) -> Self {
        Self::Deflate(error)
    }
}

/// Reads the head of the response from the bytes of a connection.
///
/// It takes bytes as they arrive, in pieces of any size, in time linear in their number. Interim responses (1xx
/// except 101) are skipped. They share the limit in bytes with the response, and at most 8 are allowed.
#[derive(Debug)]
pub struct ResponseParser {
    reader: HeadReader,
    interim: usize,
}

/// The head of a response, and the bytes read after it.
#[derive(Debug)]
pub struct ResponseHead {
    /// The head. Its strings share one buffer of the head's size.
    pub parts: response::Parts,
    /// The bytes that followed the head in the last piece: the server's first frames, or the start of a body.
    pub read_ahead: Bytes,
}

impl ResponseParser {
    /// Creates a parser with the given limits.
    pub fn new(limits: HeadLimits) -> Self {
        Self { reader: HeadReader::new(Kind::Response, limits), interim: 0 }
    }

    /// Takes the next bytes of the connection. Returns the head of the final response once it is complete.
    ///
    /// # Errors
    ///
    /// [`HeadError`] at the first byte that is invalid in a head or exceeds a limit. From then on every call
    /// returns it.
    pub fn handle_bytes(&mut self, mut bytes: &[u8]) -> Result<Option<ResponseHead>, HeadError> {
        while let Some(head) = self.reader.handle_bytes(bytes)? {
            bytes = &bytes[head.taken..];
            let parts = parse_response(&head).map_err(|error| self.reader.fail(error))?;
            if !parts.status.is_informational() || parts.status == StatusCode::SWITCHING_PROTOCOLS {
                self.reader.forget_counted();
                self.interim = 0;
                return Ok(Some(ResponseHead { parts, read_ahead: Bytes::copy_from_slice(bytes) }));
            }
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(self.reader.fail(HeadError::TooManyInterim { limit: MAX_INTERIM }));
            }
        }
        Ok(None)
    }

    /// Returns whether part of a head has arrived. If the stream ends now, the response is incomplete.
    pub fn is_partial(&self) -> bool {
        self.reader.is_partial()
    }
}

impl Default for ResponseParser {
    fn default() -> Self {
        Self::new(HeadLimits::default())
    }
}

fn check_headers(options: &ClientOptions) -> Result<(), OptionsError> {
    if options.headers.len() > MAX_ADDED_HEADERS {
        return Err(OptionsError::TooManyHeaders);
    }
    for name in options.headers.keys() {
        let reserved = [TE, TRAILER, EXPECT, PROXY_AUTHORIZATION];
        let by_name = ["keep-alive", "proxy-connection"];
        if is_reserved(name) || reserved.contains(name) || by_name.contains(&name.as_str()) {
            return Err(OptionsError::ReservedHeader { name: name.clone() });
        }
    }
    for name in [HOST, ORIGIN, AUTHORIZATION] {
        let origin_too = name == ORIGIN && options.origin.is_some();
        if options.headers.get_all(&name).iter().count() + usize::from(origin_too) > 1 {
            return Err(OptionsError::RepeatedHeader { name });
        }
    }
    match options.headers.get(HOST) {
        Some(host) if host.to_str().ok().and_then(split_authority).is_none() => Err(OptionsError::Host),
        _ => Ok(()),
    }
}

fn parse_response(head: &CompleteHead) -> Result<response::Parts, HeadError> {
    let mut slots = head.slots();
    let mut parsed = httparse::Response::new(&mut slots);
    if parsed.parse(&head.bytes).map_err(parse_fault)?.is_partial() {
        return Err(HeadError::Field);
    }
    let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(HeadError::StartLine);
    };
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(code).map_err(|_| HeadError::StartLine)?;
    parts.version = if minor == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    parts.headers = head.header_map(parsed.headers)?;
    Ok(parts)
}

/// Servers send one `100 Continue` or `103 Early Hints`. More than a few serve only to keep the client waiting.
const MAX_INTERIM: usize = 8;
