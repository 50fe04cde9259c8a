//! Connecting to a hand-written server.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use longwire_client::{Client, ClientStream, Config, Error, ResponseError, connect};
use longwire_connection::Message;
use support::{SWITCHING, answer_with, field, fill, read_request, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

/// A server's text frame with `hello`.
const HELLO: &[u8] = b"\x81\x05hello";

#[tokio::test]
async fn asks_for_what_the_url_says() {
    let (address, server) = answer_with(SWITCHING).await;
    let port = address.rsplit_once(':').unwrap().1;
    let (ws, response) =
        Client::new(format!("ws://us%40er:p%3Aw@localhost:{port}/chat?a=b&c=%20")).connect().await.unwrap();
    assert_eq!(response.status(), 101);
    ws.abort();
    let (request, _) = server.await.unwrap();
    assert!(request.starts_with("GET /chat?a=b&c=%20 HTTP/1.1\r\n"), "{request}");
    assert_eq!(field(&request, "Host"), format!("localhost:{port}"));
    assert_eq!(field(&request, "Connection"), "Upgrade");
    assert_eq!(field(&request, "Upgrade"), "websocket");
    assert_eq!(field(&request, "Sec-WebSocket-Version"), "13");
    // base64 of us@er:p:w
    assert_eq!(field(&request, "Authorization"), "Basic dXNAZXI6cDp3");
    assert!(!request.contains("Origin") && !request.contains("Sec-WebSocket-Protocol"), "{request}");
    let offers = cfg!(feature = "deflate").then_some("permessage-deflate; client_max_window_bits");
    let offered =
        request.contains("Sec-WebSocket-Extensions").then(|| field(&request, "Sec-WebSocket-Extensions"));
    assert_eq!(offered, offers);
}

#[tokio::test]
async fn sends_what_the_options_say() {
    let answer = SWITCHING.replace("Connection:", "Sec-WebSocket-Protocol: b\r\nX-Server: s\r\nConnection:");
    let (address, server) = answer_with(answer).await;
    let client = Client::new(format!("http://user:pw@{address}"))
        .header("authorization", "Bearer t")
        .header("Host", "virtual.example")
        .header("cookie", "a=b")
        .header("cookie", "c=d")
        .origin("https://example.com")
        .subprotocol("a")
        .subprotocol("b");
    let (ws, response) = client.connect().await.unwrap();
    assert_eq!(ws.subprotocol(), Some("b"));
    assert_eq!(response.headers()["x-server"], "s");
    ws.abort();
    let (request, _) = server.await.unwrap();
    assert_eq!(field(&request, "Authorization"), "Bearer t");
    assert_eq!(field(&request, "Host"), "virtual.example");
    assert_eq!(field(&request, "Origin"), "https://example.com");
    assert_eq!(field(&request, "Sec-WebSocket-Protocol"), "a, b");
    assert_eq!(request.matches("\r\nCookie: ").count(), 2);
}

#[tokio::test]
async fn says_who_asks() {
    for (case, client, authorization, cookie) in [
        (
            "user and password",
            (|client| client.basic_auth("us@er", "p:w")) as fn(Client) -> Client,
            "Basic dXNAZXI6cDp3",
            None,
        ),
        ("not ASCII", |client| client.basic_auth("\u{e9}", ""), "Basic w6k6", None),
        ("token", |client| client.bearer("a.b-c_d~e+f/g=="), "Bearer a.b-c_d~e+f/g==", None),
        (
            "the last one",
            |client| client.header("authorization", "x").basic_auth("a", "b").bearer("c"),
            "Bearer c",
            None,
        ),
        ("cookie", |client| client.cookie("a", "b"), "Basic dXNlcjpwdw==", Some("a=b")),
        (
            "cookies",
            |client| client.cookie("a", "").cookie("c", "\"d\"").cookie("e", "f=="),
            "Basic dXNlcjpwdw==",
            Some("a=; c=\"d\"; e=f=="),
        ),
    ] {
        let (address, server) = answer_with(SWITCHING).await;
        let client = client(Client::new(format!("ws://user:pw@{address}")));
        assert!(!format!("{client:?}").contains("a.b-c"), "{client:?}");
        client.connect().await.expect(case).0.abort();
        let (request, _) = server.await.unwrap();
        assert_eq!(field(&request, "Authorization"), authorization, "{case}");
        assert_eq!(request.contains("Cookie: ").then(|| field(&request, "Cookie")), cookie, "{case}");
    }
}

#[tokio::test]
async fn asks_the_hook_before_each_request() {
    let client = |address: &str| {
        let calls = AtomicUsize::new(0);
        Client::new(format!("ws://{address}/a")).header("x-kept", "1").redirects(1).on_request(
            move |uri, headers| {
                assert_eq!(headers["x-kept"], "1");
                let call = calls.fetch_add(1, Ordering::Relaxed);
                assert!(headers.insert("x-call", HeaderValue::from(call)).is_none());
                assert!(headers.insert("x-path", uri.target().path().parse().unwrap()).is_none());
            },
        )
    };
    let (second, server) = answer_with(SWITCHING).await;
    let (first, redirecting) =
        answer_with(format!("HTTP/1.1 307 x\r\nLocation: ws://{second}/b\r\n\r\n")).await;
    client(&first).connect().await.unwrap().0.abort();
    for (request, call, path) in
        [(redirecting.await.unwrap().0, "0", "/a"), (server.await.unwrap().0, "1", "/b")]
    {
        assert_eq!((field(&request, "X-Call"), field(&request, "X-Path")), (call, path));
    }
}

#[tokio::test]
async fn dials_ipv6_addresses_in_brackets() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        return; // no IPv6 on this machine
    };
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        stream.write_all(&fill(SWITCHING, &request)).await.unwrap();
        request
    });
    let ws = connect(&*url).await.unwrap();
    ws.abort();
    assert_eq!(format!("ws://{}/", field(&server.await.unwrap(), "Host")), url);
}

#[tokio::test]
async fn sets_nodelay_and_a_fresh_nonce() {
    let mut keys = Vec::new();
    for _ in 0..3 {
        let (address, server) = answer_with(SWITCHING).await;
        let ws = connect(format!("ws://{address}")).await.unwrap();
        let nodelay = ws.with_transport(|io: &ClientStream| io.tcp().unwrap().nodelay().unwrap());
        assert_eq!(nodelay, Some(true));
        ws.abort();
        keys.push(field(&server.await.unwrap().0, "Sec-WebSocket-Key").to_owned());
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 3);
}

#[tokio::test]
async fn loses_no_byte_behind_the_answer() {
    // Frames in the same segment as the answer, and split at every position over two writes.
    for cut in 0..=HELLO.len() * 2 {
        let (address, server) = serve(move |request, mut stream| async move {
            let wire = [&fill(SWITCHING, &request)[..], HELLO, HELLO].concat();
            let cut = wire.len() - cut;
            stream.write_all(&wire[..cut]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            stream.write_all(&wire[cut..]).await.unwrap();
            stream
        })
        .await;
        let mut ws = connect(format!("ws://{address}")).await.unwrap();
        for _ in 0..2 {
            assert_eq!(ws.recv().await.unwrap(), Some(Message::text("hello")), "cut at {cut}");
        }
        ws.abort();
        server.await.unwrap();
    }
}

#[tokio::test]
async fn masks_what_it_sends_with_a_fresh_key_each() {
    let (address, server) = serve(|request, mut stream| async move {
        stream.write_all(&fill(SWITCHING, &request)).await.unwrap();
        let mut frames = [[0; 11]; 3];
        for frame in &mut frames {
            stream.read_exact(frame).await.unwrap();
        }
        frames
    })
    .await;
    let mut ws = connect(format!("ws://{address}")).await.unwrap();
    for _ in 0..3 {
        ws.send("hello").await.unwrap();
    }
    let mut keys: Vec<[u8; 4]> = Vec::new();
    for frame in server.await.unwrap() {
        assert_eq!(frame[..2], [0x81, 0x85]);
        let key: [u8; 4] = frame[2..6].try_into().unwrap();
        let text: Vec<u8> = frame[6..].iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        assert_eq!(text, b"hello");
        assert!(!keys.contains(&key));
        keys.push(key);
    }
}

#[tokio::test]
async fn hands_its_config_to_the_connection() {
    let (address, _server) = answer_with([SWITCHING.as_bytes(), HELLO].concat()).await;
    let mut config = Config::default();
    config.limits.max_message = Some(4);
    let client = Client::new(format!("ws://{address}")).config(config);
    let (mut ws, _) = client.connect().await.unwrap();
    let error = ws.recv().await.unwrap_err();
    assert_eq!(error.close_code(), Some(longwire_connection::CloseCode::new(1009)), "{error}");
}

#[tokio::test]
async fn yields_the_whole_answer_when_the_server_refuses() {
    for (case, answer, status, body, whole) in [
        (
            "length",
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 4\r\n\r\nwho?",
            401,
            "who?",
            true,
        ),
        (
            "chunks",
            "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n1\r\n!\r\n0\r\n\r\n",
            403,
            "no!",
            true,
        ),
        ("until close", "HTTP/1.1 404 Not Found\r\n\r\nnothing here", 404, "nothing here", true),
        ("until close, HTTP/1.0", "HTTP/1.0 404 Not Found\r\n\r\nnothing here", 404, "nothing here", true),
        ("no body", "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", 503, "", true),
        ("cut off", "HTTP/1.1 502 x\r\nContent-Length: 9\r\n\r\nbad", 502, "bad", false),
        (
            "over the bound",
            "HTTP/1.1 500 x\r\nContent-Length: 20\r\n\r\n01234567890123456789",
            500,
            "0123456789abcde",
            false,
        ),
        (
            "redirect",
            "HTTP/1.1 302 Found\r\nLocation: ws://elsewhere/\r\nContent-Length: 0\r\n\r\n",
            302,
            "",
            true,
        ),
        ("200", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true),
        (
            "after 100",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n",
            426,
            "",
            true,
        ),
    ] {
        let (address, _server) = answer_with(answer).await;
        let refused = Client::new(format!("ws://{address}")).max_refusal_body(15).connect().await;
        let Err(Error::UnexpectedResponse { response, body_is_whole }) = refused else {
            panic!("{case}: {refused:?}");
        };
        assert_eq!(response.status(), status, "{case}");
        let expected = if case == "over the bound" { "012345678901234" } else { body };
        assert_eq!(response.body(), expected, "{case}");
        assert_eq!(body_is_whole, whole, "{case}");
        let shown = Error::UnexpectedResponse { response, body_is_whole }.to_string();
        assert!(shown.starts_with(&format!("server answered with status {status}")), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn yields_a_refusal_whose_body_never_ends() {
    let (io, mut server) = tokio::io::duplex(1024);
    let server = tokio::spawn(async move {
        read_request(&mut server).await;
        // The body gets the rest of the deadline, not a new one.
        tokio::time::sleep(Duration::from_secs(4)).await;
        server.write_all(b"HTTP/1.1 500 x\r\n\r\nsorry").await.unwrap();
        server
    });
    let start = Instant::now();
    let refused = Client::new("ws://example.com").handshake_over(io).await;
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    let Err(Error::UnexpectedResponse { response, body_is_whole: false }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(response.body(), "sorry");
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn keeps_one_deadline_however_the_server_drips() {
    for (case, limit, step) in [
        ("silent", None, None),
        ("silent, with a limit", Some(Duration::from_secs(3)), None),
        ("a byte each second", None, Some(Duration::from_secs(1))),
        ("a byte each millisecond", Some(Duration::from_millis(50)), Some(Duration::from_millis(1))),
    ] {
        let (io, mut server) = tokio::io::duplex(1024);
        let server = tokio::spawn(async move {
            let request = read_request(&mut server).await;
            for byte in fill(SWITCHING, &request) {
                match step {
                    Some(step) => tokio::time::sleep(step).await,
                    None => std::future::pending().await,
                }
                if server.write_all(&[byte]).await.is_err() {
                    break;
                }
            }
        });
        let mut client = Client::new("ws://example.com");
        if let Some(limit) = limit {
            client = client.handshake_timeout(limit);
        }
        let limit = limit.unwrap_or(Duration::from_secs(10));
        let start = Instant::now();
        let error = client.handshake_over(io).await.expect_err(case);
        assert!(matches!(error, Error::Timeout { limit: named, .. } if named == limit), "{case}: {error:?}");
        assert_eq!(start.elapsed(), limit, "{case}");
        server.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn takes_an_answer_that_drips_within_the_deadline() {
    let (io, mut server) = tokio::io::duplex(1024);
    let server = tokio::spawn(async move {
        let request = read_request(&mut server).await;
        for byte in fill(SWITCHING, &request) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            server.write_all(&[byte]).await.unwrap();
        }
        server.write_all(HELLO).await.unwrap();
        server
    });
    let (mut ws, _) = Client::new("wss://example.com").handshake_over(io).await.unwrap();
    assert_eq!(ws.recv().await.unwrap(), Some(Message::text("hello")));
    ws.abort();
    drop(server);
}

#[tokio::test]
async fn keeps_the_deadline_over_tcp_too() {
    let (address, server) = serve(|_, stream| async move {
        std::future::pending::<()>().await;
        stream
    })
    .await;
    let limit = Duration::from_millis(100);
    let start = Instant::now();
    let error = Client::new(format!("ws://{address}")).handshake_timeout(limit).connect().await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    assert!(start.elapsed() >= limit && start.elapsed() < Duration::from_secs(5));
    server.abort();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn keeps_the_deadline_while_it_dials() {
    use tokio::net::{TcpSocket, TcpStream};
    // A listener with a full queue does not answer at all.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let limit = Duration::from_millis(100);
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(limit, TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
        assert!(queued.len() < 100, "the queue fills up");
    }
    let start = Instant::now();
    let error = Client::new(format!("ws://{address}")).handshake_timeout(limit).connect().await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    assert!(start.elapsed() >= limit && start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn waits_without_a_limit_that_the_clock_cannot_tell() {
    let (address, _server) = answer_with(SWITCHING).await;
    let client = Client::new(format!("ws://{address}")).handshake_timeout(Duration::MAX);
    assert!(client.connect().await.is_ok());
}

#[tokio::test]
async fn names_what_cannot_be_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = connect(format!("ws://127.0.0.1:{port}")).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("cannot connect to 127.0.0.1 port {port}"));
    let error = connect("ws://name.invalid").await.unwrap_err();
    assert!(matches!(error, Error::Resolve { .. }), "{error:?}");
}

/// Every option is checked before a connection is made: the listener must never see one.
#[tokio::test]
#[allow(clippy::too_many_lines, reason = "one table")]
async fn sends_nothing_where_an_option_is_wrong() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("ws://{address}/");
    let client = || Client::new(&*url);
    for (case, client, error) in vec![
        ("line break in a name", client().header("x\r\ny", "a"), "invalid header name"),
        ("space in a name", client().header("x y", "a"), "invalid header name"),
        ("empty name", client().header("", "a"), "invalid header name"),
        ("CR LF in a value", client().header("x", "a\r\nX-Evil: b"), "invalid value for header x"),
        ("LF in a value", client().header("x", "a\nb"), "invalid value for header x"),
        ("CR in a value", client().header("x", "a\rb"), "invalid value for header x"),
        ("NUL in a value", client().header("x", "a\0b"), "invalid value for header x"),
        ("line break in the origin", client().origin("http://a\r\nX: b"), "invalid value for header origin"),
        (
            "line break in a subprotocol",
            client().subprotocol("a\r\nX: b"),
            "\"a\\r\\nX: b\" is not a token and cannot name a subprotocol",
        ),
        (
            "comma in a subprotocol",
            client().subprotocol("a,b"),
            "\"a,b\" is not a token and cannot name a subprotocol",
        ),
        ("empty subprotocol", client().subprotocol(""), "\"\" is not a token and cannot name a subprotocol"),
        ("subprotocol twice", client().subprotocol("a").subprotocol("a"), "subprotocol a is offered twice"),
        ("the first fault of two", client().header("x", "\n").header("", ""), "invalid value for header x"),
        (
            "Connection",
            client().header("Connection", "close"),
            "header connection cannot be set: it belongs to the handshake",
        ),
        (
            "Upgrade",
            client().header("Upgrade", "h2c"),
            "header upgrade cannot be set: it belongs to the handshake",
        ),
        (
            "key",
            client().header("Sec-WebSocket-Key", "a"),
            "header sec-websocket-key cannot be set: it belongs to the handshake",
        ),
        (
            "version",
            client().header("sec-websocket-version", "8"),
            "header sec-websocket-version cannot be set: it belongs to the handshake",
        ),
        (
            "protocol",
            client().header("Sec-WebSocket-Protocol", "a"),
            "header sec-websocket-protocol cannot be set: it belongs to the handshake",
        ),
        (
            "extensions",
            client().header("Sec-WebSocket-Extensions", "a"),
            "header sec-websocket-extensions cannot be set: it belongs to the handshake",
        ),
        (
            "length",
            client().header("Content-Length", "1"),
            "header content-length cannot be set: it belongs to the handshake",
        ),
        (
            "Host twice",
            client().header("Host", "a").header("host", "b"),
            "header host has more than one value",
        ),
        ("Origin twice", client().header("Origin", "a").origin("b"), "header origin has more than one value"),
        (
            "Authorization twice",
            client().header("authorization", "a").header("authorization", "b"),
            "header authorization has more than one value",
        ),
        ("line break in a cookie", client().cookie("a", "b\r\nX: c"), "invalid cookie \"a\""),
        ("two cookies in one", client().cookie("a", "b; c=d"), "invalid cookie \"a\""),
        ("line break in a cookie's name", client().cookie("a\n", "b"), "invalid cookie \"a\\n\""),
        ("cookie without a name", client().cookie("", "b"), "invalid cookie \"\""),
        ("= in a cookie's name", client().cookie("a=b", "c"), "invalid cookie \"a=b\""),
        ("quote in a cookie", client().cookie("a", "\"b"), "invalid cookie \"a\""),
        ("line break in a token", client().bearer("a\r\nX: b"), "invalid bearer token"),
        ("two words for a token", client().bearer("a b"), "invalid bearer token"),
        ("empty token", client().bearer(""), "invalid bearer token"),
        ("token of padding", client().bearer("=="), "invalid bearer token"),
        (
            "line break in the option's password",
            client().basic_auth("a", "b\r\nX: c"),
            "user name or password contains control characters, or the user name a colon",
        ),
        (
            "colon in the user",
            client().basic_auth("a:b", "c"),
            "user name or password contains control characters, or the user name a colon",
        ),
        (
            "header of the handshake by the hook",
            client()
                .on_request(|_, headers| drop(headers.insert("upgrade", HeaderValue::from_static("h2c")))),
            "header upgrade cannot be set: it belongs to the handshake",
        ),
        (
            "line break in the path",
            Client::new(format!("{url}a\r\nX: b")),
            "malformed URL: invalid uri character",
        ),
        (
            "line break in the password",
            Client::new(format!("ws://a:b%0d%0ac@{address}/")),
            "user name or password in the URL contains control characters, or the user name a colon",
        ),
        (
            "fragment",
            Client::new(format!("{url}#a")),
            "URL has a fragment, which a WebSocket URL must not have",
        ),
        ("port 0", Client::new("ws://127.0.0.1:0/"), "port in the URL is not a number from 1 to 65535"),
        (
            "port 65536",
            Client::new("ws://127.0.0.1:65536/"),
            "port in the URL is not a number from 1 to 65535",
        ),
        (
            "ftp",
            Client::new(format!("ftp://{address}/")),
            "URL scheme \"ftp\" is not one of ws, wss, http, https",
        ),
    ] {
        let refused = client.connect().await.expect_err(case);
        assert_eq!(refused.to_string(), error, "{case}");
    }
    let seen = timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(seen.is_err(), "nothing was dialled");
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn never_takes_plain_tcp_for_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for scheme in ["wss", "https"] {
        let refused = connect(format!("{scheme}://u:p@{address}/")).await;
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::TlsUnsupported), "{error:?}");
        assert_eq!(
            error.to_string(),
            "TLS is not supported by this build: enable the feature rustls of longwire (platform-roots and ring of \
             longwire-client)"
        );
    }
    assert!(timeout(Duration::from_millis(50), listener.accept()).await.is_err(), "nothing was dialled");
}

/// Answers that complete no handshake; `{accept}` stands for the correct value.
const NONSENSE: &[(&str, &str)] = &[
    ("nothing", ""),
    ("empty lines", "\r\n\r\n"),
    ("half a head", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"),
    ("text", "hello\r\n\r\n"),
    ("request", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("SSH", "SSH-2.0-OpenSSH_9.2\r\n"),
    (
        "HTTP/1.0",
        "HTTP/1.0 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n",
    ),
    (
        "HTTP/2",
        "HTTP/2 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n",
    ),
    (
        "HTTP/9.9",
        "HTTP/9.9 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n",
    ),
    ("100 alone", "HTTP/1.1 100 Continue\r\n\r\n"),
    (
        "102 with the fields of a 101",
        "HTTP/1.1 102 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n",
    ),
    ("status 1", "HTTP/1.1 1 x\r\n\r\n"),
    ("status 1011", "HTTP/1.1 1011 x\r\n\r\n"),
    ("status 000", "HTTP/1.1 000 x\r\n\r\n"),
    ("negative status", "HTTP/1.1 -101 x\r\n\r\n"),
    (
        "200 with the fields of a 101",
        "HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n",
    ),
    ("301", "HTTP/1.1 301 x\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
    ("400", "HTTP/1.1 400 x\r\nContent-Length: 0\r\n\r\n"),
    (
        "500 with the fields of a 101",
        "HTTP/1.1 500 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n",
    ),
    ("999", "HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n"),
    ("no field", "HTTP/1.1 101 x\r\n\r\n"),
    ("no Upgrade", "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"),
    (
        "other Upgrade",
        "HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n",
    ),
    (
        "two Upgrades",
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n",
    ),
    (
        "Upgrade list",
        "HTTP/1.1 101 x\r\nUpgrade: h2c, websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n",
    ),
    ("no Connection", "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"),
    (
        "other Connection",
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: close\r\nSec-WebSocket-Accept: {accept}\r\n\r\n",
    ),
    ("no accept", "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
    (
        "empty accept",
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept:\r\n\r\n",
    ),
    (
        "the accept of the RFC",
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    ),
    (
        "two accepts",
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Accept: {accept}\r\n\r\n",
    ),
    (
        "two accepts in one",
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}, {accept}\r\n\r\n",
    ),
    (
        "quoted accept",
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: \"{accept}\"\r\n\r\n",
    ),
    (
        "unasked subprotocol",
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
    ),
    (
        "empty subprotocol",
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol:\r\n\r\n",
    ),
    (
        "unasked extension",
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Extensions: x-unasked\r\n\r\n",
    ),
    (
        "malformed extension",
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Extensions: ,\r\n\r\n",
    ),
    (
        "folded field",
        "HTTP/1.1 101 x\r\nUpgrade:\r\n websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n",
    ),
    (
        "space before the colon",
        "HTTP/1.1 101 x\r\nUpgrade : websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n",
    ),
    (
        "NUL in a field",
        "HTTP/1.1 101 x\r\nX: \0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n",
    ),
    (
        "bare LF",
        "HTTP/1.1 101 x\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: {accept}\n\n",
    ),
    (
        "bare CR",
        "HTTP/1.1 101 x\rUpgrade: websocket\rConnection: Upgrade\rSec-WebSocket-Accept: {accept}\r\r",
    ),
];

#[tokio::test]
async fn refuses_every_nonsense_answer_and_sends_no_frame_to_it() {
    let mut answers: Vec<(&str, Vec<u8>)> =
        NONSENSE.iter().map(|(case, answer)| (*case, answer.as_bytes().to_vec())).collect();
    let switching = SWITCHING.trim_end();
    answers.push(("frames at once", HELLO.to_vec()));
    answers.push(("TLS alert", b"\x15\x03\x03\x00\x02\x02\x28".to_vec()));
    answers.push(("bytes that are not UTF-8", vec![0xff; 100]));
    answers.push(("endless line", vec![b'a'; 1 << 20]));
    answers.push(("endless field", format!("{switching}\r\nX: {}", "a".repeat(1 << 20)).into()));
    answers.push(("20 000 fields", format!("{switching}\r\n{}\r\n", "X: a\r\n".repeat(20_000)).into()));
    answers.push(("endless interim answers", b"HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000)));
    for (case, answer) in answers {
        // Frames after a complete head must not be taken for messages.
        let frames = if answer.ends_with(b"\r\n\r\n") { HELLO } else { b"" };
        let (address, server) = answer_with([&answer[..], frames].concat()).await;
        let refused = connect(format!("ws://{address}")).await;
        assert!(
            matches!(
                refused,
                Err(Error::Response(_)
                    | Error::UnexpectedResponse { .. }
                    | Error::ClosedEarly
                    | Error::Io(_))
            ),
            "{case}: {refused:?}"
        );
        let shown = refused.unwrap_err().to_string();
        assert!(shown.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{case}: {shown:?}");
        let (_, sent) = server.await.unwrap();
        assert_eq!(sent, b"", "{case}");
    }
}

#[tokio::test]
async fn refuses_a_subprotocol_that_was_not_offered() {
    for (case, field) in [
        ("another", "Sec-WebSocket-Protocol: c"),
        ("other case", "Sec-WebSocket-Protocol: A"),
        ("both", "Sec-WebSocket-Protocol: a, b"),
        ("both in two fields", "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b"),
    ] {
        let (address, _server) =
            answer_with(SWITCHING.replace("Connection:", &format!("{field}\r\nConnection:"))).await;
        let client = Client::new(format!("ws://{address}")).subprotocol("a").subprotocol("b");
        let error = client.connect().await.expect_err(case);
        let expected = matches!(
            error,
            Error::Response(ResponseError::Subprotocol { .. } | ResponseError::RepeatedSubprotocol)
        );
        assert!(expected, "{case}: {error:?}");
    }
}

#[test]
fn hides_secrets_in_its_debug_form() {
    let client = Client::new("ws://user:secret@example.com/")
        .header("authorization", "Bearer secret")
        .header("cookie", "session=secret");
    let shown = format!("{client:?}");
    assert!(shown.contains("example.com") && !shown.contains("secret"), "{shown}");
}

#[test]
fn can_be_used_from_any_task() {
    fn check<T: Send>(_: T) {}
    fn check_error<T: std::error::Error + Send + Sync + 'static>() {}
    let client = Client::new("ws://example.com");
    check(client.connect());
    check(client.handshake_over(tokio::io::empty()));
    check(connect("ws://example.com"));
    check_error::<Error>();
}

#[tokio::test(start_paused = true)]
async fn keeps_the_deadline_while_it_resolves() {
    let start = Instant::now();
    let client = Client::new("ws://name.invalid").resolver(|_, _| std::future::pending());
    let error = client.connect().await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    assert_eq!(start.elapsed(), Duration::from_secs(10));
}
