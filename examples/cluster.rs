//! Rooms on several nodes, linked by a message broker.
//!
//! ```text
//! nats-server &
//! cargo run --release --example cluster -- --listen 127.0.0.1:9003 --broker nats://127.0.0.1:4222
//! cargo run --release --example cluster -- --listen 127.0.0.1:9004 --broker nats://127.0.0.1:4222
//! cargo run --release --example cat -- ws://127.0.0.1:9003/rooms/tea
//! curl http://127.0.0.1:9004/rooms/tea
//! ```
//! A text message is delivered to every other member of the room, on all nodes. `GET /rooms/NAME` returns the number of
//! members, and `GET /health` the status 200, or 503 while the broker is away. A page with both nodes is at
//! `http://127.0.0.1:9003/?with=127.0.0.1:9004`. Without a broker, the node is alone. On SIGINT every client is closed
//! with code 1001 (going away), and the node leaves the cluster.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use clap::Parser;
use longwire::axum::WebSocketUpgrade;
use longwire::cluster::{Cluster, ClusterOptions, Memory, Nats, Redis};
use longwire::hyper::{Mount, MountConfig};
use longwire::{BoxError, Hub};
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
    /// The name of this node.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
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
        .with_state(cluster.clone());

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
    State(cluster): State<Cluster>,
    ws: Option<WebSocketUpgrade>,
) -> Response {
    let Some(ws) = ws else {
        return match cluster.count(&room).await {
            Ok(members) => Json(json!({ "members": members })).into_response(),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
        };
    };
    ws.on_upgrade(|mut ws| async move {
        ws.join(&room)?;
        while let Some(message) = ws.recv().await? {
            ws.hub().publish_except(&room, ws.id(), message);
        }
        Ok(())
    })
}

async fn health(State(cluster): State<Cluster>) -> StatusCode {
    if cluster.is_connected() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
