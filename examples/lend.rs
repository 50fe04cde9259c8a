//! An echo server that looks at each message where it was read, and copies it once: into the buffer to be written.
//!
//! ```text
//! cargo run --release --example lend -- --listen 127.0.0.1:9001
//! ```
//! It prints its URL when it is ready. On SIGINT it closes every client with code 1001 (going away).

use std::net::SocketAddr;

use clap::Parser;
use longwire::Server;
use tokio::runtime::{Builder, Runtime};

#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// Worker threads; 1 selects a current-thread runtime. Default: one for each core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

fn main() -> Result<(), longwire::BoxError> {
    let args = Args::parse();
    runtime(args.threads)?.block_on(run(&args))
}

fn runtime(threads: Option<usize>) -> std::io::Result<Runtime> {
    match threads {
        Some(0 | 1) => Builder::new_current_thread().enable_all().build(),
        Some(threads) => Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
        None => Builder::new_multi_thread().enable_all().build(),
    }
}

async fn run(args: &Args) -> Result<(), longwire::BoxError> {
    let server = Server::bind(args.listen).await?;
    println!("listening on ws://{}", server.local_addr());
    let echo = server.serve(|mut ws, _request| async move {
        // The message lies in the read buffer while it is lent. `send` fails only if the connection is at its end:
        // `reply_with` waits for room before it receives.
        while let Some(sent) = ws.reply_with(|message, reply| reply.send(message)).await? {
            sent?;
        }
        Ok(())
    });
    echo.with_graceful_shutdown(tokio::signal::ctrl_c()).await?;
    Ok(())
}
