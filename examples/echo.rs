//! An echo server: it sends back every text and binary message.
//!
//! ```text
//! cargo run --release --example echo -- --listen 127.0.0.1:9001
//! ```
//! It prints its URL when it is ready. On SIGINT it closes every client with code 1001 (going away), and prints the
//! totals of messages received and sent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use longwire::deflate::{Level, WindowBits};
use longwire::server::{self, TlsConfig, TrustedProxies};
use longwire::{DeflateOptions, Keepalive, Limits, Request, Server, Stats};
use tokio::runtime::{Builder, Runtime};

#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// The maximum length of a message in bytes.
    #[arg(long, value_name = "BYTES")]
    max_message: Option<usize>,
    /// Worker threads; 1 selects a current-thread runtime. Default: one for each core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Compress messages (permessage-deflate).
    #[arg(long)]
    deflate: bool,
    /// Compress each message separately, in both directions, which takes less memory.
    #[arg(long, requires = "deflate")]
    no_context_takeover: bool,
    /// The largest window in either direction, as a power of two from 9 to 15.
    #[arg(long, requires = "deflate", value_name = "BITS", value_parser = window_bits)]
    window_bits: Option<WindowBits>,
    /// The compression level, from 1, the fastest, to 9.
    #[arg(long, requires = "deflate", value_parser = level)]
    level: Option<Level>,
    /// The length in bytes below which messages are sent uncompressed. Default: 1024.
    #[arg(long, requires = "deflate", value_name = "BYTES")]
    threshold: Option<usize>,
    /// Listen on a Unix socket instead.
    #[arg(long, value_name = "PATH", conflicts_with = "listen")]
    unix: Option<PathBuf>,
    /// The certificate chain, as PEM, to serve over TLS.
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "unix")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, as PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The silence in seconds after which a client is pinged. Default: 30.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    keepalive: Option<Duration>,
    /// Ping no client.
    #[arg(long, conflicts_with = "keepalive")]
    no_keepalive: bool,
    /// How a proxy on this machine passes on the addresses of clients. Each client's is printed, with the host that
    /// it asked for.
    #[arg(long, value_name = "WAY", conflicts_with = "unix")]
    proxy: Option<Proxy>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Proxy {
    /// In `X-Forwarded-For`.
    ForwardedFor,
    /// In a header of the PROXY protocol.
    ProxyProtocol,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match runtime(args.threads).map_err(Into::into).and_then(|runtime| runtime.block_on(run(&args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With its causes.
            eprintln!("echo: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn window_bits(bits: &str) -> Result<WindowBits, String> {
    bits.parse().ok().and_then(WindowBits::new).ok_or_else(|| "window bits must be from 8 to 15".to_owned())
}

fn level(level: &str) -> Result<Level, String> {
    level.parse().ok().and_then(Level::new).ok_or_else(|| "the level must be from 1 to 9".to_owned())
}

fn seconds(seconds: &str) -> Result<Duration, String> {
    let seconds = seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|seconds| !seconds.is_zero()).ok_or_else(|| "a positive number was expected".to_owned())
}

fn runtime(threads: Option<usize>) -> std::io::Result<Runtime> {
    match threads {
        Some(0 | 1) => Builder::new_current_thread().enable_all().build(),
        Some(threads) => Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
        None => Builder::new_multi_thread().enable_all().build(),
    }
}

async fn run(args: &Args) -> Result<(), longwire::BoxError> {
    let mut server = match &args.unix {
        Some(path) => Server::bind_unix(path)?,
        None => Server::bind(args.listen).await?,
    };
    let mut url = format!("ws://{}", server.local_addr());
    if let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) {
        server = server.tls(TlsConfig::from_files(cert, key).map_err(server::Error::from)?);
        url = format!("wss://{}", server.local_addr());
    } else if let Some(path) = &args.unix {
        url = format!("ws+unix:{}", path.display());
    }
    let this_machine = TrustedProxies::networks(["127.0.0.1", "::1"])?;
    let server = server.configure(|config| {
        match args.proxy {
            Some(Proxy::ForwardedFor) => config.trusted_proxies = this_machine,
            Some(Proxy::ProxyProtocol) => config.proxy_protocol = this_machine,
            None => (),
        }
        config.connection.keepalive = keepalive(args);
        let default = Limits::default();
        let max_message = args.max_message.or(default.max_message);
        let max_frame = args.max_message.or(default.max_frame);
        config.connection.limits = default.with_max_message(max_message).with_max_frame(max_frame);
        config.handshake.deflate = args.deflate.then(|| deflate_options(args));
    });
    println!("listening on {url}");

    let prints_clients = args.proxy.is_some();
    let echo = server.serve(move |mut ws, request| async move {
        if prints_clients {
            print_client(&request);
        }
        // Otherwise the connection keeps its request, of a kilobyte or more, to its end.
        drop(request);
        let ended = async {
            while let Some(message) = ws.recv().await? {
                ws.send(message).await?;
            }
            Ok(())
        };
        let ended = ended.await;
        count(&ws.stats());
        ended
    });
    echo.with_graceful_shutdown(tokio::signal::ctrl_c()).await?;
    print_served();
    if let Some(path) = &args.unix {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

fn keepalive(args: &Args) -> Option<Keepalive> {
    let mut keepalive = Keepalive::default();
    keepalive.interval = args.keepalive.unwrap_or(keepalive.interval);
    (!args.no_keepalive).then_some(keepalive)
}

fn print_client(request: &Request) {
    let address = request.client_ip().map_or_else(|| "unknown".to_owned(), |ip| ip.to_string());
    let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
    println!("client {address} asks for {}", host.unwrap_or("no host"));
}

fn deflate_options(args: &Args) -> DeflateOptions {
    let mut options = DeflateOptions::default();
    options.server_no_context_takeover = args.no_context_takeover;
    options.client_no_context_takeover = args.no_context_takeover;
    options.level = args.level.unwrap_or(options.level);
    options.threshold = args.threshold.unwrap_or(options.threshold);
    if let Some(bits) = args.window_bits {
        options.server_max_window_bits = bits;
        options.client_max_window_bits = bits;
    }
    options
}

/// Adds the counters of a connection that has ended.
fn count(stats: &Stats) {
    *SERVED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default() += *stats;
}

fn print_served() {
    let served = SERVED.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or_default();
    for (way, messages, bytes, compressed) in [
        ("received", served.messages_received, served.bytes_received, served.received_compressed),
        ("sent", served.messages_sent, served.bytes_sent, served.sent_compressed),
    ] {
        println!(
            "{way} {messages} messages in {bytes} bytes, {} of them compressed from {} bytes to {}",
            compressed.messages, compressed.payload_bytes, compressed.wire_bytes
        );
    }
}

/// The counters of all connections that have ended.
static SERVED: Mutex<Option<Stats>> = Mutex::new(None);
