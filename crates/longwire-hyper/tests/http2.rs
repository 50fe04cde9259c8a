//! Sockets over HTTP/2: longwire's client and a hyper server, with many streams on one connection.

mod common;

use std::time::Duration;

use http::HeaderValue;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use longwire_connection::{CloseCode, Error as ConnectionError, WebSocket};
use longwire_handshake::{OptionsError, ResponseError};
use longwire_hyper::http2::{ConnectOptions, Error, Http2};
use longwire_hyper::{
    Http2Stream, Mount, MountConfig, OriginPolicy, Socket, Subprotocol, UpgradedStream, upgrade,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use common::{Running, Setup, check_echo, soon, start, start_echo, tcp};

const LIMIT: Duration = Duration::from_secs(10);

async fn dial(server: &Running) -> Http2 {
    soon(Http2::handshake(tcp(server.addr).await, LIMIT)).await.expect("the server speaks HTTP/2")
}

async fn open(http: &Http2, server: &Running, options: &ConnectOptions) -> WebSocket<Http2Stream> {
    soon(http.connect(&server.url(), options)).await.expect("the server takes it").0
}

#[tokio::test]
async fn messages_of_every_length_come_back() {
    for setup in [Setup::Auto, Setup::Foreign] {
        let server = start_echo(setup, &Mount::default()).await;
        let mut ws = open(&dial(&server).await, &server, &ConnectOptions::default()).await;
        check_echo(&format!("{setup:?}"), &mut ws).await;
        soon(ws.close(1000, "")).await.expect("a clean close");
        while !server.mount.hub().is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn many_sockets_share_a_connection() {
    let server = start_echo(Setup::Auto, &Mount::default()).await;
    let http = dial(&server).await;
    let mut sockets = Vec::new();
    for i in 0..20 {
        let mut ws = open(&http, &server, &ConnectOptions::default()).await;
        ws.send(format!("from {i}")).await.unwrap();
        sockets.push(ws);
    }
    // The connection lives as long as any of its streams.
    drop(http);
    for (i, ws) in sockets.iter_mut().enumerate() {
        assert_eq!(soon(ws.recv()).await.unwrap(), Some(format!("from {i}").into()));
    }
    for mut ws in sockets {
        soon(ws.close(1000, "")).await.expect("a clean close");
    }
}

#[tokio::test]
async fn a_handler_sees_a_stream_of_http_2() {
    let (report, mut reported) = mpsc::unbounded_channel();
    let handler = move |mut ws: Socket| {
        let report = report.clone();
        async move {
            let _ = report.send(ws.with_transport(|io| matches!(io, UpgradedStream::Http2(_))));
            ws.recv().await?;
            Ok(())
        }
    };
    let server = start(Setup::Auto, &Mount::default(), handler).await;
    let _ws = open(&dial(&server).await, &server, &ConnectOptions::default()).await;
    assert_eq!(soon(reported.recv()).await, Some(Some(true)));
}

#[tokio::test]
async fn subprotocols_headers_and_origin_are_those_of_the_handshake() {
    let name = Subprotocol::new("chat").unwrap();
    let mut config = MountConfig::default();
    config.handshake.subprotocols = vec![name.clone()];
    config.handshake.origins = OriginPolicy::SameHost;
    let server = start_echo(Setup::Auto, &Mount::new(config)).await;
    let http = dial(&server).await;
    let mut options = ConnectOptions::default();
    options.handshake.subprotocols = vec![Subprotocol::new("other").unwrap(), name];
    options.handshake.origin = Some(HeaderValue::try_from(format!("http://{}", server.addr)).unwrap());
    let (ws, response) = soon(http.connect(&server.url(), &options)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(ws.subprotocol(), Some("chat"));
}

#[tokio::test]
async fn a_refusal_comes_with_its_status_and_body() {
    let mut config = MountConfig::default();
    config.handshake.origins = OriginPolicy::only(["https://example.com"]).unwrap();
    let server = start_echo(Setup::Auto, &Mount::new(config)).await;
    let http = dial(&server).await;
    for (max_refusal_body, body, whole) in [(1024, "Origin not allowed\n", true), (6, "Origin", false)] {
        let options = ConnectOptions::default().with_max_refusal_body(max_refusal_body);
        match soon(http.connect(&server.url(), &options)).await {
            Err(Error::UnexpectedResponse { response, body_is_whole }) => {
                assert_eq!((response.status().as_u16(), &response.body()[..]), (403, body.as_bytes()));
                assert_eq!(body_is_whole, whole);
            }
            other => panic!("{other:?}"),
        }
    }
    // The connection remains usable.
    let mut options = ConnectOptions::default();
    options.handshake.origin = Some(HeaderValue::from_static("https://example.com"));
    check_echo("after a refusal", &mut open(&http, &server, &options).await).await;
}

#[tokio::test]
async fn nothing_is_sent_of_a_request_that_cannot_be() {
    let server = start_echo(Setup::Auto, &Mount::default()).await;
    let http = dial(&server).await;
    let mut options = ConnectOptions::default();
    options.handshake.headers.insert("connection", HeaderValue::from_static("upgrade"));
    let refused = http.connect(&server.url(), &options).await.unwrap_err();
    assert!(matches!(refused, Error::Options(OptionsError::ReservedHeader { .. })), "{refused}");
    let refused = http.connect("ftp://localhost", &ConnectOptions::default()).await.unwrap_err();
    assert!(matches!(refused, Error::Uri(_)), "{refused}");
}

/// Serves HTTP/2 in memory and answers every request with this response.
fn respond(
    enable: bool,
    respond: impl Fn() -> http::Response<String> + Clone + Send + 'static,
) -> tokio::io::DuplexStream {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let mut http = http2::Builder::new(TokioExecutor::new());
    if enable {
        http.enable_connect_protocol();
    }
    let service = service_fn(move |_| {
        let response = respond();
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    tokio::spawn(http.serve_connection(TokioIo::new(server), service));
    client
}

#[tokio::test(start_paused = true)]
async fn a_server_without_extended_connect_is_found_out_when_its_settings_come() {
    let limit = Duration::from_secs(2);
    let begun = Instant::now();
    let io = respond(false, http::Response::default);
    let refused = Http2::<String>::handshake(io, limit).await.unwrap_err();
    assert!(matches!(refused, Error::NotSupported), "{refused}");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // A server that sends nothing at all, and one that is gone.
    let (io, silent) = tokio::io::duplex(1024);
    let refused = Http2::<String>::handshake(io, limit).await.unwrap_err();
    assert!(matches!(refused, Error::Timeout { limit: seen } if seen == limit), "{refused}");
    drop(silent);
    let (io, gone) = tokio::io::duplex(1024);
    drop(gone);
    let refused = Http2::<String>::handshake(io, limit).await.unwrap_err();
    assert!(matches!(refused, Error::Http(_) | Error::ClosedEarly), "{refused}");
}

/// A server that stops announces it, and open sockets continue.
#[tokio::test]
async fn a_connection_that_takes_no_more_requests_is_named() {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let mount = Mount::default();
    let service = service_fn(move |mut request| {
        let answer = upgrade::<_, String>(&mut request, &mount).map(|(response, upgrade)| {
            upgrade.on_upgrade(common::echo);
            response
        });
        async move { Ok::<_, std::convert::Infallible>(answer.expect("a good request")) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let connection = builder.enable_connect_protocol().serve_connection(TokioIo::new(server), service);
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            _ = stopped => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    });
    let http: Http2 = soon(Http2::handshake(client, LIMIT)).await.unwrap();
    let options = ConnectOptions::default();
    let (mut open, _) = soon(http.connect("ws://localhost", &options)).await.unwrap();
    stop.send(()).unwrap();
    let refused = loop {
        // The server accepts requests that were in transit, so the first may still succeed.
        match soon(http.connect("ws://localhost", &options)).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, Error::GoAway { code: 0, .. }), "{refused:?}");
    assert_eq!(
        refused.to_string(),
        "server accepts no more requests on this connection (GOAWAY, error code 0)"
    );
    check_echo("what is open goes on", &mut open).await;
}

/// Nearly as many unread sockets as hyper's server allows on one connection.
#[tokio::test]
async fn sockets_that_nobody_reads_do_not_stop_others() {
    let flood = |mut ws: Socket| async move {
        if ws.recv().await? == Some("flood".into()) {
            ws.send(vec![0; 300 << 10]).await?;
        }
        common::echo(ws).await
    };
    let server = start(Setup::Auto, &Mount::default(), flood).await;
    let http = dial(&server).await;
    let mut unread = Vec::new();
    for _ in 0..190 {
        let mut ws = open(&http, &server, &ConnectOptions::default()).await;
        soon(ws.send("flood")).await.unwrap();
        unread.push(ws);
    }
    // Give each of them time to get its share.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut ws = open(&http, &server, &ConnectOptions::default()).await;
    soon(ws.send("hello")).await.unwrap();
    soon(ws.send("hello")).await.unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap(), Some("hello".into()));
}

/// The same in the other direction, with the windows documented for a server's builder.
#[tokio::test]
async fn handlers_that_do_not_receive_do_not_stop_others() {
    let (release, waiting) = tokio::sync::watch::channel(());
    let handler = move |mut ws: Socket| {
        let mut waiting = waiting.clone();
        async move {
            if ws.recv().await? == Some("hold".into()) {
                let _ = waiting.changed().await;
                return Ok(());
            }
            common::echo(ws).await
        }
    };
    let server = start(Setup::Auto, &Mount::default(), handler).await;
    let http = dial(&server).await;
    let mut unread = Vec::new();
    for _ in 0..4 {
        let mut ws = open(&http, &server, &ConnectOptions::default()).await;
        soon(ws.send("hold")).await.unwrap();
        unread.push(tokio::spawn(async move { ws.send(vec![0; 4 << 20]).await }));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut ws = open(&http, &server, &ConnectOptions::default()).await;
    soon(ws.send("hello")).await.unwrap();
    soon(ws.send("hello")).await.unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap(), Some("hello".into()));
    assert!(unread.iter().all(|sending| !sending.is_finished()));
    for sending in unread {
        sending.abort();
    }
    drop(release);
}

#[tokio::test]
async fn an_answer_that_selects_what_was_not_offered_is_refused() {
    let io = respond(true, || {
        http::Response::builder().header("sec-websocket-protocol", "chat").body(String::new()).unwrap()
    });
    let http: Http2 = soon(Http2::handshake(io, LIMIT)).await.unwrap();
    let refused = soon(http.connect("ws://localhost", &ConnectOptions::default())).await.unwrap_err();
    assert!(matches!(refused, Error::Response(ResponseError::Subprotocol { .. })), "{refused}");
}

#[tokio::test]
async fn a_shutdown_closes_each_stream_with_1001_and_waits() {
    let server = start_echo(Setup::Auto, &Mount::default()).await;
    let http = dial(&server).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let mut ws = open(&http, &server, &ConnectOptions::default()).await;
        ws.send("here").await.unwrap();
        soon(ws.recv()).await.unwrap();
        sockets.push(ws);
    }
    let hub = server.mount.hub().clone();
    let shutdown = tokio::spawn(async move { hub.shutdown(1001, "bye", LIMIT).await });
    for mut ws in sockets {
        assert_eq!(soon(ws.recv()).await.expect("a clean end"), None);
        assert_eq!(ws.close_received().map(|frame| frame.code), Some(CloseCode::GOING_AWAY));
    }
    assert_eq!(soon(shutdown).await.unwrap().unwrap().aborted, 0);
    assert!(server.mount.hub().is_empty());
    match soon(http.connect(&server.url(), &ConnectOptions::default())).await {
        Err(Error::UnexpectedResponse { response, .. }) => assert_eq!(response.status(), 503),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_its_own_stream_alone() {
    let (report, mut reported) = mpsc::unbounded_channel();
    let handler = move |ws: Socket| {
        let report = report.clone();
        async move {
            let (sender, mut receiver) = ws.split();
            let mut sent = 0;
            // HTTP/2's window, hyper and the queue accept a bounded number of bytes.
            while sent < 1000 && sender.try_send(vec![0; 4096]).is_ok() {
                sent += 1;
                tokio::task::yield_now().await;
            }
            let _ = report.send((sent, matches!(sender.try_send("more"), Err(ConnectionError::QueueFull))));
            while receiver.recv().await?.is_some() {}
            Ok(())
        }
    };
    let server = start(Setup::Auto, &Mount::default(), handler).await;
    let http = dial(&server).await;
    let _slow = open(&http, &server, &ConnectOptions::default()).await;
    let (sent, full) = soon(reported.recv()).await.unwrap();
    assert!(full, "{sent} messages of 4 KiB were taken");
    let mut other = open(&http, &server, &ConnectOptions::default()).await;
    assert!(soon(other.recv()).await.unwrap().is_some(), "the other stream goes on");
}

#[tokio::test]
async fn a_connection_that_is_cut_is_an_error_at_both_ends_of_each_stream() {
    let (report, mut reported) = mpsc::unbounded_channel();
    let handler = move |mut ws: Socket| {
        let report = report.clone();
        async move {
            let ended = loop {
                match ws.recv().await {
                    Ok(Some(message)) => ws.send(message).await?,
                    Ok(None) => break None,
                    Err(error) => break error.close_code(),
                }
            };
            let _ = report.send(ended);
            Ok(())
        }
    };
    let server = start(Setup::Auto, &Mount::default(), handler).await;
    let (client, mut near) = tokio::io::duplex(64 * 1024);
    let mut far = tcp(server.addr).await;
    let wire = tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
    let http: Http2 = soon(Http2::handshake(client, LIMIT)).await.unwrap();
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let mut ws = open(&http, &server, &ConnectOptions::default()).await;
        check_echo("before the cut", &mut ws).await;
        sockets.push(ws);
    }
    wire.abort();
    for mut ws in sockets {
        let error = soon(ws.recv()).await.expect_err("no clean end");
        assert_eq!(error.close_code(), Some(CloseCode::ABNORMAL_CLOSURE), "{error}");
        assert_eq!(soon(reported.recv()).await, Some(Some(CloseCode::ABNORMAL_CLOSURE)));
    }
    let refused = soon(http.connect(&server.url(), &ConnectOptions::default())).await.unwrap_err();
    assert!(matches!(refused, Error::Http(_)), "{refused}");
}

#[cfg(feature = "deflate")]
#[tokio::test]
async fn compression_is_agreed_on_where_both_want_it() {
    let mut config = MountConfig::default();
    config.handshake.deflate = Some(longwire_connection::deflate::DeflateOptions::default());
    let mut without = ConnectOptions::default();
    without.handshake.deflate = None;
    let mount = Mount::new(config);
    for (case, mount, options, agreed) in [
        ("both", &mount, &ConnectOptions::default(), true),
        ("the server alone", &mount, &without, false),
        ("the client alone", &Mount::default(), &ConnectOptions::default(), false),
    ] {
        let server = start_echo(Setup::Auto, mount).await;
        let mut ws = open(&dial(&server).await, &server, options).await;
        assert_eq!(ws.extensions().is_some(), agreed, "{case}");
        check_echo(case, &mut ws).await;
    }
}
