//! The usual recipe: axum, a broadcast channel of tokio for each room, and a subscription to the broker for each room
//! of a node. Messages reach the members of the same node through the broker, too.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{
        Path, State, WebSocketUpgrade,
        ws::{Message, Utf8Bytes, WebSocket},
    },
    routing::any,
};
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use redis::AsyncCommands;
use tokio::{
    net::TcpListener,
    sync::broadcast::{self, Receiver, Sender, error::RecvError},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
struct Options {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long)]
    listen: SocketAddr,
    /// The broker: nats://HOST:PORT or redis://HOST:PORT.
    #[arg(long, value_name = "URL")]
    broker: String,
}

#[derive(Clone)]
struct App {
    rooms: Arc<Mutex<HashMap<String, Sender<Utf8Bytes>>>>,
    broker: Broker,
}

#[derive(Clone)]
enum Broker {
    Nats(async_nats::Client),
    Redis(redis::Client, redis::aio::MultiplexedConnection),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let options = Options::parse();
    let broker = if options.broker.starts_with("nats") {
        Broker::Nats(async_nats::connect(&options.broker).await?)
    } else {
        let client = redis::Client::open(options.broker)?;
        let connection = client.get_multiplexed_async_connection().await?;
        Broker::Redis(client, connection)
    };
    let app = App { rooms: Arc::default(), broker };
    let router = Router::new().route("/rooms/{room}", any(upgrade)).with_state(app);
    let listener = TcpListener::bind(options.listen).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await?;
    Ok(())
}

async fn upgrade(
    Path(room): Path<String>,
    State(app): State<App>,
    ws: WebSocketUpgrade,
) -> axum::response::Response {
    ws.on_upgrade(|ws| async move {
        let _ = serve(ws, room, app).await;
    })
}

async fn serve(ws: WebSocket, room: String, mut app: App) -> Result<(), BoxError> {
    let mut messages = app.join(&room).await?;
    let (mut sink, mut stream) = ws.split();
    loop {
        tokio::select! {
            received = stream.next() => match received {
                Some(Ok(Message::Text(text))) => app.publish(&room, text).await?,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(()),
            },
            message = messages.recv() => match message {
                Ok(text) => sink.send(Message::Text(text)).await?,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
}

impl App {
    /// Returns the messages of a room. The first member subscribes to it.
    async fn join(&self, room: &str) -> Result<Receiver<Utf8Bytes>, BoxError> {
        let sender = {
            let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(sender) = rooms.get(room) {
                return Ok(sender.subscribe());
            }
            let (sender, _) = broadcast::channel(CAPACITY);
            rooms.insert(room.to_owned(), sender.clone());
            sender
        };
        let receiver = sender.subscribe();
        match &self.broker {
            Broker::Nats(client) => {
                let mut messages = client.subscribe(room.to_owned()).await?;
                tokio::spawn(async move {
                    while let Some(message) = messages.next().await {
                        if let Ok(text) = Utf8Bytes::try_from(message.payload) {
                            let _ = sender.send(text);
                        }
                    }
                });
            }
            Broker::Redis(client, _) => {
                let mut subscriber = client.get_async_pubsub().await?;
                subscriber.subscribe(room).await?;
                tokio::spawn(async move {
                    let mut messages = subscriber.into_on_message();
                    while let Some(message) = messages.next().await {
                        if let Ok(text) = message.get_payload::<String>() {
                            let _ = sender.send(text.into());
                        }
                    }
                });
            }
        }
        Ok(receiver)
    }

    async fn publish(&mut self, room: &str, text: Utf8Bytes) -> Result<(), BoxError> {
        match &mut self.broker {
            Broker::Nats(client) => client.publish(room.to_owned(), text.into()).await?,
            Broker::Redis(_, connection) => connection.publish::<_, _, ()>(room, text.as_str()).await?,
        }
        Ok(())
    }
}

/// The number of messages that the slowest client may lag.
const CAPACITY: usize = 1024;
