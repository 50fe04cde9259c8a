//! The requests that a server accepts and refuses, each row with its exact status (RFC 6455 §4.2).

use http::{HeaderName, HeaderValue, StatusCode};
use longwire_handshake::{
    Accepted, AcceptedError, HeadError, HeadLimits, OriginPolicy, Rejection, RequestParser, ServerOptions,
    Subprotocol, accept, encode_response,
};

/// A correct request, one line per element.
const REQUEST: [&str; 6] = [
    "GET /chat?room=1 HTTP/1.1",
    "Host: example.com",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// Returns a request with some lines replaced, or removed if the change is only a field's name, and with lines
/// added.
fn request(changes: &[&str], more: &[&str]) -> String {
    let mut lines: Vec<&str> = REQUEST.to_vec();
    for change in changes {
        let at = lines.iter().position(|line| field_name(line) == field_name(change));
        let at = at.expect("the change names a line");
        if change.ends_with(':') {
            lines.remove(at);
        } else {
            lines[at] = change;
        }
    }
    lines.extend(more);
    lines.push("\r\n");
    lines.join("\r\n")
}

/// Returns the name of a field, or an empty string for the request line.
fn field_name(line: &str) -> String {
    let word = line.split(' ').next().unwrap_or_default();
    word.split_once(':').map(|(name, _)| name.to_ascii_lowercase()).unwrap_or_default()
}

fn check(request: &str, options: &ServerOptions) -> Result<Accepted, Rejection> {
    let head = RequestParser::default().handle_bytes(request.as_bytes())?.expect("the head is complete");
    accept(&head.parts, options)
}

fn check_default(request: &str) -> Result<Accepted, Rejection> {
    check(request, &ServerOptions::default())
}

#[track_caller]
fn assert_accepted(case: &str, request: &str) {
    if let Err(rejection) = check_default(request) {
        panic!("{case}: refused, {rejection}");
    }
}

#[track_caller]
fn assert_refused(case: &str, request: &str, status: u16) -> Rejection {
    let rejection = check_default(request).expect_err(case);
    assert_eq!(rejection.status(), status, "{case}: {rejection}");
    let answer = rejection.to_response();
    assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8", "{case}");
    let body = std::str::from_utf8(answer.body()).unwrap();
    assert!(body.ends_with('\n') && body.lines().count() == 1, "{case}: {body:?}");
    rejection
}

#[test]
fn an_answer_never_has_more_headers_than_it_can_hold() {
    let mut accepted = check_default(&request(&[], &[])).unwrap();
    let mut append = |number: usize| {
        accepted.append_header(format!("x-{number}").parse().unwrap(), HeaderValue::from_static("1"))
    };
    let added = (0..20_000).take_while(|&number| append(number).is_ok()).count();
    let refused = append(added).expect_err("a limit");
    assert_eq!((added, refused.to_string().as_str()), (16_384, "too many headers"));
    // The handshake's own fields still fit.
    assert!(accepted.response().headers().len() > added);
}

#[test]
fn answers_the_example_of_rfc_6455() {
    let request = request(&[], &["Origin: http://example.com", "Sec-WebSocket-Protocol: chat, superchat"]);
    let options = ServerOptions::default().with_subprotocols(vec![Subprotocol::new("chat").unwrap()]);
    let accepted = check(&request, &options).unwrap();
    assert_eq!(
        encode_response(&accepted.response()),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
}

#[test]
fn accepts_what_browsers_and_proxies_send() {
    for (case, changes, more) in [
        ("plain", &[][..], &[][..]),
        ("Firefox's Connection", &["Connection: keep-alive, Upgrade"], &[]),
        ("Connection in two fields", &["Connection: keep-alive"], &["Connection: upgrade"]),
        ("first of two protocols", &["Upgrade: websocket, h2c"], &[]),
        ("last of two protocols", &["Upgrade: h2c,WebSocket"], &[]),
        ("names and tokens in other case", &["CONNECTION: UPGRADE", "upgrade: WebSocket"], &[]),
        ("absolute target", &["GET http://example.com/chat HTTP/1.1"], &[]),
        ("absolute ws target", &["GET ws://example.com/chat HTTP/1.1"], &[]),
        ("absolute target without path", &["GET http://example.com HTTP/1.1"], &[]),
        ("Host with port", &["Host: example.com:8080"], &[]),
        ("Host with an empty port", &["Host: example.com: "], &[]),
        ("Host with IPv6 address and an empty port", &["Host: [::1]: "], &[]),
        ("origin with an empty port", &[], &["Origin: https://example.com:"]),
        ("Host with IPv6 address", &["Host: [::1]:8080"], &[]),
        ("empty body", &[], &["Content-Length: 0"]),
        ("value without space", &["Upgrade:websocket"], &[]),
        ("value with blanks around", &["Upgrade: \t websocket \t"], &[]),
        ("value that is not ASCII", &[], &["X-Name: J\u{fc}rgen"]),
        ("origin", &[], &["Origin: https://elsewhere.example"]),
        ("null origin", &[], &["Origin: null"]),
        ("subprotocol that is not spoken here", &[], &["Sec-WebSocket-Protocol: chat"]),
        ("subprotocols in two fields", &[], &["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b, c"]),
        (
            "Chromium's extensions",
            &[],
            &["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"],
        ),
        (
            "unknown extensions",
            &[],
            &["Sec-WebSocket-Extensions: foo; a=\"b\"; a; a=1, constructor, __proto__"],
        ),
        (
            "bad parameters of an extension",
            &[],
            &["Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99"],
        ),
        ("another product's cookies", &[], &["Cookie: a=b; c=\"d\"", "Cookie: e=f"]),
    ] {
        assert_accepted(case, &request(changes, more));
    }
}

#[test]
fn an_empty_port_is_the_default_port() {
    for (host, origin, listed) in [
        ("example.com: ", "https://example.com", "https://example.com:443"),
        ("example.com", "https://example.com:", "https://example.com"),
        ("example.com:443", "https://example.com:", "https://example.com"),
        ("example.com", "http://example.com:80", "http://example.com"),
        ("example.com:80", "http://example.com", "http://example.com:80"),
        ("example.com: ", "ws://example.com", "ws://example.com:80"),
        ("example.com:443", "wss://example.com", "wss://example.com"),
    ] {
        let request = request(&[&format!("Host: {host}")], &[&format!("Origin: {origin}")]);
        for origins in [OriginPolicy::only([listed]).unwrap(), OriginPolicy::SameHost] {
            check(&request, &ServerOptions::default().with_origins(origins)).expect(origin);
        }
    }
    for (host, origin) in
        [("example.com:443", "http://example.com"), ("example.com:80", "https://example.com")]
    {
        let request = request(&[&format!("Host: {host}")], &[&format!("Origin: {origin}")]);
        let options = ServerOptions::default().with_origins(OriginPolicy::SameHost);
        assert_eq!(check(&request, &options).expect_err(origin).status(), 403);
    }
}

#[test]
fn opaque_origins_are_allowed_only_if_they_are_listed() {
    let policies = [
        (OriginPolicy::only(["null"]), "null"),
        (OriginPolicy::only(["file://"]), "file://"),
        (OriginPolicy::only(["https://example.com"]), "https://example.com"),
        (Ok(OriginPolicy::SameHost), "https://example.com"),
    ];
    for (policy, listed) in policies {
        let options = ServerOptions::default().with_origins(policy.expect(listed));
        for origin in
            ["null", "file://", "https://example.com", "NULL", "null://", "file:///", "file://x", ""]
        {
            let request = request(&["Host: example.com"], &[&format!("Origin: {origin}")]);
            assert_eq!(check(&request, &options).is_ok(), origin == listed, "{origin:?} and {listed:?}");
        }
    }
    let both = OriginPolicy::only(["https://example.com", "null"]).unwrap();
    let both = ServerOptions::default().with_origins(both);
    for origin in ["null", "https://example.com"] {
        check(&request(&[], &[&format!("Origin: {origin}")]), &both).expect(origin);
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn refuses_each_broken_request_with_its_status() {
    for (case, changes, more, status) in [
        // No upgrade at all
        (
            "plain GET",
            &["Connection:", "Upgrade:", "Sec-WebSocket-Version:", "Sec-WebSocket-Key:"][..],
            &[][..],
            426,
        ),
        ("plain GET in HTTP/1.0", &["GET / HTTP/1.0", "Host:", "Connection:", "Upgrade:"], &[], 426),
        ("no Upgrade", &["Upgrade:"], &[], 426),
        ("no Connection", &["Connection:"], &[], 426),
        ("Connection without upgrade", &["Connection: keep-alive"], &[], 426),
        ("Connection with a longer token", &["Connection: upgraded"], &[], 426),
        // Method
        ("POST", &["POST / HTTP/1.1"], &[], 405),
        ("HEAD", &["HEAD / HTTP/1.1"], &[], 405),
        ("OPTIONS *", &["OPTIONS * HTTP/1.1"], &[], 405),
        ("CONNECT", &["CONNECT example.com:80 HTTP/1.1"], &[], 405),
        ("get", &["get / HTTP/1.1"], &[], 405),
        ("method of 32 letters", &[&*format!("{} / HTTP/1.1", "GET+".repeat(8))], &[], 405),
        ("POST without upgrade", &["POST / HTTP/1.1", "Upgrade:"], &["Content-Length: 3"], 405),
        // Version of HTTP
        ("HTTP/1.0", &["GET / HTTP/1.0"], &[], 400),
        ("HTTP/1.2", &["GET / HTTP/1.2"], &[], 400),
        ("HTTP/2.0", &["GET / HTTP/2.0"], &[], 400),
        ("HTTP/0.9", &["GET /"], &[], 400),
        ("http/1.1", &["GET / http/1.1"], &[], 400),
        // Target
        ("asterisk", &["GET * HTTP/1.1"], &[], 400),
        ("authority", &["GET example.com:80 HTTP/1.1"], &[], 400),
        ("relative path", &["GET chat HTTP/1.1"], &[], 400),
        ("foreign scheme", &["GET ftp://example.com/ HTTP/1.1"], &[], 400),
        ("fragment", &["GET /#a HTTP/1.1"], &[], 400),
        ("target that is not ASCII", &["GET /\u{fc} HTTP/1.1"], &[], 400),
        ("space in the target", &["GET /a b HTTP/1.1"], &[], 400),
        // Host
        ("no Host", &["Host:"], &[], 400),
        ("empty Host", &["Host: "], &[], 400),
        ("two Hosts", &[], &["Host: example.com"], 400),
        ("Host with user", &["Host: user@example.com"], &[], 400),
        ("Host with two empty ports", &["Host: example.com:: "], &[], 400),
        ("Host of an empty port alone", &["Host: : "], &[], 400),
        ("Host with path", &["Host: example.com/a"], &[], 400),
        ("Host with bad port", &["Host: example.com:99999"], &[], 400),
        ("plain GET without Host", &["Host:", "Upgrade:"], &[], 400),
        // Upgrade
        ("other protocol", &["Upgrade: h2c"], &[], 400),
        ("two other protocols", &["Upgrade: h2c, TLS/1.0"], &[], 400),
        ("two Upgrades", &[], &["Upgrade: websocket"], 400),
        ("two Upgrades without a key", &["Sec-WebSocket-Key:"], &["Upgrade: h2c"], 400),
        ("h2c without a key", &["Upgrade: h2c", "Sec-WebSocket-Key:"], &["HTTP2-Settings: AAMAAABk"], 426),
        ("TLS without a key", &["Upgrade: TLS/1.0", "Sec-WebSocket-Key:"], &[], 426),
        ("Upgrade with a version", &["Upgrade: websocket/13"], &[], 400),
        // Key
        ("no key", &["Sec-WebSocket-Key:"], &[], 400),
        ("two keys", &[], &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="], 400),
        ("empty key", &["Sec-WebSocket-Key: "], &[], 400),
        ("short key", &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"], &[], 400),
        ("long key", &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEy"], &[], 400),
        ("key of unused bits", &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR=="], &[], 400),
        (
            "Hixie-76",
            &["Sec-WebSocket-Version:", "Sec-WebSocket-Key:"],
            &["Sec-WebSocket-Key1: 1", "Sec-WebSocket-Key2: 2"],
            400,
        ),
        // Version of WebSocket
        ("no version", &["Sec-WebSocket-Version:"], &[], 400),
        ("two versions", &[], &["Sec-WebSocket-Version: 13"], 400),
        ("list of versions", &["Sec-WebSocket-Version: 13, 8"], &[], 400),
        ("empty version", &["Sec-WebSocket-Version: "], &[], 400),
        ("hexadecimal version", &["Sec-WebSocket-Version: 0xd"], &[], 400),
        ("decimal version", &["Sec-WebSocket-Version: 13.0"], &[], 400),
        ("version with a zero", &["Sec-WebSocket-Version: 013"], &[], 400),
        ("version with a sign", &["Sec-WebSocket-Version: +13"], &[], 400),
        ("version out of range", &["Sec-WebSocket-Version: 256"], &[], 400),
        ("version 8", &["Sec-WebSocket-Version: 8"], &[], 426),
        ("version 14", &["Sec-WebSocket-Version: 14"], &[], 426),
        ("version 0", &["Sec-WebSocket-Version: 0"], &[], 426),
        // Body
        ("body", &[], &["Content-Length: 4"], 400),
        ("chunked body", &[], &["Transfer-Encoding: chunked"], 400),
        ("length and chunked", &[], &["Content-Length: 4", "Transfer-Encoding: chunked"], 400),
        ("length 0 and chunked", &[], &["Content-Length: 0", "Transfer-Encoding: chunked"], 400),
        ("two lengths", &[], &["Content-Length: 0", "Content-Length: 0"], 400),
        ("list of lengths", &[], &["Content-Length: 0, 0"], 400),
        ("signed length", &[], &["Content-Length: +0"], 400),
        ("empty length", &[], &["Content-Length:"], 400),
        // Subprotocols
        ("empty list", &[], &["Sec-WebSocket-Protocol:"], 400),
        ("bad token", &[], &["Sec-WebSocket-Protocol: ch@t"], 400),
        ("space inside", &[], &["Sec-WebSocket-Protocol: a b"], 400),
        ("trailing comma", &[], &["Sec-WebSocket-Protocol: a,"], 400),
        ("leading comma", &[], &["Sec-WebSocket-Protocol: ,a"], 400),
        ("empty element", &[], &["Sec-WebSocket-Protocol: a,,b"], 400),
        ("repeated name", &[], &["Sec-WebSocket-Protocol: a, b, a"], 400),
        (
            "repeated name in two fields",
            &[],
            &["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: a"],
            400,
        ),
        // Extensions
        ("empty extensions", &[], &["Sec-WebSocket-Extensions:"], 400),
        ("malformed extensions", &[], &["Sec-WebSocket-Extensions: foo; =bar"], 400),
        ("unterminated quote", &[], &["Sec-WebSocket-Extensions: foo; a=\"b"], 400),
        // Origin
        ("two origins", &[], &["Origin: http://a", "Origin: http://b"], 400),
        // Smuggling
        ("folded field", &[], &["X-A: b", " c"], 400),
        ("field that starts with a tab", &[], &["\tX-A: b"], 400),
        ("space before the colon", &["Upgrade:"], &["Upgrade : websocket"], 400),
        ("bare CR in a value", &[], &["X-A: b\rc"], 400),
        ("bare LF in a value", &[], &["X-A: b\nX-B: c"], 400),
        ("NUL in a value", &[], &["X-A: b\0c"], 400),
        ("control byte in a value", &[], &["X-A: b\x1bc"], 400),
        ("DEL in a value", &[], &["X-A: b\x7fc"], 400),
        ("field without a colon", &[], &["X-A"], 400),
        ("field without a name", &[], &[": b"], 400),
        ("name that is not ASCII", &[], &["X-\u{fc}: b"], 400),
        ("two spaces in the request line", &["GET  / HTTP/1.1"], &[], 400),
        ("space before the method", &[" GET / HTTP/1.1"], &[], 400),
        ("tab in the request line", &["GET /\tHTTP/1.1"], &[], 400),
        ("space behind the version", &["GET / HTTP/1.1 "], &[], 400),
        // Sizes
        ("8 KiB target", &[&*format!("GET /{} HTTP/1.1", "a".repeat(8192))], &[], 414),
        ("8 KiB field", &[], &[&*format!("X-A: {}", "a".repeat(8192))], 431),
        ("95 more fields", &[], &["X-A: b"; 96], 431),
        ("16 KiB head", &[], &[&*format!("X-A: {}", "a".repeat(8000)); 3], 431),
        ("long method", &[&*format!("{} / HTTP/1.1", "GET".repeat(11))], &[], 400),
    ] {
        assert_refused(case, &request(changes, more), status);
    }
}

#[test]
fn accepts_a_head_just_within_the_limits() {
    assert_accepted("longest target", &request(&[&*format!("GET /{} HTTP/1.1", "a".repeat(8191))], &[]));
    assert_accepted("longest field", &request(&[], &[&*format!("X-A: {}", "a".repeat(8192 - 5))]));
    assert_accepted("most fields", &request(&[], &["X-A: b"; 95]));
    let third = format!("A: {}", "a".repeat(5000));
    let room = 16 * 1024 - request(&[], &[&third, &third, "B: "]).len();
    assert_accepted("longest head", &request(&[], &[&third, &third, &format!("B: {}", "b".repeat(room))]));
    assert_refused(
        "one byte more",
        &request(&[], &[&third, &third, &format!("B: {}", "b".repeat(room + 1))]),
        431,
    );
}

#[test]
fn each_limit_is_the_one_that_was_set() {
    let target = |len: usize| format!("GET /{} HTTP/1.1\r\nA: b\r\n\r\n", "a".repeat(len - 1));
    let line = |len: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(len - 3));
    let fields = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
    let bytes = |len: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(len - 23));
    let limits = HeadLimits::default;
    for (most, limits, head, error) in [
        (
            50,
            limits().with_max_target(50),
            &target as &dyn Fn(usize) -> String,
            HeadError::TargetTooLong { limit: 50 },
        ),
        (
            20_000,
            limits().with_max_bytes(1 << 20).with_max_line(20_000),
            &line,
            HeadError::LineTooLong { limit: 20_000 },
        ),
        (50, limits().with_max_line(50), &line, HeadError::LineTooLong { limit: 50 }),
        (3, limits().with_max_headers(3), &fields, HeadError::TooManyHeaders { limit: 3 }),
        (200, limits().with_max_headers(200), &fields, HeadError::TooManyHeaders { limit: 200 }),
        (100, limits().with_max_bytes(100), &bytes, HeadError::TooLong { limit: 100 }),
    ] {
        let read = |head: String| RequestParser::new(limits.clone()).handle_bytes(head.as_bytes());
        assert!(read(head(most)).unwrap().is_some(), "{most} are allowed: {error}");
        let Err(Rejection::Head(refused)) = read(head(most + 1)) else { panic!("one more is not: {error}") };
        assert_eq!(refused, error);
    }
}

#[test]
fn each_head_of_a_connection_may_have_as_many_bytes() {
    let field = format!("A: {}", "a".repeat(5000));
    let request = request(&[], &[&field, &field]);
    let mut parser = RequestParser::default();
    for _ in 0..3 {
        assert!(parser.handle_bytes(request.as_bytes()).unwrap().is_some());
    }
}

#[test]
fn a_head_with_more_fields_than_a_map_holds_is_refused() {
    let limits = HeadLimits::default().with_max_headers(40_000).with_max_bytes(1 << 20);
    let head = |count: usize| {
        let fields: Vec<String> = (0..count).map(|number| format!("a{number}: b\r\n")).collect();
        RequestParser::new(limits.clone())
            .handle_bytes(format!("GET / HTTP/1.1\r\n{}\r\n", fields.concat()).as_bytes())
    };
    assert_eq!(head(24_576).unwrap().unwrap().parts.headers.len(), 24_576);
    for count in [24_577, 30_000] {
        assert_eq!(
            head(count).unwrap_err().to_string(),
            "malformed request: head has more than 24576 header fields"
        );
    }
}

/// Also of requests that are no handshake, which another server may answer.
#[test]
fn refuses_heads_of_whose_end_two_parties_could_disagree() {
    for (case, fields, is_clear) in [
        ("a length", &["Content-Length: 12"][..], true),
        ("a length with blanks around", &["Content-Length: \t12 "], true),
        ("chunked", &["Transfer-Encoding: chunked"], true),
        ("a length and chunked", &["Content-Length: 12", "Transfer-Encoding: chunked"], false),
        ("two lengths", &["Content-Length: 12", "Content-Length: 12"], false),
        ("a list of lengths", &["Content-Length: 12, 12"], false),
        ("no length", &["Content-Length:"], false),
        ("a sign", &["Content-Length: +12"], false),
        ("a word", &["Content-Length: twelve"], false),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", fields.join("\r\n"));
        match RequestParser::default().handle_bytes(head.as_bytes()) {
            Ok(head) => assert!(is_clear && head.is_some(), "{case}"),
            Err(Rejection::Head(error)) => {
                assert_eq!((error, is_clear), (HeadError::BodyLength, false), "{case}");
            }
            Err(other) => panic!("{case}: {other}"),
        }
    }
}

#[test]
fn knows_whether_a_head_has_begun() {
    let request = request(&[], &[]);
    let mut parser = RequestParser::default();
    assert!(!parser.is_partial());
    assert!(parser.handle_bytes(b"\r\n").unwrap().is_none());
    assert!(!parser.is_partial(), "an empty line is skipped");
    for step in [1, request.len() - 1] {
        assert!(parser.handle_bytes(&request.as_bytes()[..step]).unwrap().is_none());
        assert!(parser.is_partial(), "after {step} bytes");
        assert!(parser.handle_bytes(&request.as_bytes()[step..]).unwrap().is_some());
        assert!(!parser.is_partial(), "it is complete");
    }
}

#[test]
fn says_in_the_answer_what_would_be_accepted() {
    for (case, changes, field, value) in [
        ("405", &["POST / HTTP/1.1"][..], "allow", "GET"),
        ("426 without upgrade", &["Upgrade:"], "sec-websocket-version", "13"),
        ("426 without upgrade", &["Upgrade:"], "upgrade", "websocket"),
        ("426 for another version", &["Sec-WebSocket-Version: 8"], "sec-websocket-version", "13"),
        ("426 for another version", &["Sec-WebSocket-Version: 8"], "upgrade", "websocket"),
        ("400 without version", &["Sec-WebSocket-Version:"], "sec-websocket-version", "13"),
    ] {
        let response = check_default(&request(changes, &[])).expect_err(case).to_response();
        assert_eq!(response.headers()[field], value, "{case}");
    }
}

#[test]
fn says_what_is_wrong_with_the_head() {
    for (case, error, status, body) in [
        ("target", HeadError::TargetTooLong { limit: 1 }, 414, "The request target is too long\n"),
        ("head", HeadError::TooLong { limit: 1 }, 431, "The request head is too large\n"),
        ("line", HeadError::LineTooLong { limit: 1 }, 431, "The request head is too large\n"),
        ("fields", HeadError::TooManyHeaders { limit: 1 }, 431, "The request head is too large\n"),
        ("grammar", HeadError::Field, 400, "The request is malformed\n"),
    ] {
        let rejection = Rejection::from(error);
        assert_eq!((rejection.status().as_u16(), &rejection.body()[..]), (status, body.as_bytes()), "{case}");
    }
}

#[test]
fn encodes_a_refusal_that_ends_the_connection() {
    let plain = check_default(&request(&["Upgrade:", "Connection:"], &[])).unwrap_err();
    assert_eq!(
        plain.encode(),
        "HTTP/1.1 426 Upgrade Required\r\nContent-Type: text/plain; charset=utf-8\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nContent-Length: 49\r\nConnection: close, Upgrade\r\n\r\n\
         Upgrade Required: this resource speaks WebSocket"
            .to_owned()
            + "\n"
    );
    for (rejection, status) in [
        (Rejection::Timeout, "408 Request Timeout"),
        (Rejection::Unavailable, "503 Service Unavailable"),
        (check_default(&request(&["Sec-WebSocket-Key:"], &[])).unwrap_err(), "400 Bad Request"),
    ] {
        let answer = String::from_utf8(rejection.encode().to_vec()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
        assert!(head.ends_with("\r\nConnection: close"), "{head}");
        assert!(!body.is_empty());
    }
}

#[test]
fn answers_head_without_a_body() {
    let rejection = check_default(&request(&[], &[]).replacen("GET", "HEAD", 1)).unwrap_err();
    let answer = String::from_utf8(rejection.encode().to_vec()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
    assert!(answer.contains(&format!("Content-Length: {}\r\n", rejection.body().len())));
    assert!(answer.ends_with("\r\n\r\n"));
}

#[test]
fn carries_an_answer_of_the_application() {
    let own = http::Response::builder().status(401).header("www-authenticate", "Basic").body("who?").unwrap();
    let rejection = Rejection::from_response(own);
    assert_eq!(rejection.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        rejection.encode(),
        "HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: Basic\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwho?"
    );
    let interim = Rejection::from_response(http::Response::builder().status(101).body("").unwrap());
    assert_eq!(interim.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[test]
fn quotes_the_peer_harmlessly_in_the_log_and_never_in_the_answer() {
    let options = ServerOptions::default().with_origins(OriginPolicy::only(["https://a"]).unwrap());
    let text = request(&[], &["Origin: <script>\u{9b}2J\t"]);
    let rejection = check(&text, &options).unwrap_err();
    assert_eq!(rejection.to_string(), "origin \"<script>\\xc2\\x9b2J\" is not allowed");
    assert!(!String::from_utf8(rejection.encode().to_vec()).unwrap().contains("script"));
}

#[test]
fn serves_one_path_where_one_is_set() {
    let options = ServerOptions::default().with_path(Some("/chat".into()));
    assert!(check(&request(&[], &[]), &options).is_ok(), "the query is no part of the path");
    for target in ["/", "/chat/", "/Chat", "/chats", "/%63hat"] {
        let text = request(&[&format!("GET {target} HTTP/1.1")], &[]);
        assert_eq!(check(&text, &options).expect_err(target).status(), 404, "{target}");
    }
}

#[test]
fn a_subprotocol_is_compared_as_its_name() {
    let chat = Subprotocol::new("chat").unwrap();
    assert!(chat == *"chat" && chat == "chat");
    assert!(chat != *"Chat" && chat != "Chat");
    assert_eq!(AsRef::<str>::as_ref(&chat), "chat");
}

#[test]
fn selects_the_first_own_subprotocol_that_is_offered() {
    let names = |list: &[&str]| list.iter().map(|name| Subprotocol::new(name).unwrap()).collect::<Vec<_>>();
    for (case, own, offered, selected) in [
        ("none of either", &[][..], None, None),
        ("none offered", &["a"], None, None),
        ("none of its own", &[], Some("a, b"), None),
        ("one in common", &["x", "b"], Some("a, b"), Some("b")),
        ("the server's preference", &["b", "a"], Some("a, b"), Some("b")),
        ("other case", &["A"], Some("a"), None),
    ] {
        let options = ServerOptions::default().with_subprotocols(names(own));
        let field = offered.map(|list| format!("Sec-WebSocket-Protocol: {list}"));
        let text = request(&[], &field.iter().map(String::as_str).collect::<Vec<_>>());
        let accepted = check(&text, &options).expect(case);
        assert_eq!(accepted.subprotocol().map(Subprotocol::as_str), selected, "{case}");
        let answered = accepted.response().headers().get("sec-websocket-protocol").cloned();
        assert_eq!(answered.as_ref().map(|value| value.to_str().unwrap()), selected, "{case}");
    }
}

#[test]
fn lets_the_application_select_what_was_offered_only() {
    let mut accepted = check_default(&request(&[], &["Sec-WebSocket-Protocol: a, b"])).unwrap();
    assert_eq!(accepted.offered_subprotocols(), ["a", "b"]);
    let [b, c] = ["b", "c"].map(|name| Subprotocol::new(name).unwrap());
    assert_eq!(accepted.select_subprotocol(Some(c.clone())), Err(AcceptedError::NotOffered { name: c }));
    assert_eq!(accepted.subprotocol(), None);
    assert_eq!(accepted.select_subprotocol(Some(b.clone())), Ok(()));
    assert_eq!(accepted.response().headers()["sec-websocket-protocol"], "b");
}

#[test]
fn lets_the_application_add_fields_that_are_not_the_handshakes() {
    let mut accepted = check_default(&request(&[], &[])).unwrap();
    let value = HeaderValue::from_static("a");
    for name in [
        "connection",
        "upgrade",
        "sec-websocket-accept",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
        "content-length",
        "transfer-encoding",
    ] {
        let name = HeaderName::from_static(name);
        let refused = Err(AcceptedError::Reserved { name: name.clone() });
        assert_eq!(accepted.append_header(name, value.clone()), refused);
    }
    accepted.append_header(http::header::SET_COOKIE, value.clone()).unwrap();
    accepted.append_header(http::header::SET_COOKIE, value).unwrap();
    assert_eq!(accepted.response().headers().get_all("set-cookie").iter().count(), 2);
}

#[test]
fn checks_origins_against_the_policy() {
    let any = OriginPolicy::Any;
    let same = OriginPolicy::SameHost;
    let only = OriginPolicy::only(["https://example.com", "http://localhost:3000"]).unwrap();
    for (origin, by_any, by_same, by_only) in [
        (None, true, true, false),
        (Some("https://example.com"), true, true, true),
        (Some("https://EXAMPLE.com"), true, true, true),
        (Some("HTTPS://example.com:443"), true, true, true),
        (Some("http://example.com"), true, true, false),
        (Some("https://example.com:8443"), true, false, false),
        (Some("https://www.example.com"), true, false, false),
        (Some("https://example.com.evil.test"), true, false, false),
        (Some("https://evil.test"), true, false, false),
        (Some("https://example.com@evil.test"), true, false, false),
        (Some("http://localhost:3000"), true, false, true),
        (Some("http://localhost"), true, false, false),
        (Some("null"), true, false, false),
        (Some(""), true, false, false),
        (Some("https://example.com/"), true, false, false),
        (Some("https://example.com https://evil.test"), true, false, false),
    ] {
        let field = origin.map(|origin| format!("Origin: {origin}"));
        let text = request(&[], &field.iter().map(String::as_str).collect::<Vec<_>>());
        for (policy, allowed) in [(&any, by_any), (&same, by_same), (&only, by_only)] {
            let options = ServerOptions::default().with_origins(policy.clone());
            let status = check(&text, &options).map(drop).map_err(|rejection| rejection.status());
            let expected = if allowed { Ok(()) } else { Err(StatusCode::FORBIDDEN) };
            assert_eq!(status, expected, "{origin:?} under {policy:?}");
        }
    }
}

/// RFC 9112 §3.2.2: beside an absolute target, `Host` must be ignored.
#[test]
fn compares_origins_with_the_host_of_an_absolute_target() {
    let options = ServerOptions::default().with_origins(OriginPolicy::SameHost);
    let changes = ["GET http://example.com/chat HTTP/1.1", "Host: other.test"];
    for (origin, allowed) in [("http://example.com", true), ("http://other.test", false)] {
        let checked = check(&request(&changes, &[&format!("Origin: {origin}")]), &options);
        assert_eq!(checked.is_ok(), allowed, "{origin}");
    }
}

#[test]
fn admits_a_missing_origin_on_demand() {
    let allowed = longwire_handshake::AllowedOrigins::new(["https://example.com"]).unwrap().or_missing();
    let options = ServerOptions::default().with_origins(OriginPolicy::Only(allowed));
    assert!(check(&request(&[], &[]), &options).is_ok());
    assert!(check(&request(&[], &["Origin: null"]), &options).is_err());
}

#[test]
fn refuses_origins_that_are_none() {
    for text in [
        "",
        "NULL",
        "file:///",
        "example.com",
        "https://",
        "https://a/",
        "https://a/b",
        "https://a:0",
        "1x://a",
        "*",
    ] {
        assert!(OriginPolicy::only([text]).is_err(), "{text}");
    }
}

#[test]
fn checks_a_request_of_a_foreign_http_server() {
    let mut foreign = http::Request::get("/chat")
        .header("host", "example.com")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body("anything")
        .unwrap();
    assert!(accept(&foreign, &ServerOptions::default()).is_ok());
    *foreign.version_mut() = http::Version::HTTP_2;
    assert_eq!(accept(&foreign, &ServerOptions::default()).unwrap_err().status(), 405);
}
