//! A hand-written server that sends whatever a test needs.

#![allow(dead_code, reason = "each test file uses some of it")]

pub(crate) mod attempts;
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub(crate) mod tls;

use longwire_handshake::Key;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Reads a request up to its empty line.
pub(crate) async fn read_request(io: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(io.read_u8().await.expect("the client sends a whole request"));
    }
    String::from_utf8(request).expect("the request is UTF-8")
}

/// Returns the value of a field that occurs exactly once.
pub(crate) fn field<'a>(request: &'a str, name: &str) -> &'a str {
    let mut values = request.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let value = values.next().unwrap_or_else(|| panic!("no {name} in {request}"));
    assert_eq!(values.next(), None, "{name} occurs once");
    value
}

/// Replaces every `{accept}` with the correct answer to the request's key.
pub(crate) fn fill(template: impl AsRef<[u8]>, request: &str) -> Vec<u8> {
    const MARK: &[u8] = b"{accept}";
    let key = Key::parse(field(request, "Sec-WebSocket-Key").as_bytes()).expect("the client sends a key");
    let (mut rest, mut filled) = (template.as_ref(), Vec::new());
    while let Some(at) = rest.windows(MARK.len()).position(|window| window == MARK) {
        filled.extend_from_slice(&rest[..at]);
        filled.extend_from_slice(key.accept().as_str().as_bytes());
        rest = &rest[at + MARK.len()..];
    }
    filled.extend_from_slice(rest);
    filled
}

/// Answers one connection with `template` and closes the sending side. Returns the server's `host:port`, and a task
/// that yields the request and the bytes after it.
pub(crate) async fn answer_with(template: impl Into<Vec<u8>>) -> (String, JoinHandle<(String, Vec<u8>)>) {
    let template = template.into();
    serve(move |request, mut stream| async move {
        let answer = fill(template, &request);
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        (request, rest)
    })
    .await
}

/// Serves one connection on a free loopback port. Returns its `host:port`, and a task that yields the result of
/// `handle`.
pub(crate) async fn serve<F, T>(
    handle: impl FnOnce(String, TcpStream) -> F + Send + 'static,
) -> (String, JoinHandle<T>)
where
    F: Future<Output = T> + Send,
    T: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
    let address = listener.local_addr().expect("the listener has an address").to_string();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client connects");
        let request = read_request(&mut stream).await;
        handle(request, stream).await
    });
    (address, task)
}

/// A correct answer.
pub(crate) const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: {accept}\r\n\r\n";
