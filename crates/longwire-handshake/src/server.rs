//! The server's side: reading a request and deciding on it (RFC 6455 §4.2).
//!
//! [`accept`] is the only place where a request is checked, whether [`RequestParser`] read it or an HTTP server
//! that has an `http::Request`. Sockets, deadlines and the 408 belong to the caller.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request};

use crate::checks::{MAX_ADDED_HEADERS, check_no_body, check_protocol_version, check_target, is_reserved};
use crate::connect;
use crate::extension::ExtensionOffer;
use crate::field::{Field, list_has, trim};
use crate::head::{CompleteHead, HeadError, HeadLimits, HeadReader, Kind, parse_fault};
use crate::key::{AcceptKey, Key};
use crate::origin::{OriginPolicy, split_authority};
use crate::rejection::{AcceptedError, Rejection};
use crate::request::RequestView;
use crate::subprotocol::Subprotocol;
use crate::text::PeerText;

/// Reads request heads from the bytes of a connection.
///
/// It takes bytes as they arrive, in pieces of any size, in time linear in their number. One empty line before the
/// request is skipped (RFC 9112 §2.2).
#[derive(Debug)]
pub struct RequestParser {
    reader: HeadReader,
}

/// A request head, and the bytes read after it.
#[derive(Debug)]
pub struct RequestHead {
    /// The head. Its strings share one buffer of the head's size.
    pub parts: request::Parts,
    /// The bytes that followed the head in the last piece: the peer's first frames, if the handshake succeeds.
    pub read_ahead: Bytes,
}

impl RequestParser {
    /// Creates a parser with the given limits.
    pub fn new(limits: HeadLimits) -> Self {
        Self { reader: HeadReader::new(Kind::Request, limits) }
    }

    /// Takes the next bytes of the connection. Returns the head once it is complete.
    ///
    /// After that, the parser is ready for another head.
    ///
    /// # Errors
    ///
    /// [`Rejection::Head`] at the first byte that is invalid in a head or exceeds a limit. From then on every call
    /// returns it.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Option<RequestHead>, Rejection> {
        let Some(head) = self.reader.handle_bytes(bytes)? else {
            return Ok(None);
        };
        self.reader.forget_counted();
        let parts = parse_request(&head).map_err(|error| self.reader.fail(error))?;
        Ok(Some(RequestHead { parts, read_ahead: Bytes::copy_from_slice(&bytes[head.taken..]) }))
    }

    /// Returns whether part of a head has arrived. If the stream ends now, the request is incomplete.
    pub fn is_partial(&self) -> bool {
        self.reader.is_partial()
    }
}

impl Default for RequestParser {
    fn default() -> Self {
        Self::new(HeadLimits::default())
    }
}

/// The features that a server supports and the requests that it allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Subprotocols in the server's order of preference. The first one that the client offers is selected. Empty by
    /// default. A client that offers only others connects without one.
    pub subprotocols: Vec<Subprotocol>,
    /// The pages that may connect. Any by default.
    pub origins: OriginPolicy,
    /// The only path served, compared without the query. Others are refused with 404. Any path by default.
    pub path: Option<String>,
    /// The parameters with which permessage-deflate is accepted (RFC 7692). Default: `None`, so it is declined.
    ///
    /// An offer that is malformed or asks for something that these options exclude is declined, and the next one is
    /// considered. If no offer is acceptable, the connection is not compressed.
    #[cfg(feature = "deflate")]
    pub deflate: Option<crate::deflate::DeflateOptions>,
}

impl ServerOptions {
    /// Sets [`subprotocols`](Self::subprotocols).
    #[must_use]
    pub fn with_subprotocols(mut self, subprotocols: impl Into<Vec<Subprotocol>>) -> Self {
        self.subprotocols = subprotocols.into();
        self
    }

    /// Sets [`origins`](Self::origins).
    #[must_use]
    pub fn with_origins(mut self, origins: OriginPolicy) -> Self {
        self.origins = origins;
        self
    }

    /// Sets [`path`](Self::path).
    #[must_use]
    pub fn with_path(mut self, path: impl Into<Option<String>>) -> Self {
        self.path = path.into();
        self
    }

    /// Sets [`deflate`](Self::deflate).
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn with_deflate(mut self, deflate: impl Into<Option<crate::deflate::DeflateOptions>>) -> Self {
        self.deflate = deflate.into();
        self
    }
}

/// Checks a request and negotiates its offers.
///
/// Takes `&http::request::Parts` or `&http::Request<B>`. The checks are made in this order: method, target, `Host`,
/// whether an upgrade is requested at all, `Upgrade`, version of HTTP, body, key, WebSocket version, path, origin,
/// subprotocols, extensions. Over HTTP/2 and 3, where the request is an extended CONNECT (RFC 8441 §5), `Upgrade`,
/// `Connection` and the key are ignored.
///
/// # Errors
///
/// The [`Rejection`] to respond with.
pub fn accept<'a>(
    request: impl Into<RequestView<'a>>,
    options: &ServerOptions,
) -> Result<Accepted, Rejection> {
    let request = request.into();
    let form = if request.is_multiplexed() {
        connect::check_extended_connect(request)?;
        Form::ExtendedConnect
    } else {
        check_http1_upgrade(request)?
    };
    if options.path.as_deref().is_some_and(|path| path != request.uri.path()) {
        return Err(Rejection::NotFound { path: PeerText::new(request.uri.path()) });
    }
    check_origin(request, &options.origins)?;
    let offered = Subprotocol::parse_list(request.headers.get_all(SEC_WEBSOCKET_PROTOCOL))?;
    // Unknown extensions are declined by not naming them, but a malformed list is an error: "the recipient of such
    // malformed data MUST immediately _Fail the WebSocket Connection_" (RFC 6455 §9.1).
    #[cfg_attr(not(feature = "deflate"), allow(unused_variables))]
    let offers = ExtensionOffer::parse_list(request.headers.get_all(SEC_WEBSOCKET_EXTENSIONS))?;
    let mut accepted = Accepted {
        form,
        offered,
        selected: None,
        headers: HeaderMap::new(),
        #[cfg(feature = "deflate")]
        deflate: options.deflate.as_ref().and_then(|options| crate::deflate::accept(&offers, options)),
    };
    accepted.negotiate_subprotocol(options.subprotocols.iter().map(Subprotocol::as_str));
    Ok(accepted)
}

/// A request that passed every check, and the response that completes its handshake.
#[derive(Debug, Clone)]
pub struct Accepted {
    form: Form,
    offered: Vec<Subprotocol>,
    /// One of `offered`, or none.
    selected: Option<Subprotocol>,
    /// The application's fields, none of which the handshake itself writes.
    headers: HeaderMap,
    #[cfg(feature = "deflate")]
    deflate: Option<longwire_deflate::Agreement>,
}

impl Accepted {
    /// Returns the subprotocol of the connection, if any.
    pub fn subprotocol(&self) -> Option<&Subprotocol> {
        self.selected.as_ref()
    }

    /// Returns the subprotocols that the client offers, in its order of preference.
    pub fn offered_subprotocols(&self) -> &[Subprotocol] {
        &self.offered
    }

    /// Selects the first of `supported` that the client offers, or none. Replaces the negotiated subprotocol.
    pub fn negotiate_subprotocol<'a>(&mut self, supported: impl IntoIterator<Item = &'a str>) {
        let offered = |name: &str| self.offered.iter().find(|offered| offered.as_str() == name).cloned();
        self.selected = supported.into_iter().find_map(offered);
    }

    /// Replaces the negotiated subprotocol; `None` selects none.
    ///
    /// # Errors
    ///
    /// [`AcceptedError::NotOffered`] if the client did not offer it (RFC 6455 §4.2.2 item 5).
    pub fn select_subprotocol(&mut self, selected: Option<Subprotocol>) -> Result<(), AcceptedError> {
        match selected {
            Some(name) if !self.offered.contains(&name) => Err(AcceptedError::NotOffered { name }),
            _ => {
                self.selected = selected;
                Ok(())
            }
        }
    }

    /// Returns the agreement on compression, which the response states.
    #[cfg(feature = "deflate")]
    pub fn deflate(&self) -> Option<&longwire_deflate::Agreement> {
        self.deflate.as_ref()
    }

    /// Declines compression: the response does not name it.
    #[cfg(feature = "deflate")]
    pub fn decline_deflate(&mut self) {
        self.deflate = None;
    }

    /// Adds a field to the response, such as `Set-Cookie`.
    ///
    /// # Errors
    ///
    /// [`AcceptedError::Reserved`] if the field belongs to the handshake or to HTTP's framing,
    /// [`AcceptedError::TooManyHeaders`] from [`MAX_ADDED_HEADERS`] on.
    pub fn append_header(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), AcceptedError> {
        if is_reserved(&name) {
            return Err(AcceptedError::Reserved { name });
        }
        if self.headers.len() >= MAX_ADDED_HEADERS {
            return Err(AcceptedError::TooManyHeaders);
        }
        self.headers.append(name, value);
        Ok(())
    }

    /// Returns the response that completes the handshake: a 101, or a 200 over HTTP/2 and 3.
    pub fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.headers_mut() = self.headers.clone();
        let headers = response.headers_mut();
        match &self.form {
            Form::Http1 { accept } => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(SEC_WEBSOCKET_ACCEPT, accept.to_header_value());
            }
            Form::ExtendedConnect => {}
        }
        if let Some(selected) = &self.selected {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, selected.to_header_value());
        }
        #[cfg(feature = "deflate")]
        if let Some(agreement) = &self.deflate {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, crate::deflate::header_value(agreement));
        }
        *response.status_mut() = match self.form {
            Form::Http1 { .. } => StatusCode::SWITCHING_PROTOCOLS,
            // HTTP/2 has no 101 (RFC 9113 §8.6), and the stream is not the connection.
            Form::ExtendedConnect => StatusCode::OK,
        };
        response
    }
}

/// The form of the handshake, which depends on the version of HTTP, and the data specific to it.
#[derive(Debug, Clone)]
enum Form {
    Http1 { accept: AcceptKey },
    ExtendedConnect,
}

/// Runs the checks of the HTTP/1.1 form (RFC 6455 §4.2.1).
fn check_http1_upgrade(request: RequestView<'_>) -> Result<Form, Rejection> {
    let headers = request.headers;
    if request.method != Method::GET {
        return Err(Rejection::method(request.method));
    }
    check_target(request.uri)?;
    check_host(request)?;
    if !headers.contains_key(UPGRADE) || !list_has(headers, &CONNECTION, "upgrade") {
        return Err(Rejection::UpgradeRequired);
    }
    if !list_has(headers, &UPGRADE, "websocket") && !headers.contains_key(SEC_WEBSOCKET_KEY) {
        // "A server MAY ignore a received Upgrade header field" (RFC 9110 §7.8). HTTP clients that offer h2c with
        // each request want a page.
        return Err(Rejection::UpgradeRequired);
    }
    // "An |Upgrade| header field containing the value "websocket"" (RFC 6455 §4.2.1 item 3): one element of a list.
    // Unlike in HTTP, the field must not be repeated.
    if !matches!(Field::of(headers, &UPGRADE), Field::One(_)) || !list_has(headers, &UPGRADE, "websocket") {
        return Err(Rejection::Upgrade);
    }
    if request.version != Version::HTTP_11 {
        return Err(Rejection::Version);
    }
    check_no_body(headers)?;
    let key = match Field::of(headers, &SEC_WEBSOCKET_KEY) {
        Field::One(value) => Key::parse(value.as_bytes())?,
        Field::Missing | Field::Repeated => return Err(Rejection::MissingKey),
    };
    check_protocol_version(headers)?;
    Ok(Form::Http1 { accept: key.accept() })
}

/// "A client MUST send a Host header field in all HTTP/1.1 request messages", and a server answers 400 if it is
/// absent, repeated or invalid (RFC 9112 §3.2). HTTP/1.0 allowed requests without it.
fn check_host(request: RequestView<'_>) -> Result<(), Rejection> {
    match Field::of(request.headers, &HOST) {
        Field::One(value) if value.to_str().ok().and_then(split_authority).is_some() => Ok(()),
        Field::Missing if request.version == Version::HTTP_10 => Ok(()),
        _ => Err(Rejection::Host),
    }
}

fn check_origin(request: RequestView<'_>, policy: &OriginPolicy) -> Result<(), Rejection> {
    let origin = match Field::of(request.headers, &ORIGIN) {
        Field::Missing => None,
        Field::One(value) => Some(value),
        Field::Repeated => return Err(Rejection::RepeatedOrigin),
    };
    if policy.allows(origin, request.host()) {
        return Ok(());
    }
    Err(Rejection::Origin { origin: PeerText::new(origin.map_or(&[][..], HeaderValue::as_bytes)) })
}

fn parse_request(head: &CompleteHead) -> Result<request::Parts, HeadError> {
    let mut slots = head.slots();
    let mut parsed = httparse::Request::new(&mut slots);
    if parsed.parse(&head.bytes).map_err(parse_fault)?.is_partial() {
        return Err(HeadError::Field);
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(HeadError::StartLine);
    };
    let headers = head.header_map(parsed.headers)?;
    check_body_length(&headers)?;
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(method.as_bytes()).map_err(|_| HeadError::StartLine)?;
    parts.uri =
        Uri::from_maybe_shared(head.bytes.slice_ref(target.as_bytes())).map_err(|_| HeadError::Target)?;
    parts.version = if minor == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    parts.headers = headers;
    Ok(parts)
}

/// Refuses heads for which two parties could see different ends of the message (RFC 9112 §6.3).
fn check_body_length(headers: &HeaderMap) -> Result<(), HeadError> {
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    match Field::of(headers, &CONTENT_LENGTH) {
        Field::Missing => Ok(()),
        Field::One(value) if !chunked => {
            let digits = trim(value.as_bytes());
            let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            if is_number { Ok(()) } else { Err(HeadError::BodyLength) }
        }
        Field::One(_) | Field::Repeated => Err(HeadError::BodyLength),
    }
}
