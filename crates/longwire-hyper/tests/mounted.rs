//! Sockets of a hyper server over HTTP/1.1: which requests are accepted, the transports, and the ends of connections.

mod common;

use std::time::Duration;

use http::{Request, Response, StatusCode, Version};
use longwire_connection::{CloseCode, MemoryBudget};
use longwire_hyper::{
    HandlerResult, Hub, HubConfig, Mount, MountConfig, OriginPolicy, Rejection, Socket, UpgradeError,
    UpgradedStream, upgrade, upgrade_parts,
};
use longwire_server::Server;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use common::{
    REQUEST, SETUPS, Setup, check_echo, connect, exchange, expect, head, request_with, soon, start,
    start_echo, tcp, text,
};

#[tokio::test]
async fn messages_of_every_length_come_back() {
    for setup in SETUPS {
        let server = start_echo(setup, &Mount::default()).await;
        let mut ws = connect(&server).await;
        check_echo(&format!("{setup:?}"), &mut ws).await;
        soon(ws.close(1000, "")).await.expect("a clean close");
    }
}

#[tokio::test]
async fn a_tcp_stream_is_had_back_from_hyper() {
    for (setup, is_tcp) in [(Setup::Plain, true), (Setup::Auto, true), (Setup::Foreign, false)] {
        let (report, mut reported) = mpsc::unbounded_channel();
        let handler = move |ws: Socket| {
            let report = report.clone();
            async move {
                let nodelay = ws.with_transport(|io| match io {
                    UpgradedStream::Tcp(stream) => stream.nodelay().ok(),
                    _ => None,
                });
                let _ = report.send((nodelay.flatten(), ws.client().peer_addr()));
                HandlerResult::Ok(())
            }
        };
        let server = start(setup, &Mount::default(), handler).await;
        let _ws = connect(&server).await;
        let (nodelay, peer_addr) = soon(reported.recv()).await.expect("the handler runs");
        assert_eq!(nodelay, is_tcp.then_some(true), "{setup:?}");
        assert_eq!(peer_addr.is_some(), is_tcp, "{setup:?}: the address comes with the stream");
    }
}

#[tokio::test]
async fn frames_that_came_with_the_request_are_not_lost() {
    for setup in SETUPS {
        let server = start_echo(setup, &Mount::default()).await;
        let mut stream = tcp(server.addr).await;
        let sent = [REQUEST.as_bytes(), &text("first"), &text("second")].concat();
        stream.write_all(&sent).await.unwrap();
        assert!(head(&mut stream).await.starts_with("http/1.1 101 "), "{setup:?}");
        expect(&mut stream, b"\x81\x05first\x81\x06second").await;
    }
}

#[tokio::test]
async fn refusals_are_those_of_the_standalone_server() {
    let replaced = |from: &str, to: &str| REQUEST.replace(from, to);
    let origin = "Origin: https://example.com";
    let plain = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // If hyper itself refuses, only the status can be compared.
    let (ours, hypers) = (true, false);
    let table = [
        ("plain GET", plain.to_owned(), 426, ours),
        ("HEAD", replaced("GET", "HEAD"), 405, ours),
        ("POST", replaced("GET", "POST"), 405, ours),
        ("CONNECT, the form of HTTP/2", replaced("GET /chat?room=1", "CONNECT localhost:80"), 405, ours),
        ("no key", replaced("Sec-WebSocket-Key", "X"), 400, ours),
        ("key of another length", replaced("dGhlIHNhbXBsZSBub25jZQ==", "dGhl"), 400, ours),
        ("version 8", replaced("Version: 13", "Version: 8"), 426, ours),
        ("no version", replaced("Sec-WebSocket-Version", "X"), 400, ours),
        ("another upgrade", replaced("Upgrade: websocket", "Upgrade: h2c"), 400, ours),
        ("no upgrade", replaced("Upgrade: websocket\r\n", ""), 426, ours),
        ("no Connection", replaced("Connection: Upgrade\r\n", ""), 426, ours),
        ("HTTP/1.0", replaced("HTTP/1.1", "HTTP/1.0"), 400, ours),
        ("no host", replaced("Host: localhost\r\n", ""), 400, ours),
        ("two hosts", request_with("Host: localhost"), 400, ours),
        ("foreign scheme", replaced("/chat", "ftp://localhost/chat"), 400, ours),
        ("a body", request_with("Content-Length: 5"), 400, ours),
        ("a chunked body", request_with("Transfer-Encoding: chunked"), 400, ours),
        ("bad subprotocols", request_with(&format!("{origin}\r\nSec-WebSocket-Protocol: a,,b")), 400, ours),
        ("bad extensions", request_with(&format!("{origin}\r\nSec-WebSocket-Extensions: ;")), 400, ours),
        ("foreign origin", request_with("Origin: https://evil.example"), 403, ours),
        ("no origin", REQUEST.to_owned(), 403, ours),
        ("two origins", request_with(&format!("{origin}\r\n{origin}")), 400, ours),
        ("another path", request_with(origin).replace("/chat", "/other"), 404, ours),
        ("HTTP/3.0", replaced("HTTP/1.1", "HTTP/3.0"), 400, hypers),
        ("no HTTP at all", "\x16\x03\x01\x02\x00\r\n\r\n".to_owned(), 400, hypers),
        ("NUL", request_with("X: a\0b"), 400, hypers),
        ("space before the colon", request_with("X : a"), 400, hypers),
    ];

    let mut config = MountConfig::default();
    config.handshake.origins = OriginPolicy::only(["https://example.com"]).unwrap();
    config.handshake.path = Some("/chat".to_owned());
    let handshake = config.handshake.clone();
    let mount = Mount::new(config);
    let standalone = Server::bind("127.0.0.1:0").await.unwrap();
    let standalone = standalone.configure(|config| config.handshake = handshake);
    let standalone_addr = standalone.local_addr();
    tokio::spawn(standalone.serve(|_, _| async { Ok(()) }).into_future());
    for setup in [Setup::Plain, Setup::Auto] {
        let server = start_echo(setup, &mount).await;
        for (case, request, status, whose) in &table {
            let (head, body) = exchange(server.addr, request.as_bytes()).await;
            let (expected_head, expected_body) = exchange(standalone_addr, request.as_bytes()).await;
            for head in [&head, &expected_head] {
                let code = head.split(' ').nth(1).unwrap_or_default();
                assert_eq!(code, status.to_string(), "{setup:?}, {case}: {head}");
            }
            if *whose == ours {
                assert_eq!(body, expected_body, "{setup:?}, {case}");
                assert_eq!(own_fields(&head), own_fields(&expected_head), "{setup:?}, {case}");
            }
        }
    }
    assert_eq!(mount.hub().stats().admitted, 0);
}

/// Returns the header fields about the handshake, sorted by name.
fn own_fields(head: &str) -> Vec<&str> {
    let names = ["allow", "content-type", "upgrade", "sec-websocket-version"];
    let is_own = |line: &&str| line.split_once(':').is_some_and(|(name, _)| names.contains(&name));
    let mut fields: Vec<_> = head.lines().filter(is_own).collect();
    fields.sort_unstable();
    fields
}

#[tokio::test]
async fn a_shutdown_closes_each_socket_with_1001_and_waits_for_its_handler() {
    let (report, mut reported) = mpsc::unbounded_channel();
    let mount = Mount::default();
    let handler = move |mut ws: Socket| {
        let report = report.clone();
        async move {
            while ws.recv().await?.is_some() {}
            tokio::time::sleep(Duration::from_millis(20)).await;
            let _ = report.send(());
            Ok(())
        }
    };
    let mut clients = Vec::new();
    let mut urls = Vec::new();
    for setup in SETUPS {
        let server = start(setup, &mount, handler.clone()).await;
        clients.push(connect(&server).await);
        urls.push(server);
    }
    while mount.hub().len() < SETUPS.len() {
        tokio::task::yield_now().await;
    }
    let shutdown = tokio::spawn({
        let hub = mount.hub().clone();
        async move {
            let drained = hub.shutdown(CloseCode::GOING_AWAY, "bye", Duration::from_secs(10)).await;
            (drained.expect("a code that may be sent").aborted, hub.len())
        }
    });
    for ws in &mut clients {
        assert_eq!(soon(ws.recv()).await.expect("a clean end"), None);
        let frame = ws.close_received().expect("a close frame");
        assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::GOING_AWAY, "bye"));
    }
    assert_eq!(soon(shutdown).await.unwrap(), (0, 0));
    for _ in SETUPS {
        reported.try_recv().expect("the shutdown has waited for the handler");
    }
    for server in urls {
        let (head, _) = exchange(server.addr, REQUEST.as_bytes()).await;
        assert!(head.starts_with("http/1.1 503 "), "nobody is accepted any more: {head}");
    }
}

#[tokio::test]
async fn a_full_hub_is_told_before_the_upgrade() {
    for setup in SETUPS {
        let mut config = MountConfig::default();
        config.hub.max_clients = Some(1);
        let server = start_echo(setup, &Mount::new(config)).await;
        let mut ws = connect(&server).await;
        check_echo(&format!("{setup:?}"), &mut ws).await;
        let (head, _) = exchange(server.addr, REQUEST.as_bytes()).await;
        assert!(head.starts_with("http/1.1 503 "), "{setup:?}: {head}");
        soon(ws.close(1000, "")).await.unwrap();
        soon(server.mount.hub().emptied()).await;
        check_echo(&format!("{setup:?}"), &mut connect(&server).await).await;
    }
}

/// The address is not known until the connection is handed over.
#[tokio::test]
async fn an_address_with_too_many_clients_is_told_after_the_upgrade() {
    let mut config = MountConfig::default();
    config.hub.max_clients_per_address = Some(1);
    let server = start_echo(Setup::Plain, &Mount::new(config)).await;
    let mut ws = connect(&server).await;
    check_echo("the first", &mut ws).await;
    let mut second = connect(&server).await;
    let error = soon(second.recv()).await.expect_err("an abnormal end");
    assert_eq!(error.close_code(), Some(CloseCode::TRY_AGAIN_LATER), "{error}");
    assert_eq!(server.mount.hub().len(), 1);
}

#[tokio::test]
async fn a_handler_that_fails_closes_with_1011() {
    let handler = |mut ws: Socket| async move {
        ws.recv().await?;
        Err("the database is gone".into())
    };
    let server = start(Setup::Auto, &Mount::default(), handler).await;
    let mut ws = connect(&server).await;
    ws.send("anything").await.unwrap();
    let error = soon(ws.recv()).await.expect_err("an abnormal end");
    assert_eq!(error.close_code(), Some(CloseCode::INTERNAL_ERROR));
}

fn request() -> Request<()> {
    Request::get("/chat")
        .header("host", "localhost")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(())
        .unwrap()
}

#[test]
fn a_request_that_hyper_does_not_hand_over_is_an_error_of_the_server() {
    let refused: Rejection = upgrade::<_, String>(&mut request(), &Mount::default()).unwrap_err();
    assert!(matches!(refused, Rejection::NoUpgrade), "{refused}");
    assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let (mut parts, ()) = request().into_parts();
    let refused = upgrade_parts::<String>(&mut parts, &Mount::default()).unwrap_err();
    assert!(matches!(refused, Rejection::NoUpgrade), "{refused}");
    let mut http2 = request();
    *http2.version_mut() = Version::HTTP_2;
    let refused = upgrade::<_, String>(&mut http2, &Mount::default()).unwrap_err();
    assert!(refused.is_plain_request(), "{refused}");
}

/// Accepts one request whose response is never sent, because the service either stalls or fails.
async fn without_response(config: MountConfig, fails: bool) -> Result<Socket, UpgradeError> {
    let (report, mut reported) = mpsc::unbounded_channel();
    let service = hyper::service::service_fn(move |mut request| {
        let (_, upgrade) = upgrade::<_, ()>(&mut request, &Mount::new(config.clone())).unwrap();
        let report = report.clone();
        tokio::spawn(async move {
            let _ = report.send(upgrade.socket().await);
        });
        async move { if fails { Err::<Response<String>, _>("no response") } else { std::future::pending().await } }
    });
    let (mut client, server) = tokio::io::duplex(4096);
    let http = hyper::server::conn::http1::Builder::new();
    tokio::spawn(http.serve_connection(hyper_util::rt::TokioIo::new(server), service).with_upgrades());
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    reported.recv().await.expect("the upgrade ends")
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_does_not_come_ends_in_time() {
    let limit = Duration::from_secs(3);
    let config = MountConfig::default().with_upgrade_timeout(limit);
    let before = tokio::time::Instant::now();
    let ended = without_response(config.clone(), false).await;
    assert!(matches!(ended, Err(UpgradeError::Timeout { limit: seen }) if seen == limit), "{ended:?}");
    assert!(before.elapsed() < Duration::from_secs(4));
    let ended = without_response(config, true).await;
    assert!(matches!(ended, Err(UpgradeError::NotHandedOver(_))), "{ended:?}");
}

#[tokio::test]
async fn a_mount_can_share_the_hub_of_another_server() {
    let hub = Hub::new(HubConfig::default());
    let mount = Mount::with_hub(MountConfig::default(), hub.clone());
    let server = start_echo(Setup::Plain, &mount).await;
    let mut ws = connect(&server).await;
    while hub.is_empty() {
        tokio::task::yield_now().await;
    }
    hub.broadcast("news");
    assert_eq!(soon(ws.recv()).await.unwrap(), Some("news".into()));
}

#[test]
fn keepalive_is_on_unless_it_is_turned_off() {
    assert!(Mount::default().config().connection.keepalive.is_some());
}

#[test]
fn messages_that_arrive_have_a_budget_of_memory() {
    let limit = |mount: &Mount| mount.config().connection.memory.as_ref().map(MemoryBudget::limit);
    assert_eq!(limit(&Mount::default()), Some(1 << 30));
    assert_eq!(limit(&Mount::new(MountConfig::default())), Some(1 << 30));
}

#[cfg(feature = "deflate")]
#[tokio::test]
async fn compression_is_agreed_on_where_both_want_it() {
    use longwire_client::Client;
    let mut config = MountConfig::default();
    config.handshake.deflate = Some(longwire_connection::deflate::DeflateOptions::default());
    for (case, mount, agreed) in
        [("allowed", Mount::new(config), true), ("not allowed", Mount::default(), false)]
    {
        for setup in SETUPS {
            let server = start_echo(setup, &mount).await;
            let (mut ws, _) = soon(Client::new(server.url()).connect()).await.unwrap();
            assert_eq!(ws.extensions().is_some(), agreed, "{setup:?}, {case}");
            check_echo(case, &mut ws).await;
        }
    }
}
