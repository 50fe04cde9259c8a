//! The extractor in axum: with other extractors, with its options, over both versions of HTTP, and refusals.

mod common;

use std::time::Duration;

use axum::extract::{FromRef, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use http::{Request, StatusCode};
use longwire_client::{Client, Error};
use longwire_connection::{CloseCode, Message};
use longwire_hyper::axum::{FromState, WebSocketUpgrade};
use longwire_hyper::http2::{ConnectOptions, Http2};
use longwire_hyper::testing::serve;
use longwire_hyper::{HandlerResult, Mount, MountConfig, Socket, UpgradeError};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use common::{check_echo, echo, soon, tcp};

#[derive(Clone)]
struct App {
    name: &'static str,
    mount: Mount,
}

impl FromRef<App> for Mount {
    fn from_ref(app: &App) -> Self {
        app.mount.clone()
    }
}

#[derive(Deserialize)]
struct Auth {
    access_token: String,
}

async fn room(
    FromState(ws): FromState,
    State(app): State<App>,
    Path(room): Path<String>,
    Query(auth): Query<Auth>,
) -> Response {
    ws.on_upgrade(move |mut ws| async move {
        ws.send(format!("{} {room} {}", app.name, auth.access_token)).await?;
        echo(ws).await
    })
}

fn app(mount: &Mount) -> Router {
    let state = App { name: "app", mount: mount.clone() };
    Router::new().route("/rooms/{room}", any(room)).with_state(state)
}

#[tokio::test]
async fn axum_serve_takes_both_versions_of_http() {
    let mount = Mount::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app(&mount)).into_future());
    let url = format!("ws://{addr}/rooms/blue?access_token=secret");
    let greeting = Message::text("app blue secret");

    let (mut ws, _) = soon(Client::new(&url).connect()).await.unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap(), Some(greeting.clone()));
    check_echo("HTTP/1.1", &mut ws).await;

    let http: Http2 = soon(Http2::handshake(tcp(addr).await, Duration::from_secs(10))).await.unwrap();
    let (mut over_http2, _) = soon(http.connect(&url, &ConnectOptions::default())).await.unwrap();
    assert_eq!(soon(over_http2.recv()).await.unwrap(), Some(greeting));
    check_echo("HTTP/2", &mut over_http2).await;

    let addresses: Vec<_> = mount.hub().clients().iter().map(|client| client.peer_addr().is_some()).collect();
    assert_eq!(addresses, [true, false], "the TCP stream was had back");

    let hub = mount.hub().clone();
    let shutdown = tokio::spawn(async move { hub.shutdown(1001, "", Duration::from_secs(10)).await });
    assert_eq!(soon(ws.recv()).await.unwrap(), None);
    assert_eq!(soon(over_http2.recv()).await.unwrap(), None);
    for frame in [ws.close_received(), over_http2.close_received()] {
        assert_eq!(frame.map(|frame| frame.code), Some(CloseCode::GOING_AWAY));
    }
    assert_eq!(soon(shutdown).await.unwrap().unwrap().aborted, 0);
}

/// Returns a router with one handler at every path.
fn router<H, T>(handler: H, mount: &Mount) -> Router
where
    H: axum::handler::Handler<T, ()>,
    T: 'static,
{
    Router::new().route("/", any(handler)).layer(Extension(mount.clone()))
}

#[tokio::test]
async fn the_mount_of_an_extension_counts() {
    async fn handler(ws: WebSocketUpgrade) -> Response {
        ws.on_upgrade(echo)
    }
    let mount = Mount::default();
    let (mut ws, _) = Client::new("ws://test").handshake_over(serve(router(handler, &mount))).await.unwrap();
    check_echo("in memory", &mut ws).await;
    assert_eq!(mount.hub().len(), 1);
    let without = Router::new().route("/", any(handler));
    let (mut ws, _) = Client::new("ws://test").handshake_over(serve(without)).await.unwrap();
    check_echo("without a mount", &mut ws).await;
    assert_eq!(mount.hub().stats().admitted, 1);
}

#[tokio::test]
async fn the_first_subprotocol_that_both_speak_is_selected() {
    async fn handler(ws: WebSocketUpgrade) -> Response {
        let ws = ws.protocols(["v3", "v2", "v1"]);
        let seen =
            format!("{:?} of {:?}", ws.selected_protocol(), ws.requested_protocols().collect::<Vec<_>>());
        ws.on_upgrade(|mut ws| async move { Ok(ws.send(seen).await?) })
    }
    for (offered, selected, seen) in [
        (&["v1", "v2"][..], Some("v2"), r#"Some("v2") of ["v1", "v2"]"#),
        (&["v4"], None, r#"None of ["v4"]"#),
        (&[], None, "None of []"),
    ] {
        let client = offered.iter().fold(Client::new("ws://test"), |client, name| client.subprotocol(*name));
        let app = router(handler, &Mount::default());
        let (mut ws, _) = client.handshake_over(serve(app)).await.unwrap();
        assert_eq!(ws.subprotocol(), selected);
        assert_eq!(soon(ws.recv()).await.unwrap(), Some(seen.into()));
    }
}

#[tokio::test]
async fn limits_are_those_that_the_handler_set() {
    async fn message(ws: WebSocketUpgrade) -> Response {
        ws.max_message_size(1000).on_upgrade(echo)
    }
    async fn frame(ws: WebSocketUpgrade) -> Response {
        ws.max_frame_size(1000).on_upgrade(echo)
    }
    let mount = Mount::default();
    for (case, app) in [("message", router(message, &mount)), ("frame", router(frame, &mount))] {
        let (mut ws, _) = Client::new("ws://test").deflate(None).handshake_over(serve(app)).await.unwrap();
        ws.send(vec![0; 1000]).await.unwrap();
        assert!(soon(ws.recv()).await.unwrap().is_some(), "{case}");
        ws.send(vec![0; 1001]).await.unwrap();
        let error = soon(ws.recv()).await.expect_err(case);
        assert_eq!(error.close_code(), Some(CloseCode::MESSAGE_TOO_BIG), "{case}");
    }
}

#[tokio::test]
async fn a_failed_upgrade_is_reported() {
    let (report, mut reported) = mpsc::unbounded_channel();
    let handler = |ws: WebSocketUpgrade| async move {
        let report = report.clone();
        let failed = move |error: UpgradeError| {
            let _ = report.send(error);
        };
        let response = ws.on_failed_upgrade(failed).on_upgrade(|_| async {
            panic!("the handler does not run");
        });
        // The client is gone before the response is sent.
        tokio::time::sleep(Duration::from_millis(50)).await;
        response
    };
    let app = router(handler, &Mount::default());
    let io = serve(app);
    let attempt =
        Client::new("ws://test").handshake_timeout(Duration::from_millis(5)).handshake_over(io).await;
    assert!(matches!(attempt, Err(Error::Timeout { .. })), "{attempt:?}");
    let error = soon(reported.recv()).await.expect("a report");
    assert!(matches!(error, UpgradeError::NotHandedOver(_)), "{error}");
}

#[tokio::test]
async fn one_path_serves_a_page_and_a_socket() {
    async fn handler(ws: Option<WebSocketUpgrade>) -> Response {
        match ws {
            Some(ws) => ws.on_upgrade(echo),
            None => "a page".into_response(),
        }
    }
    let mount = Mount::default();
    let (mut ws, _) = Client::new("ws://test").handshake_over(serve(router(handler, &mount))).await.unwrap();
    check_echo("the socket", &mut ws).await;
    for (case, request, status) in [
        ("plain", Request::get("/"), StatusCode::OK),
        (
            "h2c",
            Request::get("/")
                .header("upgrade", "h2c")
                .header("connection", "Upgrade, HTTP2-Settings")
                .header("http2-settings", "AAMAAABkAAQAAP__"),
            StatusCode::OK,
        ),
        (
            "broken",
            Request::get("/")
                .header("upgrade", "h2c")
                .header("connection", "upgrade")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            StatusCode::BAD_REQUEST,
        ),
    ] {
        let request = request.header("host", "test").body(axum::body::Body::empty()).unwrap();
        let response = call(router(handler, &mount), request).await;
        assert_eq!(response.status(), status, "{case}");
    }
}

#[tokio::test]
async fn a_refusal_is_a_response() {
    async fn handler(ws: WebSocketUpgrade) -> Response {
        ws.on_upgrade(|_: Socket| async { HandlerResult::Ok(()) })
    }
    let upgrade = || {
        Request::get("/")
            .header("host", "test")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    for (case, request, status) in [
        ("no WebSocket", Request::get("/").header("host", "test"), 426),
        ("no version", upgrade(), 400),
        ("version 8", upgrade().header("sec-websocket-version", "8"), 426),
        ("no server behind it", upgrade().header("sec-websocket-version", "13"), 500),
    ] {
        let request = request.body(axum::body::Body::empty()).unwrap();
        let response = call(router(handler, &Mount::default()), request).await;
        assert_eq!(response.status(), status, "{case}");
    }
    let get_alone = Router::new().route("/", get(handler));
    let http: Http2 = soon(Http2::handshake(serve(get_alone), Duration::from_secs(10))).await.unwrap();
    let refused = soon(http.connect("ws://test/", &ConnectOptions::default())).await.unwrap_err();
    let longwire_hyper::http2::Error::UnexpectedResponse { response, .. } = refused else {
        panic!("{refused}")
    };
    assert_eq!(response.status(), 405, "HTTP/2 asks with CONNECT");
}

async fn call(mut app: Router, request: Request<axum::body::Body>) -> Response {
    use tower_service::Service as _;
    app.call(request).await.expect("a router does not fail")
}

#[tokio::test]
async fn a_full_hub_is_told_before_the_upgrade() {
    for (case, by_address) in [("in all", false), ("from one address", true)] {
        let mut config = MountConfig::default();
        if by_address {
            config.hub.max_clients_per_address = Some(1);
        } else {
            config.hub.max_clients = Some(1);
        }
        let mount = Mount::new(config);
        let (report, mut reported) = mpsc::unbounded_channel();
        let handler = move |ws: WebSocketUpgrade| async move {
            let addr = by_address.then(|| "192.0.2.1:7".parse().unwrap());
            ws.peer_addr(addr).on_failed_upgrade(move |error| drop(report.send(error))).on_upgrade(echo)
        };
        let app = router(handler, &mount);
        let (mut ws, _) = Client::new("ws://test").handshake_over(serve(app.clone())).await.unwrap();
        check_echo(case, &mut ws).await;
        let refused = Client::new("ws://test").handshake_over(serve(app.clone())).await.unwrap_err();
        let Error::UnexpectedResponse { response, .. } = refused else { panic!("{case}: {refused}") };
        assert_eq!(response.status(), 503, "{case}");
        if by_address {
            let error = reported.try_recv().unwrap();
            assert!(matches!(error, UpgradeError::Refused(_)), "{error}");
            assert!(error.to_string().contains("from this address"), "{error}");
        }
        soon(ws.close(1000, "")).await.unwrap();
        soon(mount.hub().emptied()).await;
        let (mut ws, _) = Client::new("ws://test").handshake_over(serve(app)).await.unwrap();
        check_echo(case, &mut ws).await;
    }
}

/// A graceful shutdown by itself leaves out connections that were handed over; around its signal, the mount
/// closes them first.
#[tokio::test]
async fn a_graceful_shutdown_of_axum_closes_the_sockets_of_the_mount() {
    let mount = Mount::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let app = Router::new()
        .route("/", any(|ws: WebSocketUpgrade| async move { ws.on_upgrade(echo) }))
        .layer(Extension(mount.clone()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = mount.shutdown_after(stopped, Duration::from_secs(10));
    let serving = tokio::spawn(axum::serve(listener, app).with_graceful_shutdown(shutdown).into_future());
    let (mut ws, _) = soon(Client::new(&url).connect()).await.unwrap();
    check_echo("before", &mut ws).await;
    stop.send(()).unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap(), None);
    assert_eq!(ws.close_received().map(|frame| frame.code), Some(CloseCode::GOING_AWAY));
    soon(serving).await.unwrap().unwrap();
    assert!(mount.hub().is_empty(), "no handler is left");
}
