//! A `cat` for WebSocket connections: lines in, text messages out; messages in, lines out.
//!
//! ```text
//! echo hello | cargo run --release --example cat -- ws://127.0.0.1:9001
//! ```
//! At the end of standard input, it waits until no message has arrived for a moment, closes with code 1000 and
//! exits with 0. If the server closes first, it exits at once. Errors go to standard error, and the exit status is
//! 1.

use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use longwire::client::{self, TlsConfig};
use longwire::{BoxError, Client, CloseCode, Message, Sender};
use tokio::io::{AsyncWriteExt, stdout};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

#[derive(Parser)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
struct Args {
    /// A ws:// or wss:// URL, or the URL of a Unix socket: `ws+unix:/path/of/socket:/path`.
    url: String,
    /// A header of the request; may be given several times.
    #[arg(long, value_name = "K: V")]
    header: Vec<String>,
    /// The Origin header of the request.
    #[arg(long)]
    origin: Option<String>,
    /// A subprotocol to offer; may be given several times.
    #[arg(long, value_name = "P")]
    subprotocol: Vec<String>,
    /// Offer to compress messages (permessage-deflate). This is the default.
    #[arg(long, conflicts_with = "no_deflate")]
    #[allow(dead_code, reason = "said for clarity")]
    deflate: bool,
    /// Do not offer to compress messages.
    #[arg(long)]
    no_deflate: bool,
    /// The proxy to go through: http://, https://, socks5:// or socks5h://.
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Do not check the server's certificate.
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// The certificates to trust, as PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The number of redirects to follow.
    #[arg(long, value_name = "N")]
    follow: Option<usize>,
    /// Report the negotiated parameters and the end of the connection on standard error.
    #[arg(long)]
    verbose: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cat: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), BoxError> {
    let mut request = Client::new(&args.url);
    if args.no_deflate {
        request = request.deflate(None);
    }
    for header in &args.header {
        let (name, value) = header.split_once(':').ok_or("a header must have the form 'Name: value'")?;
        request = request.header(name.trim(), value.trim());
    }
    if let Some(origin) = &args.origin {
        request = request.origin(origin.as_str());
    }
    for subprotocol in &args.subprotocol {
        request = request.subprotocol(subprotocol.as_str());
    }
    if let Some(proxy) = &args.proxy {
        request = request.proxy(proxy);
    }
    if let Some(file) = &args.ca {
        request = request.tls(TlsConfig::new().root_certificates_file(file)?);
    }
    if args.insecure {
        request = request.tls(TlsConfig::new().dangerously_accept_any_certificate());
    }
    let request = request.redirects(args.follow.unwrap_or(0));
    let (ws, response) = request.connect().await.inspect_err(show_refusal)?;
    if args.verbose {
        eprintln!("subprotocol: {}", ws.subprotocol().unwrap_or("none"));
        eprintln!("extensions: {}", ws.extensions().unwrap_or("none"));
        for (name, value) in response.headers() {
            eprintln!("{name}: {}", String::from_utf8_lossy(value.as_bytes()).escape_debug());
        }
    }

    // Both directions at once: a server that waits for its replies to be read must not hold up the lines.
    let (sender, mut receiver) = ws.split();
    let mut sending = pin!(send_lines(&sender));
    // The time until which replies may arrive, set at the end of standard input. Each reply extends it.
    let mut quiet_at = None;
    loop {
        tokio::select! {
            message = receiver.recv() => {
                let Some(message) = message? else {
                    // The server has closed, or has answered our close.
                    if args.verbose
                        && let Some(close) = receiver.close_received()
                    {
                        eprintln!("closed: {close}");
                    }
                    return Ok(());
                };
                print(&message).await?;
                quiet_at = quiet_at.map(|_| Instant::now() + QUIET);
            }
            sent = &mut sending, if quiet_at.is_none() => {
                sent?;
                quiet_at = Some(Instant::now() + QUIET);
            }
            () = sleep_until(quiet_at.unwrap_or_else(Instant::now)), if quiet_at.is_some() => {
                if !sender.is_closed() {
                    sender.start_close(CloseCode::NORMAL, "")?;
                }
                // From here on, the close timeout applies.
                quiet_at = Some(Instant::now() + Duration::from_secs(60));
            }
        }
    }
}

async fn send_lines(sender: &Sender) -> Result<(), BoxError> {
    let mut lines = input_lines();
    while let Some(line) = lines.recv().await {
        sender.send(line?).await?;
    }
    Ok(())
}

/// Reads standard input in a separate thread. tokio's `stdin` reads in a thread that the runtime waits for: after
/// the server has closed, the program would not exit before the next line.
fn input_lines() -> mpsc::Receiver<io::Result<String>> {
    let (sender, lines) = mpsc::channel(16);
    thread::spawn(move || {
        for line in io::stdin().lines() {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}

async fn print(message: &Message) -> io::Result<()> {
    let mut stdout = stdout();
    stdout.write_all(message.as_bytes()).await?;
    stdout.write_all(b"\n").await?;
    stdout.flush().await
}

/// Prints the server's response to a refused request, which is often worth reading.
fn show_refusal(error: &client::Error) {
    if let client::Error::UnexpectedResponse { response, .. } = error {
        eprintln!("{}", String::from_utf8_lossy(response.body()).escape_debug());
    }
}

/// Formats an error with its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut shown: Vec<String> = causes.map(ToString::to_string).collect();
    shown.dedup_by(|cause, error| error.contains(cause.as_str()));
    shown.join(": ")
}

/// The time to wait for replies that are on their way.
const QUIET: Duration = Duration::from_millis(500);
