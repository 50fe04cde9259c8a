//! Tests that need access to internals: failing listeners, and the size of a task.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use crate::listen::Listen;
use crate::pending::{Pending, Revoked};
use crate::response::finish;
use crate::{Server, ServerStream};

/// A listener that returns these errors first.
#[derive(Debug)]
struct Failing {
    errors: Mutex<VecDeque<io::Error>>,
    asked: AtomicUsize,
    listener: TcpListener,
}

impl Listen for Failing {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(ServerStream, Option<SocketAddr>)>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.errors.lock().unwrap().pop_front() {
            Some(error) => Poll::Ready(Err(error)),
            None => Listen::poll_accept(&self.listener, cx),
        }
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future).await.expect("in time")
}

#[tokio::test]
async fn errors_of_accept_are_survived() {
    let gone = || io::Error::from(io::ErrorKind::ConnectionAborted);
    let exhausted = || io::Error::other("too many open files");
    for (case, errors, shortest, longest) in [
        ("connections that were gone", (0..8).map(|_| gone()).collect::<Vec<_>>(), 0, 1000),
        ("no descriptors, five times", (0..5).map(|_| exhausted()).collect(), 10 + 20 + 40 + 80 + 160, 5000),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let count = errors.len();
        let errors = Mutex::new(errors.into());
        let listener = Arc::new(Failing { errors, asked: AtomicUsize::new(0), listener });
        let server = Server::from_listen(Arc::clone(&listener) as Arc<dyn Listen>);
        let begun = Instant::now();
        let serving = tokio::spawn(server.serve(|_, _| async { Ok(()) }).into_future());
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut response = String::new();
        soon(stream.read_to_string(&mut response)).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 426 "), "{case}: {response}");
        let took = begun.elapsed().as_millis();
        assert!((shortest..longest).contains(&took), "{case}: {took} ms");
        let asked = listener.asked.load(Ordering::Relaxed);
        assert!(asked <= count + 5, "{case}: no busy loop: {asked}");
        serving.abort();
    }
}

#[tokio::test]
async fn a_place_goes_from_the_oldest_to_the_newest() {
    let pending = Arc::new(Pending::default());
    let first = pending.enter(2);
    let second = pending.enter(2);
    drop(second);
    let third = pending.enter(2);
    assert!(timeout(Duration::ZERO, first.revoked()).await.is_err(), "a place was free");
    let fourth = pending.enter(2);
    assert_eq!(soon(first.revoked()).await, Revoked::Crowded);
    assert!(timeout(Duration::ZERO, third.revoked()).await.is_err());

    pending.close();
    assert_eq!(soon(third.revoked()).await, Revoked::ShutDown);
    assert_eq!(soon(fourth.revoked()).await, Revoked::ShutDown);
    assert_eq!(soon(pending.enter(2).revoked()).await, Revoked::ShutDown, "who comes too late");
    assert!(timeout(Duration::from_millis(1), pending.emptied()).await.is_err(), "three are still there");
    drop((first, third, fourth));
    soon(pending.emptied()).await;
}

#[tokio::test]
async fn a_place_that_is_held_is_not_lost() {
    let pending = Arc::new(Pending::default());
    let first = pending.enter(2);
    assert!(first.hold());
    let second = pending.enter(2);
    let third = pending.enter(2);
    let fourth = pending.enter(2);
    assert!(timeout(Duration::ZERO, first.revoked()).await.is_err());
    assert_eq!(soon(second.revoked()).await, Revoked::Crowded);
    assert!(second.hold(), "a place that was lost is had back");
    assert!(timeout(Duration::ZERO, second.revoked()).await.is_err());
    assert!(!third.hold(), "two hold theirs");
    assert!(timeout(Duration::ZERO, third.revoked()).await.is_err());
    drop(second);
    assert!(third.hold());

    // After its release, the first handshake yields again: it is one of two, and the oldest.
    let fifth = pending.enter(2);
    first.release();
    assert_eq!(soon(fourth.revoked()).await, Revoked::Crowded);
    let sixth = pending.enter(2);
    assert_eq!(soon(first.revoked()).await, Revoked::Crowded);

    pending.close();
    for left in [&third, &fifth, &sixth] {
        assert_eq!(soon(left.revoked()).await, Revoked::ShutDown);
        assert!(!left.hold());
    }
    drop((first, third, fourth, fifth, sixth));
    soon(pending.emptied()).await;
}

/// 10 000 idle connections have 10 000 of these tasks.
#[tokio::test]
async fn a_task_holds_little_beside_its_handler() {
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let listener = server.listener().unwrap();
    let _client = TcpStream::connect(server.local_addr()).await.unwrap();
    let (io, peer_addr) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
    let opening = Box::pin(server.open(io, peer_addr));
    let task = crate::serve::connection(opening, |socket, request| {
        socket.run_to_end(move |_| {
            drop(request);
            Handler([0; 256])
        })
    });
    let overhead = size_of_val(&task) - size_of::<Handler>();
    assert!(overhead <= 72, "{overhead}");
}

/// A handler of known size.
struct Handler([u8; 256]);

impl Future for Handler {
    type Output = crate::HandlerResult;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(if self.0[0] == 0 { Ok(()) } else { Err("changed".into()) })
    }
}

/// A listener that answers at once, with an error that belongs to one connection, however often it is asked.
#[derive(Debug)]
struct Broken;

impl Listen for Broken {
    fn poll_accept(&self, _: &mut Context<'_>) -> Poll<io::Result<(ServerStream, Option<SocketAddr>)>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

#[test]
fn a_listener_that_always_answers_leaves_room_for_others() {
    let (ended, is_ended) = std::sync::mpsc::channel();
    // A thread of its own: if the server keeps it for itself, no timer of its runtime fires.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::from_acceptor(Broken);
            let handle = server.handle();
            let serving = server.serve(|_, _| async { Ok(()) }).spawn();
            tokio::time::sleep(Duration::from_millis(20)).await;
            handle.shutdown().await;
            serving.await.unwrap().unwrap();
        });
        let _ = ended.send(());
    });
    is_ended.recv_timeout(Duration::from_secs(10)).expect("the shutdown gets its turn");
}

/// A stream with a buffer of 64 KiB, as that of TLS has, over one that takes 1 KiB in each 100 ms.
struct Buffered {
    buffer: usize,
    sent: Arc<AtomicUsize>,
    next: Pin<Box<tokio::time::Sleep>>,
}

impl Buffered {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.buffer > 0 {
            ready!(self.next.as_mut().poll(cx));
            let n = self.buffer.min(1024);
            self.buffer -= n;
            self.sent.fetch_add(n, Ordering::Relaxed);
            self.next = Box::pin(tokio::time::sleep(Duration::from_millis(100)));
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Buffered {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Buffered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let _ = this.poll_send(cx);
        match buf.len().min(64 * 1024 - this.buffer) {
            0 => Poll::Pending,
            n => {
                this.buffer += n;
                Poll::Ready(Ok(n))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx).map(Ok)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_gets_a_response_whole_from_a_stream_with_a_buffer() {
    let sent = Arc::new(AtomicUsize::new(0));
    let next = Box::pin(tokio::time::sleep(Duration::ZERO));
    let mut stream = ServerStream::other(Buffered { buffer: 0, sent: Arc::clone(&sent), next });
    finish(&mut stream, &vec![b'x'; 200_000], Duration::from_secs(5)).await;
    assert_eq!(sent.load(Ordering::Relaxed), 200_000);
}
