//! A server for the tests, and clients that exchange raw bytes.

#![allow(dead_code, reason = "each test binary uses its own part")]

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub(crate) mod certificates;

use std::net::SocketAddr;
use std::time::Duration;

use longwire_connection::testing::repeatable_keys;
use longwire_connection::{Config, Handover, WebSocket};
use longwire_server::{Error, HandlerResult, Request, Server, ServerHandle, Socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A handshake that every server accepts.
pub(crate) const REQUEST: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: localhost\r\n\
    Connection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Returns the handshake with one more field.
pub(crate) fn request_with(field: &str) -> String {
    REQUEST.replace("Host: localhost\r\n", &format!("Host: localhost\r\n{field}\r\n"))
}

pub(crate) use wire_model::client_frame as frame;

pub(crate) fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

pub(crate) async fn echo(mut ws: Socket, _: Request) -> HandlerResult {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}

/// A running server.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    pub(crate) handle: ServerHandle,
    pub(crate) task: JoinHandle<Result<(), Error>>,
}

pub(crate) async fn bind() -> Server {
    Server::bind("127.0.0.1:0").await.expect("loopback is there")
}

pub(crate) fn start(server: Server) -> Running {
    start_with(server, echo)
}

pub(crate) fn start_with<H, Fut>(server: Server, handler: H) -> Running
where
    H: Fn(Socket, Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = HandlerResult> + Send + 'static,
{
    let (addr, handle) = (server.local_addr(), server.handle());
    let task = tokio::spawn(server.serve(handler).into_future());
    Running { addr, handle, task }
}

/// Waits for something that should take milliseconds, with more time for a busy machine.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future).await.expect("in time")
}

pub(crate) async fn tcp(addr: SocketAddr) -> TcpStream {
    let stream = soon(TcpStream::connect(addr)).await.expect("the server listens");
    stream.set_nodelay(true).expect("it is open");
    stream
}

/// Sends bytes and returns everything that arrives until the end, which must not be a reset.
pub(crate) async fn exchange(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = tcp(addr).await;
    stream.write_all(bytes).await.expect("the server is there");
    rest(&mut stream).await
}

/// Reads everything until the end.
pub(crate) async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.expect("a proper end");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads a response head, up to the empty line.
pub(crate) async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.expect("the head goes on"));
    }
    String::from_utf8(head).expect("heads are ASCII")
}

/// Opens a connection and completes its handshake. Returns it as bytes.
pub(crate) async fn open_raw(addr: SocketAddr) -> TcpStream {
    let mut stream = tcp(addr).await;
    stream.write_all(REQUEST.as_bytes()).await.expect("the server is there");
    let head = head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream
}

/// Opens a connection and completes its handshake. Returns it as a WebSocket.
pub(crate) async fn open(addr: SocketAddr) -> WebSocket<TcpStream> {
    WebSocket::new(open_raw(addr).await, Handover::client(repeatable_keys), &Config::default())
}

/// Reads exactly these bytes.
pub(crate) async fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    soon(stream.read_exact(&mut read)).await.expect("bytes come");
    assert_eq!(read, bytes);
}

/// The length of a message that no system's buffers take while its receiver reads nothing.
pub(crate) const LONG: usize = 32 << 20;

/// Reads a server's frame of [`LONG`] bytes of text.
pub(crate) async fn expect_long(stream: &mut TcpStream) {
    expect(stream, &[&[0x81, 127][..], &(LONG as u64).to_be_bytes()].concat()).await;
    expect(stream, "1".repeat(LONG).as_bytes()).await;
}

/// Sends a message and waits for its echo.
pub(crate) async fn check_echo(ws: &mut WebSocket<TcpStream>, message: &str) {
    ws.send(message).await.expect("the connection is open");
    assert_eq!(soon(ws.recv()).await.expect("an echo"), Some(message.into()));
}
