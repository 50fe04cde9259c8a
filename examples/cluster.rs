//! Rooms on several nodes, linked by a message broker.
//!
//! ```text
//! nats-server &
//! cargo run --release --example cluster -- --listen 127.0.0.1:9003 --broker nats://127.0.0.1:4222
//! cargo run --release --example cluster -- --listen 127.0.0.1:9004 --broker nats://127.0.0.1:4222
//! cargo run --release --example cat -- ws://127.0.0.1:9003/rooms/tea
//! curl http://127.0.0.1:9004/rooms/tea
//! ```
//! A text message is delivered to every other member of the room, on all nodes. With `--history 1000`, on all nodes,
//! the broker keeps the last 1000 messages of each room for an hour: a member first receives
//! `{"joined":"NAME","position":"P","recovered":false}`, then each message as `{"position":"P","data":"TEXT"}`, and
//! `{"gap":true}` where messages were lost for good. One that connects to `/rooms/NAME?since=P` first receives what was
//! published after `P`, if that is still there (`"recovered":true`). NATS needs `JetStream` for it (`nats-server -js`).
//!
//! `GET /rooms/NAME` returns the number of
//! members, and `GET /health` the status 200, or 503 while the broker is away. A page with both nodes is at
//! `http://127.0.0.1:9003/?with=127.0.0.1:9004`. Without a broker, the node is alone. On SIGINT every client is closed
//! with code 1001 (going away), and the node leaves the cluster.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use clap::Parser;
use longwire::axum::WebSocketUpgrade;
use longwire::cluster::{Cluster, ClusterOptions, History, Joined, Memory, Nats, Position, Redis};
use longwire::hyper::{Mount, MountConfig};
use longwire::{BoxError, Hub, Message};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9003")]
    listen: SocketAddr,
    /// The broker: nats://HOST:PORT or redis://HOST:PORT. Default: none; then the node is alone.
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// The number of messages that the broker keeps of each room. Default: none.
    #[arg(long, value_name = "N")]
    history: Option<usize>,
    /// The name of this node.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

/// What the handlers need.
#[derive(Clone)]
struct App {
    cluster: Cluster,
    has_history: bool,
}

/// The query of a WebSocket request.
#[derive(Deserialize)]
struct Resume {
    /// The position of the last message that the client has received.
    since: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse();
    let mount = Mount::new(MountConfig::default());
    let cluster = join(mount.hub(), &args).await?;
    let app = Router::new()
        .route("/", get(|| async { Html(include_str!("cluster/page.html")) }))
        .route("/rooms/{room}", any(room))
        .route("/health", get(health))
        .layer(Extension(mount.clone()))
        .with_state(App { cluster: cluster.clone(), has_history: args.history.is_some() });

    let listener = TcpListener::bind(args.listen).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    let interrupted = async move {
        mount.shutdown_after(tokio::signal::ctrl_c(), Duration::from_secs(10)).await;
        cluster.leave().await;
    };
    axum::serve(listener, app).with_graceful_shutdown(interrupted).await?;
    Ok(())
}

/// Joins the cluster of a broker.
async fn join(hub: &Hub, args: &Args) -> Result<Cluster, BoxError> {
    let mut options = ClusterOptions::default();
    options.name.clone_from(&args.node);
    if let Some(messages) = args.history {
        let history = History::default().with_messages(messages).with_age(Duration::from_secs(3600));
        options = options
            .with_history(history)
            .with_history_message(|position, message| match message {
                Message::Text(text) => {
                    text_of(&json!({ "position": position.to_string(), "data": text.as_str() }))
                }
                Message::Binary(_) => message.clone(),
            })
            .with_gap_message(|_| Some(text_of(&json!({ "gap": true }))));
    }
    let cluster = match args.broker.as_deref() {
        None => Cluster::join(hub, Memory::new(), options).await,
        Some(url) if url.starts_with("nats") => Cluster::join(hub, Nats::connect(url).await?, options).await,
        Some(url) => Cluster::join(hub, Redis::connect(url).await?, options).await,
    };
    Ok(cluster?)
}

/// A member of the room for a WebSocket request, and the number of members for any other.
async fn room(
    Path(room): Path<String>,
    Query(Resume { since }): Query<Resume>,
    State(App { cluster, has_history }): State<App>,
    ws: Option<WebSocketUpgrade>,
) -> Response {
    let Some(ws) = ws else {
        return match cluster.count(&room).await {
            Ok(members) => Json(json!({ "members": members })).into_response(),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
        };
    };
    let since = since.filter(|since| has_history && !since.is_empty());
    let since = match since.map(|since| since.parse::<Position>()).transpose() {
        Ok(since) => since,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    ws.on_upgrade(move |mut ws| async move {
        if has_history {
            let welcome = |joined: &Joined| {
                let position = joined.position.to_string();
                Some(text_of(&json!({ "joined": room, "position": position, "recovered": joined.recovered })))
            };
            cluster.join_since(&ws.client(), &room, since, welcome).await?;
        } else {
            ws.join(&room)?;
        }
        while let Some(message) = ws.recv().await? {
            ws.hub().publish_except(&room, ws.id(), message);
        }
        Ok(())
    })
}

fn text_of(json: &serde_json::Value) -> Message {
    json.to_string().into()
}

async fn health(State(App { cluster, .. }): State<App>) -> StatusCode {
    if cluster.is_connected() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
