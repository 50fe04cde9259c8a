//! The client's side: building a request and verifying the answer (RFC 6455 §4.1).
//!
//! Sockets, deadlines and randomness belong to the caller.

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, EXPECT, HOST, HeaderName, ORIGIN, PROXY_AUTHORIZATION, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TE, TRAILER,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, response};

use crate::body::BodyFraming;
#[cfg(feature = "deflate")]
use crate::deflate::DeflateOptions;
use crate::encode::encode_request;
use crate::extension::{ExtensionError, ExtensionOffer};
use crate::field::{Field, list_has};
use crate::head::{CompleteHead, HeadError, HeadLimits, HeadReader, Kind, parse_fault};
use crate::key::{AcceptKey, Key};
use crate::origin::split_authority;
use crate::server::is_reserved;
use crate::subprotocol::{Subprotocol, first_duplicate};
use crate::text::PeerText;
use crate::uri::WebSocketUri;

/// What a client asks for beside the URI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientOptions {
    /// Fields to add to the request, none of which the handshake writes itself. `Host` replaces the URI's, and `Authorization` its
    /// credentials.
    pub headers: HeaderMap,
    /// The value of `Origin`, which programs other than browsers need not send; none by default.
    pub origin: Option<HeaderValue>,
    /// Subprotocols to offer, in order of preference; none by default.
    pub subprotocols: Vec<Subprotocol>,
    /// Whether permessage-deflate is offered (RFC 7692), and with which parameters. Default: `None`, it is not.
    #[cfg(feature = "deflate")]
    pub deflate: Option<DeflateOptions>,
}

/// One opening handshake of a client: the request, and what the answer has to be.
#[derive(Debug, Clone)]
pub struct ClientHandshake {
    request: Request<()>,
    accept: AcceptKey,
    offered: Offered,
}

impl ClientHandshake {
    /// Builds the request.
    ///
    /// The bytes of `key` have to be random and fresh. The request's fields are those of the handshake, then the caller's.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] if `options` would make two of a field that is sent once, or take a field that the handshake or HTTP's
    /// framing owns.
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

    /// Checks the server's answer.
    ///
    /// # Errors
    ///
    /// [`ResponseError::Status`] if the server did not switch protocols, which may be a redirect or ask for credentials; any other if it
    /// did in a way that the client has to refuse. Not a byte behind the head may be taken for a frame then.
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

/// What a client offers, in whichever form of the handshake, and what the answer has to make of it.
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

    /// Writes what is offered and asked for, then the caller's.
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

    /// Checks what the server selected.
    pub(crate) fn verify(&self, headers: &HeaderMap) -> Result<Agreement, ResponseError> {
        let extensions = ExtensionOffer::parse_list(headers.get_all(SEC_WEBSOCKET_EXTENSIONS))?;
        #[cfg(feature = "deflate")]
        let (deflate, extensions) = crate::deflate::verify(&extensions, &self.deflate)?;
        // What was not offered cannot be agreed on, and what was only once.
        if let Some(extension) = extensions.first() {
            return Err(ResponseError::Extension { name: PeerText::new(extension.name()) });
        }
        Ok(Agreement {
            subprotocol: self.verify_subprotocol(headers)?,
            #[cfg(feature = "deflate")]
            deflate,
        })
    }

    /// A server may speak none of those offered and say so by silence (RFC 6455 §4.2.2 item 5).
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

/// What client and server agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Agreement {
    /// What was agreed on for compression.
    #[cfg(feature = "deflate")]
    pub deflate: Option<longwire_deflate::Agreement>,
    /// The subprotocol that both sides will speak: one of those offered, or none.
    pub subprotocol: Option<Subprotocol>,
}

/// Options from which no handshake can be made; nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The field belongs to the handshake, to HTTP's framing or to a proxy.
    #[error("header {name} cannot be set by hand: it belongs to the handshake")]
    ReservedHeader {
        /// The field.
        name: HeaderName,
    },
    /// The field is sent once, but has two values.
    #[error("header {name} has more than one value")]
    RepeatedHeader {
        /// The field.
        name: HeaderName,
    },
    /// `Host` is no host with an optional port.
    #[error("Host header is not a host with an optional port")]
    Host,
    /// A subprotocol is offered twice (RFC 6455 §4.1 item 10).
    #[error("subprotocol {name} is offered twice")]
    RepeatedSubprotocol {
        /// The subprotocol.
        name: Subprotocol,
    },
}

/// An answer that does not complete the handshake (RFC 6455 §4.1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The answer is not HTTP/1.1, or its head exceeds a limit.
    #[error("malformed response: {0}")]
    Head(#[from] HeadError),
    /// The server did not switch protocols: the status is not 101.
    #[error("server answered with status {status} instead of 101")]
    Status {
        /// The status.
        status: StatusCode,
    },
    /// The server did not open the stream of an extended CONNECT: the status is not a 2xx (RFC 8441 §5).
    #[error("server answered with status {status} instead of one of success")]
    ConnectStatus {
        /// The status.
        status: StatusCode,
    },
    /// The server switched protocols in HTTP/1.0, which cannot.
    #[error("server switched protocols in a version other than HTTP/1.1")]
    Version,
    /// `Upgrade` is absent, repeated or something else than `websocket`.
    #[error("Upgrade header of the response is not exactly websocket")]
    Upgrade,
    /// `Connection` does not list `upgrade`.
    #[error("Connection header of the response does not list upgrade")]
    Connection,
    /// `Sec-WebSocket-Accept` is absent, repeated or not the answer to the key.
    #[error("Sec-WebSocket-Accept header of the response does not match the key")]
    Accept,
    /// `Sec-WebSocket-Extensions` breaks its grammar.
    #[error("invalid Sec-WebSocket-Extensions header in the response: {0}")]
    Extensions(#[from] ExtensionError),
    /// The server agreed to permessage-deflate with parameters that no offer allows.
    #[cfg(feature = "deflate")]
    #[error("invalid answer to the offer of permessage-deflate: {0}")]
    Deflate(#[from] longwire_deflate::AnswerError),
    /// The server uses an extension that was not offered, or one twice.
    #[error("server uses extension {name}, which was not offered")]
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

/// Reads the head of the answer from the bytes of a connection.
///
/// Takes bytes as they arrive, in pieces of any size, in time linear in their number. Interim responses (1xx but 101) are skipped;
/// all of them and the answer share the limit in bytes, and at most 8 are allowed.
#[derive(Debug)]
pub struct ResponseParser {
    reader: HeadReader,
    interim: usize,
}

/// The head of an answer, and what the peer sent behind it.
#[derive(Debug)]
pub struct ResponseHead {
    /// The head. Its strings share one buffer of the head's size.
    pub parts: response::Parts,
    /// The bytes that followed the head in the last piece: the server's first frames, or the start of a body.
    pub read_ahead: Bytes,
}

impl ResponseHead {
    /// Returns how the end of the answer's body is found, if the answer is not a 101.
    pub fn body_framing(&self) -> BodyFraming {
        BodyFraming::of(&self.parts)
    }
}

impl ResponseParser {
    /// Makes a parser with the given limits.
    pub fn new(limits: HeadLimits) -> Self {
        Self { reader: HeadReader::new(Kind::Response, limits), interim: 0 }
    }

    /// Takes the next bytes of the connection; yields the head of the final answer once it is complete.
    ///
    /// # Errors
    ///
    /// [`HeadError`] at the first byte that no head allows, or that crosses a limit. From then on every call returns it.
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

    /// Returns whether a part of a head has arrived, so that an end of the stream cuts an answer off.
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

/// Servers send one `100 Continue` or `103 Early Hints`; more than a few are an attack on the client's patience.
const MAX_INTERIM: usize = 8;
