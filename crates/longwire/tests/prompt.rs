//! Memory of handlers that were prompt and then wait while messages are here, measured with a counting allocator: some
//! of them keep the buffer into which these were read, the others only the messages.
//!
//! This is a single test, because the counter belongs to the process.

#![cfg(feature = "server")]

use std::alloc::System;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cap::Cap;
use longwire::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const CLIENTS: usize = 300;

/// The messages that a client sends at once.
const BURST: usize = 10;

/// The bytes of a client's frame, and those of its echo.
const LENS: (usize, usize) = (106, 102);

/// The size of a read buffer.
const READ: usize = 132 << 10;

/// The most read buffers that handlers keep.
const KEPT: usize = 64;

async fn connect(addr: std::net::SocketAddr) -> Result<TcpStream, BoxError> {
    let mut io = TcpStream::connect(addr).await?;
    let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    io.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await?);
    }
    Ok(io)
}

#[tokio::test]
async fn few_handlers_that_wait_keep_a_read_buffer() -> Result<(), BoxError> {
    let server = Server::bind("127.0.0.1:0").await?;
    let (addr, handle) = (server.local_addr(), server.handle());
    let go = Arc::new(Semaphore::new(0));
    let waiting = Arc::new(AtomicUsize::new(0));
    let serving = server.serve({
        let (go, waiting) = (go.clone(), waiting.clone());
        move |mut ws, _request| {
            let (go, waiting) = (go.clone(), waiting.clone());
            async move {
                while let Some(message) = ws.recv().await? {
                    if message.as_bytes()[0] == b'w' {
                        waiting.fetch_add(1, Ordering::SeqCst);
                        go.acquire().await?.forget();
                    }
                    ws.send(message).await?;
                }
                Ok(())
            }
        }
    });
    let serving = tokio::spawn(serving.into_future());
    let burst = |first: u8| {
        let mut frames = Vec::new();
        for payload in [[first; LENS.1 - 2], [b'-'; LENS.1 - 2]].iter().cycle().take(BURST) {
            frames.extend(wire_model::client_frame(0x82, payload));
        }
        assert_eq!(frames.len(), BURST * LENS.0);
        frames
    };
    let mut echoes = vec![0; BURST * LENS.1];
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = connect(addr).await?;
        for _ in 0..10 {
            client.write_all(&burst(b'g')).await?;
            client.read_exact(&mut echoes).await?;
        }
        clients.push(client);
    }
    let before = HEAP.allocated();
    for (n, client) in clients.iter_mut().enumerate() {
        client.write_all(&burst(b'w')).await?;
        while waiting.load(Ordering::SeqCst) <= n {
            tokio::task::yield_now().await;
        }
    }
    let held = HEAP.allocated() - before;
    let few = READ * KEPT / 2;
    let most = READ * (KEPT + 2) + CLIENTS * 2 * BURST * LENS.0;
    assert!((few..=most).contains(&held), "{held} bytes, expected {few} to {most}");
    // All messages are there, and afterwards all memory is given back.
    go.add_permits(CLIENTS * BURST);
    for client in &mut clients {
        client.read_exact(&mut echoes).await?;
        let kinds: Vec<_> = echoes.chunks(LENS.1).map(|echo| echo[2]).collect();
        assert_eq!(kinds, b"w-w-w-w-w-");
    }
    let left = HEAP.allocated().saturating_sub(before);
    assert!(left < 2 * READ + CLIENTS * 1024, "{left} bytes");
    drop(clients);
    handle.shutdown().await;
    serving.await??;
    Ok(())
}
