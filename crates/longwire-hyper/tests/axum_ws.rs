//! One application, written for axum's own WebSocket, that runs on it and on longwire with a different import. A
//! client cannot tell them apart, except where longwire does better.

mod common;

use axum::Router;
use longwire_client::Client;
use longwire_connection::{Config, Error, Incoming, Message};
use tokio::net::TcpListener;

use common::soon;

macro_rules! application {
    ($name:ident, $($ws:tt)+) => {
        mod $name {
            use axum::Router;
            use axum::extract::{Query, State};
            use axum::response::Response;
            use axum::routing::any;
            use futures_util::stream::{SplitSink, SplitStream};
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

#[tokio::test]
async fn a_message_beyond_the_limit_is_told_of_where_axum_just_hangs_up() {
    let url = start(ours::app()).await;
    let (mut ws, _) = soon(Client::new(format!("{url}/small")).connect()).await.unwrap();
    soon(ws.recv()).await.unwrap();
    ws.send("eleven bytes").await.unwrap();
    let Err(Error::ClosedByPeer(frame)) = soon(ws.recv()).await else { panic!("it is refused") };
    assert_eq!(frame.code.value(), 1009);
}
