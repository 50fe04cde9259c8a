//! Admission: the application's decision, routes, custom refusals, and addresses behind proxies.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderName, HeaderValue, SET_COOKIE};
use http::{Response, StatusCode};
use longwire_server::{HandlerResult, Rejection, Request, Server, Socket, Subprotocol, TrustedProxies};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use common::{
    REQUEST, bind, check_echo, exchange, expect, head, open, request_with, rest, soon, start, start_with,
    tcp, text,
};

#[derive(Debug, PartialEq)]
struct User(String);

/// Sends a request and then a message. Returns the head of the answer, and the reply to the message.
async fn ask(server: &common::Running, request: &str) -> (String, Option<String>) {
    let mut stream = tcp(server.addr).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = head(&mut stream).await;
    if !head.starts_with("HTTP/1.1 101 ") {
        return (head, None);
    }
    stream.write_all(&text("?")).await.unwrap();
    assert_eq!(soon(stream.read_u8()).await.unwrap(), 0x81);
    let mut answer = vec![0; usize::from(soon(stream.read_u8()).await.unwrap())];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    (head, Some(String::from_utf8(answer).unwrap()))
}

async fn whoami(mut ws: Socket, request: Request) -> HandlerResult {
    assert_eq!(request.data::<String>(), None, "of another type");
    let seen = request.data::<User>().map(|user| user.0.clone());
    // Request, socket and client have one store.
    assert_eq!(ws.data::<User>(), request.data());
    assert_eq!(ws.client().data::<User>(), request.data());
    if seen.is_some() {
        assert_eq!(request.data(), Some(&"kept"), "of each type");
        assert_eq!(ws.set_data(User(String::new())), Err(User(String::new())));
        ws.set_data(7_u8).expect("of another type");
        assert_eq!(request.data(), Some(&7_u8));
    }
    while ws.recv().await?.is_some() {
        ws.send(seen.clone().unwrap_or_default()).await?;
    }
    Ok(())
}

fn guarded(server: Server) -> Server {
    server.authorize(|mut admission| async move {
        let Some(token) = admission.headers().get("authorization") else {
            return Err(Rejection::unauthorized("Bearer realm=\"tests\""));
        };
        match token.as_bytes() {
            b"Bearer ada" => {
                admission.response_header(SET_COOKIE, HeaderValue::from_static("seen=1"))?;
                Ok(admission.with_data("replaced").with_data(User("Ada".into())).with_data("kept"))
            }
            b"Bearer banned" => Err(Rejection::new(StatusCode::FORBIDDEN, "go away\n")),
            b"Bearer chat" => {
                let chat = Subprotocol::new("v2.chat").expect("a token");
                assert_eq!(admission.offered_subprotocols().len(), 2);
                assert_eq!(admission.subprotocol(), None, "the server knows none by itself");
                admission.select_subprotocol(Some(&chat))?;
                Ok(admission)
            }
            b"Bearer unoffered" => {
                let other = Subprotocol::new("other").expect("a token");
                admission.select_subprotocol(Some(&other))?;
                Ok(admission)
            }
            b"Bearer reserved" => {
                admission
                    .response_header(HeaderName::from_static("upgrade"), HeaderValue::from_static("x"))?;
                Ok(admission)
            }
            b"Bearer small" => {
                admission.connection_config().limits.max_message = Some(0);
                Ok(admission)
            }
            b"Bearer slow" => {
                sleep(Duration::from_secs(3600)).await;
                Ok(admission)
            }
            _ => Ok(admission),
        }
    })
}

#[tokio::test]
async fn the_application_decides_before_the_handshake_is_completed() {
    let server = guarded(bind().await.configure(|config| config.handshake_timeout = Duration::from_secs(2)));
    let server = start_with(server, whoami);
    let protocols = "Sec-WebSocket-Protocol: v1.chat, v2.chat\r\n";
    for (case, fields, status, in_head, answer) in [
        ("no credentials", "", 401, "www-authenticate: Bearer realm=\"tests\"", None),
        ("a banned user", "Authorization: Bearer banned\r\n", 403, "content-length: 8", None),
        ("a user", "Authorization: Bearer ada\r\n", 101, "set-cookie: seen=1", Some("Ada")),
        ("another", "Authorization: Bearer bob\r\n", 101, "sec-websocket-accept", Some("")),
        ("a header that is the handshake's", "Authorization: Bearer reserved\r\n", 500, "", None),
        ("a subprotocol that was not offered", "Authorization: Bearer unoffered\r\n", 500, "", None),
        ("a decision that takes too long", "Authorization: Bearer slow\r\n", 503, "", None),
    ] {
        let request = REQUEST.replace("Host: ", &format!("{fields}Host: "));
        let (head, answered) = ask(&server, &request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{case}: {head}");
        assert!(head.to_lowercase().contains(&in_head.to_lowercase()), "{case}: {head}");
        assert_eq!(answered.as_deref(), answer, "{case}");
    }
    let request = REQUEST.replace("Host: ", &format!("Authorization: Bearer chat\r\n{protocols}Host: "));
    let (head, _) = ask(&server, &request).await;
    assert!(head.to_lowercase().contains("sec-websocket-protocol: v2.chat"), "{head}");
    let foreign = start(guarded(bind().await.allowed_origins(["https://here.example"]).unwrap()));
    let (head, _) = ask(&foreign, &request_with("Origin: https://there.example")).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "the checks of the handshake come first: {head}");
}

#[tokio::test]
async fn a_connection_may_have_limits_of_its_own() {
    let server = start(guarded(bind().await));
    for (token, first) in [("small", 0x88), ("other", 0x81)] {
        let mut stream = tcp(server.addr).await;
        let request = request_with(&format!("Authorization: Bearer {token}"));
        stream.write_all(request.as_bytes()).await.unwrap();
        head(&mut stream).await;
        stream.write_all(&text("hello")).await.unwrap();
        expect(&mut stream, &[first]).await;
    }
}

#[tokio::test]
async fn routes_lead_to_their_handlers() {
    async fn room(mut ws: Socket, request: Request) -> HandlerResult {
        while ws.recv().await?.is_some() {
            ws.send(format!("room {:?} {:?}", request.param("room"), request.param("other"))).await?;
        }
        Ok(())
    }
    async fn named(mut ws: Socket, name: &str) -> HandlerResult {
        while ws.recv().await?.is_some() {
            ws.send(name).await?;
        }
        Ok(())
    }
    let server = || async {
        let server = bind().await.route("/rooms/{room}", room).unwrap();
        server.route("/rooms/lobby", |ws, _| named(ws, "the lobby")).unwrap()
    };
    let only = {
        let server = server().await;
        let (addr, handle) = (server.local_addr(), server.handle());
        common::Running { addr, handle, task: tokio::spawn(server.serve_routes().into_future()) }
    };
    let others = start_with(server().await, |ws, _| named(ws, "elsewhere"));
    for (path, by_only, by_others) in [
        ("/rooms/42", Some("room Some(\"42\") None"), Some("room Some(\"42\") None")),
        ("/rooms/a%2Fb?x=/y", Some("room Some(\"a/b\") None"), Some("room Some(\"a/b\") None")),
        ("/rooms/lobby", Some("the lobby"), Some("the lobby")),
        ("/rooms/", None, Some("elsewhere")),
        ("/rooms/1/2", None, Some("elsewhere")),
        ("/", None, Some("elsewhere")),
    ] {
        let request = REQUEST.replace("/chat?room=1", path);
        for (server, expected) in [(&only, by_only), (&others, by_others)] {
            let (head, answer) = ask(server, &request).await;
            assert_eq!(answer.as_deref(), expected, "{path}: {head}");
            assert_eq!(head.starts_with("HTTP/1.1 404 "), expected.is_none(), "{path}: {head}");
        }
    }
    for path in ["/rooms/{id}", "/a/{", "/{*a}/b"] {
        let error = server().await.route(path, room).map(drop).expect_err(path).to_string();
        assert!(error.contains(path), "{error}");
    }
}

#[tokio::test]
async fn refusals_are_seen_and_may_be_reworded() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server = guarded(bind().await).on_reject({
        let seen = Arc::clone(&seen);
        move |rejection, request| {
            let host = request.map(|request| request.headers()[HOST].to_str().unwrap().to_owned());
            seen.lock().unwrap().push((rejection.status().as_u16(), host));
            (rejection.status() == StatusCode::BAD_REQUEST).then(|| {
                Response::builder().status(418).body(Bytes::from_static(b"short and stout\n")).unwrap()
            })
        }
    });
    let server = start(server);
    let no_key = REQUEST.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "");
    for (case, request, status, host) in [
        ("no key", no_key.as_str(), "418", Some("localhost")),
        ("no HTTP", "\0\r\n\r\n", "418", None),
        ("no upgrade", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "426", Some("localhost")),
        ("no credentials", REQUEST, "401", None),
    ] {
        let answer = exchange(server.addr, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{case}: {answer}");
        assert_eq!(answer.ends_with("short and stout\n"), status == "418", "{case}: {answer}");
        let original = if status == "418" { 400 } else { status.parse().unwrap() };
        let seen = seen.lock().unwrap().pop().expect(case);
        assert_eq!(seen, (original, host.map(str::to_owned)), "{case}");
    }
}

#[tokio::test]
async fn the_clients_address_is_told_by_trusted_proxies_alone() {
    async fn address(mut ws: Socket, request: Request) -> HandlerResult {
        let (peer, client) = (request.peer_addr().expect("TCP"), request.client_ip().expect("TCP"));
        assert!(peer.ip().is_loopback() && !request.is_secure());
        while ws.recv().await?.is_some() {
            ws.send(client.to_string()).await?;
        }
        Ok(())
    }
    let request = request_with("X-Forwarded-For: 203.0.113.9\r\nForwarded: for=\"[2001:db8::7]\"");
    let loopback = TrustedProxies::networks(["127.0.0.0/8"]).unwrap();
    for (proxies, expected) in [
        (TrustedProxies::default(), "127.0.0.1"),
        (loopback.clone(), "203.0.113.9"),
        (TrustedProxies::hops(1), "203.0.113.9"),
        (loopback.forwarded(), "2001:db8::7"),
    ] {
        let server = bind().await.configure(|config| config.trusted_proxies = proxies);
        let server = start_with(server, address);
        assert_eq!(ask(&server, &request).await.1.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn a_handshake_that_is_decided_on_ends_with_the_server() {
    let server = start(guarded(bind().await));
    let mut stream = tcp(server.addr).await;
    stream.write_all(request_with("Authorization: Bearer slow").as_bytes()).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let shutdown = tokio::spawn(server.handle.shutdown());
    let answer = soon(rest(&mut stream)).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop(stream);
    timeout(Duration::from_secs(10), shutdown).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_hook_that_panics_is_answered_with_500() {
    let server = bind()
        .await
        .configure(|config| config.hub.max_clients = Some(1))
        .authorize(|admission| {
            assert_ne!(admission.uri().path(), "/call", "the hook panics when it is called");
            async move {
                tokio::task::yield_now().await;
                assert_ne!(admission.uri().path(), "/poll", "the hook panics when it is polled");
                Ok(admission)
            }
        })
        .fallback(|request| {
            assert_ne!(request.uri().path(), "/page-call", "the page panics when it is called");
            async move {
                assert_ne!(request.uri().path(), "/page-poll", "the page panics when it is polled");
                Response::new("a page")
            }
        })
        .on_reject(|rejection, _| {
            assert_ne!(rejection.status(), 405, "the hook panics on 405");
            None
        });
    let server = start(server);
    let asked = |path: &str| REQUEST.replace("/chat?room=1", path);
    let plain = |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let requests = [
        asked("/call"),
        asked("/poll"),
        plain("GET", "/page-call"),
        plain("GET", "/page-poll"),
        plain("POST", "/"),
    ];
    for (count, request) in (1..).zip(requests) {
        let answer = exchange(server.addr, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{request}: {answer}");
        assert!(!answer.contains("panic"), "the cause is not told: {answer}");
        assert_eq!(server.handle.stats().rejections.get(&500), Some(&count), "{request}");
    }
    // The slot was freed.
    check_echo(&mut open(server.addr).await, "hello").await;
    assert!(exchange(server.addr, plain("GET", "/").as_bytes()).await.ends_with("a page"));
}

/// Asks for a WebSocket. Returns the status, or the error that ended the connection.
async fn status(addr: std::net::SocketAddr) -> Result<String, std::io::ErrorKind> {
    let mut stream = tcp(addr).await;
    let mut line = [0; 12];
    let asked = async {
        stream.write_all(REQUEST.as_bytes()).await?;
        stream.read_exact(&mut line).await
    };
    soon(asked).await.map_err(|error| error.kind())?;
    Ok(String::from_utf8_lossy(&line[9..]).into_owned())
}

fn slow(server: Server, pause: Duration) -> Server {
    server.authorize(move |admission| async move {
        sleep(pause).await;
        Ok(admission)
    })
}

#[tokio::test]
async fn who_waits_for_the_application_keeps_the_place() {
    let server = bind().await.configure(|config| config.max_handshakes = 8);
    let server = start(slow(server, Duration::from_millis(300)));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..20 {
        clients.spawn(status(server.addr));
    }
    let outcomes = clients.join_all().await;
    let count = |status: &str| outcomes.iter().filter(|one| one.as_deref() == Ok(status)).count();
    assert_eq!((count("101"), count("503")), (8, 12), "all at once: {outcomes:?}");

    // Eight every 300 ms are about 27 per second.
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..75 {
        clients.spawn(status(server.addr));
        sleep(Duration::from_millis(20)).await;
    }
    let outcomes = clients.join_all().await;
    let count = |status: &str| outcomes.iter().filter(|one| one.as_deref() == Ok(status)).count();
    assert!(count("101") >= 24, "one after the other: {} of 75", count("101"));
    assert_eq!(count("101") + count("503"), 75, "{outcomes:?}");
}

#[tokio::test]
async fn who_drips_makes_room_for_a_new_one_while_others_wait() {
    let server = bind().await.configure(|config| config.max_handshakes = 2);
    let server = start(slow(server, Duration::from_millis(500)));
    let waiting = tokio::spawn(status(server.addr));
    let mut dripping = Vec::new();
    for _ in 0..5 {
        let mut stream = tcp(server.addr).await;
        stream.write_all(b"GET / HT").await.unwrap();
        dripping.push(stream);
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(server.addr).await.as_deref(), Ok("101"));
    assert_eq!(waiting.await.unwrap().as_deref(), Ok("101"), "the oldest of all");
    assert!(rest(&mut dripping[0]).await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn a_client_that_is_lost_while_it_waits_gives_its_place_back() {
    let called = Arc::new(Mutex::new(0));
    let server = bind().await.configure(|config| config.hub.max_clients = Some(10));
    let server = start_with(slow(server, Duration::from_secs(1)), {
        let called = Arc::clone(&called);
        move |ws, request| {
            *called.lock().unwrap() += 1;
            common::echo(ws, request)
        }
    });
    for lost in 0..10 {
        let mut stream = tcp(server.addr).await;
        stream.write_all(REQUEST.as_bytes()).await.unwrap();
        // Some have already sent a message.
        if lost % 2 == 0 {
            stream.write_all(&text("early")).await.unwrap();
        }
        sleep(Duration::from_millis(10)).await;
        stream.set_zero_linger().unwrap();
    }
    sleep(Duration::from_millis(200)).await;
    let mut stream = tcp(server.addr).await;
    let asked = [REQUEST.as_bytes(), &text("with the request")].concat();
    stream.write_all(&asked).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    stream.write_all(&text("while it waits")).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    expect(&mut stream, b"\x81\x10with the request\x81\x0ewhile it waits").await;
    assert_eq!(*called.lock().unwrap(), 1);
}
