//! Clients over streams that are neither TCP nor Unix sockets, and clients whose connection is half closed before
//! the answer.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use longwire_connection::testing::repeatable_keys;
use longwire_connection::{Config, Handover, Message, WebSocket};
use longwire_server::{Listen, Rejection, Server, ServerStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream, BufWriter, DuplexStream, duplex};
use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;

use common::{REQUEST, bind, check_echo, echo, open, rest, soon, start, start_with, tcp, text};

/// Streams that are handed over in memory.
#[derive(Debug)]
struct InMemory(Mutex<mpsc::UnboundedReceiver<ServerStream>>);

impl Listen for InMemory {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<std::io::Result<(ServerStream, Option<SocketAddr>)>> {
        let mut streams = self.0.try_lock().expect("one task at a time waits");
        match ready!(streams.poll_recv(cx)) {
            Some(stream) => Poll::Ready(Ok((stream, None))),
            None => Poll::Pending,
        }
    }
}

#[tokio::test]
async fn clients_come_over_streams_of_any_kind() {
    let (accepting, streams) = mpsc::unbounded_channel();
    let server = Server::from_acceptor(InMemory(Mutex::new(streams)));
    let handle = server.handle();
    let serving = tokio::spawn(
        server
            .serve(|ws, request| async move {
                assert!(request.peer_addr().is_none() && !request.is_secure());
                echo(ws, request).await
            })
            .into_future(),
    );
    for capacity in [1, 100, 1 << 20] {
        let (mut client, stream) = duplex(capacity);
        accepting.send(ServerStream::other(stream)).unwrap();
        // The first frame arrives with the request.
        let (mut read, mut write) = tokio::io::split(&mut client);
        let asked = [REQUEST.as_bytes(), &text("early")].concat();
        let (written, head) = tokio::join!(write.write_all(&asked), async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(soon(read.read_u8()).await.unwrap());
            }
            head
        });
        written.unwrap();
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        let mut ws = WebSocket::new(client, Handover::client(repeatable_keys), &Config::default());
        assert_eq!(soon(ws.recv()).await.unwrap(), Some("early".into()));
        // Shorter if each byte is transferred separately, which is slow.
        let long = Message::binary(vec![7; if capacity == 1 { 5_000 } else { 100_000 }]);
        let sender = ws.sender();
        let (sent, received) = tokio::join!(sender.send(long.clone()), soon(ws.recv()));
        sent.unwrap();
        assert_eq!(received.unwrap(), Some(long), "{capacity} bytes fit in between");
        soon(ws.close(1000, "")).await.unwrap();
    }
    soon(handle.shutdown()).await;
    soon(serving).await.unwrap().unwrap();
}

/// Bytes written to a buffered stream arrive once it is flushed.
#[tokio::test]
async fn answers_are_flushed() {
    fn plain(stream: DuplexStream) -> ServerStream {
        ServerStream::other(stream)
    }
    fn buf_stream(stream: DuplexStream) -> ServerStream {
        ServerStream::other(BufStream::new(stream))
    }
    fn buf_writer(stream: DuplexStream) -> ServerStream {
        ServerStream::other(BufWriter::new(stream))
    }
    let (accepting, streams) = mpsc::unbounded_channel();
    let server = Server::from_acceptor(InMemory(Mutex::new(streams)))
        .fallback(|_| async { http::Response::new("a page") })
        .authorize(|admission| async move {
            if admission.uri().path() == "/refused" {
                return Err(Rejection::new(http::StatusCode::FORBIDDEN, "no"));
            }
            Ok(admission)
        });
    let server = start(server);
    for (case, wrap) in [
        ("plain", plain as fn(DuplexStream) -> ServerStream),
        ("BufStream", buf_stream),
        ("BufWriter", buf_writer),
    ] {
        for (request, status) in [
            (REQUEST.to_owned(), "101"),
            (REQUEST.replace("/chat", "/refused"), "403"),
            (REQUEST.replace("GET", "POST"), "405"),
            ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "200"),
        ] {
            let (mut client, stream) = duplex(4096);
            accepting.send(wrap(stream)).unwrap();
            client.write_all(request.as_bytes()).await.unwrap();
            let mut line = [0; 12];
            soon(client.read_exact(&mut line)).await.unwrap();
            assert_eq!(line, format!("HTTP/1.1 {status}").as_bytes(), "{case}");
        }
    }
    drop(server);
}

/// A transport that never flushes does not keep its slot beyond the handshake's deadline.
#[tokio::test]
async fn an_answer_that_is_never_flushed_is_given_up() {
    let (accepting, streams) = mpsc::unbounded_channel();
    let server = Server::from_acceptor(InMemory(Mutex::new(streams)))
        .configure(|config| config.handshake_timeout = Duration::from_millis(100));
    let server = start(server);
    // The response does not fit, so a flush waits for the client to read.
    let (mut client, stream) = duplex(1);
    accepting.send(ServerStream::other(BufWriter::new(stream))).unwrap();
    let asked = REQUEST.as_bytes();
    client.write_all(asked).await.unwrap();
    sleep(Duration::from_millis(300)).await;
    let mut answer = Vec::new();
    soon(client.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.len() < 20, "{answer:?}");
    assert_eq!(server.handle.hub().stats().admitted, 0);
}

/// The server sends a page for as long as its reader continues, however slowly.
#[tokio::test(start_paused = true)]
async fn a_page_is_not_cut_off_while_it_is_read() {
    const PAGE: usize = 1 << 20;
    let (accepting, streams) = mpsc::unbounded_channel();
    let server = Server::from_acceptor(InMemory(Mutex::new(streams)))
        .fallback(|_| async { http::Response::new(vec![b'x'; PAGE]) });
    let server = start(server);
    for (case, wait, is_whole) in [("slow", 4, true), ("stuck", 6, false)] {
        let (mut client, stream) = duplex(16 << 10);
        accepting.send(ServerStream::other(stream)).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let (mut read, mut buf) = (0, vec![0; 16 << 10]);
        loop {
            sleep(Duration::from_secs(wait)).await;
            match client.read(&mut buf).await.unwrap() {
                0 => break,
                n => read += n,
            }
        }
        assert_eq!(read > PAGE, is_whole, "{case}: {read}");
    }
    drop(server);
}

/// A client that has ended its sending side can still receive: it gets its answer and the handler's messages, and
/// the handler learns that nothing more will arrive.
#[tokio::test]
async fn a_client_that_sends_nothing_more_is_answered_all_the_same() {
    let ended = Arc::new(AtomicUsize::new(0));
    let server = bind().await.authorize(|admission| async move {
        // Long enough for the end of the client's side to arrive first.
        sleep(Duration::from_millis(50)).await;
        Ok(admission)
    });
    let server = start_with(server, {
        let ended = Arc::clone(&ended);
        move |mut ws, _| {
            let ended = Arc::clone(&ended);
            async move {
                ws.send("hello").await?;
                let end = ws.recv().await;
                assert!(matches!(end, Err(longwire_connection::Error::Lost)), "{end:?}");
                ended.fetch_add(1, Ordering::Relaxed);
                Ok(end.map(drop)?)
            }
        }
    });
    let mut stream = tcp(server.addr).await;
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("hello"), "{answer}");
    soon(server.handle.hub().emptied()).await;
    assert_eq!(ended.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error() {
    let server = start(bind().await);
    let taken = Server::bind(server.addr).await;
    assert!(matches!(taken, Err(longwire_server::Error::Bind { .. })), "{taken:?}");
    check_echo(&mut open(server.addr).await, "the first goes on").await;
}
