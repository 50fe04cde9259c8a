//! Abandoned connection attempts, and streams that were connected by other means.

mod support;

use std::io;
use std::time::Duration;

use longwire_client::{Client, WebSocketUri};
use longwire_connection::Message;
use support::{SWITCHING, field, fill, read_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A server's text frame with `hello`.
const HELLO: &[u8] = b"\x81\x05hello";

/// The progress of an attempt when it is abandoned.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Asked,
    HalfAnswered,
    Redirected,
    Refused,
}

async fn next(listener: &TcpListener) -> TcpStream {
    listener.accept().await.expect("a client connects").0
}

/// Returns everything that the client still sends until the connection ends.
async fn end(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let read =
        timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.expect("the connection ends");
    // If the client has not read everything that the server sent, the connection ends with a reset.
    assert!(read.is_ok() || read.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));
    rest
}

/// A dropped attempt leaves nothing open: its connection ends at once, and no frame is sent on it.
#[tokio::test]
async fn an_attempt_that_is_dropped_ends_its_connection() {
    for stage in [Stage::Asked, Stage::HalfAnswered, Stage::Redirected, Stage::Refused] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = Client::new(format!("ws://{address}/")).redirects(3);
        let attempt = tokio::spawn(async move { client.connect().await.map(drop) });
        let mut stream = next(&listener).await;
        let request = read_request(&mut stream).await;
        let answer = match stage {
            Stage::Asked => Vec::new(),
            Stage::HalfAnswered => fill(SWITCHING.trim_end(), &request),
            Stage::Redirected => b"HTTP/1.1 302 x\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n".to_vec(),
            Stage::Refused => b"HTTP/1.1 502 x\r\nContent-Length: 100\r\n\r\nhalf a body".to_vec(),
        };
        stream.write_all(&answer).await.unwrap();
        if stage == Stage::Redirected {
            assert_eq!(end(&mut stream).await, b"", "it goes elsewhere");
            stream = next(&listener).await;
            read_request(&mut stream).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!attempt.is_finished(), "{stage:?}");
        attempt.abort();
        assert!(attempt.await.unwrap_err().is_cancelled());
        assert_eq!(end(&mut stream).await, b"", "{stage:?}");
    }
}

/// The URL determines the request, whatever the stream is connected to.
#[tokio::test]
async fn a_stream_of_ones_own_changes_nothing_of_what_is_asked() {
    for (url, host, shown) in [
        ("ws://example.com:8080/chat?a=b", "example.com:8080", "ws://example.com:8080/chat?a=b"),
        ("wss://example.com/chat?a=b", "example.com", "wss://example.com/chat?a=b"),
    ] {
        let (io, mut server) = tokio::io::duplex(1024);
        let serving = tokio::spawn(async move {
            let request = read_request(&mut server).await;
            server.write_all(&[&fill(SWITCHING, &request)[..], HELLO].concat()).await.unwrap();
            (request, server)
        });
        let (mut ws, response) = Client::new(url).handshake_over(io).await.unwrap();
        assert_eq!(response.extensions().get::<WebSocketUri>().unwrap().to_string(), shown);
        assert_eq!(ws.recv().await.unwrap(), Some(Message::text("hello")));
        ws.abort();
        let (request, _) = serving.await.unwrap();
        assert!(request.starts_with("GET /chat?a=b HTTP/1.1\r\n"), "{request}");
        assert_eq!(field(&request, "Host"), host);
    }
}
