//! Sends as writes of the transport: gathered, vectored, held back, counted.

mod support;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use longwire_connection::testing::{Faults, Pipe, duplex};
use longwire_connection::{Config, Error, Message, MessageKind, Stats, WebSocket, drive};
use support::{
    BINARY, End, PING, TEXT, check_wire, close_code, close_frame, echo, frame, messages, read_to_end, run,
    settle, socket, text_frame, whole_frames, write,
};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep};

/// Sixteen short messages of a client, in one piece.
fn sixteen() -> (Vec<Message>, Vec<u8>) {
    let texts: Vec<_> = (0..16).map(|n| format!("message {n}")).collect();
    let bytes = texts.iter().flat_map(|text| text_frame(End::Client, text)).collect();
    (texts.into_iter().map(Message::text).collect(), bytes)
}

#[test]
fn echoes_of_one_read_leave_in_one_write() {
    run("sixteen echoes", async {
        let (pipe, mut peer) = duplex(64 * 1024);
        let tap = pipe.tap();
        let (said, bytes) = sixteen();
        write(&mut peer, &bytes).await;
        let driven = tokio::spawn(drive(socket(End::Server, pipe, &Config::default()), echo));
        settle().await;
        let frames = whole_frames(&tap.written(), End::Server);
        assert_eq!(messages(&frames), said);
        assert_eq!(tap.counts().writes, 1, "sizes {:?}", tap.write_sizes());
        assert_eq!(tap.counts().flushes, 1);

        write(&mut peer, close_frame(End::Client, 1000)).await;
        drop(peer);
        driven.await.unwrap().unwrap();
        assert_eq!(tap.counts().writes, 2, "the close frame is the second");
    });
}

#[test]
fn without_drive_each_send_is_written() {
    run("sixteen sends", async {
        let (pipe, _peer) = duplex(64 * 1024);
        let tap = pipe.tap();
        let mut ws = socket(End::Server, pipe, &Config::default());
        for n in 1..=16 {
            ws.send("message").await.unwrap();
            assert_eq!(tap.counts().writes, n);
        }
        ws.feed("one").await.unwrap();
        ws.feed("two").await.unwrap();
        assert_eq!(tap.counts().writes, 16, "what is fed waits");
        ws.flush().await.unwrap();
        assert_eq!(tap.counts().writes, 17, "and leaves at once");
        ws.abort();
    });
}

/// If the handler waits for something other than its socket, only `drive` can write.
#[test]
fn a_handler_that_yields_has_sent() {
    run("a handler that sleeps", async {
        // The pipe shows the peer only flushed bytes.
        let (pipe, mut peer) = duplex(64 * 1024);
        let pipe = pipe.with_faults(Faults::new().hold_until_flush());
        let start = Instant::now();
        let driven = tokio::spawn(drive(socket(End::Server, pipe, &Config::default()), async |mut ws| {
            ws.send("one").await?;
            ws.send("two").await?;
            sleep(Duration::from_secs(60)).await;
            ws.send("three").await
        }));
        let mut seen = vec![0; 10];
        peer.read_exact(&mut seen).await.unwrap();
        assert_eq!(seen, [text_frame(End::Server, "one"), text_frame(End::Server, "two")].concat());
        assert_eq!(start.elapsed(), Duration::ZERO, "the handler still sleeps");
        let mut rest = vec![0; 7];
        peer.read_exact(&mut rest).await.unwrap();
        assert_eq!(rest, text_frame(End::Server, "three"));
        drop(peer);
        driven.await.unwrap().unwrap();
    });
}

#[test]
fn a_large_payload_is_written_with_its_header_in_one_call() {
    for vectored in [true, false] {
        run("a large payload", async {
            let (pipe, mut peer) = duplex(1024 * 1024);
            let pipe = if vectored { pipe } else { pipe.without_vectored_writes() };
            let tap = pipe.tap();
            let mut ws = socket(End::Server, pipe, &Config::default());
            let payload = vec![0xa5; 300_000];
            ws.send(payload.clone()).await.unwrap();
            let bytes = frame(End::Server, 0x80 | BINARY, &payload);
            assert_eq!(tap.written(), bytes);
            if vectored {
                assert_eq!(tap.write_sizes(), [bytes.len()]);
            } else {
                assert_eq!(tap.write_sizes(), [10, payload.len()]);
            }
            ws.abort();
            assert_eq!(read_to_end(&mut peer).await, bytes);
        });
    }
}

#[test]
fn a_sender_waits_for_a_peer_that_does_not_read() {
    const QUEUE: usize = 10_000;
    const MESSAGE: usize = 1000;
    run("backpressure", async {
        let (pipe, mut peer) = duplex(64);
        let config = Config::default().with_send_queue(QUEUE);
        let ws = socket(End::Server, pipe, &config);
        let (sender, mut receiver) = ws.split();
        let receiving = tokio::spawn(async move { receiver.recv().await });
        let fed = Rc::new(Cell::new(0));
        let feeding = async {
            for n in 0..100_u8 {
                sender.feed(vec![n; MESSAGE]).await.unwrap();
                fed.set(fed.get() + 1);
                assert!(sender.queued() < QUEUE + MESSAGE + 4, "{} bytes wait", sender.queued());
            }
            sender.flush().await.unwrap();
        };
        let mut feeding = pin!(feeding);
        let waits = poll_fn(|cx| Poll::Ready(feeding.as_mut().poll(cx).is_pending())).await;
        assert!(waits && (9..=11).contains(&fed.get()), "{} messages are taken", fed.get());
        assert!(matches!(sender.try_send("one more"), Err(Error::QueueFull)));
        tokio::select! {
            () = &mut feeding => panic!("the peer reads nothing"),
            () = sleep(Duration::from_secs(60)) => {}
        }

        let reading = async {
            let mut bytes = vec![0; 100 * (MESSAGE + 4)];
            peer.read_exact(&mut bytes).await.unwrap();
            bytes
        };
        let ((), bytes) = tokio::join!(feeding, reading);
        let said: Vec<_> = (0..100_u8).map(|n| Message::binary(vec![n; MESSAGE])).collect();
        assert_eq!(messages(&whole_frames(&bytes, End::Server)), said);
        sender.abort();
        assert!(matches!(receiving.await.unwrap(), Err(Error::Lost)));
    });
}

/// A large message exceeds the limit once; it is not refused for its size.
#[test]
fn one_message_above_the_limit_of_the_queue_is_taken() {
    run("a message above the limit", async {
        let (pipe, mut peer) = duplex(64);
        let mut ws = socket(End::Server, pipe, &Config::default().with_send_queue(10));
        ws.feed(vec![1; 5000]).await.unwrap();
        assert!(matches!(ws.sender().try_send("x"), Err(Error::QueueFull)));
        let mut bytes = vec![0; 5004];
        let (flushed, read) = tokio::join!(ws.flush(), peer.read_exact(&mut bytes));
        flushed.unwrap();
        read.unwrap();
        ws.sender().try_send("x").expect("there is room again");
        ws.abort();
    });
}

/// Under `drive`, a handler that only sends must yield if the peer does not read.
#[test]
fn a_handler_waits_for_a_peer_that_does_not_read() {
    run("backpressure under drive", async {
        let (pipe, mut peer) = duplex(64);
        let tap = pipe.tap();
        let config = Config::default().with_send_queue(500);
        let driven = tokio::spawn(drive(socket(End::Server, pipe, &config), async |mut ws| {
            for n in 0..50_u8 {
                ws.send(vec![n; 100]).await?;
                assert!(ws.stats().bytes_queued < 500 + 102);
            }
            Ok::<_, Error>(())
        }));
        settle().await;
        assert_eq!(tap.written().len(), 64, "all that the transport takes");
        assert!(!driven.is_finished());
        let mut bytes = vec![0; 50 * 102];
        peer.read_exact(&mut bytes).await.unwrap();
        assert_eq!(messages(&whole_frames(&bytes, End::Server)).len(), 50);
        drop(peer);
        driven.await.unwrap().unwrap();
    });
}

#[test]
fn what_was_accepted_before_close_reaches_the_peer() {
    for driven in [false, true] {
        run("messages before a close", async {
            // Almost nothing fits in flight: the queue must be written after `close` was called.
            let (pipe, mut peer) = duplex(5);
            let config = Config::default().with_send_queue(1_000_000);
            let ws = socket(End::Server, pipe, &config);
            let talk = async move |mut ws: WebSocket<Pipe>| {
                for n in 0..20_u8 {
                    ws.feed(vec![n; 50]).await?;
                }
                ws.sender().try_send("last")?;
                ws.close(1000, "").await
            };
            let talking =
                async { if driven { drive(ws, talk).await.unwrap() } else { talk(ws).await.unwrap() } };
            let listening = async {
                let mut bytes = Vec::new();
                while !check_wire(&bytes, End::Server).0.iter().any(|frame| frame.opcode >= 8) {
                    peer.read_buf(&mut bytes).await.unwrap();
                }
                write(&mut peer, close_frame(End::Client, 1000)).await;
                bytes.extend(read_to_end(&mut peer).await);
                drop(peer);
                bytes
            };
            let ((), bytes) = tokio::join!(talking, listening);
            let frames = whole_frames(&bytes, End::Server);
            assert_eq!(messages(&frames).len(), 21);
            assert_eq!(messages(&frames)[20], Message::text("last"));
            assert_eq!(close_code(&frames), Some(1000));
        });
    }
}

#[test]
fn stats_count_what_went_through() {
    run("stats", async {
        let (pipe, mut peer) = duplex(64 * 1024);
        let tap = pipe.tap();
        let mut ws = socket(End::Server, pipe, &Config::default());
        assert_eq!(ws.stats(), Stats::default());
        let mut said = text_frame(End::Client, "one");
        said.extend(frame(End::Client, 0x80 | PING, b"there?"));
        said.extend(frame(End::Client, TEXT, b"in "));
        said.extend(frame(End::Client, 0x80, b"parts"));
        write(&mut peer, &said).await;
        assert_eq!(ws.recv().await.unwrap(), Some("one".into()));
        assert_eq!(ws.stats().messages_received, 1);
        assert_eq!(ws.recv().await.unwrap(), Some("in parts".into()));
        let stats = ws.stats();
        assert_eq!((stats.messages_received, stats.bytes_received), (2, said.len() as u64));
        assert_eq!(stats.messages_sent, 0, "a pong is no message");

        ws.feed("wait").await.unwrap();
        let stats = ws.stats();
        assert_eq!(stats.messages_sent, 1);
        assert!(stats.bytes_queued >= 6, "{stats:?}");
        ws.flush().await.unwrap();
        let mut writer = ws.message_writer(MessageKind::Text).await.unwrap();
        writer.write("a").await.unwrap();
        writer.write("b").await.unwrap();
        writer.finish().await.unwrap();
        let stats = ws.stats();
        assert_eq!((stats.messages_sent, stats.bytes_queued), (2, 0), "parts are one message");
        assert_eq!(stats.bytes_sent, tap.counts().bytes_written);
        assert_eq!(stats.bytes_received, tap.counts().bytes_read);
        ws.abort();
    });
}

/// A peer that always has more to send must not keep the thread from other tasks.
#[test]
fn a_flood_leaves_others_their_turn() {
    const MESSAGES: usize = 20_000;
    for driven in [false, true] {
        run("a flood", async {
            let bytes = text_frame(End::Client, "flood").repeat(MESSAGES);
            let (pipe, mut peer) = duplex(bytes.len());
            write(&mut peer, &bytes).await;
            drop(peer);
            let ws = socket(End::Server, pipe, &Config::default());
            let received = Rc::new(Cell::new(0));
            let count = async |mut ws: WebSocket<Pipe>| {
                while matches!(ws.recv().await, Ok(Some(_))) {
                    received.set(received.get() + 1);
                }
                Ok::<_, Error>(())
            };
            let flooded = async { if driven { drive(ws, count).await } else { count(ws).await } };
            let mut flooded = pin!(flooded);
            let mut most = 0;
            poll_fn(|cx| {
                let before = received.get();
                let polled = flooded.as_mut().poll(cx);
                most = most.max(received.get() - before);
                polled
            })
            .await
            .unwrap();
            assert_eq!(received.get(), MESSAGES);
            assert!((100..=256).contains(&most), "{most} messages in one poll");
        });
    }
}
