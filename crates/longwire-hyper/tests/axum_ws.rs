//! One application, written for axum's own WebSocket, that runs on it and on longwire with a different import. A
//! client cannot tell them apart, except where longwire does better.

mod common;

use axum::Router;
use longwire_client::Client;
use longwire_connection::{Config, Error, Incoming, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use common::soon;

macro_rules! application {
    ($name:ident, $($ws:tt)+) => {
        mod $name {
            use axum::Router;
            use axum::extract::{Query, State};
            use axum::response::Response;
            use axum::routing::any;
            use bytes::Bytes;
            use futures_util::stream::{FusedStream, SplitSink, SplitStream};
            use futures_util::{SinkExt, StreamExt};
            use tokio::sync::mpsc;

            use $($ws)+::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};

            pub(crate) fn app() -> Router {
                Router::new()
                    .route("/echo", any(|ws: WebSocketUpgrade| async { ws.on_upgrade(echo) }))
                    .route("/split", any(|ws: WebSocketUpgrade| async { ws.on_upgrade(split) }))
                    .route("/spawned", any(|ws: WebSocketUpgrade| async { ws.on_upgrade(spawn) }))
                    .route("/told", any(|ws: WebSocketUpgrade| async { ws.on_upgrade(tell) }))
                    .route("/close", any(|ws: WebSocketUpgrade| async { ws.on_upgrade(close) }))
                    .route("/small", any(small))
                    .route("/shut", any(|ws: WebSocketUpgrade| async { ws.on_upgrade(shut) }))
                    .with_state("state")
            }

            async fn echo(mut socket: WebSocket) {
                while let Some(Ok(message)) = socket.recv().await {
                    let echoed = matches!(message, Message::Text(_) | Message::Binary(_));
                    if echoed && socket.send(message).await.is_err() {
                        return;
                    }
                }
            }

            async fn split(socket: WebSocket) {
                let (sender, receiver) = socket.split();
                let (pass, passed) = mpsc::channel(8);
                tokio::join!(write(sender, passed), read(receiver, pass));
            }

            /// Returns from the callback before the conversation has begun.
            async fn spawn(socket: WebSocket) {
                let (sender, receiver) = socket.split();
                let (pass, passed) = mpsc::channel(8);
                tokio::spawn(write(sender, passed));
                tokio::spawn(read(receiver, pass));
            }

            async fn read(mut receiver: SplitStream<WebSocket>, pass: mpsc::Sender<Utf8Bytes>) {
                while let Some(Ok(message)) = receiver.next().await {
                    let text = match message {
                        Message::Text(text) => text,
                        Message::Binary(bytes) => format!("{} bytes", bytes.len()).into(),
                        Message::Ping(_) | Message::Pong(_) => continue,
                        Message::Close(_) => break,
                    };
                    pass.send(text).await.unwrap();
                }
            }

            async fn write(mut sender: SplitSink<WebSocket, Message>, mut passed: mpsc::Receiver<Utf8Bytes>) {
                while let Some(text) = passed.recv().await {
                    sender.send(Message::Text(text)).await.unwrap();
                }
            }

            /// Echoes a description of each message, and asks for a pong at the start.
            async fn tell(mut socket: WebSocket) {
                socket.send(Message::Ping("are you there?".into())).await.unwrap();
                socket.send(Message::Pong("here".into())).await.unwrap();
                while let Some(Ok(message)) = socket.recv().await {
                    let is_close = matches!(message, Message::Close(_));
                    let told = match &message {
                        Message::Text(text) => format!("text {}", text.as_str()),
                        Message::Binary(bytes) => format!("binary {bytes:?}"),
                        Message::Ping(bytes) => format!("ping {bytes:?}"),
                        Message::Pong(bytes) => format!("pong {bytes:?}"),
                        Message::Close(Some(CloseFrame { code, reason })) => {
                            assert_eq!((*code, reason.as_str()), (close_code::AWAY, "bye"));
                            assert_eq!(message.to_text().unwrap(), "bye");
                            assert_eq!(message.clone().into_text().unwrap(), "bye");
                            continue;
                        }
                        Message::Close(None) => unreachable!(),
                    };
                    assert!(!is_close);
                    let _ = socket.send(told.into()).await;
                }
                // The close frame was the last item.
                assert!(socket.recv().await.is_none());
            }

            async fn close(mut socket: WebSocket) {
                socket.send(Message::text("now")).await.unwrap();
                socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
                let frame = CloseFrame { code: 4000, reason: Utf8Bytes::from_static("enough") };
                socket.send(Message::Close(Some(frame))).await.unwrap();
                // The side that closes first receives until the end.
                while let Some(Ok(_)) = socket.recv().await {}
            }

            /// Closes as a sink.
            async fn shut(mut socket: WebSocket) {
                assert!(!socket.is_terminated());
                SinkExt::close(&mut socket).await.unwrap();
                while let Some(Ok(_)) = socket.recv().await {}
                assert!(socket.is_terminated());
            }

            /// Describes the messages that values become, and what they become again.
            pub(crate) fn conversions() -> Vec<String> {
                let messages = [
                    Message::from("é"),
                    Message::from(String::from("é")),
                    Message::from("é".as_bytes()),
                    Message::from(Bytes::from_static(b"\xff")),
                    Message::from(vec![b'a']),
                    Message::Ping(Bytes::from_static(b"b")),
                    Message::Pong(Bytes::from_static(b"\xff")),
                    Message::Close(None),
                    Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: "é".into() })),
                ];
                let describe = |message: Message| {
                    let kind = match message {
                        Message::Text(_) => "text",
                        Message::Binary(_) => "binary",
                        Message::Ping(_) => "ping",
                        Message::Pong(_) => "pong",
                        Message::Close(_) => "close",
                    };
                    let lent = message.to_text().ok().map(str::to_owned);
                    let text = message.clone().into_text().ok().map(|text| text.as_str().to_owned());
                    let data = message.clone().into_data();
                    format!("{kind} {lent:?} {text:?} {data:?} {:?}", Vec::from(message))
                };
                messages.into_iter().map(describe).collect()
            }

            async fn small(
                ws: WebSocketUpgrade,
                State(state): State<&'static str>,
                Query(query): Query<Vec<(String, String)>>,
            ) -> Response {
                ws.protocols(["v2", "v1"]).max_message_size(10).max_frame_size(10).on_failed_upgrade(|_| {}).on_upgrade(
                    move |mut socket| async move {
                        let selected = socket.protocol().is_some();
                        let _ = socket.send(format!("{state} {query:?} {selected}").into()).await;
                        echo(socket).await;
                    },
                )
            }
        }
    };
}

application!(theirs, axum::extract::ws);
application!(ours, longwire_hyper::axum::ws);

async fn start(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());
    format!("ws://{addr}")
}

/// The actions of a client at a path.
struct Row {
    path: &'static str,
    sends: Vec<Message>,
    pings: bool,
    subprotocol: Option<&'static str>,
    /// The number of messages to wait for before closing.
    expects: usize,
}

/// Returns everything that the client sees, in order, and the close code, if the connection is not cut.
async fn visit(url: &str, row: &Row) -> (Vec<String>, Option<u16>) {
    let mut client = Client::new(format!("{url}{}", row.path)).deflate(None).config(Config::default());
    if let Some(subprotocol) = row.subprotocol {
        client = client.subprotocol(subprotocol);
    }
    let (mut ws, response) = soon(client.connect()).await.unwrap();
    let mut seen = vec![format!("{:?}", response.headers().get("sec-websocket-protocol"))];
    if row.pings {
        drop(ws.ping_with("ping").unwrap());
    }
    for message in &row.sends {
        ws.send(message.clone()).await.unwrap();
    }
    // Pongs are kept apart, because their place among the messages is not defined.
    let mut pongs = Vec::new();
    let mut messages = 0;
    loop {
        if messages == row.expects {
            // The server may have closed first.
            let _ = ws.start_close(1001, "bye");
        }
        match soon(ws.next_event()).await {
            Ok(Some(Incoming::Message(message))) => {
                seen.push(format!("{message:?}"));
                messages += 1;
            }
            Ok(Some(Incoming::Ping(payload))) => seen.push(format!("ping {payload:?}")),
            Ok(Some(Incoming::Pong(payload))) => pongs.push(format!("pong {payload:?}")),
            Ok(Some(other)) => panic!("{other:?}"),
            // The close frame shows how it ended.
            Ok(None) | Err(_) => break,
        }
    }
    seen.append(&mut pongs);
    (seen, ws.close_received().map(|frame| frame.code.value()))
}

#[tokio::test]
async fn an_application_for_axums_own_needs_another_import_alone() {
    let (theirs, ours) = (start(theirs::app()).await, start(ours::app()).await);
    let text = Message::text("text");
    let row = |path, sends, expects| Row { path, sends, pings: false, subprotocol: None, expects };
    for row in [
        row("/echo", vec![], 0),
        row("/echo", vec![text.clone(), Message::binary(vec![0; 70_000]), Message::text("")], 3),
        row("/split", vec![text.clone(), Message::binary(vec![1]), Message::text("ü")], 3),
        row("/spawned", vec![text.clone(), Message::text("a"), Message::text("b")], 3),
        Row { pings: true, ..row("/told", vec![text.clone(), Message::binary(vec![1])], 4) },
        row("/close", vec![], 9),
        row("/shut", vec![], 9),
        row("/small?a=b", vec![text.clone()], 2),
        Row { subprotocol: Some("v1"), ..row("/small", vec![], 1) },
        Row { subprotocol: Some("v3"), ..row("/small", vec![], 1) },
    ] {
        let (expected, expected_code) = visit(&theirs, &row).await;
        let (seen, code) = visit(&ours, &row).await;
        assert_eq!(seen, expected, "{}", row.path);
        // axum's connection is cut if the callback returns as soon as it sees the close frame.
        assert_eq!(code, Some(expected_code.unwrap_or(1001)), "{}", row.path);
    }
}

#[test]
fn values_become_the_same_messages() {
    let ours = ours::conversions();
    assert_eq!(ours, theirs::conversions());
    assert_eq!(ours[0], r#"text Some("é") Some("é") b"\xc3\xa9" [195, 169]"#);
    assert_eq!(ours[3], r#"binary None None b"\xff" [255]"#);
}

#[tokio::test]
async fn a_handler_may_take_plain_requests_and_the_socket_below() {
    use axum::response::{IntoResponse, Response};
    use longwire_hyper::axum::ws::{WebSocket, WebSocketUpgrade};

    async fn handler(ws: Option<WebSocketUpgrade>) -> Response {
        let Some(ws) = ws else { return "a page".into_response() };
        let offered: Vec<_> = ws.requested_protocols().map(str::to_owned).collect();
        let ws = ws.protocols(["v1"]);
        let selected = ws.selected_protocol().map(str::to_owned);
        ws.on_upgrade(move |socket: WebSocket| async move {
            let clients = socket.get_ref().hub().len();
            let mut socket = socket.into_inner();
            socket.send(format!("{offered:?} {selected:?} {clients}")).await.unwrap();
        })
    }

    let url = start(Router::new().route("/", axum::routing::any(handler))).await;
    let client = Client::new(&url).subprotocol("v2").subprotocol("v1");
    let (mut ws, _) = soon(client.connect()).await.unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap(), Some(r#"["v2", "v1"] Some("v1") 1"#.into()));

    let mut plain = TcpStream::connect(url.trim_start_matches("ws://")).await.unwrap();
    plain.write_all(b"GET / HTTP/1.0\r\nhost: test\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon(plain.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("\r\n\r\na page"), "{answer}");
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_told_of_where_axum_just_hangs_up() {
    let url = start(ours::app()).await;
    let (mut ws, _) = soon(Client::new(format!("{url}/small")).connect()).await.unwrap();
    soon(ws.recv()).await.unwrap();
    ws.send("eleven bytes").await.unwrap();
    let Err(Error::ClosedByPeer(frame)) = soon(ws.recv()).await else { panic!("it is refused") };
    assert_eq!(frame.code.value(), 1009);
}
