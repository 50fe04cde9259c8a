//! The server's answers on the wire.

mod common;

use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderValue, Response, StatusCode};
use longwire_server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use common::{
    REQUEST, bind, check_echo, exchange, expect, head, open, open_raw, request_with, rest, soon, start,
    start_with, tcp, text,
};

/// Checks that an answer is one complete HTTP response and nothing else, and returns its body.
fn check_refusal<'a>(case: &str, answer: &'a str, status: u16) -> &'a str {
    let (head, body) =
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{case}: no answer: {answer:?}"));
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{case}: {head}");
    let lower = head.to_ascii_lowercase();
    assert!(lower.contains("\r\nconnection: close"), "{case}: {head}");
    assert!(lower.contains(&format!("\r\ncontent-length: {}", body.len())), "{case}: {answer:?}");
    body
}

#[tokio::test]
async fn a_handshake_is_answered_with_the_accept_key() {
    // The example of RFC 6455 §1.3.
    let server = start(bind().await);
    let mut stream = tcp(server.addr).await;
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    let head = head(&mut stream).await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 switching protocols\r\n"), "{head}");
    for field in
        ["upgrade: websocket", "connection: upgrade", "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="]
    {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{field}: {head}");
    }
}

#[tokio::test]
async fn refusals_have_their_status_and_end_the_connection() {
    let many_fields = (0..200).fold(String::new(), |mut fields, i| {
        write!(fields, "X-{i}: y\r\n").unwrap();
        fields
    });
    let replaced = |from: &str, to: &str| REQUEST.replace(from, to);
    let server = bind().await.allowed_origins(["https://example.com"]).unwrap();
    let server = start(server.configure(|config| config.handshake.path = Some("/chat".to_owned())));
    let origin = "Origin: https://example.com";
    let plain = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (case, request, status, field) in [
        ("plain GET", plain.to_owned(), 426, "Upgrade: websocket"),
        ("plain GET names the version", plain.to_owned(), 426, "Sec-WebSocket-Version: 13"),
        ("POST", replaced("GET", "POST"), 405, "Allow: GET"),
        ("no key", replaced("Sec-WebSocket-Key", "X"), 400, ""),
        ("key of another length", replaced("dGhlIHNhbXBsZSBub25jZQ==", "dGhl"), 400, ""),
        ("version 8", replaced("Version: 13", "Version: 8"), 426, "Sec-WebSocket-Version: 13"),
        ("no version", replaced("Sec-WebSocket-Version", "X"), 400, "Sec-WebSocket-Version: 13"),
        ("another upgrade", replaced("Upgrade: websocket", "Upgrade: h2c"), 400, ""),
        ("HTTP/1.0", replaced("HTTP/1.1", "HTTP/1.0"), 400, ""),
        ("HTTP/2.0", replaced("HTTP/1.1", "HTTP/2.0"), 400, ""),
        ("no host", replaced("Host: localhost\r\n", ""), 400, ""),
        ("no HTTP at all", "\x16\x03\x01\x02\x00".to_owned(), 400, ""),
        ("obs-fold", request_with("X: a\r\n b"), 400, ""),
        ("bare CR", request_with("X: a\rb"), 400, ""),
        ("bare LF", request_with("X: a\nY: b"), 400, ""),
        ("space before the colon", request_with("X : a"), 400, ""),
        ("NUL", request_with("X: a\0b"), 400, ""),
        ("two lengths of the body", request_with("Content-Length: 5\r\nTransfer-Encoding: chunked"), 400, ""),
        ("a body", request_with("Content-Length: 5"), 400, ""),
        ("bad subprotocols", request_with(&format!("{origin}\r\nSec-WebSocket-Protocol: a,,b")), 400, ""),
        ("foreign origin", request_with("Origin: https://evil.example"), 403, ""),
        ("no origin", REQUEST.to_owned(), 403, ""),
        ("another path", request_with(origin).replace("/chat", "/other"), 404, ""),
        ("target of 9 KiB", replaced("/chat", &format!("/{}", "x".repeat(9 * 1024))), 414, ""),
        ("field of 64 KiB", request_with(&format!("X: {}", "x".repeat(64 * 1024))), 431, ""),
        ("200 fields", request_with(&many_fields), 431, ""),
    ] {
        let answer = exchange(server.addr, request.as_bytes()).await;
        check_refusal(case, &answer, status);
        assert!(answer.to_lowercase().contains(&field.to_lowercase()), "{case}: {answer}");
    }
    let answer = exchange(server.addr, REQUEST.replace("GET", "HEAD").as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 405 ") && answer.ends_with("\r\n\r\n"),
        "HEAD has no body: {answer}"
    );

    let mut stream = tcp(server.addr).await;
    stream.write_all(request_with(origin).as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "), "the allowed origin");
}

#[tokio::test]
async fn the_limits_on_heads_can_be_set() {
    let server = start(bind().await.configure(|config| config.head.max_bytes = REQUEST.len()));
    open_raw(server.addr).await;
    let answer = exchange(server.addr, request_with("X: y").as_bytes()).await;
    check_refusal("one field more", &answer, 431);
}

#[tokio::test]
async fn a_refused_client_is_not_listened_to() {
    let server = start(bind().await);
    let mut request = REQUEST.replace("Version: 13", "Version: 9").into_bytes();
    request.extend(text("are you there?"));
    request.extend(REQUEST.as_bytes());
    let answer = exchange(server.addr, &request).await;
    let body = check_refusal("with frames and a second request behind it", &answer, 426);
    assert!(!body.contains("are you"), "{answer}");
    assert_eq!(server.handle.hub().stats().admitted, 0);
}

#[tokio::test]
async fn an_answer_is_not_lost_to_what_the_client_still_sends() {
    let server = start(bind().await);
    let mut stream = tcp(server.addr).await;
    stream.write_all(b"NO HEAD AT ALL\r\n\r\n").await.unwrap();
    // Unread bytes at the server's close would reset the connection, and the answer with it.
    stream.write_all(&vec![b'x'; 300 * 1024]).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    stream.write_all(&[b'x'; 1024]).await.unwrap();
    check_refusal("behind 300 KiB", &rest(&mut stream).await, 400);
}

#[tokio::test]
async fn a_refused_client_that_never_stops_is_dropped() {
    let server = start(bind().await);
    let mut stream = tcp(server.addr).await;
    let sending = async {
        let mut sent = 0;
        while stream.write_all(&[b'x'; 16 * 1024]).await.is_ok() {
            sent += 16;
        }
        sent
    };
    let sent = soon(sending).await;
    assert!(sent < 32 * 1024, "{sent} KiB were taken");
}

#[tokio::test]
async fn a_refused_client_that_does_not_leave_is_dropped() {
    let server = start(bind().await.configure(|config| {
        config.connection.close_timeout = Duration::from_millis(100);
    }));
    let mut stream = tcp(server.addr).await;
    stream.write_all(b"NO HEAD AT ALL\r\n\r\n").await.unwrap();
    check_refusal("it is answered", &rest(&mut stream).await, 400);
    let gone = async {
        // The server has ended its direction, but this side continues; a reset shows that the server has closed the
        // socket.
        while stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    soon(gone).await;
}

#[tokio::test]
async fn a_handshake_has_one_deadline_in_all() {
    let limit = Duration::from_millis(300);
    let server = start(bind().await.configure(|config| config.handshake_timeout = limit));
    let begun = Instant::now();

    let silent = async {
        let mut stream = tcp(server.addr).await;
        assert_eq!(rest(&mut stream).await, "", "nothing came, so nothing is answered");
    };
    let half = async {
        let answer = exchange(server.addr, &REQUEST.as_bytes()[..100]).await;
        check_refusal("half a request", &answer, 408);
    };
    let drip = async {
        let (mut read, mut write) = tcp(server.addr).await.into_split();
        let drip = tokio::spawn(async move {
            for byte in REQUEST.bytes() {
                if write.write_all(&[byte]).await.is_err() {
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        let mut answer = String::new();
        soon(read.read_to_string(&mut answer)).await.unwrap();
        drip.abort();
        check_refusal("one byte each 20 ms", &answer, 408);
    };
    let honest = async {
        let mut ws = open(server.addr).await;
        assert!(begun.elapsed() < limit, "nobody waits for them");
        sleep(limit * 2).await;
        check_echo(&mut ws, "the deadline is the handshake's alone").await;
    };
    tokio::join!(silent, half, drip, honest);
    assert!(begun.elapsed() >= limit);
}

#[tokio::test]
async fn the_longest_durations_are_no_limits() {
    let server = start(bind().await.configure(|config| {
        config.handshake_timeout = Duration::MAX;
        config.connection.close_timeout = Duration::MAX;
        config.hub.leave_timeout = Duration::MAX;
        config.shutdown.deadline = Duration::MAX;
        config.shutdown.spread = Duration::MAX;
    }));
    let mut ws = open(server.addr).await;
    check_echo(&mut ws, "hello").await;
    let answer = exchange(server.addr, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    check_refusal("plain request", &answer, 426);
    soon(ws.close(1000, "")).await.unwrap();
    soon(server.handle.shutdown()).await;
}

#[tokio::test]
async fn the_oldest_handshake_makes_room_for_a_new_one() {
    let server = start(bind().await.configure(|config| config.max_handshakes = 3));
    let mut idle = Vec::new();
    for _ in 0..3 {
        let mut stream = tcp(server.addr).await;
        stream.write_all(b"GET / HT").await.unwrap();
        idle.push(stream);
        // The server accepts them in this order.
        sleep(Duration::from_millis(30)).await;
    }
    let mut ws = open(server.addr).await;
    check_echo(&mut ws, "in spite of three that occupy every place").await;
    check_refusal("the oldest", &rest(&mut idle[0]).await, 503);
    // The completed handshake has freed its slot.
    idle[1].write_all(&REQUEST.as_bytes()[8..]).await.unwrap_or_default();
    idle[2].write_all(b"TP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    check_refusal("the youngest is still heard", &rest(&mut idle[2]).await, 426);
    drop(open(server.addr).await);
}

#[tokio::test]
async fn frames_behind_the_request_are_not_lost_however_they_are_cut() {
    let server = start(bind().await);
    let sent = [REQUEST.as_bytes(), &text("one"), &text("two")].concat();
    let end = REQUEST.len();
    let cuts = [sent.len(), 1, 17, end - 3, end - 1, end, end + 1, end + 2, end + 6, end + 9, end + 10];
    for cut in cuts {
        let mut stream = tcp(server.addr).await;
        stream.write_all(&sent[..cut]).await.unwrap();
        if cut < sent.len() {
            sleep(Duration::from_millis(5)).await;
            stream.write_all(&sent[cut..]).await.unwrap();
        }
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "), "cut at {cut}");
        expect(&mut stream, b"\x81\x03one\x81\x03two").await;
    }
}

#[tokio::test]
async fn many_frames_behind_the_request_arrive_in_order() {
    // More than one read of the head can hold.
    let server = start(bind().await);
    let mut sent = REQUEST.as_bytes().to_vec();
    let mut expected = Vec::new();
    for i in 0..2000 {
        let message = format!("{i:04}");
        sent.extend(text(&message));
        expected.extend([0x81, 4]);
        expected.extend(message.as_bytes());
    }
    let mut stream = tcp(server.addr).await;
    stream.write_all(&sent).await.unwrap();
    head(&mut stream).await;
    expect(&mut stream, &expected).await;
}

#[tokio::test]
async fn the_preferred_subprotocol_is_chosen() {
    let server = start_with(bind().await.subprotocols(["b", "a"]).unwrap(), |mut ws, _| async move {
        let name = ws.subprotocol().unwrap_or("none").to_owned();
        ws.send(name).await?;
        Ok(())
    });
    for (offered, chosen) in [("Sec-WebSocket-Protocol: a, b", "b"), ("Sec-WebSocket-Protocol: c", "none")] {
        let mut stream = tcp(server.addr).await;
        stream.write_all(request_with(offered).as_bytes()).await.unwrap();
        let head = head(&mut stream).await.to_ascii_lowercase();
        assert_eq!(head.contains("sec-websocket-protocol: b\r\n"), chosen == "b", "{head}");
        expect(&mut stream, &[&[0x81, u8::try_from(chosen.len()).unwrap()], chosen.as_bytes()].concat())
            .await;
    }
    assert!(bind().await.subprotocols(["not a token"]).is_err());
    for origin in ["example.com/path", "https://*.example.com", "https://*", "http://localhost:*"] {
        assert!(bind().await.allowed_origins([origin]).is_err(), "{origin}");
    }
}

#[tokio::test]
async fn the_handler_gets_the_request_and_the_addresses() {
    let server = start_with(bind().await, |mut ws, request| async move {
        let seen = format!(
            "{} {} {:?} {}",
            request.uri(),
            request.headers()["x-who"].to_str()?,
            request.peer_addr().ok_or("no address")?,
            request.local_addr().ok_or("no address")?,
        );
        assert_eq!(ws.client().peer_addr(), request.peer_addr());
        ws.send(seen).await?;
        Ok(())
    });
    let mut stream = tcp(server.addr).await;
    stream.write_all(request_with("X-Who: me").as_bytes()).await.unwrap();
    head(&mut stream).await;
    let seen = format!("/chat?room=1 me {:?} {}", stream.local_addr().unwrap(), server.addr);
    expect(&mut stream, &[&[0x81, u8::try_from(seen.len()).unwrap()], seen.as_bytes()].concat()).await;
}

fn with_page(server: Server) -> Server {
    server.fallback(|request| async move {
        match request.uri().path() {
            "/slow" => std::future::pending::<()>().await,
            "/" => {}
            _ => {
                let mut missing = Response::new("");
                *missing.status_mut() = StatusCode::NOT_FOUND;
                return missing;
            }
        }
        let mut page = Response::new("<!doctype html>hello");
        page.headers_mut().insert("content-type", HeaderValue::from_static("text/html"));
        page
    })
}

#[tokio::test]
async fn plain_requests_can_be_answered_with_a_page() {
    let server = with_page(bind().await);
    let server = start(server.configure(|config| config.handshake_timeout = Duration::from_millis(500)));
    let plain = |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");

    let answer = exchange(server.addr, plain("GET", "/").as_bytes()).await;
    assert_eq!(check_refusal("page", &answer, 200), "<!doctype html>hello");
    assert!(answer.contains("Content-Type: text/html\r\n"), "{answer}");

    let answer = exchange(server.addr, plain("HEAD", "/").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(answer.to_lowercase().contains("content-length: 20\r\n"), "{answer}");

    let answer = exchange(server.addr, plain("OPTIONS", "/").as_bytes()).await;
    assert_eq!(check_refusal("OPTIONS", &answer, 200), "<!doctype html>hello");
    let answer = exchange(server.addr, plain("OPTIONS", "*").as_bytes()).await;
    check_refusal("OPTIONS of no path", &answer, 405);
    let answer = exchange(server.addr, b"GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(check_refusal("HTTP/1.0", &answer, 200), "<!doctype html>hello");
    for fields in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n",
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        let answer = exchange(server.addr, request.as_bytes()).await;
        assert_eq!(check_refusal(fields, &answer, 200), "<!doctype html>hello");
    }

    let answer = exchange(server.addr, plain("GET", "/none").as_bytes()).await;
    check_refusal("missing", &answer, 404);
    let answer = exchange(server.addr, plain("POST", "/").as_bytes()).await;
    check_refusal("another method", &answer, 405);
    let answer = exchange(server.addr, plain("GET", "/slow").as_bytes()).await;
    check_refusal("a page that never comes", &answer, 503);
    let answer = exchange(server.addr, REQUEST.replace("Sec-WebSocket-Key", "X").as_bytes()).await;
    check_refusal("an upgrade that is wrong is no plain request", &answer, 400);
    check_echo(&mut open(server.addr).await, "an upgrade is an upgrade").await;
}

#[tokio::test]
async fn clients_that_leave_in_the_middle_do_no_harm() {
    let server = start(bind().await);
    for i in 0..100 {
        let mut stream = tcp(server.addr).await;
        let sent = [0, 1, 60, REQUEST.len(), REQUEST.len() + 4][i % 5];
        let bytes = [REQUEST.as_bytes(), &text("hello")].concat();
        stream.write_all(&bytes[..sent]).await.unwrap();
        if i % 2 == 0 {
            reset(stream);
        }
    }
    check_echo(&mut open(server.addr).await, "still here").await;
    soon(server.handle.hub().emptied()).await;
}

/// Ends a connection with a TCP reset.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().expect("it is open");
    drop(stream);
}
