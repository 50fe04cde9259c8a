//! An echo server: every text and binary message comes back as it went.
//!
//! ```text
//! cargo run --release --example echo -- --listen 127.0.0.1:9001
//! ```
//! It prints the URL when it is ready. On SIGINT every client is closed with code 1001 (going away).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use longwire::{DeflateOptions, Limits, Server, server};
use tokio::runtime::{Builder, Runtime};

#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// The longest message in bytes.
    #[arg(long, value_name = "BYTES")]
    max_message: Option<usize>,
    /// Worker threads; 1 is a runtime of the current thread alone. Default: one for each core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Compress messages (permessage-deflate).
    #[arg(long)]
    deflate: bool,
    /// Listen on a Unix socket.
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
    /// The certificate chain, as PEM, to serve over TLS.
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, as PEM.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.unix.is_some() || args.tls_cert.is_some() || args.tls_key.is_some() {
        eprintln!("--unix, --tls-cert and --tls-key are not supported yet");
        return ExitCode::from(2);
    }
    match runtime(args.threads).map_err(Into::into).and_then(|runtime| runtime.block_on(run(&args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
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

async fn run(args: &Args) -> Result<(), server::BoxError> {
    let server = Server::bind(args.listen).await?.configure(|config| {
        let default = Limits::default();
        let max_message = args.max_message.or(default.max_message);
        let max_frame = args.max_message.or(default.max_frame);
        config.connection.limits = Limits { max_message, max_frame, ..default };
        config.handshake.deflate = args.deflate.then(DeflateOptions::default);
    });
    println!("listening on ws://{}", server.local_addr());

    let echo = server.serve(|mut ws, _request| async move {
        while let Some(message) = ws.recv().await? {
            ws.send(message).await?;
        }
        Ok(())
    });
    echo.with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) }).await?;
    Ok(())
}
