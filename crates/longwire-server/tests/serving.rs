//! Connected clients, and the server's shutdown.

mod common;

use std::io::ErrorKind;
use std::time::Duration;

use longwire_connection::{Error, Keepalive};
use longwire_server::{HandlerResult, Request, ServerStream, Shutdown, Socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use common::{
    REQUEST, Running, bind, check_echo, exchange, expect, frame, head, open, open_raw, rest, soon, start,
    start_with, tcp, text,
};

async fn chat(mut ws: Socket, _: Request) -> HandlerResult {
    while let Some(message) = ws.recv().await? {
        ws.hub().broadcast_except(ws.id(), message);
    }
    Ok(())
}

async fn everything_works() {
    let server = start_with(bind().await, chat);
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(open(server.addr).await);
    }
    while server.handle.hub().len() < clients.len() {
        sleep(Duration::from_millis(1)).await;
    }
    for sender in 0..clients.len() {
        let message = format!("from {sender}");
        clients[sender].send(message.as_str()).await.unwrap();
        for (receiver, client) in clients.iter_mut().enumerate() {
            if receiver != sender {
                assert_eq!(soon(client.recv()).await.unwrap(), Some(message.as_str().into()));
            }
        }
    }
    let shutdown = tokio::spawn(server.handle.shutdown());
    for client in &mut clients {
        assert_eq!(soon(client.recv()).await.unwrap(), None);
        assert_eq!(client.close_received().unwrap().code, 1001.into());
    }
    drop(clients);
    soon(shutdown).await.unwrap();
    soon(server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn one_thread_is_enough() {
    everything_works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_threads_are_fine() {
    everything_works().await;
}

#[tokio::test]
async fn clients_can_be_accepted_one_by_one() {
    let server = bind().await;
    let (addr, handle) = (server.local_addr(), server.handle());
    let clients = tokio::spawn(async move {
        // A handshake that never ends delays no other client.
        let mut slow = tcp(addr).await;
        slow.write_all(&REQUEST.as_bytes()[..30]).await.unwrap();
        for i in 0..10 {
            check_echo(&mut open(addr).await, &format!("client {i}")).await;
        }
        slow.write_all(&REQUEST.as_bytes()[30..]).await.unwrap();
        assert!(head(&mut slow).await.starts_with("HTTP/1.1 101 "));
        slow
    });
    for _ in 0..11 {
        // `accept` loses no client when it is repeatedly dropped while it waits.
        let (ws, request) = loop {
            if let Ok(accepted) = timeout(Duration::from_millis(1), server.accept()).await {
                break accepted.unwrap();
            }
        };
        assert_eq!(request.uri(), "/chat?room=1");
        let nodelay = ws.with_transport(|transport| match transport {
            ServerStream::Tcp(stream) => stream.nodelay().unwrap(),
            other => panic!("{other:?}"),
        });
        assert_eq!(nodelay, Some(true), "replies are not held back");
        tokio::spawn(ws.run(|ws| common::echo(ws, request)));
    }
    let slow = soon(clients).await.unwrap();
    let shutdown = tokio::spawn(handle.shutdown());
    assert!(matches!(soon(server.accept()).await, Err(longwire_server::Error::ShutDown)));
    drop(slow);
    soon(shutdown).await.unwrap();
    refuses_connections(addr).await;
}

async fn refuses_connections(addr: std::net::SocketAddr) {
    let refused = soon(TcpStream::connect(addr)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_handler_that_ends_closes_with_the_code_that_fits() {
    let server = start_with(bind().await, |mut ws, _| async move {
        match ws.recv().await?.ok_or("no message")?.as_text() {
            Some("return") => Ok(()),
            Some("panic") => panic!("on purpose"),
            Some("own code") => Ok(ws.start_close(4001, "so there")?),
            _ => Err("wrong question".into()),
        }
    });
    for (message, code) in [("return", 1000), ("panic", 1011), ("own code", 4001), ("fail", 1011)] {
        let mut ws = open(server.addr).await;
        ws.send(message).await.unwrap();
        let end = soon(ws.recv()).await;
        assert_eq!(ws.close_received().unwrap().code, code.into(), "{message}: {end:?}");
        drop(ws);
    }
    soon(server.handle.hub().emptied()).await;
}

#[tokio::test]
async fn a_client_that_never_reads_holds_up_only_itself() {
    let server = start(bind().await);
    let mut greedy = open_raw(server.addr).await;
    // Its echoes fill the buffers in between, then the server stops reading from it.
    let frames = text(&"x".repeat(100)).repeat(1000);
    let flood = async {
        let mut sent = 0;
        while let Ok(Ok(())) = timeout(Duration::from_millis(300), greedy.write_all(&frames)).await {
            sent += frames.len();
        }
        sent
    };
    let healthy = async {
        let mut ws = open(server.addr).await;
        let mut longest = Duration::ZERO;
        for i in 0..200 {
            let begun = Instant::now();
            check_echo(&mut ws, &i.to_string()).await;
            longest = longest.max(begun.elapsed());
            tokio::task::yield_now().await;
        }
        longest
    };
    let (sent, longest) = tokio::join!(flood, healthy);
    assert!(sent < 64 << 20, "{sent} bytes were taken from a client that does not read");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    let queued: usize = server.handle.hub().clients().iter().map(|client| client.sender().queued()).sum();
    assert!(queued < 1 << 20, "{queued} bytes wait");
    drop(greedy);
    soon(server.handle.hub().emptied()).await;
}

#[tokio::test]
async fn a_subscriber_that_never_reads_is_closed_and_the_others_get_everything() {
    let server = start_with(bind().await, chat);
    let hub = server.handle.hub().clone();
    let deaf = open_raw(server.addr).await;
    let mut ws = open(server.addr).await;
    while hub.len() < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    let payload = vec![7; 64 * 1024];
    let begun = Instant::now();
    let mut count = 0;
    while hub.stats().closed_slow == 0 {
        hub.broadcast(payload.clone());
        assert_eq!(soon(ws.recv()).await.unwrap().map(|message| message.len()), Some(payload.len()));
        count += 1;
        assert!(count < 10_000, "a queue without bounds");
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(deaf);
    while hub.len() > 1 {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_client_that_half_closes_gets_what_it_is_owed() {
    let server = start(bind().await);
    let mut stream = open_raw(server.addr).await;
    stream.write_all(&[text("one"), text("two")].concat()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("\u{fffd}\x03one\u{fffd}\x03two"), "{answer:?}");
    soon(server.handle.hub().emptied()).await;
}

#[tokio::test]
async fn a_client_that_vanishes_is_found_out_by_pings() {
    let keepalive = Keepalive::default()
        .with_interval(Duration::from_millis(100))
        .with_timeout(Duration::from_millis(100));
    let server = start(bind().await.configure(|config| config.connection.keepalive = Some(keepalive)));
    let mut vanished = open_raw(server.addr).await;
    let mut alive = open_raw(server.addr).await;
    expect(&mut vanished, &[0x89, 0]).await;
    for _ in 0..3 {
        expect(&mut alive, &[0x89, 0]).await;
        alive.write_all(&frame(0x8a, b"")).await.unwrap();
    }
    // The client does not answer, so the server drops it.
    let mut more = Vec::new();
    let _ = soon(vanished.read_to_end(&mut more)).await;
    while server.handle.hub().len() > 1 {
        sleep(Duration::from_millis(1)).await;
        alive.write_all(&frame(0x8a, b"")).await.unwrap();
    }
}

#[tokio::test]
async fn keepalive_is_on_unless_it_is_turned_off() {
    assert!(longwire_server::ServerConfig::default().connection.keepalive.is_some());
}

#[tokio::test]
async fn the_close_code_for_a_violation_is_not_lost_to_what_follows_it() {
    let server = start(bind().await);
    let mut stream = open_raw(server.addr).await;
    let mut sent = [text("fine"), frame(0x83, b"reserved opcode")].concat();
    sent.resize(200 * 1024, 0);
    stream.write_all(&sent).await.unwrap();
    expect(&mut stream, b"\x81\x04fine").await;
    let mut close = Vec::new();
    soon(stream.read_to_end(&mut close)).await.expect("no reset");
    assert_eq!(
        close[..4],
        [&[0x88, u8::try_from(close.len() - 2).unwrap()][..], &1002u16.to_be_bytes()].concat()
    );
}

#[tokio::test]
async fn nothing_is_echoed_behind_a_close_frame() {
    let server = start(bind().await);
    let mut stream = open_raw(server.addr).await;
    let close = frame(0x88, &1000u16.to_be_bytes());
    stream.write_all(&[text("before"), close, text("after"), frame(0x89, b"ping")].concat()).await.unwrap();
    expect(&mut stream, b"\x81\x06before\x88\x02\x03\xe8").await;
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn a_peer_that_does_not_finish_closing_is_dropped() {
    let server =
        bind().await.configure(|config| config.connection.close_timeout = Duration::from_millis(200));
    let server = start_with(server, |_, _| async { Ok(()) });
    let mut stream = open_raw(server.addr).await;
    expect(&mut stream, b"\x88\x02\x03\xe8").await;
    soon(server.handle.hub().emptied()).await;
    drop(stream);
}

#[tokio::test]
async fn shutdown_under_load_loses_nothing_that_was_accepted() {
    let server = start(bind().await);
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut ws = open(server.addr).await;
        clients.push(tokio::spawn(async move {
            let (mut sent, mut echoed) = (0u32, 0u32);
            loop {
                // Ten are in flight until the server closes.
                while sent < echoed + 10 && ws.send(sent.to_string()).await.is_ok() {
                    sent += 1;
                }
                match soon(ws.recv()).await {
                    Ok(Some(message)) => {
                        assert_eq!(message, echoed.to_string().into(), "in order, with no gap");
                        echoed += 1;
                    }
                    Ok(None) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(ws.close_received().unwrap().code, 1001.into());
            echoed
        }));
    }
    sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    soon(server.handle.shutdown()).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    soon(server.task).await.unwrap().unwrap();
    for client in clients {
        assert!(soon(client).await.unwrap() > 0);
    }
    assert!(server.handle.hub().is_empty());
    refuses_connections(server.addr).await;
}

#[tokio::test]
async fn shutdown_answers_handshakes_that_are_going_on() {
    let server = start(bind().await);
    let mut half = tcp(server.addr).await;
    half.write_all(&REQUEST.as_bytes()[..50]).await.unwrap();
    let mut nothing = tcp(server.addr).await;
    // Waits until both are accepted.
    check_echo(&mut open(server.addr).await, "hello").await;
    let shutdown = tokio::spawn(server.handle.shutdown());
    for stream in [&mut half, &mut nothing] {
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    drop((half, nothing));
    soon(shutdown).await.unwrap();
    soon(server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_keeps_its_deadline_whatever_clients_do() {
    let shutdown = Shutdown::default().with_deadline(Duration::from_millis(300));
    let server = bind().await.configure(|config| config.shutdown = shutdown);
    let server = start_with(server, |ws, _| async move {
        std::future::pending::<()>().await;
        drop(ws);
        Ok(())
    });
    let mut deaf = Vec::new();
    for _ in 0..5 {
        deaf.push(open_raw(server.addr).await);
    }
    let begun = Instant::now();
    soon(server.handle.shutdown()).await;
    soon(server.task).await.unwrap().unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300), "they had their time");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(server.handle.hub().is_empty());
    for stream in &mut deaf {
        expect(stream, b"\x88\x02\x03\xe9").await;
    }
}

#[tokio::test]
async fn a_signal_shuts_the_server_down() {
    let server = bind().await;
    let (addr, handle) = (server.local_addr(), server.handle());
    let (signal, signalled) = oneshot::channel::<()>();
    let serving = server.serve(common::echo).with_graceful_shutdown(async move {
        let _ = signalled.await;
    });
    let task = tokio::spawn(serving.into_future());
    let mut ws = open(addr).await;
    check_echo(&mut ws, "hello").await;
    let mut half = tcp(addr).await;
    half.write_all(&REQUEST.as_bytes()[..50]).await.unwrap();
    check_echo(&mut open(addr).await, "accepted behind it").await;
    signal.send(()).unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap(), None);
    drop(ws);
    let answer = rest(&mut half).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop(half);
    soon(task).await.unwrap().unwrap();
    assert!(handle.hub().is_shutting_down());
    refuses_connections(addr).await;
}

#[tokio::test]
async fn shutdown_says_what_it_is_told_to_say() {
    for (code, reason, seen) in [(1012, "restart", (1012, "restart")), (1006, "not to be sent", (1001, ""))] {
        let Running { addr, handle, task } = start(bind().await);
        let mut ws = open(addr).await;
        check_echo(&mut ws, "hello").await;
        let shutdown = Shutdown::default().with_code(code).with_reason(reason);
        // Dropped at once: the running server does the rest.
        drop(handle.shutdown_with(shutdown));
        match soon(ws.recv()).await {
            Ok(None) | Err(Error::ClosedByPeer(_)) => {}
            other => panic!("{other:?}"),
        }
        let frame = ws.close_received().unwrap();
        assert_eq!((frame.code.value(), frame.reason.as_str()), seen);
        drop(ws);
        soon(task).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_dropped_stops_listening_and_leaves_its_clients_alone() {
    let Running { addr, handle, task } = start(bind().await);
    let mut ws = open(addr).await;
    check_echo(&mut ws, "before").await;
    task.abort();
    assert!(soon(task).await.unwrap_err().is_cancelled());
    refuses_connections(addr).await;
    check_echo(&mut ws, "after").await;
    let shutdown = tokio::spawn(handle.shutdown());
    assert_eq!(soon(ws.recv()).await.unwrap(), None);
    drop(ws);
    soon(shutdown).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_may_be_spread() {
    let server = start(bind().await.configure(|config| config.shutdown.spread = Duration::from_secs(1)));
    let mut clients = [open(server.addr).await, open(server.addr).await];
    for client in &mut clients {
        check_echo(client, "hello").await;
    }
    let begun = Instant::now();
    let shutdown = tokio::spawn(server.handle.shutdown());
    for (client, least) in clients.iter_mut().zip([0, 450]) {
        assert_eq!(soon(client.recv()).await.unwrap(), None);
        assert!(
            begun.elapsed() >= Duration::from_millis(least),
            "one after the other: {:?}",
            begun.elapsed()
        );
    }
    drop(clients);
    soon(shutdown).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_frames_leaves_room_for_others() {
    let server = start_with(bind().await, |mut ws, _| async move {
        while let Some(message) = ws.recv().await? {
            if message.is_text() {
                ws.send(message).await?;
            }
        }
        Ok(())
    });
    let mut flooder = open_raw(server.addr).await;
    let flood = tokio::spawn(async move {
        let empty = frame(0x82, b"").repeat(10_000);
        while flooder.write_all(&empty).await.is_ok() {}
    });
    let mut ws = open(server.addr).await;
    for i in 0..100 {
        let begun = Instant::now();
        check_echo(&mut ws, &i.to_string()).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    flood.abort();
}

#[tokio::test]
async fn a_plain_request_is_told_that_this_is_no_web_server() {
    let server = start(bind().await);
    let answer = exchange(server.addr, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
}

#[tokio::test]
async fn a_full_server_says_so_before_it_accepts() {
    let server = start(bind().await.configure(|config| config.hub.max_clients_per_address = Some(1)));
    let mut first = open(server.addr).await;
    check_echo(&mut first, "hello").await;
    let answer = exchange(server.addr, REQUEST.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(server.handle.hub().stats().refused, 1);
    soon(first.close(1000, "")).await.unwrap();
    drop(first);
    soon(server.handle.hub().emptied()).await;
    check_echo(&mut open(server.addr).await, "again").await;
}
