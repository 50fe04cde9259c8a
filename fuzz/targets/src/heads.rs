//! The heads of requests and responses.

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Version, header, request, response};
use longwire_client::fuzzing::RefusalBody;
use longwire_handshake::{
    ClientHandshake, ClientOptions, HeadLimits, Key, OriginPolicy, RequestParser, ResponseParser,
    ServerOptions, Subprotocol, WebSocketUri, accept, encode_request, encode_response,
};
use longwire_protocol::deflate::DeflateOptions;

use crate::input::{Input, pieces};

/// Reads a request in any split, and decides on it as a server does.
///
/// - Every split gives the same head and the same bytes after it, or the same error.
/// - A head is within the limits, and reads the same after it was written again.
/// - A request is accepted only if RFC 6455 §4.2.1 allows it; the client that sent it would accept the response.
/// - A refusal has a status of 4xx.
pub fn request_head(data: &[u8]) {
    let mut input = Input::new(data);
    let (options, way) = (input.byte(), input.byte());
    let (limits, wire) = (limits(options), input.rest());
    let whole = read_request(wire, &limits, 0);
    for way in [1, way] {
        assert_eq!(shown(&read_request(wire, &limits, way)), shown(&whole), "way {way}");
    }
    let (parts, rest) = match whole {
        Ok(Some(head)) => head,
        Ok(None) => return,
        Err(status) => return assert!(status.is_client_error(), "{status}"),
    };
    let head = &wire[..wire.len() - rest.len()];
    check_limits(head, parts.headers.len(), &limits);
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    assert!(target <= limits.max_target + 1, "a target of {target} bytes");
    let again = encode_request(&Request::from_parts(parts.clone(), ()));
    let unlimited = HeadLimits::default().with_max_bytes(usize::MAX).with_max_line(usize::MAX);
    // A target with an authority is written without it, and most methods are not written at all.
    if parts.uri.authority().is_none() && parts.uri.path().starts_with('/') {
        let (reread, rest) =
            read_request(&again, &unlimited, 0).expect("is well-formed").expect("is complete");
        assert_eq!(rest, b"");
        assert_eq!(summary(&reread), summary(&parts));
    }
    check_accept(&parts, options);
}

type Read<P> = Result<Option<(P, Vec<u8>)>, StatusCode>;

fn read_request(wire: &[u8], limits: &HeadLimits, way: u8) -> Read<request::Parts> {
    let mut parser = RequestParser::new(limits.clone());
    read(wire, way, |piece| match parser.handle_bytes(piece) {
        Ok(head) => Ok(head.map(|head| (head.parts, head.read_ahead))),
        Err(error) => {
            assert!(parser.handle_bytes(b"GET / HTTP/1.1\r\n\r\n").is_err(), "goes on after {error}");
            Err(error.status())
        }
    })
}

fn read<P>(
    wire: &[u8],
    way: u8,
    mut feed: impl FnMut(&[u8]) -> Result<Option<(P, Bytes)>, StatusCode>,
) -> Read<P> {
    let mut fed = 0;
    for piece in pieces(wire, way) {
        fed += piece.len();
        if let Some((parts, read_ahead)) = feed(piece)? {
            return Ok(Some((parts, [&read_ahead, &wire[fed..]].concat())));
        }
    }
    Ok(None)
}

fn shown<P: std::fmt::Debug>(read: &Read<P>) -> String {
    format!("{read:?}")
}

/// Returns what is the same after a request was written again: fields of different names may change places.
fn summary(parts: &request::Parts) -> (String, Vec<(String, Vec<u8>)>) {
    let mut fields: Vec<_> =
        parts.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    (format!("{} {}", parts.method, parts.uri), fields)
}

fn limits(options: u8) -> HeadLimits {
    match options & 3 {
        0 | 1 => HeadLimits::default(),
        2 => {
            HeadLimits::default().with_max_bytes(120).with_max_headers(3).with_max_line(40).with_max_target(9)
        }
        _ => HeadLimits::default().with_max_headers(0).with_max_target(0),
    }
}

fn check_limits(head: &[u8], fields: usize, limits: &HeadLimits) {
    assert!(head.ends_with(b"\r\n\r\n"));
    assert!(head.len() <= limits.max_bytes, "{} bytes", head.len());
    assert!(fields <= limits.max_headers, "{fields} fields");
    // A server skips one empty line before the start line, which has limits of its own.
    let lines = head.trim_ascii_start().split(|byte| *byte == b'\n').skip(1);
    assert!(lines.into_iter().all(|line| line.len() <= limits.max_line + 1), "a line of the head");
}

fn check_accept(parts: &request::Parts, options: u8) {
    let mut server = ServerOptions::default().with_subprotocols(subprotocols());
    if options & 4 != 0 {
        server = server.with_deflate(DeflateOptions::default());
    }
    if options & 8 != 0 {
        let origins = OriginPolicy::only(["https://example.com"]).expect("an origin");
        server = server.with_origins(origins);
    }
    let accepted = match accept(parts, &server) {
        Ok(accepted) => accepted,
        Err(rejection) => return assert!(rejection.status().is_client_error(), "{rejection}"),
    };
    let only = |name: header::HeaderName| {
        let mut values = parts.headers.get_all(name).iter();
        let value = values.next();
        assert!(values.next().is_none());
        value.map(HeaderValue::as_bytes)
    };
    assert_eq!((parts.method.as_str(), parts.version), ("GET", Version::HTTP_11));
    assert_eq!(only(header::SEC_WEBSOCKET_VERSION), Some(&b"13"[..]));
    let key = only(header::SEC_WEBSOCKET_KEY).expect("there is a key");
    assert!(only(header::HOST).is_some() && key.len() == 24);
    if options & 8 != 0 {
        let origin = only(header::ORIGIN).expect("there is an origin");
        let is_listed = [&b"https://example.com"[..], b"https://example.com:", b"https://example.com:443"];
        assert!(is_listed.iter().any(|listed| origin.eq_ignore_ascii_case(listed)), "{origin:?}");
    }

    let wire = encode_response(&accepted.response());
    let (response, rest) =
        read_response(&wire, &HeadLimits::default(), 0).expect("well-formed").expect("complete");
    assert_eq!((rest, response.status), (Vec::new(), StatusCode::SWITCHING_PROTOCOLS));
    let expected = Key::parse(key).expect("a key was accepted").accept();
    let said = response.headers.get(header::SEC_WEBSOCKET_ACCEPT).expect("the key is answered");
    assert_eq!(said, expected.as_str());
    if let Some(chosen) = response.headers.get(header::SEC_WEBSOCKET_PROTOCOL) {
        assert!(subprotocols().iter().any(|name| chosen == name.as_str()), "{chosen:?}");
        let offered = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
        assert!(
            Subprotocol::parse_list(offered)
                .expect("was accepted")
                .iter()
                .any(|name| chosen == name.as_str())
        );
    }
}

fn subprotocols() -> Vec<Subprotocol> {
    ["chat", "b.2"].map(|name| Subprotocol::new(name).expect("a token")).to_vec()
}

/// Reads a response in any split, and verifies it as a client does.
///
/// - Every split gives the same head and the same bytes after it, or the same error.
/// - A response is accepted only if it has the status, the three header fields and the key that RFC 6455 §4.1 demands,
///   and nothing that was not offered.
/// - The body of a refusal is the same for every split and within its limit.
pub fn response_head(data: &[u8]) {
    let mut input = Input::new(data);
    let (options, way) = (input.byte(), input.byte());
    let (limits, wire) = (limits(options), input.rest());
    let whole = read_response(wire, &limits, 0);
    for way in [1, way] {
        assert_eq!(shown(&read_response(wire, &limits, way)), shown(&whole), "way {way}");
    }
    let Ok(Some((parts, rest))) = whole else { return };
    assert!(!parts.status.is_informational() || parts.status == StatusCode::SWITCHING_PROTOCOLS);
    check_limits(&wire[..wire.len() - rest.len()], parts.headers.len(), &limits);
    check_verify(&parts, options);
    check_body(&parts, &rest, way);
}

fn read_response(wire: &[u8], limits: &HeadLimits, way: u8) -> Read<response::Parts> {
    let mut parser = ResponseParser::new(limits.clone());
    read(wire, way, |piece| match parser.handle_bytes(piece) {
        Ok(head) => Ok(head.map(|head| (head.parts, head.read_ahead))),
        Err(error) => {
            assert!(parser.handle_bytes(b"HTTP/1.1 101 A\r\n\r\n").is_err(), "goes on after {error}");
            Err(error.status())
        }
    })
}

fn check_verify(parts: &response::Parts, options: u8) {
    let uri = WebSocketUri::parse("ws://example.com/chat").expect("a URL");
    let mut client = ClientOptions::default();
    if options & 4 != 0 {
        client = client.with_deflate(DeflateOptions::default());
    }
    if options & 8 != 0 {
        client = client.with_subprotocols(subprotocols());
    }
    let handshake = ClientHandshake::new(&uri, Key::new(*b"the sample nonce"), &client).expect("the options");
    let Ok(agreement) = handshake.verify(parts) else { return };
    let all = |name: header::HeaderName| -> Vec<_> {
        parts.headers.get_all(name).iter().map(|value| value.as_bytes().to_ascii_lowercase()).collect()
    };
    assert_eq!((parts.status, parts.version), (StatusCode::SWITCHING_PROTOCOLS, Version::HTTP_11));
    assert_eq!(all(header::UPGRADE), [b"websocket"]);
    let connection = all(header::CONNECTION).join(&b',');
    assert!(connection.split(|byte| *byte == b',').any(|token| token.trim_ascii() == b"upgrade"));
    let accept = Key::parse(b"dGhlIHNhbXBsZSBub25jZQ==").expect("the key, in base64").accept();
    assert_eq!(parts.headers.get(header::SEC_WEBSOCKET_ACCEPT).expect("a key"), accept.as_str());
    assert_eq!(all(header::SEC_WEBSOCKET_ACCEPT).len(), 1);
    let chosen = all(header::SEC_WEBSOCKET_PROTOCOL);
    assert_eq!(agreement.subprotocol.is_some(), !chosen.is_empty());
    assert!(chosen.len() <= 1 && (chosen.is_empty() || options & 8 != 0));
    let extensions = all(header::SEC_WEBSOCKET_EXTENSIONS);
    assert_eq!(agreement.deflate.is_some(), !extensions.is_empty());
    assert!(extensions.is_empty() || (options & 4 != 0 && extensions[0].starts_with(b"permessage-deflate")));
}

fn check_body(parts: &response::Parts, rest: &[u8], way: u8) {
    const LIMIT: usize = 100;
    let read = |way| {
        let mut body = RefusalBody::new(parts, LIMIT);
        for piece in pieces(rest, way) {
            body.handle_bytes(piece);
        }
        let is_complete = body.is_complete();
        let (body, is_truncated) = body.finish();
        (body, is_truncated, is_complete)
    };
    let whole = read(0);
    assert_eq!(read(1), whole);
    assert_eq!(read(way), whole);
    assert!(whole.0.len() <= LIMIT && whole.0.len() <= rest.len());
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.filter(|length| !length.starts_with('+')).and_then(|length| length.parse().ok());
    let is_plain = !parts.headers.contains_key(header::TRANSFER_ENCODING)
        && parts.headers.get_all(header::CONTENT_LENGTH).iter().count() == 1
        && ![101, 204, 304].contains(&parts.status.as_u16());
    if let (Some(length @ 0..100_usize), true) = (length, is_plain) {
        assert_eq!(whole.0, rest[..length.min(rest.len())], "Content-Length: {length}");
        assert_eq!((whole.1, whole.2), (length > rest.len(), length <= rest.len()));
    }
}
