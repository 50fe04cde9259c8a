//! Messages of 64 MiB in 65 KiB on the wire, sent to a server and to a client, with a counting allocator.
//!
//! This is a single test, because the counter belongs to the process. Limits are the defaults: 16 MiB for a message.

#![cfg(all(feature = "deflate", feature = "client", feature = "server"))]

use std::alloc::System;

use cap::Cap;
use flate2::{Compress, Compression, FlushCompress};
use longwire::connection::Error;
use longwire::{Client, CloseCode, DeflateOptions, ProtocolError, Server};
use longwire_handshake::{HeadLimits, RequestParser, ServerOptions, accept, encode_response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const INSIDE: usize = 64 << 20;

/// The memory that one bomb may take: twice the limit on a message, while its buffer grows, and little else.
const GROWTH: usize = 40 << 20;

/// Returns compressed zeros without ever holding all of them in memory.
fn bomb() -> Vec<u8> {
    let mut compress = Compress::new(Compression::best(), false);
    let zeros = vec![0; 1 << 20];
    let mut out = Vec::with_capacity(128 << 10);
    for _ in 0..INSIDE >> 20 {
        compress.compress_vec(&zeros, &mut out, FlushCompress::None).expect("raw deflate");
    }
    compress.compress_vec(&[], &mut out, FlushCompress::Sync).expect("raw deflate");
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]) && out.len() < 80 << 10);
    out.truncate(out.len() - 4);
    out
}

/// Returns frames of at most `piece` bytes. Masked frames use a key of zeros, which changes nothing.
fn frames(payload: &[u8], piece: usize, masked: bool) -> Vec<u8> {
    let piece = piece.min(payload.len());
    let mut bytes = Vec::new();
    let last = payload.chunks(piece).count() - 1;
    for (number, piece) in payload.chunks(piece).enumerate() {
        let fin = if number == last { 0x80 } else { 0 };
        let first = if number == 0 { 0x42 } else { 0 };
        let mask = if masked { 0x80 } else { 0 };
        bytes.extend([fin | first, mask + 127]);
        if piece.len() > 65_535 {
            bytes.extend((piece.len() as u64).to_be_bytes());
        } else {
            let at = bytes.len() - 1;
            bytes[at] = mask + 126;
            bytes.extend(u16::try_from(piece.len()).expect("short").to_be_bytes());
        }
        bytes.extend(masked.then_some([0; 4]).into_iter().flatten());
        bytes.extend(piece);
    }
    bytes
}

/// Opens a connection by hand, sends the bytes and returns the code of the close frame it receives.
async fn attack(addr: std::net::SocketAddr, bytes: &[u8]) -> Result<u16, BoxError> {
    let mut io = TcpStream::connect(addr).await?;
    io.write_all(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    )
    .await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(io.read_u8().await?);
    }
    assert!(answer.windows(18).any(|word| word == b"permessage-deflate"));
    // The server may have closed before it accepted all of it.
    let _ = io.write_all(bytes).await;
    let [first, len] = [io.read_u8().await?, io.read_u8().await?];
    assert!(first == 0x88 && len >= 2, "a close frame: {first:x} {len}");
    Ok(io.read_u16().await?)
}

/// Accepts one client by hand, sends it the bytes and returns everything that the client then sends.
async fn trap(listener: &TcpListener, bytes: &[u8]) -> Result<Vec<u8>, BoxError> {
    let (mut io, _) = listener.accept().await?;
    let mut parser = RequestParser::new(HeadLimits::default());
    let head = loop {
        if let Some(head) = parser.handle_bytes(&[io.read_u8().await?])? {
            break head;
        }
    };
    let options = ServerOptions::default().with_deflate(DeflateOptions::default());
    let accepted = accept(&http::Request::from_parts(head.parts, ()), &options)?;
    assert!(accepted.deflate().is_some());
    io.write_all(&encode_response(&accepted.response())).await?;
    let _ = io.write_all(bytes).await;
    let mut answer = Vec::new();
    io.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Runs `work` and returns how far its peak memory exceeded the memory allocated before.
async fn growth<R>(work: impl Future<Output = Result<R, BoxError>>) -> Result<usize, BoxError> {
    // The counted peak never falls, so the heap is first filled up to the previous peak.
    let ballast = Vec::<u8>::with_capacity(HEAP.max_allocated().saturating_sub(HEAP.allocated()));
    let before = HEAP.allocated();
    work.await?;
    drop(ballast);
    Ok(HEAP.max_allocated() - before)
}

#[tokio::test]
async fn a_bomb_is_stopped_at_the_limit() -> Result<(), BoxError> {
    let bomb = bomb();
    let server = Server::bind("127.0.0.1:0").await?.configure(|config| {
        config.handshake.deflate = Some(DeflateOptions::default());
    });
    let addr = server.local_addr();
    tokio::spawn(
        server
            .serve(|mut ws, _| async move {
                while let Some(message) = ws.recv().await? {
                    ws.send(message).await?;
                }
                Ok(())
            })
            .into_future(),
    );
    for (case, piece) in [("one frame", usize::MAX), ("three frames", 25_000), ("many", 1000)] {
        let bytes = frames(&bomb, piece, true);
        for attackers in [1, 50] {
            let grown = growth(async {
                let mut running = JoinSet::new();
                for _ in 0..attackers {
                    let bytes = bytes.clone();
                    running.spawn(async move { attack(addr, &bytes).await });
                }
                while let Some(code) = running.join_next().await {
                    assert_eq!(code??, CloseCode::MESSAGE_TOO_BIG.value(), "{case}");
                }
                Ok(())
            })
            .await?;
            let allowed = GROWTH + attackers * (bytes.len() + 64 * 1024);
            assert!(grown <= allowed, "{case}, {attackers} at once: {grown} bytes, {allowed} are allowed");
        }

        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let client = Client::new(format!("ws://{}", listener.local_addr()?));
        let bytes = frames(&bomb, piece, false);
        let grown = growth(async {
            let trapped = async {
                let (mut ws, _) = client.connect().await?;
                let error = ws.recv().await.expect_err("a bomb");
                assert!(
                    matches!(error, Error::Protocol(ProtocolError::MessageTooLong { .. })),
                    "{case}: {error}"
                );
                Ok::<_, BoxError>(())
            };
            let (answer, met) = tokio::join!(trap(&listener, &bytes), trapped);
            met?;
            let answer = answer?;
            // A close frame with a masked code.
            assert!(matches!(answer[..], [0x88, 0x82..=0xfd, ..]), "{case}: {answer:x?}");
            let code = [answer[6] ^ answer[2], answer[7] ^ answer[3]];
            assert_eq!(u16::from_be_bytes(code), CloseCode::MESSAGE_TOO_BIG.value(), "{case}");
            Ok(())
        })
        .await?;
        assert!(grown <= GROWTH + bytes.len(), "{case}, to a client: {grown} bytes");
    }
    Ok(())
}
