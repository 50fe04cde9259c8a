//! Values that an application reads from a request: parameters, cookies, tokens; and keys of clients.

mod common;

use longwire_server::{Error, ListenOptions, Server};
use tokio::io::AsyncWriteExt;

use common::{REQUEST, bind, exchange, expect, head, request_with, rest, start_with, tcp, text};

/// A server that tells what it finds in a request, as a message, and closes.
async fn teller() -> common::Running {
    let server = bind().await.route("/rooms/{room}/{*rest}", |mut ws, request| async move {
        let parts = [request.param("room"), request.param("rest"), request.param("none")];
        Ok(ws.send(format!("{parts:?}")).await?)
    });
    start_with(server.unwrap(), |mut ws, request| async move {
        let found = (request.query("room"), request.cookie("id"), request.bearer());
        let shown = format!("{found:?}");
        Ok(ws.send(shown).await?)
    })
}

async fn told(server: &common::Running, request: &str) -> String {
    let mut stream = tcp(server.addr).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = head(&mut stream).await;
    if !head.starts_with("HTTP/1.1 101 ") {
        return head.lines().next().unwrap().to_owned();
    }
    let rest = async {
        let mut frame = [0; 2];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut frame).await.unwrap();
        let mut text = vec![0; usize::from(frame[1])];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut text).await.unwrap();
        String::from_utf8(text).unwrap()
    };
    common::soon(rest).await
}

#[tokio::test]
async fn a_request_is_asked_for_its_values() {
    let server = teller().await;
    assert_eq!(told(&server, REQUEST).await, r#"(Some("1"), None, None)"#);
    let request = request_with("Cookie: a=b; id=7").replace("room=1", "x=y&room=a+b%26");
    assert_eq!(told(&server, &request).await, r#"(Some("a b&"), Some("7"), None)"#);
    let request = request_with("Authorization: Bearer abc").replace("?room=1", "");
    assert_eq!(told(&server, &request).await, r#"(None, None, Some("abc"))"#);
}

#[tokio::test]
async fn parameters_of_a_path_are_decoded() {
    let server = teller().await;
    let path = |path: &str| REQUEST.replace("/chat", path);
    let shown = told(&server, &path("/rooms/a%2Fb%20c/x/%C3%A9")).await;
    assert_eq!(shown, r#"[Some("a/b c"), Some("x/é"), None]"#);
    let shown = told(&server, &path("/rooms/%ff/x")).await;
    assert!(shown.starts_with("HTTP/1.1 404 "), "{shown}");
}

#[tokio::test]
async fn a_path_that_cannot_match_as_it_was_meant_is_refused() {
    for (path, advice) in [("/rooms/:id", "write `{id}`"), ("rooms", "write `/rooms`")] {
        let error = bind().await.route(path, |_, _| async {}).expect_err(path);
        assert!(matches!(&error, Error::Route { reason, .. } if reason.contains(advice)), "{error}");
    }
}

#[tokio::test]
async fn a_handler_may_return_nothing() {
    let server = bind().await.route("/quiet", |_, _| async {}).unwrap();
    let server = start_with(server, |_, _| async { Err("loud".into()) });
    for (path, code) in [("/quiet", b"\x88\x02\x03\xe8"), ("/other", b"\x88\x02\x03\xf3")] {
        let mut stream = tcp(server.addr).await;
        stream.write_all(REQUEST.replace("/chat", path).as_bytes()).await.unwrap();
        head(&mut stream).await;
        expect(&mut stream, code).await;
    }
}

#[tokio::test]
async fn a_spawned_server_ends_with_its_shutdown() {
    let server = bind().await;
    let (addr, handle) = (server.local_addr(), server.handle());
    let task = server.serve(|mut ws, _| async move { Ok(ws.send("welcome").await?) }).spawn();
    let mut stream = tcp(addr).await;
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    head(&mut stream).await;
    assert!(rest(&mut stream).await.contains("welcome"));
    common::soon(handle.shutdown()).await;
    common::soon(task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_user_is_reached_by_a_key_from_the_handshake() {
    let server = bind().await.authorize(|admission| async move {
        let user = admission.query("room").unwrap_or_default().into_owned();
        Ok(admission.with_key(user))
    });
    let hub = server.hub().clone();
    let server = start_with(server, common::echo);
    let mut stream = tcp(server.addr).await;
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    head(&mut stream).await;
    stream.write_all(&text("?")).await.unwrap();
    expect(&mut stream, b"\x81\x01?").await;
    assert_eq!((hub.send_to("1", "hello").accepted, hub.send_to("2", "hello").accepted), (1, 0));
    expect(&mut stream, b"\x81\x05hello").await;
}

#[tokio::test]
async fn lists_may_be_of_any_strings() {
    let origins: Vec<String> = vec!["https://example.com".into()];
    let server = bind().await.allowed_origins(&origins).unwrap().allowed_origins(origins).unwrap();
    let server = server.subprotocols(["one", "two"]).unwrap().subprotocols(vec!["one".to_owned()]).unwrap();
    let server = start_with(server, common::echo);
    let refused = exchange(server.addr, request_with("Origin: https://example.org").as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
}

#[tokio::test]
async fn secrets_of_a_request_are_not_in_its_debug_form() {
    let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let server = bind().await.authorize(move |admission| {
        report.send(format!("{admission:?} {:?}", *admission)).unwrap();
        async move { Ok(admission) }
    });
    let server = start_with(server, common::echo);
    let request =
        request_with("Cookie: id=geheim\r\nAuthorization: Bearer geheim").replace("room=1", "t=geheim");
    let mut stream = tcp(server.addr).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    head(&mut stream).await;
    let shown = reports.recv().await.unwrap();
    assert!(!shown.contains("geheim") && shown.contains("cookie") && shown.contains("/chat"), "{shown}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn connections_inherit_the_buffers_of_their_listener() {
    let options = ListenOptions::default().with_send_buffer(20_000).with_unsent_low_water(16_384);
    let listener = options.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    let _client = tcp(addr).await;
    let (accepted, _) = listener.accept().await.unwrap();
    let accepted = socket2::SockRef::from(&accepted);
    // Linux doubles it.
    assert_eq!(accepted.send_buffer_size().unwrap(), 40_000);
    assert_eq!(accepted.tcp_notsent_lowat().unwrap(), 16_384);
    drop(Server::from_listener(listener).unwrap());
}
