//! A chat with rooms, on axum, and a page about it at an address of its own: rooms, slow clients, close codes, round
//! trips.
//!
//! ```text
//! cargo run --release --example admin -- --listen 127.0.0.1:8080 --admin 127.0.0.1:8081
//! cargo run --release --example cat -- ws://127.0.0.1:8080/rooms/blue
//! ```
//! The page is `admin/page.rs` and `admin/page.html`: copy the two files to use it. On SIGINT every client is closed
//! with code 1001 (going away).

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{Extension, Path};
use axum::response::Response;
use axum::{Router, routing::any};
use clap::Parser;
use longwire::axum::WebSocketUpgrade;
use longwire::hyper::{Mount, MountConfig};
use longwire::{BoxError, Keepalive, Measurements};
use tokio::net::TcpListener;

#[path = "admin/page.rs"]
mod page;

#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The address of the page. It has no login, so it must not be public.
    #[arg(long, default_value = "127.0.0.1:8081")]
    admin: SocketAddr,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse();
    let measurements = Measurements::default();
    let mut config = MountConfig::default();
    config.connection.measurements = Some(measurements.clone());
    // Each ping is a measurement. The default interval of 30 s is right for most servers.
    config.connection.keepalive = Some(Keepalive::default().with_interval(Duration::from_secs(5)));
    let mount = Mount::new(config);

    let app = Router::new().route("/rooms/{room}", any(chat)).layer(Extension(mount.clone()));
    let listener = TcpListener::bind(args.listen).await?;
    println!("listening on ws://{}", listener.local_addr()?);

    let admin = TcpListener::bind(args.admin).await?;
    println!("page on http://{}", admin.local_addr()?);
    // The page, in two lines.
    let page = page::routes(mount.hub().clone(), measurements);
    tokio::spawn(axum::serve(admin, page).into_future());

    let interrupted = mount.shutdown_after(tokio::signal::ctrl_c(), Duration::from_secs(10));
    axum::serve(listener, app).with_graceful_shutdown(interrupted).await?;
    Ok(())
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
