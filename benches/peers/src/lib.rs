//! The parts that the echo servers share: the command line, the listener, the opening handshake and the loop.
//!
//! One thread unless more are asked for, `TCP_NODELAY`, tasks without tokio's cooperative budget: the same choices as
//! in the libraries' own echo examples that aim at speed. The handshake is made here for all of them and not measured,
//! so that each gets the bare socket and none the boxed stream of an HTTP library.

#![forbid(unsafe_code)]

pub mod floor;

use std::{future::Future, io, net::SocketAddr, pin::Pin, process::ExitCode, task::Poll};

use clap::{Parser, ValueEnum};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The error of a connection that does not end cleanly.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The command line of an echo server.
#[derive(Clone, Copy, Parser)]
pub struct Options {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9001")]
    pub listen: SocketAddr,
    /// Worker threads; 1 selects a current-thread runtime.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
    /// The number of messages already there that are answered with one flush; 1 sends each separately.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub batch: usize,
    /// The goal for the sizes of buffers, if the library offers a choice.
    #[arg(long, value_enum, default_value_t = Tuning::Speed)]
    pub tuning: Tuning,
    /// Agree to compress messages, whatever is offered, with the parameters below.
    #[arg(long)]
    pub deflate: bool,
    /// Both sides compress each message separately.
    #[arg(long)]
    pub no_context_takeover: bool,
    /// The window of both sides, as a power of two.
    #[arg(long, value_name = "BITS", default_value_t = 15)]
    pub window_bits: u8,
    /// The compression level.
    #[arg(long, default_value_t = 6)]
    pub level: u8,
}

impl Options {
    /// Returns the server's answer to the offer, for messages of every length.
    #[must_use]
    pub fn extensions(&self) -> Option<String> {
        let mut agreed = "permessage-deflate".to_owned();
        if self.no_context_takeover {
            agreed += "; server_no_context_takeover; client_no_context_takeover";
        }
        if self.window_bits < 15 {
            let bits = self.window_bits;
            agreed = format!("{agreed}; server_max_window_bits={bits}; client_max_window_bits={bits}");
        }
        self.deflate.then_some(agreed)
    }
}

/// The goal for the sizes of buffers.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tuning {
    /// Throughput.
    Speed,
    /// Many idle connections.
    Memory,
}

/// Runs a server until it is stopped from outside; `connection` gets each socket after the handshake.
pub fn serve<F>(connection: impl Fn(TcpStream, Options) -> F) -> ExitCode
where
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let options = Options::parse();
    let run = async {
        let listener = TcpListener::bind(options.listen).await?;
        println!("listening on ws://{}", listener.local_addr()?);
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // The load generator sends its request immediately: awaiting it here keeps the handshake out of the
            // tasks.
            if shake_hands(&mut stream, options).await.is_ok() {
                tokio::spawn(tokio::task::unconstrained(report(connection(stream, options))));
            }
        }
    };
    let mut builder = match options.threads {
        0 | 1 => Builder::new_current_thread(),
        threads => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    let outcome: io::Result<()> = builder.enable_all().build().and_then(|runtime| runtime.block_on(run));
    if let Err(error) = outcome {
        eprintln!("{error}");
    }
    ExitCode::FAILURE
}

/// A connection's end is reported only on request: the load generator resets every connection.
async fn report(connection: impl Future<Output = Result<(), BoxError>>) {
    if let Err(error) = connection.await
        && std::env::var_os("VERBOSE").is_some()
    {
        eprintln!("{error}");
    }
}

async fn shake_hands(stream: &mut TcpStream, options: Options) -> io::Result<()> {
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 4096 || stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let head = String::from_utf8_lossy(&head);
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
    });
    let accept = derive_accept_key(key.ok_or(io::ErrorKind::InvalidData)?.as_bytes());
    let extensions = options
        .extensions()
        .map(|agreed| format!("Sec-WebSocket-Extensions: {agreed}\r\n"))
        .unwrap_or_default();
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{extensions}\r\n"
    );
    stream.write_all(response.as_bytes()).await
}

/// The reaction of an echo server to one item of a library's stream.
pub enum Step<M> {
    /// The message is sent back.
    Echo(M),
    /// The item does not concern the application.
    Skip,
    /// The connection is over.
    End,
}

/// The time at which the messages of a batch are passed to the library.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// Each as soon as it is received.
    AtOnce,
    /// All of them when no further one is there: faster with a library that flushes, or tries to, when it is polled
    /// for a message.
    AtTheEnd,
}

/// Echoes messages: answers up to `batch` messages already there with one flush.
///
/// # Errors
///
/// The errors of the library.
pub async fn echo<W, M, E>(
    mut ws: W,
    batch: usize,
    feed: Feed,
    step: impl Fn(W::Item) -> Result<Step<M>, E>,
) -> Result<(), BoxError>
where
    W: Stream + Sink<M, Error = E> + Unpin,
    E: Into<BoxError>,
{
    let mut held = Vec::new();
    while let Some(item) = ws.next().await {
        let mut next = Some(item);
        let mut taken = 0;
        while let Some(item) = next.take() {
            match step(item).map_err(Into::into)? {
                Step::Echo(message) if batch <= 1 => ws.send(message).await.map_err(Into::into)?,
                Step::Echo(message) if feed == Feed::AtOnce => ws.feed(message).await.map_err(Into::into)?,
                Step::Echo(message) => held.push(message),
                Step::Skip => {}
                Step::End => return Ok(()),
            }
            taken += 1;
            if taken < batch {
                next = ready(&mut ws).await;
            }
        }
        for message in held.drain(..) {
            ws.feed(message).await.map_err(Into::into)?;
        }
        if batch > 1 {
            ws.flush().await.map_err(Into::into)?;
        }
    }
    Ok(())
}

/// Returns the stream's next item if it is there without waiting. The end of the stream is found by the next poll.
async fn ready<W: Stream + Unpin>(ws: &mut W) -> Option<W::Item> {
    std::future::poll_fn(|cx| match Pin::new(&mut *ws).poll_next(cx) {
        Poll::Ready(item) => Poll::Ready(item),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
