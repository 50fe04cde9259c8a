//! A listener moves from one server to the next: no client is refused, and connected clients may stay.

mod common;

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use longwire_server::{Error, Listen, Listeners, Server, ServerStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use common::{REQUEST, bind, check_echo, head, open, soon, start, tcp};

#[tokio::test]
async fn nobody_is_refused_and_those_who_are_here_stay() {
    let old = start(bind().await);
    let mut stays = open(old.addr).await;
    check_echo(&mut stays, "before").await;
    let mut half = tcp(old.addr).await;
    half.write_all(&REQUEST.as_bytes()[..40]).await.unwrap();
    sleep(Duration::from_millis(50)).await;

    let listeners = old.handle.hand_over().unwrap();
    assert!(matches!(old.handle.hand_over(), Err(Error::ShutDown)), "it is given away once");
    // From now on connections wait in the queue, because no server accepts them.
    sleep(Duration::from_millis(50)).await;
    let mut waits = soon(TcpStream::connect(old.addr)).await.expect("no connection is refused meanwhile");
    waits.write_all(REQUEST.as_bytes()).await.unwrap();
    assert!(timeout(Duration::from_millis(100), waits.read_u8()).await.is_err());
    check_echo(&mut stays, "meanwhile").await;

    let next = start(Server::from_listeners(listeners).unwrap());
    assert_eq!(next.addr, old.addr);
    assert!(head(&mut waits).await.starts_with("HTTP/1.1 101 "));
    check_echo(&mut open(next.addr).await, "new").await;
    check_echo(&mut stays, "after").await;
    half.write_all(&REQUEST.as_bytes()[40..]).await.unwrap();
    assert!(head(&mut half).await.starts_with("HTTP/1.1 101 "), "a handshake that had begun goes on");
    assert_eq!(old.handle.hub().len(), 2, "with the server that began it");

    drop(half);
    assert!(!old.task.is_finished(), "it serves as long as somebody is there");
    soon(stays.close(1000, "")).await.unwrap();
    drop(stays);
    soon(old.task).await.unwrap().unwrap();
    check_echo(&mut open(next.addr).await, "the next server has the address for itself").await;
}

#[tokio::test]
async fn a_handshake_alone_is_waited_for() {
    let old = start(bind().await);
    let mut half = tcp(old.addr).await;
    half.write_all(&REQUEST.as_bytes()[..40]).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let _listeners = old.handle.hand_over().unwrap();
    sleep(Duration::from_millis(100)).await;
    assert!(!old.task.is_finished());
    half.write_all(&REQUEST.as_bytes()[40..]).await.unwrap();
    assert!(head(&mut half).await.starts_with("HTTP/1.1 101 "));
    drop(half);
    soon(old.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_ends_those_who_stayed() {
    let old = start(bind().await);
    let mut stays = open(old.addr).await;
    check_echo(&mut stays, "before").await;
    let _listeners = old.handle.hand_over().unwrap();
    sleep(Duration::from_millis(50)).await;
    let shutdown = tokio::spawn(old.handle.shutdown());
    assert_eq!(soon(stays.recv()).await.unwrap(), None);
    let code = stays.close_received().map(|frame| u16::from(frame.code));
    assert_eq!(code, Some(1001));
    drop(stays);
    soon(shutdown).await.unwrap();
    soon(old.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn handshakes_that_were_begun_are_accepted_before_the_end() {
    let server = bind().await;
    let handle = server.handle();
    let mut half = tcp(server.local_addr()).await;
    half.write_all(&REQUEST.as_bytes()[..40]).await.unwrap();
    // The handshake starts while `accept` waits for a client.
    assert!(timeout(Duration::from_millis(100), server.accept()).await.is_err());
    let _listeners = handle.hand_over().unwrap();
    let accepting = tokio::spawn(async move {
        let first = server.accept().await.map(drop);
        (first, server.accept().await.map(drop))
    });
    sleep(Duration::from_millis(50)).await;
    half.write_all(&REQUEST.as_bytes()[40..]).await.unwrap();
    let (first, second) = soon(accepting).await.unwrap();
    assert!(first.is_ok());
    assert!(matches!(second, Err(Error::ShutDown)));
}

#[derive(Debug)]
struct Own;

impl Listen for Own {
    fn poll_accept(&self, _: &mut Context<'_>) -> Poll<io::Result<(ServerStream, Option<SocketAddr>)>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn what_cannot_be_given_away_stays() {
    let server = start(bind().await.add_listener(Own));
    assert!(matches!(server.handle.hand_over(), Err(Error::HandOver(_))));
    check_echo(&mut open(server.addr).await, "still here").await;
    assert!(matches!(Server::from_listeners(Listeners::default()), Err(Error::Bind { .. })));
}

#[cfg(unix)]
#[tokio::test]
async fn listeners_of_every_kind_are_handed_over() {
    let path = std::env::temp_dir().join(format!("longwire-hand-over-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let unix = tokio::net::UnixListener::bind(&path).unwrap();
    let old = start(bind().await.add_listener(unix));
    let listeners = old.handle.hand_over().unwrap();
    assert_eq!((listeners.tcp.len(), listeners.unix.len()), (1, 1));
    soon(old.task).await.unwrap().expect("nobody is there");
    let next = start(Server::from_listeners(listeners).unwrap());
    check_echo(&mut open(next.addr).await, "over TCP").await;
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    let mut status = [0; 13];
    soon(stream.read_exact(&mut status)).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 101 ");
    std::fs::remove_file(path).unwrap();
}
