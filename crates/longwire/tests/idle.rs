//! Heap memory of an idle connection, measured with a counting allocator.
//!
//! This is a single test, because the counter belongs to the process. Memory that the system keeps for a socket is
//! not counted.

#![cfg(all(feature = "deflate", feature = "server"))]

use std::alloc::System;
use std::time::Duration;

use cap::Cap;
use longwire::{DeflateOptions, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const CLIENTS: usize = 200;

/// Opens a connection by hand and, if `used`, has one message of 1 KiB echoed.
async fn connect(addr: std::net::SocketAddr, deflate: bool, used: bool) -> Result<TcpStream, BoxError> {
    let mut io = TcpStream::connect(addr).await?;
    let offer = if deflate { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    let request = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n",
    );
    io.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await?);
    }
    assert_eq!(String::from_utf8_lossy(&head).contains("permessage-deflate"), deflate);
    if used {
        // The masking key is zeros. The answer is compressed if compression was negotiated.
        let message: Vec<u8> = (0..1024_u16).map(|i| (i % 26) as u8 + b'a').collect();
        io.write_all(&[&[0x81, 0xfe, 4, 0, 0, 0, 0, 0], &message[..]].concat()).await?;
        let first = io.read_u8().await?;
        assert_eq!(first, if deflate { 0xc1 } else { 0x81 });
        let len = match io.read_u8().await? {
            126 => usize::from(io.read_u16().await?),
            len => usize::from(len),
        };
        io.read_exact(&mut vec![0; len]).await?;
    }
    Ok(io)
}

#[tokio::test]
async fn an_idle_connection_holds_little() -> Result<(), BoxError> {
    for (case, deflate, used, most) in [
        ("fresh", false, false, 4 << 10),
        ("after an echo", false, true, 4 << 10),
        ("fresh, with compression", true, false, 5 << 10),
        // Its window then holds 1 KiB, and can hold 32 KiB.
        ("after a compressed echo", true, true, 10 << 10),
    ] {
        let server = Server::bind("127.0.0.1:0").await?.configure(|config| {
            let mut options = DeflateOptions::default();
            options.threshold = 0;
            config.handshake.deflate = Some(options);
        });
        let (addr, handle) = (server.local_addr(), server.handle());
        let serving = server.serve(|mut ws, _request| async move {
            while let Some(message) = ws.recv().await? {
                ws.send(message).await?;
            }
            Ok(())
        });
        let serving = tokio::spawn(serving.into_future());
        // Memory that the process allocates only once.
        drop(connect(addr, deflate, used).await?);
        handle.hub().emptied().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = HEAP.allocated();
        let mut clients = Vec::with_capacity(CLIENTS);
        for _ in 0..CLIENTS {
            clients.push(connect(addr, deflate, used).await?);
        }
        // Compressors are released after 250 ms, and freed when nothing has needed them for 2 to 4 s.
        tokio::time::sleep(Duration::from_secs(if deflate && used { 6 } else { 1 })).await;
        let each = HEAP.allocated().saturating_sub(before) / CLIENTS;
        println!("{case}: {each} bytes");
        assert!(each <= most, "{case}: {each} bytes for each connection, its client's end included");
        drop(clients);
        handle.shutdown().await;
        serving.await??;
    }
    Ok(())
}
