//! hyper servers to talk to, in every way in which hyper can be set up.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use longwire_client::Client;
use longwire_connection::{Message, Transport, WebSocket};
use longwire_hyper::{CONNECTION_WINDOW, HandlerResult, Mount, STREAM_WINDOW, Socket, upgrade};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A handshake that every server accepts.
pub(crate) const REQUEST: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: localhost\r\n\
    Connection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Returns the handshake with one more header field.
pub(crate) fn request_with(field: &str) -> String {
    REQUEST.replace("Host: localhost\r\n", &format!("Host: localhost\r\n{field}\r\n"))
}

/// Returns a masked text frame. The key is zero, so the payload is unchanged.
pub(crate) fn text(payload: &str) -> Vec<u8> {
    wire_model::client_frame(0x81, payload.as_bytes())
}

/// The setup of hyper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// hyper's own builder for HTTP/1.1.
    Plain,
    /// hyper-util's builder for both versions.
    Auto,
    /// The same, over a stream that is not tokio's TCP.
    Foreign,
}

pub(crate) const SETUPS: [Setup; 3] = [Setup::Plain, Setup::Auto, Setup::Foreign];

/// A running server.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    pub(crate) mount: Mount,
}

impl Running {
    pub(crate) fn url(&self) -> String {
        format!("ws://{}/chat", self.addr)
    }
}

pub(crate) async fn echo(mut ws: Socket) -> HandlerResult {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}

pub(crate) async fn start_echo(setup: Setup, mount: &Mount) -> Running {
    start(setup, mount, echo).await
}

/// Starts a server with `handler` at every path.
pub(crate) async fn start<H, Fut>(setup: Setup, mount: &Mount, handler: H) -> Running
where
    H: Fn(Socket) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = HandlerResult> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
    let addr = listener.local_addr().expect("it is bound");
    let running = Running { addr, mount: mount.clone() };
    let mount = mount.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (mount, handler) = (mount.clone(), handler.clone());
            tokio::spawn(async move {
                match setup {
                    Setup::Plain | Setup::Auto => serve(setup, stream, mount, handler).await,
                    Setup::Foreign => serve(setup, Foreign(stream), mount, handler).await,
                }
            });
        }
    });
    running
}

/// Serves `handler` on one connection until it ends.
pub(crate) async fn serve<H, Fut>(
    setup: Setup,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mount: Mount,
    handler: H,
) where
    H: Fn(Socket) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = HandlerResult> + Send + 'static,
{
    let stream = TokioIo::new(stream);
    let service = service_fn(move |request| {
        let answer = answer(request, &mount, handler.clone());
        async move { Ok::<_, Infallible>(answer) }
    });
    // The tests check how connections end.
    if setup == Setup::Plain {
        drop(http1::Builder::new().serve_connection(stream, service).with_upgrades().await);
    } else {
        let mut auto = auto::Builder::new(TokioExecutor::new());
        auto.http2()
            .enable_connect_protocol()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        drop(auto.serve_connection_with_upgrades(stream, service).await);
    }
}

fn answer<H, Fut>(mut request: Request<Incoming>, mount: &Mount, handler: H) -> Response<String>
where
    H: Fn(Socket) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = HandlerResult> + Send + 'static,
{
    match upgrade(&mut request, mount) {
        Ok((response, upgrade)) => {
            upgrade.on_upgrade(handler);
            response
        }
        Err(rejection) => rejection
            .to_response()
            .map(|body| String::from_utf8(body.to_vec()).expect("our own rejections are text")),
    }
}

/// A stream of a type that longwire does not know.
struct Foreign(TcpStream);

impl AsyncRead for Foreign {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Foreign {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Waits for a future that should take milliseconds; allows more on a busy machine.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("in time")
}

/// Connects a client over HTTP/1.1.
pub(crate) async fn connect(server: &Running) -> WebSocket<longwire_client::ClientStream> {
    soon(Client::new(server.url()).deflate(None).connect()).await.expect("the server takes it").0
}

/// Sends messages of every length that has its own encoding, one by one, and waits for each echo.
pub(crate) async fn check_echo<T: Transport>(case: &str, ws: &mut WebSocket<T>) {
    for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let bytes: Vec<u8> = (0..len).map(|i| b'a' + u8::try_from(i % 26).expect("a letter")).collect();
        let letters = String::from_utf8(bytes.clone()).expect("letters");
        for message in [Message::text(letters), Message::binary(bytes)] {
            soon(ws.send(message.clone())).await.expect(case);
            let echo = soon(ws.recv()).await.expect(case);
            assert!(echo == Some(message), "{case}, {len} bytes");
        }
    }
}

pub(crate) async fn tcp(addr: SocketAddr) -> TcpStream {
    soon(TcpStream::connect(addr)).await.expect("the server listens")
}

/// Sends bytes and returns the head and body of the response, without waiting for the end of the connection.
pub(crate) async fn exchange(addr: SocketAddr, bytes: &[u8]) -> (String, String) {
    let mut stream = tcp(addr).await;
    stream.write_all(bytes).await.expect("the server is there");
    let head = head(&mut stream).await;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
    if !bytes.starts_with(b"HEAD") {
        soon(stream.read_exact(&mut body)).await.expect("the body comes");
    }
    (head, String::from_utf8(body).expect("text"))
}

/// Reads a response head, up to the empty line, in lower case.
pub(crate) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.expect("the head goes on"));
    }
    String::from_utf8(head).expect("heads are ASCII").to_ascii_lowercase()
}

/// Reads exactly these bytes.
pub(crate) async fn expect(stream: &mut (impl AsyncRead + Unpin), bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    soon(stream.read_exact(&mut read)).await.expect("bytes come");
    assert_eq!(read, bytes);
}
