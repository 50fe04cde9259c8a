//! URLs of servers and of proxies, references, and origins.

use std::net::Ipv6Addr;

use http::{HeaderMap, HeaderValue, Request, header};
use longwire_client::fuzzing::Proxy;
use longwire_handshake::{
    ClientHandshake, ClientOptions, Key, Origin, OriginPolicy, RequestParser, ServerOptions, WebSocketUri,
    accept,
};

use crate::input::Input;

/// Reads two texts as URLs of servers and proxies, as references and as origins.
///
/// - A URL reads the same after it was written again, names a host that can be dialled, and has a port.
/// - The request for it is one well-formed head, which names that host and that target, however the URL was written.
/// - A reference keeps the credentials only if scheme, host and port stay the same.
/// - A proxy is asked for the server's host and port, and its URL does not show the password.
/// - An origin is allowed by a policy that names it, and by no other one.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let first = String::from_utf8_lossy(input.chunk()).into_owned();
    let second = String::from_utf8_lossy(input.rest()).into_owned();
    let uri = WebSocketUri::parse(&first);
    if let Ok(uri) = &uri {
        check_uri(uri);
        check_join(uri, &second);
    }
    if let Ok(proxy) = Proxy::parse(&second) {
        check_proxy(&proxy, uri.as_ref().ok());
    }
    check_origins(&first, &second);
}

fn check_uri(uri: &WebSocketUri) {
    assert!(uri.port() > 0);
    check_host(uri.host(), uri.zone());
    let shown = uri.to_string();
    assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()), "{shown:?}");
    let again = WebSocketUri::parse(&shown).expect("what is shown is a URL");
    assert!(again.is_same_origin(uri) && again.target() == uri.target(), "{shown} is {again}");
    assert_eq!((again.host(), again.port(), again.is_secure()), (uri.host(), uri.port(), uri.is_secure()));
    assert!(again.credentials().is_none(), "{shown} has credentials");

    let handshake =
        ClientHandshake::new(uri, Key::new([7; 16]), &ClientOptions::default()).expect("no options");
    let wire = handshake.request_bytes();
    let head = RequestParser::new(unlimited()).handle_bytes(&wire).expect("well-formed").expect("complete");
    assert!(head.read_ahead.is_empty(), "the URL has ended the head");
    let parts = head.parts;
    assert_eq!(parts.uri.to_string(), uri.target().to_string());
    assert_eq!(parts.headers, *handshake.request().headers());
    let host = parts.headers.get(header::HOST).expect("a host").to_str().expect("visible");
    assert_eq!(*host, uri.host_header());
    assert!(host.trim_start_matches('[').starts_with(uri.host()), "{host} for {uri}");
    // Every server can be asked for every URL.
    accept(&parts, &ServerOptions::default()).expect("our own server accepts our own request");
}

fn unlimited() -> longwire_handshake::HeadLimits {
    longwire_handshake::HeadLimits::default()
        .with_max_bytes(1 << 20)
        .with_max_line(1 << 20)
        .with_max_target(1 << 20)
}

fn check_host(host: &str, zone: Option<&str>) {
    let is_name =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    assert!(!host.is_empty() && !host.bytes().any(|byte| byte.is_ascii_uppercase()), "{host:?}");
    assert!(is_name(host) || host.parse::<Ipv6Addr>().is_ok(), "{host:?}");
    assert!(
        zone.is_none_or(|zone| !zone.is_empty() && is_name(zone) && host.contains(':')),
        "{host:?} {zone:?}"
    );
}

fn check_join(uri: &WebSocketUri, reference: &str) {
    let Ok(joined) = uri.join(reference) else { return };
    check_uri(&joined);
    assert_eq!(joined.is_same_origin(uri), uri.is_same_origin(&joined));
    if joined.is_same_origin(uri) {
        assert_eq!(joined.credentials(), uri.credentials());
    } else {
        assert_eq!(joined.credentials(), None, "{reference:?} of {uri}");
    }
    // "Remove Dot Segments" (RFC 3986 §5.2.4)
    assert!(!joined.target().path().split('/').any(|segment| [".", ".."].contains(&segment)), "{joined}");
}

fn check_proxy(proxy: &Proxy, uri: Option<&WebSocketUri>) {
    let (host, zone, port) = proxy.place();
    check_host(host, zone);
    assert!(port > 0);
    let shown = proxy.shown();
    let again = Proxy::parse(&shown).expect("what is shown is the URL of a proxy");
    assert_eq!((again.place(), again.shown()), (proxy.place(), shown.clone()));
    assert_eq!(again.login(), None, "{shown}");
    let Some(wire) = uri.and_then(|uri| proxy.connect_request(uri)) else { return };
    let uri = uri.expect("there is a request for it");
    let wire = std::str::from_utf8(&wire).expect("a head is ASCII");
    let host = if uri.host().contains(':') { format!("[{}]", uri.host()) } else { uri.host().to_owned() };
    let start = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n", port = uri.port());
    let rest = wire.strip_prefix(&*start).unwrap_or_else(|| panic!("{wire:?} does not begin with {start:?}"));
    let (fields, end) = rest.rsplit_once("\r\n").expect("a head ends with an empty line");
    assert_eq!(end, "");
    let is_authorization = fields.starts_with("Proxy-Authorization: Basic ") && fields.lines().count() == 1;
    assert_eq!(is_authorization, proxy.login().is_some() && !shown.starts_with("socks"), "{wire:?}");
    assert!(is_authorization || fields.is_empty(), "{wire:?}");
}

fn check_origins(first: &str, second: &str) {
    let (Ok(listed), Ok(value)) = (Origin::parse(first), HeaderValue::from_str(second)) else { return };
    let policy = OriginPolicy::only([first]).expect("it is an origin");
    let asked = |origin: &HeaderValue| {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (header::HOST, "example.com"),
            (header::CONNECTION, "upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
            (header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::ORIGIN, origin.clone());
        let mut request = Request::new(());
        *request.headers_mut() = headers;
        accept(&request, &ServerOptions::default().with_origins(policy.clone())).is_ok()
    };
    let own = HeaderValue::from_str(first).expect("an origin is visible");
    assert!(asked(&own), "{first:?} is not allowed by its own policy");
    let is_same = Origin::parse(second).is_ok_and(|other| other == listed);
    assert_eq!(asked(&value), is_same, "{second:?} where {first:?} is allowed");
    if is_same {
        let scheme = |text: &str| text.split("://").next().unwrap_or_default().to_ascii_lowercase();
        assert_eq!(scheme(first), scheme(second));
    }
}
