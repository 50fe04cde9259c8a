//! axum's own WebSocket, under `axum::serve` with `TCP_NODELAY`.
//!
//! With a batch of 1 it is the loop of axum's documentation with its defaults. With more, it has a read buffer of 16
//! KiB (the default of 128 KiB is zeroed before every read), and one flush for the messages already there.

use std::process::ExitCode;

use axum::{
    Router,
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::Response,
    routing::any,
    serve::ListenerExt as _,
};
use clap::Parser;
use longwire_bench_peers::{BoxError, Feed, Options, Step, echo};
use tokio::net::TcpListener;

// The runtime of axum's documentation, with as many threads as there are cores for the process.
#[tokio::main]
async fn main() -> ExitCode {
    if let Err(error) = run(Options::parse()).await {
        eprintln!("{error}");
    }
    ExitCode::FAILURE
}

async fn run(options: Options) -> Result<(), BoxError> {
    let app = Router::new().fallback_service(any(upgrade).with_state(options));
    let listener = TcpListener::bind(options.listen).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, app).await?)
}

async fn upgrade(ws: WebSocketUpgrade, State(options): State<Options>) -> Response {
    if options.batch == 1 {
        return ws.on_upgrade(one_by_one);
    }
    ws.read_buffer_size(16 * 1024).on_upgrade(move |socket| async move {
        // The load generator resets every connection at its end.
        drop(echo(socket, options.batch, Feed::AtTheEnd, step).await);
    })
}

async fn one_by_one(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}

fn step(message: Result<Message, axum::Error>) -> Result<Step<Message>, axum::Error> {
    let message = message?;
    Ok(if matches!(message, Message::Text(_) | Message::Binary(_)) {
        Step::Echo(message)
    } else {
        Step::Skip
    })
}
