//! An echo server on hyper alone: HTTP/1.1 and HTTP/2 on one port.
//!
//! ```text
//! cargo run --release --example hyper_echo -- --listen 127.0.0.1:9003
//! cargo run --release --example cat -- ws://127.0.0.1:9003
//! ```
//! On SIGINT every client is closed with code 1001 (going away).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use longwire::hyper::{BoxError, HandlerResult, Mount, Socket, upgrade};
use longwire::{CloseCode, DeflateOptions};
use tokio::net::{TcpListener, TcpStream};

#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9003")]
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
            eprintln!("hyper_echo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), BoxError> {
    let mut config = longwire::hyper::MountConfig::default();
    config.handshake.deflate = args.deflate.then(DeflateOptions::default);
    let mount = Mount::new(config);

    let listener = TcpListener::bind(args.listen).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(connection(stream, mount.clone()))),
                Err(error) => {
                    eprintln!("cannot accept: {error}");
                    // Out of descriptors, most likely: some will be given back.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    mount.hub().shutdown(CloseCode::GOING_AWAY, "", Duration::from_secs(10)).await?;
    Ok(())
}

async fn connection(stream: TcpStream, mount: Mount) {
    let mut http = auto::Builder::new(TokioExecutor::new());
    // Without it a WebSocket over HTTP/2 is refused (RFC 8441 §3).
    http.http2().enable_connect_protocol();
    let service = service_fn(|request| {
        let response = respond(request, &mount);
        async move { Ok::<_, Infallible>(response) }
    });
    if let Err(error) = http.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        eprintln!("a connection has failed: {error}");
    }
}

fn respond(mut request: Request<Incoming>, mount: &Mount) -> Response<String> {
    match upgrade(&mut request, mount) {
        Ok((response, upgrade)) => {
            upgrade.on_upgrade(echo);
            response
        }
        Err(rejection) if rejection.is_plain_request() => Response::new("speak WebSocket to me\n".to_owned()),
        Err(rejection) => rejection.to_response().map(|body| String::from_utf8_lossy(&body).into_owned()),
    }
}

async fn echo(mut ws: Socket) -> HandlerResult {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}
