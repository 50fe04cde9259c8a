//! The handshake over HTTP/2 on both sides: the requests that a server accepts or refuses, with the status, and a
//! client's requests and checks (RFC 8441).

use http::{HeaderName, HeaderValue, Method, Request, Response, Version, response};
use longwire_handshake::{
    Accepted, ClientOptions, ConnectHandshake, OptionsError, OriginPolicy, Rejection, RequestView,
    ResponseError, ServerOptions, Subprotocol, WEBSOCKET, WebSocketUri, accept,
};

/// Returns the example of RFC 8441 §5.1 with some fields added, replaced, or removed if the value is empty.
fn request(fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri("https://server.example.com/chat?room=1")
        .header("sec-websocket-version", "13")
        .body(())
        .unwrap();
    for (name, value) in fields {
        let name = HeaderName::try_from(*name).unwrap();
        if value.is_empty() {
            request.headers_mut().remove(name);
        } else if name == "sec-websocket-version" {
            request.headers_mut().insert(name, HeaderValue::try_from(*value).unwrap());
        } else {
            request.headers_mut().append(name, HeaderValue::try_from(*value).unwrap());
        }
    }
    request
}

fn check(request: &Request<()>, options: &ServerOptions) -> Result<Accepted, Rejection> {
    accept(RequestView::from(request).protocol(Some(WEBSOCKET)), options)
}

#[track_caller]
fn assert_refused(case: &str, checked: Result<Accepted, Rejection>, status: u16) -> Rejection {
    let rejection = checked.expect_err(case);
    assert_eq!(rejection.status(), status, "{case}: {rejection}");
    rejection
}

#[test]
fn answers_the_example_of_rfc_8441() {
    let request = request(&[
        ("sec-websocket-protocol", "chat, superchat"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("origin", "http://www.example.com"),
    ]);
    let subprotocols = vec![Subprotocol::new("superchat").unwrap(), Subprotocol::new("chat").unwrap()];
    let accepted = check(&request, &ServerOptions::default().with_subprotocols(subprotocols)).unwrap();
    assert_eq!(accepted.subprotocol().map(Subprotocol::as_str), Some("superchat"));
    let response = accepted.response();
    assert_eq!(response.status(), 200);
    let fields: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(fields, ["sec-websocket-protocol"], "no Upgrade, no Connection, no accept key");
}

#[test]
fn a_host_field_may_repeat_the_authority() {
    for (host, is_same) in [
        ("server.example.com", true),
        ("Server.Example.com:", true),
        ("example.com", false),
        ("server.example.com:1", false),
    ] {
        let checked = check(&request(&[("host", host)]), &ServerOptions::default());
        assert_eq!(checked.is_ok(), is_same, "{host}");
    }
}

#[test]
fn ignores_the_key_that_only_the_other_form_has() {
    check(&request(&[("sec-websocket-key", "nonsense")]), &ServerOptions::default()).unwrap();
}

#[test]
fn refuses_each_broken_request_with_its_status() {
    for (case, fields, status) in [
        ("no version", &[("sec-websocket-version", "")][..], 400),
        ("version 8", &[("sec-websocket-version", "8")], 400),
        ("version with a zero", &[("sec-websocket-version", "013")], 400),
        ("another Host than the authority", &[("host", "other.example.com")], 400),
        ("two Hosts", &[("host", "server.example.com"), ("host", "server.example.com")], 400),
        ("body", &[("content-length", "4")], 400),
        ("bad subprotocols", &[("sec-websocket-protocol", "a,,b")], 400),
        ("bad extensions", &[("sec-websocket-extensions", "foo; =bar")], 400),
        ("two origins", &[("origin", "http://a"), ("origin", "http://b")], 400),
    ] {
        assert_refused(case, check(&request(fields), &ServerOptions::default()), status);
    }
    for (case, uri) in [
        ("no scheme", "/chat"),
        ("a host alone, as for a tunnel", "server.example.com:443"),
        ("foreign scheme", "ftp://server.example.com/chat"),
        ("user in the authority", "https://user@server.example.com/chat"),
    ] {
        let mut request = request(&[]);
        *request.uri_mut() = uri.parse().unwrap();
        assert_refused(case, check(&request, &ServerOptions::default()), 400);
    }
}

#[test]
fn refuses_what_asks_for_no_websocket() {
    for (case, method, protocol, status, is_plain) in [
        ("GET", Method::GET, None, 405, true),
        ("HEAD", Method::HEAD, None, 405, true),
        ("POST with a protocol", Method::POST, Some(WEBSOCKET), 405, true),
        ("CONNECT for a tunnel", Method::CONNECT, None, 400, false),
        ("CONNECT for UDP", Method::CONNECT, Some("connect-udp"), 501, false),
        ("other case", Method::CONNECT, Some("WebSocket"), 501, false),
    ] {
        for version in [Version::HTTP_2, Version::HTTP_3] {
            let mut request = request(&[]);
            *request.method_mut() = method.clone();
            *request.version_mut() = version;
            let view = RequestView::from(&request).protocol(protocol);
            let rejection = assert_refused(case, accept(view, &ServerOptions::default()), status);
            assert_eq!(rejection.is_plain_request(), is_plain, "{case}");
        }
    }
    let mut http1 = request(&[]);
    *http1.version_mut() = Version::HTTP_11;
    assert_refused("the form of HTTP/2 in HTTP/1.1", check(&http1, &ServerOptions::default()), 405);
}

#[test]
fn says_in_the_answer_what_would_be_accepted() {
    for (case, request, field, value) in [
        ("405", Request::get("https://a/").version(Version::HTTP_2).body(()).unwrap(), "allow", "CONNECT"),
        ("version 8", request(&[("sec-websocket-version", "8")]), "sec-websocket-version", "13"),
        ("no version", request(&[("sec-websocket-version", "")]), "sec-websocket-version", "13"),
    ] {
        let response = check(&request, &ServerOptions::default()).expect_err(case).to_response();
        assert_eq!(response.headers()[field], value, "{case}");
        assert!(!response.headers().contains_key("upgrade"), "{case}: HTTP/2 has no upgrade");
    }
}

#[test]
fn applies_the_policy_of_paths_and_origins() {
    let path = ServerOptions::default().with_path("/other".to_owned());
    assert_refused("another path", check(&request(&[]), &path), 404);
    let same_host = ServerOptions::default().with_origins(OriginPolicy::SameHost);
    let own = request(&[("origin", "https://server.example.com")]);
    check(&own, &same_host).expect("the authority is the host");
    let foreign = request(&[("origin", "https://evil.example.com")]);
    assert_refused("foreign origin", check(&foreign, &same_host), 403);
}

fn handshake(uri: &str, options: &ClientOptions) -> Result<ConnectHandshake, OptionsError> {
    ConnectHandshake::new(&WebSocketUri::parse(uri).unwrap(), options)
}

fn answer(status: u16, fields: &[(&'static str, &'static str)]) -> response::Parts {
    let mut response = Response::builder().status(status).version(Version::HTTP_2);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap().into_parts().0
}

#[test]
fn a_client_asks_for_the_whole_uri_and_sends_no_key() {
    for (uri, sent) in [
        ("wss://server.example.com/chat?a=b", "https://server.example.com/chat?a=b"),
        ("ws://[::1]:8080", "http://[::1]:8080/"),
        ("https://server.example.com:443/", "https://server.example.com/"),
    ] {
        let handshake = handshake(uri, &ClientOptions::default()).unwrap();
        let request = handshake.request();
        assert_eq!((request.method(), request.version()), (&Method::CONNECT, Version::HTTP_2));
        assert_eq!(request.uri(), sent);
        let fields: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(fields, ["sec-websocket-version"]);
        check(request, &ServerOptions::default()).expect("our own server takes it");
    }
}

#[test]
fn a_client_sends_its_options() {
    let mut options = ClientOptions::default()
        .with_origin(HeaderValue::from_static("https://example.com"))
        .with_subprotocols(vec![Subprotocol::new("chat").unwrap()]);
    options.headers.insert("cookie", HeaderValue::from_static("a=b"));
    options.headers.insert("host", HeaderValue::from_static("virtual.example.com"));
    let handshake = handshake("wss://user:secret@server.example.com/", &options).unwrap();
    let request = handshake.request();
    assert_eq!(request.uri(), "https://virtual.example.com/");
    for (name, value) in [
        ("origin", "https://example.com"),
        ("sec-websocket-protocol", "chat"),
        ("cookie", "a=b"),
        ("authorization", "Basic dXNlcjpzZWNyZXQ="),
    ] {
        assert_eq!(request.headers()[name], value);
    }
    assert!(!request.headers().contains_key("host"));
}

#[test]
fn a_client_refuses_options_that_the_handshake_owns() {
    let mut options = ClientOptions::default();
    options.headers.insert("upgrade", HeaderValue::from_static("websocket"));
    let refused = handshake("wss://server.example.com/", &options).unwrap_err();
    assert!(matches!(refused, OptionsError::ReservedHeader { .. }), "{refused}");
}

#[test]
fn a_client_verifies_the_answer() {
    let options = ClientOptions::default().with_subprotocols(vec![Subprotocol::new("chat").unwrap()]);
    let handshake = handshake("wss://server.example.com/", &options).unwrap();
    let plain = handshake.verify(&answer(200, &[])).unwrap();
    assert_eq!(plain.subprotocol, None);
    let chat = handshake.verify(&answer(204, &[("sec-websocket-protocol", "chat")])).unwrap();
    assert_eq!(chat.subprotocol.as_ref().map(Subprotocol::as_str), Some("chat"));
    for status in [101, 302, 403, 501] {
        let error = handshake.verify(&answer(status, &[])).unwrap_err();
        assert!(matches!(error, ResponseError::ConnectStatus { status: seen } if seen == status), "{error}");
    }
    for (case, field) in [
        ("another subprotocol", ("sec-websocket-protocol", "superchat")),
        ("an extension", ("sec-websocket-extensions", "foo")),
    ] {
        assert!(handshake.verify(&answer(200, &[field])).is_err(), "{case}");
    }
}
