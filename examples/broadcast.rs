//! A server that forwards each message to every other client.
//!
//! ```text
//! cargo run --release --example broadcast -- --listen 127.0.0.1:9002
//! ```
//! A message is framed once for all of them. A client that does not keep up is closed with code 1013; it delays no
//! other client. On SIGINT every client is closed with code 1001 (going away).

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use longwire::{DeflateOptions, Server};
use tokio::runtime::{Builder, Runtime};

#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9002")]
    listen: SocketAddr,
    /// Worker threads; 1 selects a current-thread runtime. Default: one for each core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Compress messages (permessage-deflate).
    #[arg(long)]
    deflate: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match runtime(args.threads).map_err(Into::into).and_then(|runtime| runtime.block_on(run(&args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With its causes.
            eprintln!("broadcast: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn runtime(threads: Option<usize>) -> std::io::Result<Runtime> {
    match threads {
        Some(0 | 1) => Builder::new_current_thread().enable_all().build(),
        Some(threads) => Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
        None => Builder::new_multi_thread().enable_all().build(),
    }
}

async fn run(args: &Args) -> Result<(), longwire::BoxError> {
    let server = Server::bind(args.listen).await?.configure(|config| {
        config.handshake.deflate = args.deflate.then(DeflateOptions::default);
    });
    println!("listening on ws://{}", server.local_addr());

    let broadcast = server.serve(|mut ws, _request| async move {
        while let Some(message) = ws.recv().await? {
            ws.hub().broadcast_except(ws.id(), message);
        }
        Ok(())
    });
    broadcast.with_graceful_shutdown(tokio::signal::ctrl_c()).await?;
    Ok(())
}
