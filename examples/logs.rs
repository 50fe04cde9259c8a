//! The log of a server and of its clients, through an ordinary day and ten mishaps. The lines are explained in
//! `docs/guide/logs.md`.
//!
//! ```text
//! cargo run --example logs [-- --debug]
//! ```
//! Without `--debug`, it prints the events of level INFO and above, as most programs do.

use std::net::SocketAddr;
use std::time::Duration;

use longwire::handshake::Rejection;

use longwire::reconnect::{Phase, Reconnecting};
use longwire::{Client, Server, ServerHandle, Shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing_subscriber::filter::LevelFilter;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One thread, so that the lines come in the order in which things happen.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let is_debug = std::env::args().any(|argument| argument == "--debug");
    let level = if is_debug { LevelFilter::DEBUG } else { LevelFilter::INFO };
    tracing_subscriber::fmt().with_max_level(level).without_time().with_ansi(false).init();

    say("the server starts");
    let (addr, handle) = serve("127.0.0.1:0").await?;
    let url = format!("ws://{addr}/?token=secret");
    say("a client comes and goes");
    let mut ws = longwire::connect(&*url).await?;
    ws.send("hello").await?;
    ws.recv().await?;
    ws.close(1000, "").await?;
    empty(&handle).await;

    say("1: a handler fails");
    let mut ws = longwire::connect(&*url).await?;
    ws.send("fail").await?;
    while ws.recv().await.is_ok_and(|message| message.is_some()) {}
    empty(&handle).await;

    say("2: a client breaks the protocol, with a frame that is not masked");
    let mut raw = upgrade(addr).await?;
    raw.write_all(b"\x81\x01x").await?;
    raw.read_to_end(&mut Vec::new()).await?;
    drop(raw);
    empty(&handle).await;

    say("3: a client vanishes");
    drop(upgrade(addr).await?);
    empty(&handle).await;

    say("4: a request has the wrong token");
    let error = longwire::connect(format!("ws://{addr}/?token=guess")).await.unwrap_err();
    println!("the client: {error}");

    say("5: a client does not speak HTTP");
    let mut raw = TcpStream::connect(addr).await?;
    raw.write_all(b"hello\r\n\r\n").await?;
    raw.read_to_end(&mut Vec::new()).await?;
    drop(raw);

    say("6: a hook panics");
    let error = longwire::connect(format!("ws://{addr}/?token=")).await.unwrap_err();
    println!("the client: {error}");

    say("7: the server is full");
    let (first, second) = (longwire::connect(&*url).await?, longwire::connect(&*url).await?);
    let error = longwire::connect(&*url).await.unwrap_err();
    println!("the client: {error}");
    drop((first, second));
    empty(&handle).await;

    say("8: a reconnecting client finds no server; then one starts");
    let mut ws = Client::new(&url).reconnecting().start();
    reached(&ws, |phase| matches!(phase, Phase::Connected)).await?;
    ws.close(1000, "").await?;
    empty(&handle).await;
    let absent = "127.0.0.9:9009";
    let ws = Client::new(format!("ws://{absent}/?token=secret")).reconnecting().start();
    reached(&ws, |phase| matches!(phase, Phase::Waiting { .. })).await?;
    let (_, other) = serve(absent).await?;
    reached(&ws, |phase| matches!(phase, Phase::Connected)).await?;

    say("9: a reconnecting client loses its connection");
    other.hub().clients().iter().for_each(|client| client.sender().abort());
    reached(&ws, |phase| matches!(phase, Phase::Waiting { .. })).await?;
    reached(&ws, |phase| matches!(phase, Phase::Connected)).await?;
    drop(ws);
    empty(&other).await;

    say("10: a reconnecting client is refused for good");
    let mut ws = Client::new(format!("ws://{addr}/?token=guess")).reconnecting().start();
    while ws.recv().await.is_ok_and(|message| message.is_some()) {}

    say("the servers shut down");
    other.shutdown().await;
    let _silent = upgrade(addr).await?;
    handle.shutdown_with(Shutdown::default().with_deadline(Duration::from_millis(100))).await;
    Ok(())
}

/// Starts an echo server that expects a token and has room for two clients.
async fn serve(addr: &str) -> Result<(SocketAddr, ServerHandle), BoxError> {
    let server = Server::bind(addr).await?.configure(|config| config.hub.max_clients = Some(2)).authorize(
        |admission| async move {
            match admission.query("token").as_deref() {
                Some("secret") => Ok(admission),
                Some("") => panic!("the hook has a fault"),
                _ => Err(Rejection::unauthorized("Bearer")),
            }
        },
    );
    let (addr, handle) = (server.local_addr(), server.handle());
    let serving = server.serve(|mut ws, _| async move {
        while let Some(message) = ws.recv().await? {
            if message.as_text() == Some("fail") {
                return Err("the database is gone".into());
            }
            ws.send(message).await?;
        }
        Ok(())
    });
    drop(serving.spawn());
    Ok((addr, handle))
}

/// Completes an opening handshake, and leaves the rest to the caller.
async fn upgrade(addr: SocketAddr) -> Result<TcpStream, BoxError> {
    let mut stream = TcpStream::connect(addr).await?;
    let head = "GET /?token=secret HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        response.push(stream.read_u8().await?);
    }
    Ok(stream)
}

/// Waits until all clients have left.
async fn empty(handle: &ServerHandle) {
    handle.hub().emptied().await;
    // The lines of the last client's end.
    tokio::task::yield_now().await;
}

async fn reached(ws: &Reconnecting, is_it: impl FnMut(&Phase) -> bool) -> Result<(), BoxError> {
    ws.phase().wait_for(is_it).await?;
    Ok(())
}

fn say(event: &str) {
    println!("# {event}");
}
