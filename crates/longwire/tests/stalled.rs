//! Memory of a client that sends and never reads, measured with a counting allocator: the queue of its answers, and
//! little else.
//!
//! This is a single test, because the counter belongs to the process. Memory that the system keeps for a socket is
//! not counted.

#![cfg(feature = "server")]

use std::alloc::System;
use std::time::Duration;

use cap::Cap;
use longwire::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const CLIENTS: usize = 10;

/// The default of `Config::send_queue`.
const QUEUE: usize = 128 << 10;

/// The maximum number of bytes that may stay undecoded.
const UNDECODED: usize = 16 << 10;

/// The memory of an idle connection, plus the spare capacity of its buffers.
const BESIDE: usize = 12 << 10;

/// The memory that the thread lends and keeps, whichever clients are connected: a read buffer, a write buffer and one
/// large payload.
const LENT: usize = 256 << 10;

async fn connect(addr: std::net::SocketAddr) -> Result<TcpStream, BoxError> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 << 10)?;
    let mut io = socket.connect(addr).await?;
    let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    io.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await?);
    }
    Ok(io)
}

/// Returns a binary message as a client sends it, masked with zeros.
fn frame(len: u16) -> Vec<u8> {
    wire_model::client_frame(0x82, &vec![7; len.into()])
}

/// Writes the frames again and again, until the server accepts no more.
async fn write_until_stalled(client: &mut TcpStream, frames: &[u8]) -> Result<(), BoxError> {
    let (mut at, mut refused) = (0, 0);
    // On a busy machine, the time may pass before the server had its turn; but not again and again.
    while refused < 5 {
        match timeout(Duration::from_millis(50), client.write(&frames[at..])).await {
            Ok(written) => (at, refused) = ((at + written?) % frames.len(), 0),
            Err(_) => refused += 1,
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_never_reads_costs_its_queue_and_little_else() -> Result<(), BoxError> {
    for len in [200, 1000, 10_000, 40_000] {
        let server = Server::bind("127.0.0.1:0").await?;
        let (addr, handle) = (server.local_addr(), server.handle());
        let serving = server.serve(|mut ws, _request| async move {
            while let Some(message) = ws.recv().await? {
                ws.send(message).await?;
            }
            Ok(())
        });
        let serving = tokio::spawn(serving.into_future());
        // Many frames at once, as one system call delivers them.
        let frames = frame(len).repeat(400_000 / usize::from(len));
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = connect(addr).await?;
            client.write_all(&frame(len)).await?;
            client.read_exact(&mut vec![0; usize::from(len) + 4]).await?;
            clients.push(client);
        }
        let before = HEAP.allocated();
        for client in &mut clients {
            write_until_stalled(client, &frames).await?;
        }
        let each = (HEAP.allocated() - before).saturating_sub(LENT) / CLIENTS;
        // The handler holds one message, and the queue may exceed its limit by one.
        let most = QUEUE + 2 * usize::from(len) + UNDECODED + BESIDE;
        assert!(each <= most, "{each} bytes a client, at most {most}, for messages of {len}");
        assert!(each > QUEUE / 2, "{each} bytes a client for messages of {len}: it is not held back");
        drop(clients);
        handle.shutdown().await;
        serving.await??;
    }
    Ok(())
}
