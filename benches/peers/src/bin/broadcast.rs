//! tokio-tungstenite with tokio's broadcast channel, the idiom of chat servers: each client's task waits for its
//! socket and for the channel, and sends the messages of the others.

use std::{cell::Cell, process::ExitCode};

use futures_util::{SinkExt, StreamExt};
use longwire_bench_peers::{BoxError, Options, serve};
use tokio::{
    net::TcpStream,
    sync::broadcast::{self, Sender, error::RecvError},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Message, Role, WebSocketConfig},
};

fn main() -> ExitCode {
    let (everyone, _) = broadcast::channel(CAPACITY);
    let clients = Cell::new(0);
    serve(move |stream, _: Options| {
        let id = clients.get();
        clients.set(id + 1);
        client(stream, id, everyone.clone())
    })
}

async fn client(stream: TcpStream, id: u64, everyone: Sender<(u64, Message)>) -> Result<(), BoxError> {
    // The default read buffer of 128 KiB is zeroed before every read.
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let ws = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let mut others = everyone.subscribe();
    let (mut sink, mut stream) = ws.split();
    loop {
        tokio::select! {
            received = stream.next() => match received {
                Some(message) => {
                    let message = message?;
                    if message.is_text() || message.is_binary() {
                        // At least this client's own receiver exists.
                        let _ = everyone.send((id, message));
                    }
                }
                None => return Ok(()),
            },
            said = others.recv() => match said {
                Ok((from, message)) if from != id => sink.send(message).await?,
                // It has missed messages, and continues with the oldest one available.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
}

/// The number of messages that the slowest client may lag.
const CAPACITY: usize = 1024;
