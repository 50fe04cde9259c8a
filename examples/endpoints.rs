//! Several WebSocket endpoints on one HTTP server, each with its own limits and clients.
//!
//! ```text
//! cargo run --release --example endpoints -- --listen 127.0.0.1:8080
//! cargo run --release --example cat -- ws://127.0.0.1:8080/echo
//! cargo run --release --example cat -- ws://127.0.0.1:8080/chat/blue
//! curl http://127.0.0.1:8080/
//! ```
//! On SIGINT every client is closed with code 1001 (going away).

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{Extension, Path};
use axum::response::Response;
use axum::routing::{any, get};
use axum::{Json, Router};
use clap::Parser;
use longwire::BoxError;
use longwire::axum::WebSocketUpgrade;
use longwire::hyper::{Mount, MountConfig};
use serde_json::json;
use tokio::net::TcpListener;

#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse();
    let (echoes, chats) = (Mount::default(), Mount::new(chat_config()));
    let [echo_hub, chat_hub] = [&echoes, &chats].map(|mount| mount.hub().clone());
    let counts = {
        let [echo, chat] = [&echo_hub, &chat_hub].map(Clone::clone);
        move || async move { Json(json!({ "echo": echo.len(), "chat": chat.len() })) }
    };
    let app = Router::new()
        .route("/", get(counts))
        .route("/echo", any(echo).layer(Extension(echoes)))
        .route("/chat/{room}", any(chat).layer(Extension(chats)));

    let listener = TcpListener::bind(args.listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let interrupted = async move {
        drop(tokio::signal::ctrl_c().await);
        let deadline = Duration::from_secs(10);
        drop(tokio::join!(echo_hub.shutdown(1001, "", deadline), chat_hub.shutdown(1001, "", deadline)));
    };
    axum::serve(listener, app).with_graceful_shutdown(interrupted).await?;
    Ok(())
}

fn chat_config() -> MountConfig {
    let mut config = MountConfig::default();
    config.connection.limits.max_message = Some(1000);
    config
}

async fn echo(ws: WebSocketUpgrade) -> Response {
    ws.on_upgrade(|mut ws| async move {
        while let Some(message) = ws.recv().await? {
            ws.send(message).await?;
        }
        Ok(())
    })
}

async fn chat(ws: WebSocketUpgrade, Path(room): Path<String>) -> Response {
    ws.on_upgrade(|mut ws| async move {
        ws.join(&room)?;
        while let Some(message) = ws.recv().await? {
            ws.hub().publish_except(&room, ws.id(), message);
        }
        Ok(())
    })
}
