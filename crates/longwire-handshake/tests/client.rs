//! The client's requests, and the answers that it accepts (RFC 6455 §4.1).

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use longwire_handshake::{
    Agreement, ClientHandshake, ClientOptions, ConnectHandshake, Key, OptionsError, ResponseError,
    ResponseParser, Subprotocol, UriError, WebSocketUri,
};

const KEY: Key = Key::new(*b"the sample nonce");

/// A correct answer, one line per element.
const RESPONSE: [&str; 4] = [
    "HTTP/1.1 101 Switching Protocols",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
];

fn names(list: &[&str]) -> Vec<Subprotocol> {
    list.iter().map(|name| Subprotocol::new(name).unwrap()).collect()
}

fn handshake(uri: &str, options: &ClientOptions) -> Result<ClientHandshake, OptionsError> {
    ClientHandshake::new(&WebSocketUri::parse(uri).expect(uri), KEY, options)
}

fn request(uri: &str, options: &ClientOptions) -> String {
    String::from_utf8(handshake(uri, options).unwrap().request_bytes().to_vec()).unwrap()
}

/// Returns an answer with line `at` replaced, or removed if `line` is empty, and with lines added.
fn response(replaced: Option<(usize, &str)>, more: &[&str]) -> String {
    let mut lines = RESPONSE.to_vec();
    match replaced {
        Some((at, "")) => drop(lines.remove(at)),
        Some((at, line)) => lines[at] = line,
        None => {}
    }
    lines.extend(more);
    lines.push("\r\n");
    lines.join("\r\n")
}

fn verify(answer: &str, offered: &[&str]) -> Result<Agreement, ResponseError> {
    let options = ClientOptions::default().with_subprotocols(names(offered));
    let head = ResponseParser::default().handle_bytes(answer.as_bytes())?.expect("the head is complete");
    handshake("ws://example.com/", &options).unwrap().verify(&head.parts)
}

#[test]
fn asks_as_rfc_6455_does() {
    let options = ClientOptions::default()
        .with_origin(HeaderValue::from_static("http://example.com"))
        .with_subprotocols(names(&["chat", "superchat"]));
    assert_eq!(
        request("ws://server.example.com/chat", &options),
        "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: chat, superchat\r\nOrigin: http://example.com\r\n\r\n"
    );
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn takes_uris_apart() {
    for (text, host, port, secure, host_header, target) in [
        ("ws://example.com", "example.com", 80, false, "example.com", "/"),
        ("wss://example.com", "example.com", 443, true, "example.com", "/"),
        ("http://example.com", "example.com", 80, false, "example.com", "/"),
        ("https://example.com/", "example.com", 443, true, "example.com", "/"),
        ("WS://Example.COM/A", "example.com", 80, false, "example.com", "/A"),
        ("WSS://example.com", "example.com", 443, true, "example.com", "/"),
        ("ws://example.com:80/", "example.com", 80, false, "example.com", "/"),
        ("wss://example.com:443/", "example.com", 443, true, "example.com", "/"),
        ("wss://example.com:80/", "example.com", 80, true, "example.com:80", "/"),
        ("ws://example.com:/", "example.com", 80, false, "example.com", "/"),
        ("ws://example.com:65535", "example.com", 65535, false, "example.com:65535", "/"),
        ("ws://example.com?a=b", "example.com", 80, false, "example.com", "/?a=b"),
        ("ws://example.com/a/../b?c=d&e=%20", "example.com", 80, false, "example.com", "/a/../b?c=d&e=%20"),
        ("ws://127.0.0.1:9001/", "127.0.0.1", 9001, false, "127.0.0.1:9001", "/"),
        ("ws://[::1]/", "::1", 80, false, "[::1]", "/"),
        ("ws://[2001:DB8::1]:9001/x", "2001:db8::1", 9001, false, "[2001:db8::1]:9001", "/x"),
        ("ws://user:pw@[::1]:81/", "::1", 81, false, "[::1]:81", "/"),
        // "MUST remove any ZoneID attached to an outgoing URI" (RFC 6874 §4)
        ("ws://[fe80::1%25lo]:9001/", "fe80::1", 9001, false, "[fe80::1]:9001", "/"),
        ("ws://[FE80::1%25Eth0.1]/", "fe80::1", 80, false, "[fe80::1]", "/"),
        ("ws://[fe80::1%lo]/", "fe80::1", 80, false, "[fe80::1]", "/"),
        ("ws://under_score.test", "under_score.test", 80, false, "under_score.test", "/"),
    ] {
        let uri = WebSocketUri::parse(text).expect(text);
        assert_eq!((uri.host(), uri.port(), uri.is_secure()), (host, port, secure), "{text}");
        assert_eq!(uri.host_header(), host_header, "{text}");
        assert_eq!(uri.target(), target, "{text}");
        let request = request(text, &ClientOptions::default());
        assert!(
            request.starts_with(&format!("GET {target} HTTP/1.1\r\nHost: {host_header}\r\n")),
            "{request}"
        );
    }
}

#[test]
fn a_zone_is_kept_apart_from_the_address() {
    for (text, zone, shown) in [
        ("ws://[fe80::1%25Eth0]:81/", Some("Eth0"), "ws://[fe80::1%25Eth0]:81/"),
        ("ws://[fe80::1%Eth0]:81/", Some("Eth0"), "ws://[fe80::1%25Eth0]:81/"),
        ("ws://[fe80::1%252]/", Some("2"), "ws://[fe80::1%252]/"),
        ("ws://[fe80::1]/", None, "ws://[fe80::1]/"),
        ("ws://example.com/", None, "ws://example.com/"),
    ] {
        let uri = WebSocketUri::parse(text).expect(text);
        assert_eq!((uri.zone(), uri.to_string().as_str()), (zone, shown), "{text}");
        assert_eq!(uri.join("/").expect(text).zone(), zone, "{text}");
    }
    let uri = WebSocketUri::parse("ws://u:p@[fe80::1%25a]/").unwrap();
    let other = uri.join("ws://[fe80::1%25b]/").unwrap();
    assert!(!uri.is_same_origin(&other) && other.credentials().is_none(), "another link");
}

#[test]
fn takes_a_parsed_uri_of_any_scheme_that_a_text_may_have() {
    for (text, secure) in [
        ("ws://a/", Some(false)),
        ("WS://a/", Some(false)),
        ("http://a/", Some(false)),
        ("wss://a/", Some(true)),
        ("WsS://a/", Some(true)),
        ("https://a/", Some(true)),
        ("ftp://a/", None),
        ("wsss://a/", None),
    ] {
        match (WebSocketUri::from_uri(&text.parse().unwrap()), secure) {
            (Ok(uri), Some(secure)) => assert_eq!((uri.is_secure(), uri.host()), (secure, "a"), "{text}"),
            (Err(UriError::Scheme { .. }), None) => {}
            (other, _) => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn refuses_uris_that_name_no_websocket() {
    for (text, error) in [
        ("", "malformed URL: empty string"),
        ("example.com", "URL has no scheme, did you mean ws://example.com?"),
        ("/chat", "URL has no scheme"),
        ("ftp://example.com/", "URL scheme \"ftp\" is not one of ws, wss, http, https"),
        ("ws:example.com", "URL has no scheme"),
        ("ws:///chat", "malformed URL: invalid format"),
        ("ws://", "malformed URL: empty string"),
        ("ws://:80/", "missing or invalid host in the URL"),
        ("ws://user@/", "malformed URL: invalid authority"),
        ("ws://exa mple.com/", "malformed URL: invalid uri character"),
        ("ws://exa%20mple.com/", "malformed URL: invalid authority"),
        ("ws://ex\u{e4}mple.com/", "malformed URL: invalid uri character"),
        ("ws://example.com/a b", "malformed URL: invalid uri character"),
        ("ws://example.com/a\r\nX: y", "malformed URL: invalid uri character"),
        ("ws://example.com/?a\r\nX: y", "malformed URL: invalid uri character"),
        ("ws://example.com\r\nX: y/", "malformed URL: invalid uri character"),
        ("ws://example.com/\u{e4}", "path or query of the URL has characters that need percent-encoding"),
        ("ws://[::1/", "malformed URL: invalid authority"),
        ("ws://[::g]/", "missing or invalid host in the URL"),
        ("ws://[127.0.0.1]/", "missing or invalid host in the URL"),
        ("ws://[127.0.0.1%25lo]/", "missing or invalid host in the URL"),
        ("ws://[fe80::1%25]/", "missing or invalid host in the URL"),
        ("ws://[fe80::1%]/", "missing or invalid host in the URL"),
        ("ws://[fe80::1%25a%25b]/", "missing or invalid host in the URL"),
        ("ws://[fe80::1%25a:b]/", "missing or invalid host in the URL"),
        ("ws://::1/", "malformed URL: invalid authority"),
        ("ws://example.com:0/", "port in the URL is not a number from 1 to 65535"),
        ("ws://example.com:65536/", "port in the URL is not a number from 1 to 65535"),
        ("ws://example.com:99999/", "port in the URL is not a number from 1 to 65535"),
        ("ws://example.com:+80/", "port in the URL is not a number from 1 to 65535"),
        ("ws://example.com:8o/", "port in the URL is not a number from 1 to 65535"),
        ("ws://example.com/#a", "URL has a fragment, which a WebSocket URL must not have"),
        ("ws://example.com/#", "URL has a fragment, which a WebSocket URL must not have"),
        (
            "ws://a%0d%0ab:c@example.com/",
            "user name or password in the URL contains control characters, or the user name a colon",
        ),
        (
            "ws://a%3Ab:c@example.com/",
            "user name or password in the URL contains control characters, or the user name a colon",
        ),
        ("localhost:8080", "URL has no scheme, did you mean ws://localhost:8080?"),
        ("localhost:8080/chat", "URL has no scheme, did you mean ws://localhost:8080/chat?"),
        ("[::1]:80/", "URL has no scheme, did you mean ws://[::1]?"),
        ("//example.com/chat", "URL has no scheme, did you mean ws://example.com/chat?"),
        ("example.com:443", "URL has no scheme, did you mean wss://example.com?"),
        ("user:secret@example.com/a?token=b", "URL has no scheme, did you mean ws://example.com/a?"),
        ("example.com/?to=http://other/", "URL has no scheme, did you mean ws://example.com?"),
        ("exa mple.com", "URL has no scheme"),
        ("unix:/run/socket", "URL scheme \"unix\" is not one of ws, wss, http, https"),
        ("mailto:a", "URL scheme \"mailto\" is not one of ws, wss, http, https"),
    ] {
        let refused = WebSocketUri::parse(text).expect_err(text);
        assert_eq!(refused.to_string(), error, "{text}");
        assert_eq!(format!("{refused:?}"), error, "{text}");
    }
}

#[test]
fn sends_user_and_password_as_basic() {
    // Base64 of user:pw, us@er:p:w, user:, :pw, and ü:ö in UTF-8.
    for (userinfo, credentials) in [
        ("user:pw", Some("Basic dXNlcjpwdw==")),
        ("us%40er:p:w", Some("Basic dXNAZXI6cDp3")),
        ("us%40er:p%3aw", Some("Basic dXNAZXI6cDp3")),
        ("user", Some("Basic dXNlcjo=")),
        ("user:", Some("Basic dXNlcjo=")),
        (":pw", Some("Basic OnB3")),
        ("%C3%BC:%C3%B6", Some("Basic w7w6w7Y=")),
        ("", None),
    ] {
        let uri = format!("ws://{userinfo}@example.com/");
        let text = request(&uri, &ClientOptions::default());
        let sent = text.lines().find_map(|line| line.strip_prefix("Authorization: "));
        assert_eq!(sent, credentials, "{userinfo}");
        assert!(!text.contains('@'), "{userinfo}");
        let uri = WebSocketUri::parse(&uri).unwrap();
        assert_eq!(uri.to_string(), "ws://example.com/");
        assert_eq!(format!("{uri:?}"), "WebSocketUri(ws://example.com/)");
        assert!(!format!("{:?}", uri.credentials()).contains("Basic"), "{userinfo}");
    }
}

#[test]
fn lets_the_callers_headers_win_and_never_sends_one_twice() {
    let mut options = ClientOptions::default();
    options.headers.insert("host", HeaderValue::from_static("virtual.example:8080"));
    options.headers.insert("authorization", HeaderValue::from_static("Bearer t"));
    options.headers.append("cookie", HeaderValue::from_static("a=b"));
    options.headers.append("cookie", HeaderValue::from_static("c=d"));
    options.headers.insert("origin", HeaderValue::from_static("null"));
    let text = request("ws://user:pw@example.com/", &options);
    assert!(text.starts_with("GET / HTTP/1.1\r\nHost: virtual.example:8080\r\n"), "{text}");
    for line in ["Authorization: Bearer t", "Cookie: a=b", "Cookie: c=d", "Origin: null"] {
        assert_eq!(text.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line}");
    }
    assert!(!text.contains("Basic") && !text.contains("example.com"), "{text}");
    assert_eq!(text.matches("Host: ").count(), 1);
}

#[test]
fn refuses_headers_that_are_not_the_callers() {
    for name in [
        "connection",
        "upgrade",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
        "sec-websocket-accept",
        "content-length",
        "transfer-encoding",
        "te",
        "trailer",
        "expect",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
    ] {
        let mut options = ClientOptions::default();
        let name = HeaderName::from_static(name);
        options.headers.insert(name.clone(), HeaderValue::from_static("a"));
        let refused = handshake("ws://example.com/", &options).expect_err(name.as_str());
        assert_eq!(refused, OptionsError::ReservedHeader { name });
    }
}

#[test]
fn refuses_options_that_would_double_a_field() {
    for name in ["host", "authorization", "origin"] {
        let name = HeaderName::from_static(name);
        let mut headers = HeaderMap::new();
        headers.append(name.clone(), HeaderValue::from_static("a"));
        headers.append(name.clone(), HeaderValue::from_static("b"));
        let refused = handshake("ws://example.com/", &ClientOptions::default().with_headers(headers));
        assert_eq!(refused.unwrap_err(), OptionsError::RepeatedHeader { name });
    }
    let value = HeaderValue::from_static("https://a");
    let mut options = ClientOptions::default().with_origin(value.clone());
    options.headers.insert("origin", value);
    let refused = handshake("ws://example.com/", &options).unwrap_err();
    assert_eq!(refused, OptionsError::RepeatedHeader { name: http::header::ORIGIN });

    let options = ClientOptions::default().with_subprotocols(names(&["a", "b", "a"]));
    let refused = handshake("ws://example.com/", &options).unwrap_err();
    assert_eq!(refused.to_string(), "subprotocol a is offered twice");
}

#[test]
fn refuses_more_headers_than_a_request_can_hold() {
    let uri = "ws://h/".parse().unwrap();
    let with = |count: usize| {
        let name = |n| HeaderName::try_from(format!("x-{n}")).unwrap();
        let headers: HeaderMap = (0..count).map(|n| (name(n), HeaderValue::from_static("1"))).collect();
        ClientOptions::default().with_headers(headers)
    };
    let most = with(16_384);
    ClientHandshake::new(&uri, Key::new([7; 16]), &most).unwrap();
    ConnectHandshake::new(&uri, &most).unwrap();
    // The last is as many as the map of headers takes, which panics at the next.
    for count in [16_385, 24_576] {
        let refused = ClientHandshake::new(&uri, Key::new([7; 16]), &with(count)).map(drop);
        assert_eq!(refused.unwrap_err().to_string(), "too many headers", "{count}");
        let refused = ConnectHandshake::new(&uri, &with(count)).map(drop);
        assert_eq!(refused.unwrap_err().to_string(), "too many headers", "{count}");
    }
}

#[test]
fn refuses_a_host_header_that_is_none() {
    for host in ["", "a b", "user@example.com", "example.com/", "example.com:0"] {
        let mut options = ClientOptions::default();
        options.headers.insert("host", HeaderValue::from_static(host));
        assert_eq!(handshake("ws://example.com/", &options).unwrap_err(), OptionsError::Host, "{host}");
    }
}

#[test]
fn names_no_subprotocol_that_could_break_the_field() {
    for name in ["", "a b", "a,b", "a\r\nX: y", "a\n", "\u{e4}", "a;b", "\"a\"", "a/b"] {
        assert!(Subprotocol::new(name).is_err(), "{name:?}");
    }
}

#[test]
fn takes_answers_that_complete_the_handshake() {
    for (case, answer, offered, selected) in [
        ("plain", response(None, &[]), &[][..], None),
        ("other case", response(Some((1, "upgrade: WebSocket")), &[]), &[], None),
        ("Connection list", response(Some((2, "Connection: keep-alive, upgrade")), &[]), &[], None),
        ("Connection in two fields", response(None, &["Connection: keep-alive"]), &[], None),
        ("other reason", response(Some((0, "HTTP/1.1 101 Web Socket Protocol Handshake")), &[]), &[], None),
        ("no reason", response(Some((0, "HTTP/1.1 101 ")), &[]), &[], None),
        ("no reason and no space", response(Some((0, "HTTP/1.1 101")), &[]), &[], None),
        ("subprotocol", response(None, &["Sec-WebSocket-Protocol: b"]), &["a", "b"], Some("b")),
        ("no subprotocol though offered", response(None, &[]), &["a", "b"], None),
        ("useless fields", response(None, &["Server: x", "Date: y", "Content-Length: 0"]), &[], None),
        ("after 100", "HTTP/1.1 100 Continue\r\n\r\n".to_owned() + &response(None, &[]), &[], None),
        (
            "after eight interim answers",
            "HTTP/1.1 100 Continue\r\n\r\n".repeat(8) + &response(None, &[]),
            &[],
            None,
        ),
        (
            "after 103 and 102",
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n".to_owned()
                + &response(None, &[]),
            &[],
            None,
        ),
    ] {
        let agreement = verify(&answer, offered).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(agreement.subprotocol.as_ref().map(Subprotocol::as_str), selected, "{case}");
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn refuses_every_other_answer() {
    let accept = RESPONSE[3];
    for (case, answer, error) in [
        (
            "200",
            response(Some((0, "HTTP/1.1 200 OK")), &[]),
            "server answered with status 200 OK instead of 101",
        ),
        (
            "302",
            response(Some((0, "HTTP/1.1 302 Found")), &[]),
            "server answered with status 302 Found instead of 101",
        ),
        (
            "600",
            response(Some((0, "HTTP/1.1 600 x")), &[]),
            "server answered with status 600 <unknown status code> instead of 101",
        ),
        (
            "HTTP/1.0",
            response(Some((0, "HTTP/1.0 101 x")), &[]),
            "server switched protocols with an HTTP version other than 1.1",
        ),
        (
            "HTTP/2",
            response(Some((0, "HTTP/2 101 x")), &[]),
            "malformed response: protocol version is not HTTP/1.1",
        ),
        (
            "ICY",
            response(Some((0, "ICY 101 x")), &[]),
            "malformed response: protocol version is not HTTP/1.1",
        ),
        (
            "status of two digits",
            response(Some((0, "HTTP/1.1 10 x")), &[]),
            "malformed response: malformed start line",
        ),
        (
            "status of four digits",
            response(Some((0, "HTTP/1.1 1010 x")), &[]),
            "malformed response: malformed start line",
        ),
        (
            "status 099",
            response(Some((0, "HTTP/1.1 099 x")), &[]),
            "malformed response: malformed start line",
        ),
        (
            "status in letters",
            response(Some((0, "HTTP/1.1 abc x")), &[]),
            "malformed response: malformed start line",
        ),
        (
            "empty line first",
            "\r\n".to_owned() + &response(None, &[]),
            "malformed response: malformed start line",
        ),
        (
            "request",
            "GET / HTTP/1.1\r\n\r\n".to_owned(),
            "malformed response: protocol version is not HTTP/1.1",
        ),
        ("binary", "\u{1}\u{2}\u{3}\r\n\r\n".to_owned(), "malformed response: control byte 0x01 in the head"),
        (
            "no Upgrade",
            response(Some((1, "")), &[]),
            "Upgrade header of the response is not exactly websocket",
        ),
        (
            "other Upgrade",
            response(Some((1, "Upgrade: h2c")), &[]),
            "Upgrade header of the response is not exactly websocket",
        ),
        (
            "two Upgrades",
            response(None, &[RESPONSE[1]]),
            "Upgrade header of the response is not exactly websocket",
        ),
        (
            "Upgrade list",
            response(Some((1, "Upgrade: websocket, h2c")), &[]),
            "Upgrade header of the response is not exactly websocket",
        ),
        (
            "no Connection",
            response(Some((2, "")), &[]),
            "Connection header of the response does not list upgrade",
        ),
        (
            "other Connection",
            response(Some((2, "Connection: close")), &[]),
            "Connection header of the response does not list upgrade",
        ),
        (
            "no accept",
            response(Some((3, "")), &[]),
            "Sec-WebSocket-Accept header of the response does not match the key",
        ),
        (
            "two accepts",
            response(None, &[accept]),
            "Sec-WebSocket-Accept header of the response does not match the key",
        ),
        (
            "other accept",
            response(Some((3, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xO0=")), &[]),
            "Sec-WebSocket-Accept header of the response does not match the key",
        ),
        (
            "accept in other case",
            response(Some((3, "Sec-WebSocket-Accept: S3PPLMBITXAQ9KYGZZHZRBK+XOO=")), &[]),
            "Sec-WebSocket-Accept header of the response does not match the key",
        ),
        (
            "echoed key",
            response(Some((3, "Sec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ==")), &[]),
            "Sec-WebSocket-Accept header of the response does not match the key",
        ),
        (
            "empty accept",
            response(Some((3, "Sec-WebSocket-Accept:")), &[]),
            "Sec-WebSocket-Accept header of the response does not match the key",
        ),
        (
            "accept and more",
            response(Some((3, &format!("{accept}, x"))), &[]),
            "Sec-WebSocket-Accept header of the response does not match the key",
        ),
        (
            "other subprotocol",
            response(None, &["Sec-WebSocket-Protocol: c"]),
            "server selected subprotocol \"c\", which was not offered",
        ),
        (
            "subprotocol in other case",
            response(None, &["Sec-WebSocket-Protocol: A"]),
            "server selected subprotocol \"A\", which was not offered",
        ),
        (
            "two subprotocols in one",
            response(None, &["Sec-WebSocket-Protocol: a, b"]),
            "server selected subprotocol \"a, b\", which was not offered",
        ),
        (
            "empty subprotocol",
            response(None, &["Sec-WebSocket-Protocol:"]),
            "server selected subprotocol \"\", which was not offered",
        ),
        (
            "subprotocol twice",
            response(None, &["Sec-WebSocket-Protocol: a"; 2]),
            "server selected a subprotocol more than once",
        ),
        (
            "extension",
            response(None, &["Sec-WebSocket-Extensions: permessage-deflate"]),
            "server selected extension \"permessage-deflate\", which was not offered or is repeated",
        ),
        (
            "unknown extension",
            response(None, &["Sec-WebSocket-Extensions: x-foo; a=b"]),
            "server selected extension \"x-foo\", which was not offered or is repeated",
        ),
        (
            "malformed extension",
            response(None, &["Sec-WebSocket-Extensions: ;"]),
            "invalid Sec-WebSocket-Extensions header in the response: unexpected byte 0x3b at position 0 of the list of extensions",
        ),
        (
            "empty extension",
            response(None, &["Sec-WebSocket-Extensions:"]),
            "invalid Sec-WebSocket-Extensions header in the response: the list of extensions ends too early",
        ),
        (
            "folded field",
            response(None, &["X: a", " b"]),
            "malformed response: header field is folded over several lines",
        ),
        (
            "space before the colon",
            response(Some((1, "Upgrade : websocket")), &[]),
            "malformed response: malformed header field",
        ),
        ("NUL", response(None, &["X: a\0b"]), "malformed response: control byte 0x00 in the head"),
        (
            "bare CR",
            response(None, &["X: a\rb"]),
            "malformed response: carriage return without line feed in the head",
        ),
        (
            "bare LF",
            response(None, &[]).replace("\r\n", "\n"),
            "malformed response: line feed without carriage return in the head",
        ),
        (
            "101 fields",
            response(None, &["X: a"; 98]),
            "malformed response: head has more than 100 header fields",
        ),
        (
            "long field",
            response(None, &[&*format!("X: {}", "a".repeat(8192))]),
            "malformed response: line of the head is longer than 8192 bytes",
        ),
        (
            "long status line",
            response(Some((0, &format!("HTTP/1.1 101 {}", "a".repeat(8192)))), &[]),
            "malformed response: line of the head is longer than 8192 bytes",
        ),
        (
            "long head",
            response(None, &[&*format!("X: {}", "a".repeat(8000)); 3]),
            "malformed response: head is longer than 16384 bytes",
        ),
        (
            "nine interim answers",
            "HTTP/1.1 100 Continue\r\n\r\n".repeat(9) + &response(None, &[]),
            "malformed response: more than 8 interim responses",
        ),
        (
            "interim answers that are too long",
            format!("HTTP/1.1 103 x\r\nX: {}\r\n\r\n", "a".repeat(6000)).repeat(3) + &response(None, &[]),
            "malformed response: head is longer than 16384 bytes",
        ),
    ] {
        let refused = verify(&answer, &["a", "b"]).expect_err(case);
        assert_eq!(refused.to_string(), error, "{case}");
    }
}

#[test]
fn refuses_a_subprotocol_when_none_was_offered() {
    let refused =
        verify(&response(None, &["Sec-WebSocket-Protocol: a\u{1b}[2J"]).replace('\u{1b}', "\u{9b}"), &[]);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "server selected subprotocol \"a\\xc2\\x9b[2J\", which was not offered"
    );
}

#[test]
fn hands_on_the_bytes_behind_the_head() {
    let answer = response(None, &[]) + "frames";
    let head = ResponseParser::default().handle_bytes(answer.as_bytes()).unwrap().unwrap();
    assert_eq!(head.read_ahead, "frames");
    let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nbody";
    let head = ResponseParser::default().handle_bytes(refusal.as_bytes()).unwrap().unwrap();
    assert_eq!(
        (head.parts.status.as_u16(), &head.parts.headers[CONTENT_LENGTH]),
        (403, &"4".parse().unwrap())
    );
    assert_eq!(head.read_ahead, "body");
}

#[test]
fn each_response_of_a_connection_may_have_as_many_bytes() {
    let field = format!("A: {}", "a".repeat(5000));
    let answer = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(5) + &response(None, &[&field, &field]);
    let mut parser = ResponseParser::default();
    for _ in 0..3 {
        assert!(parser.handle_bytes(answer.as_bytes()).unwrap().is_some());
    }
}

#[test]
fn knows_whether_a_response_has_begun() {
    let answer = response(None, &[]);
    let mut parser = ResponseParser::default();
    assert!(!parser.is_partial());
    assert!(parser.handle_bytes(&answer.as_bytes()[..1]).unwrap().is_none());
    assert!(parser.is_partial());
    assert!(parser.handle_bytes(&answer.as_bytes()[1..]).unwrap().is_some());
    assert!(!parser.is_partial(), "it is complete");
}

#[test]
fn bytes_that_start_no_response_are_quoted() {
    for (start, error) in [
        (&b""[..], None),
        (b"H", None),
        (b"HTTP/1.1 101", None),
        (b"http/1.1", None),
        (b"HTTPS", Some("server did not answer with HTTP, but with \"HTTPS\"")),
        (b"SSH-2.0-x\r\n", Some("server did not answer with HTTP, but with \"SSH-2.0-x\\r\\n\"")),
        (
            b"\x15\x03\x03\0\x02\x02\x0a",
            Some("server answered with TLS instead of HTTP: a wss URL is needed"),
        ),
        (b"\x16", Some("server answered with TLS instead of HTTP: a wss URL is needed")),
        (b"\x15\x02", Some("server did not answer with HTTP, but with \"\\x15\\x02\"")),
    ] {
        let found = ResponseError::of_start(start).map(|error| error.to_string());
        assert_eq!(found.as_deref(), error, "{start:?}");
    }
}
