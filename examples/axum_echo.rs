//! An echo server on axum, for comparisons, and the shortest example of all.
//!
//! ```text
//! cargo run --release --example axum_echo -- --listen 127.0.0.1:9004
//! cargo run --release --example cat -- ws://127.0.0.1:9004
//! ```
//! On SIGINT every client is closed with code 1001 (going away).

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use axum::{Router, response::Response, routing::any};
use clap::Parser;
use longwire::DeflateOptions;
use longwire::axum::FromState;
use longwire::hyper::{Mount, MountConfig, Socket};
use longwire::{BoxError, HandlerResult};
use tokio::net::TcpListener;

#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9004")]
    listen: SocketAddr,
    /// Compress messages (permessage-deflate).
    #[arg(long)]
    deflate: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("axum_echo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), BoxError> {
    let mut config = MountConfig::default();
    config.handshake.deflate = args.deflate.then(DeflateOptions::default);
    let mount = Mount::new(config);
    let app = Router::new().fallback_service(any(upgrade).with_state(mount.clone()));

    let listener = TcpListener::bind(args.listen).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    let interrupted = mount.shutdown_after(tokio::signal::ctrl_c(), Duration::from_secs(10));
    axum::serve(listener, app).with_graceful_shutdown(interrupted).await?;
    Ok(())
}

async fn upgrade(FromState(ws): FromState) -> Response {
    ws.on_upgrade(echo)
}

async fn echo(mut ws: Socket) -> HandlerResult {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}
