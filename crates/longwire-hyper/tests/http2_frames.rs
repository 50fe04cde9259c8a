//! Frames mean the same over HTTP/2 as over any other stream: the same input bytes give the same output bytes
//! (RFC 8441 §5).

mod common;

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request};
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use longwire_connection::testing::duplex;
use longwire_connection::{Config, Handover, Limits, WebSocket};
use longwire_hyper::{Mount, MountConfig, Socket};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wire_model::client_frame as frame;

use common::{Running, Setup, soon, start, start_echo, tcp};

/// The name of a case, the bytes that the client sends after `hi`, and the code of the close frame in answer, if any.
type Row = (&'static str, Vec<u8>, Option<u16>);

fn table() -> Vec<Row> {
    let mut rows: Vec<Row> = vec![
        ("nothing", vec![], None),
        ("text", frame(0x81, "grüß".as_bytes()), None),
        ("empty text", frame(0x81, b""), None),
        ("126 bytes", frame(0x82, &[7; 126]), None),
        ("fragments", [frame(0x01, b"a"), frame(0x00, b""), frame(0x80, b"b")].concat(), None),
        ("a character in two fragments", [frame(0x01, &[0xc3]), frame(0x80, &[0xbc])].concat(), None),
        ("a ping", frame(0x89, b"x"), None),
        (
            "a ping between fragments",
            [frame(0x01, b"a"), frame(0x89, b"x"), frame(0x80, b"b")].concat(),
            None,
        ),
        ("pongs", [frame(0x8a, b"x"), frame(0x8a, b"")].concat(), None),
        ("two messages", [frame(0x81, b"a"), frame(0x82, b"b")].concat(), None),
        ("RSV1", frame(0xc1, b"x"), Some(1002)),
        ("RSV2", frame(0xa1, b"x"), Some(1002)),
        ("RSV3", frame(0x91, b"x"), Some(1002)),
        ("no mask", vec![0x81, 0x01, b'x'], Some(1002)),
        ("a fragmented ping", frame(0x09, b"x"), Some(1002)),
        ("a long ping", frame(0x89, &[0; 126]), Some(1002)),
        ("a continuation of nothing", frame(0x80, b"x"), Some(1002)),
        ("a message inside another", [frame(0x01, b"x"), frame(0x82, b"y")].concat(), Some(1002)),
        ("more bytes for the length than needed", [&[0x82, 0xfe, 0, 1][..], &[0; 5]].concat(), Some(1002)),
        ("a length with its top bit", [&[0x82, 0xff, 0x80][..], &[0; 11]].concat(), Some(1002)),
        ("a close frame of one byte", frame(0x88, &[3]), Some(1002)),
        ("a close reason that is not UTF-8", frame(0x88, &[3, 232, 0xff]), Some(1007)),
        ("text that is not UTF-8", frame(0x81, &[0xff]), Some(1007)),
        ("text that is cut short", frame(0x81, &[0xe2, 0x82]), Some(1007)),
        ("a long frame", frame(0x82, &[0; 201]), Some(1009)),
        ("a long message", [frame(0x02, &[0; 200]), frame(0x00, &[0; 101])].concat(), Some(1009)),
        ("empty fragments", [frame(0x01, b""), frame(0x00, b"").repeat(4)].concat(), Some(1008)),
        ("a close frame without a code", frame(0x88, b""), None),
        (
            "a close frame with a reason, and a message behind it",
            [frame(0x88, b"\x03\xe8bye"), frame(0x81, b"x")].concat(),
            Some(1000),
        ),
    ];
    for first in (0x83..0x88).chain(0x8b..0x90) {
        rows.push(("a reserved opcode", frame(first, b""), Some(1002)));
    }
    for (codes, valid) in [
        (&[0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535][..], false),
        (&[1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999][..], true),
    ] {
        for &code in codes {
            let answer = if valid { code } else { 1002 };
            rows.push(("a close code", frame(0x88, &code.to_be_bytes()), Some(answer)));
        }
    }
    rows
}

fn config() -> Config {
    let limits = Limits::default().with_max_message(300).with_max_frame(200).with_max_fragments(4);
    Config::default().with_limits(limits).with_close_timeout(Duration::from_secs(5))
}

/// Sends `hi` and the rest in pieces of `step` bytes, ends the stream, and returns all bytes of the answer.
async fn converse(mut io: impl AsyncRead + AsyncWrite + Unpin, said: &[u8], step: usize) -> Vec<u8> {
    let said = [frame(0x81, b"hi"), said.to_vec()].concat();
    for piece in said.chunks(step) {
        // The server may already have closed the connection.
        if io.write_all(piece).await.is_err() || io.flush().await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let _ = io.shutdown().await;
    let mut answer = Vec::new();
    let _ = soon(io.read_to_end(&mut answer)).await;
    answer
}

/// Returns the answer of an in-memory echo.
async fn in_memory(said: &[u8]) -> Vec<u8> {
    let (client, server) = duplex(64 * 1024);
    let mut ws = WebSocket::new(server, Handover::server(), &config());
    let echo = tokio::spawn(async move {
        while let Ok(Some(message)) = ws.recv().await {
            if ws.send(message).await.is_err() {
                break;
            }
        }
    });
    let answer = converse(client, said, usize::MAX).await;
    soon(echo).await.expect("no panic");
    answer
}

async fn over_http2(server: &Running, said: &[u8], step: usize) -> Vec<u8> {
    let stream = tcp(server.addr).await;
    stream.set_nodelay(true).unwrap();
    let (driver, io) = extended_connect(TokioIo::new(stream), server).await;
    let answer = converse(io, said, step).await;
    driver.abort();
    answer
}

/// Opens one stream on a new connection; returns the task that drives the connection, and the stream.
async fn extended_connect<T>(io: TokioIo<T>, server: &Running) -> (JoinHandle<()>, TokioIo<Upgraded>)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut requests, connection) =
        http2::handshake::<_, _, String>(TokioExecutor::new(), io).await.expect("HTTP/2");
    let mut connection = Box::pin(connection);
    while !connection.is_extended_connect_protocol_enabled() {
        let _ = tokio::time::timeout(Duration::from_millis(1), connection.as_mut()).await;
    }
    let driver = tokio::spawn(async move { drop(connection.await) });
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://{}/chat", server.addr))
        .header("sec-websocket-version", "13")
        .extension(Protocol::from_static("websocket"))
        .body(String::new())
        .unwrap();
    let mut response = soon(requests.send_request(request)).await.expect("an answer");
    assert_eq!(response.status(), 200);
    let io = soon(hyper::upgrade::on(&mut response)).await.expect("a stream");
    (driver, TokioIo::new(io))
}

#[tokio::test]
async fn the_same_bytes_get_the_same_answers_as_over_any_other_stream() {
    let mount = MountConfig::default().with_connection(config());
    let server = start_echo(Setup::Auto, &Mount::new(mount)).await;
    for (name, said, code) in table() {
        let expected = in_memory(&said).await;
        assert!(expected.starts_with(b"\x81\x02hi"), "{name}: {expected:?}");
        if let Some(code) = code {
            let closes = expected.windows(4).any(|four| four[0] == 0x88 && four[2..] == code.to_be_bytes());
            assert!(closes, "{name}: {code} in {expected:?}");
        }
        for step in [usize::MAX, 1] {
            let answer = over_http2(&server, &said, step).await;
            assert_eq!(answer, expected, "{name}, {said:?}, by {step}");
        }
    }
}

/// A stream that records the bytes it receives.
struct Tap<T>(T, Arc<Mutex<Vec<u8>>>);

impl<T: AsyncRead + Unpin> AsyncRead for Tap<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.0).poll_read(cx, buf);
        self.1.lock().unwrap().extend_from_slice(&buf.filled()[before..]);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tap<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Returns the types and flags of the frames that arrived on streams.
fn frames_of_streams(mut bytes: &[u8]) -> Vec<(u8, u8)> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, flags, stream @ ..] = bytes {
        if stream.len() < 4 {
            break;
        }
        if stream[..4] != [0; 4] {
            frames.push((*kind, *flags));
        }
        let len = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        bytes = bytes.get(9 + len..).unwrap_or_default();
    }
    frames
}

const RST_STREAM: u8 = 3;

/// TCP's orderly end corresponds to `END_STREAM`, and its reset to `RST_STREAM` (RFC 8441 §5). After an orderly
/// close, the stream is not reset for as long as the close timeout, even if the client has not ended it.
#[tokio::test]
async fn a_stream_that_is_closed_in_order_is_not_reset() {
    let limit = Duration::from_millis(500);
    let config = Config::default().with_close_timeout(limit);
    let mount = MountConfig::default().with_connection(config);
    let server = start_echo(Setup::Auto, &Mount::new(mount)).await;
    for ends in [true, false] {
        let came = Arc::new(Mutex::new(Vec::new()));
        let io = TokioIo::new(Tap(tcp(server.addr).await, Arc::clone(&came)));
        let (_driver, mut io) = extended_connect(io, &server).await;
        io.write_all(&[frame(0x81, b"hi"), frame(0x88, &[3, 232])].concat()).await.unwrap();
        io.flush().await.unwrap();
        let mut answer = Vec::new();
        soon(io.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(answer, b"\x81\x02hi\x88\x02\x03\xe8");
        tokio::time::sleep(limit / 5).await;
        let frames = || frames_of_streams(&came.lock().unwrap());
        assert_eq!(frames().last(), Some(&(0, 1)), "DATA with END_STREAM is the last: {:?}", frames());
        if ends {
            io.shutdown().await.unwrap();
        }
        tokio::time::sleep(2 * limit).await;
        let is_reset = frames().iter().any(|(kind, _)| *kind == RST_STREAM);
        assert_eq!(is_reset, !ends, "{:?}", frames());
    }
}

/// hyper ends a stream that was dropped, but not before the client has made room for what hyper has accepted.
#[tokio::test]
async fn a_stream_that_is_dropped_stays_until_its_client_reads() {
    let (dropped, mut is_dropped) = mpsc::unbounded_channel();
    let handler = move |ws: Socket| {
        let dropped = dropped.clone();
        async move {
            let sender = ws.sender();
            while sender.try_send(vec![0; 4096]).is_ok() {
                tokio::task::yield_now().await;
            }
            ws.abort();
            let _ = dropped.send(());
            Ok(())
        }
    };
    let server = start(Setup::Auto, &Mount::default(), handler).await;
    let came = Arc::new(Mutex::new(Vec::new()));
    let io = TokioIo::new(Tap(tcp(server.addr).await, Arc::clone(&came)));
    let (_driver, mut io) = extended_connect(io, &server).await;
    soon(is_dropped.recv()).await.unwrap();
    soon(server.mount.hub().emptied()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let is_end = |(kind, flags): (u8, u8)| kind == RST_STREAM || (kind, flags) == (0, 1);
    let ended =
        || frames_of_streams(&came.lock().unwrap()).into_iter().filter(|frame| is_end(*frame)).collect();
    let none: Vec<(u8, u8)> = ended();
    assert_eq!(none, [], "the client has left no room for an end");
    soon(io.read_to_end(&mut Vec::new())).await.unwrap();
    let both = async {
        while ended() != [(0, 1), (RST_STREAM, 0)] {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(both).await;
}
