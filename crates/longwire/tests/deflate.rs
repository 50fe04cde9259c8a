//! Compression between client and server, from the options to the bytes on the wire.

#![cfg(all(feature = "deflate", feature = "client", feature = "server"))]

use longwire::connection::Error;
use longwire::deflate::WindowBits;
use longwire::{Client, CloseCode, DeflateOptions, Message, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Starts an echo server with these options and returns its URL.
async fn echo(deflate: Option<DeflateOptions>, max_message: Option<usize>) -> Result<String, BoxError> {
    let server = Server::bind("127.0.0.1:0").await?.configure(|config| {
        config.handshake.deflate = deflate;
        config.connection.limits.max_message = max_message;
    });
    let url = format!("ws://{}", server.local_addr());
    tokio::spawn(
        server
            .serve(|mut ws, _request| async move {
                while let Some(message) = ws.recv().await? {
                    ws.send(message).await?;
                }
                Ok(())
            })
            .into_future(),
    );
    Ok(url)
}

fn options(change: impl FnOnce(&mut DeflateOptions)) -> DeflateOptions {
    let mut options = DeflateOptions::default();
    change(&mut options);
    options
}

#[tokio::test]
async fn messages_are_compressed_where_both_agree() -> Result<(), BoxError> {
    let json: Message = r#"{"name":"longwire","tags":["a","b"]},"#.repeat(100).into();
    let small = options(|options| {
        options.server_no_context_takeover = true;
        options.client_no_context_takeover = true;
        options.client_max_window_bits = WindowBits::new(9).unwrap_or(WindowBits::MAX);
    });
    let on = Some(DeflateOptions::default());
    let rows = [
        (None, on.clone(), None),
        (on.clone(), None, None),
        (on.clone(), on.clone(), Some("permessage-deflate")),
        (
            Some(small),
            on,
            Some(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=9",
            ),
        ),
    ];
    for (server, client, expected) in rows {
        let url = echo(server, None).await?;
        let (mut ws, _) = Client::new(url).deflate(client).connect().await?;
        assert_eq!(ws.extensions(), expected);
        for _ in 0..3 {
            ws.send(json.clone()).await?;
            assert_eq!(ws.recv().await?, Some(json.clone()));
        }
        let stats = ws.stats();
        let (messages, payload_bytes) = if expected.is_some() { (3, 3 * json.len() as u64) } else { (0, 0) };
        for one_way in [stats.sent_compressed, stats.received_compressed] {
            assert_eq!((one_way.messages, one_way.payload_bytes), (messages, payload_bytes), "{stats:?}");
            assert_eq!(one_way.ratio() < 0.5, expected.is_some(), "{stats:?}");
        }
        let compressed = stats.bytes_sent < 5000 && stats.bytes_received < 5000;
        assert_eq!(compressed, expected.is_some(), "{expected:?}: {stats:?}");
        ws.close(1000, "").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_too_long_inside_is_refused() -> Result<(), BoxError> {
    let url = echo(Some(DeflateOptions::default()), Some(100_000)).await?;
    let (mut ws, _) = Client::new(url).connect().await?;
    ws.send(vec![0; 100_001]).await?;
    assert!(ws.stats().bytes_sent < 1000);
    match ws.recv().await {
        Err(Error::ClosedByPeer(frame)) => assert_eq!(frame.code, CloseCode::MESSAGE_TOO_BIG),
        other => panic!("{other:?}"),
    }
    Ok(())
}

/// Upgrades a new connection with a hand-written request that offers compression.
async fn upgraded(addr: std::net::SocketAddr) -> Result<tokio::net::TcpStream, BoxError> {
    let mut stream = tokio::net::TcpStream::connect(addr).await?;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    assert!(String::from_utf8(head)?.contains("permessage-deflate"));
    Ok(stream)
}

#[tokio::test]
async fn a_broadcast_is_not_compressed_by_each_client() -> Result<(), BoxError> {
    let server = Server::bind("127.0.0.1:0")
        .await?
        .configure(|config| config.handshake.deflate = Some(DeflateOptions::default()));
    let (addr, hub) = (server.local_addr(), server.handle().hub().clone());
    tokio::spawn(
        server
            .serve(|mut ws, _request| async move {
                ws.recv().await?;
                Ok(())
            })
            .into_future(),
    );
    let mut clients = [upgraded(addr).await?, upgraded(addr).await?];
    while hub.len() < clients.len() {
        tokio::task::yield_now().await;
    }
    let text = (0..500).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
    hub.broadcast(text.clone());
    hub.broadcast(text.clone());
    // A compressor that belonged to a client would refer to the first message, and reduce the second to a few bytes.
    let mut frames = Vec::new();
    for client in &mut clients {
        for _ in 0..2 {
            assert_eq!(client.read_u16().await?, 0xc17e, "a compressed text of 126 to 65535 bytes");
            let len = usize::from(client.read_u16().await?);
            let mut payload = vec![0; len];
            client.read_exact(&mut payload).await?;
            frames.push(payload);
        }
    }
    assert!(frames[0].len() < text.len() && frames.iter().all(|frame| *frame == frames[0]));
    Ok(())
}
