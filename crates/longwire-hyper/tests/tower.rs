//! A handler in front of a service: accepted requests, refused requests, and requests passed on to the service.

mod common;

use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::any;
use http::Request;
use longwire_client::{Client, Error};
use longwire_hyper::http2::{ConnectOptions, Http2};
use longwire_hyper::testing::serve;
use longwire_hyper::tower::WebSocketLayer;
use longwire_hyper::{Mount, MountConfig, OriginPolicy, Socket};
use tower_layer::Layer;

use common::{check_echo, echo, soon};

async fn greet(mut ws: Socket, request: Request<()>) -> longwire_hyper::HandlerResult {
    ws.send(request.uri().query().unwrap_or("no query")).await?;
    echo(ws).await
}

/// Returns a service that names the request it got, with a layer at `/chat` in front.
fn app(mount: &Mount) -> Router {
    let page = |request: axum::extract::Request| async move {
        format!("{} {}", request.method(), request.uri().path()).into_response()
    };
    Router::new().fallback(any(page)).layer(WebSocketLayer::new("/chat", mount.clone(), greet))
}

#[tokio::test]
async fn the_path_of_the_layer_is_its_handlers() {
    let mount = Mount::default();
    let (mut ws, _) = Client::new("ws://test/chat?a=b").handshake_over(serve(app(&mount))).await.unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap(), Some("a=b".into()));
    check_echo("HTTP/1.1", &mut ws).await;
    let http: Http2 = soon(Http2::handshake(serve(app(&mount)), Duration::from_secs(10))).await.unwrap();
    let (mut ws, _) = soon(http.connect("ws://test/chat", &ConnectOptions::default())).await.unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap(), Some("no query".into()));
    check_echo("HTTP/2", &mut ws).await;
    assert_eq!(mount.hub().len(), 2);
}

#[test]
fn debug_output_names_the_path_and_the_service() {
    let layer = WebSocketLayer::new("/chat", Mount::default(), greet);
    let shown = format!("{layer:?} {:?}", layer.layer("page").clone());
    assert!(
        shown.starts_with(r#"WebSocketLayer { path: "/chat", .. } WebSocketService { path: "/chat", "#),
        "{shown}"
    );
    assert!(shown.contains(r#"inner: "page""#), "{shown}");
}

#[tokio::test]
async fn everything_else_goes_through() {
    for (case, url, status, body) in [
        ("another path", "ws://test/other", 200, "GET /other"),
        ("a longer path", "ws://test/chat/room", 200, "GET /chat/room"),
    ] {
        let refused = Client::new(url).handshake_over(serve(app(&Mount::default()))).await.unwrap_err();
        let Error::UnexpectedResponse { response, .. } = refused else { panic!("{case}: {refused}") };
        assert_eq!((response.status().as_u16(), &response.body()[..]), (status, body.as_bytes()), "{case}");
    }
    for method in ["GET", "HEAD", "POST"] {
        let request = Request::builder().method(method).uri("/chat").header("host", "test");
        let response = call(app(&Mount::default()), request.body(axum::body::Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200, "a plain {method} of the same path");
    }
}

#[tokio::test]
async fn a_request_that_is_refused_does_not() {
    let mut config = MountConfig::default();
    config.handshake.origins = OriginPolicy::only(["https://example.com"]).unwrap();
    let app = app(&Mount::new(config));
    let refused = Client::new("ws://test/chat").handshake_over(serve(app.clone())).await.unwrap_err();
    let Error::UnexpectedResponse { response, .. } = refused else { panic!("{refused}") };
    assert_eq!((response.status().as_u16(), &response.body()[..]), (403, &b"Origin not allowed\n"[..]));
    let mut client = Client::new("ws://test/chat").origin("https://example.com");
    client = client.handshake_timeout(Duration::from_secs(10));
    client.handshake_over(serve(app)).await.expect("the allowed origin");
}

async fn call(mut app: Router, request: Request<axum::body::Body>) -> axum::response::Response {
    use tower_service::Service as _;
    app.call(request).await.expect("a router does not fail")
}
