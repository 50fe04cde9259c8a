//! A connection from start to end, for both ends: its state, its queue, its pauses, its one error.

mod support;

use std::time::Duration;

use longwire_connection::testing::duplex;
use longwire_connection::{
    CloseFrame, Config, Error, Handover, Incoming, MaskingKey, Message, ProtocolError, State, WebSocket,
};
use support::{BINARY, CLOSE, CONTINUATION, End, Frame, KEY, PING, PONG, TEXT};
use support::{
    close_code, close_frame, echo, frame, messages, read_frames, read_to_end, run, settle, socket,
};
use support::{text_frame, whole_frames, write};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

const ENDS: [(End, End); 2] = [(End::Client, End::Server), (End::Server, End::Client)];

#[test]
fn the_state_goes_from_open_over_closing_to_closed() {
    for (end, other) in ENDS {
        for first in [end, other] {
            run("the state", async {
                let (pipe, mut peer) = duplex(1024);
                let handover = match end {
                    End::Client => Handover::client(support::one_key),
                    End::Server => Handover::server(),
                };
                let handover = handover.subprotocol(Some("chat".into())).extensions(Some("x-none".into()));
                let mut ws = WebSocket::new(pipe, handover, &Config::default());
                assert_eq!((ws.state(), ws.close_received()), (State::Open, None));
                assert_eq!((ws.subprotocol(), ws.extensions()), (Some("chat"), Some("x-none")));
                if first == end {
                    ws.start_close(1000, "").unwrap();
                    assert_eq!(ws.state(), State::Closing, "{end:?}: a close frame was sent");
                }
                write(&mut peer, close_frame(other, 1000)).await;
                peer.shutdown().await.unwrap();
                assert!(matches!(ws.recv().await, Ok(None)));
                assert_eq!(close_code(&read_frames(&mut peer, end, 1).await), Some(1000));
                settle().await;
                assert!(matches!(ws.recv().await, Ok(None)));
                assert_eq!(ws.state(), State::Closed, "{end:?}: {first:?} was first");
                assert_eq!((ws.subprotocol(), ws.extensions()), (Some("chat"), Some("x-none")));
                assert!(ws.close_received().is_some());
            });
        }
    }
}

#[test]
fn what_is_queued_is_counted_until_it_is_written_and_nothing_behind_a_close() {
    for (end, _) in ENDS {
        run("the queue", async {
            let (pipe, mut peer) = duplex(1024);
            let tap = pipe.tap();
            let mut ws = socket(end, pipe, &Config::default());
            let sender = ws.sender();
            assert_eq!((sender.queued(), ws.stats().bytes_queued), (0, 0));
            let one = text_frame(end, "one").len();
            for n in 1..=3 {
                ws.feed("one").await.unwrap();
                assert_eq!(sender.queued(), n * one);
            }
            ws.flush().await.unwrap();
            assert_eq!(sender.queued(), 0);
            tap.stall_writes();
            sender.pong("x").unwrap();
            assert_eq!(sender.queued(), frame(end, 0x80 | PONG, b"x").len());
            tap.resume();
            ws.flush().await.unwrap();
            assert_eq!(sender.queued(), 0);
            ws.start_close(1000, "").unwrap();
            let queued = sender.queued();
            assert!(matches!(sender.send("x").await, Err(Error::Closed)));
            assert!(matches!(sender.ping(), Err(Error::Closed)));
            assert!(matches!(sender.pong("x"), Err(Error::Closed)));
            assert_eq!(sender.queued(), queued, "what is refused is not queued");
            drop(ws);
            assert_eq!(messages(&read_frames(&mut peer, end, 5).await), vec![Message::text("one"); 3]);
        });
    }
}

/// Not receiving is a pause: data that the peer sends stays with it, and nothing is lost.
#[test]
fn a_socket_that_does_not_receive_holds_the_peer_back() {
    for (end, other) in ENDS {
        run("a pause", async {
            let (pipe, mut peer) = duplex(64);
            let tap = pipe.tap();
            let mut ws = socket(end, pipe, &Config::default());
            let talking = tokio::spawn(async move {
                for n in 0..100 {
                    write(&mut peer, text_frame(other, &format!("message {n}"))).await;
                }
                peer
            });
            sleep(Duration::from_secs(60)).await;
            assert_eq!(tap.counts().bytes_read, 0, "{end:?}");
            assert!(!talking.is_finished());
            for n in 0..50 {
                assert_eq!(ws.recv().await.unwrap(), Some(format!("message {n}").into()));
            }
            sleep(Duration::from_secs(60)).await;
            assert!(!talking.is_finished(), "{end:?}: paused again");
            for n in 50..100 {
                assert_eq!(ws.recv().await.unwrap(), Some(format!("message {n}").into()));
            }
            talking.await.unwrap();
            ws.abort();
        });
    }
}

/// A message, a close frame or an end that arrives while no call receives is seen afterward, in order.
#[test]
fn what_came_during_a_pause_is_received_before_the_end() {
    for (what, clean) in [("close", true), ("end", false), ("violation", false)] {
        for (end, other) in ENDS {
            run(what, async {
                let (pipe, mut peer) = duplex(1024);
                let mut ws = socket(end, pipe, &Config::default());
                write(&mut peer, [text_frame(other, "one"), text_frame(other, "two")].concat()).await;
                match what {
                    "close" => write(&mut peer, close_frame(other, 1000)).await,
                    "violation" => write(&mut peer, [0xf0, 0x80]).await,
                    _ => {}
                }
                peer.shutdown().await.unwrap();
                sleep(Duration::from_secs(60)).await;
                let (received, ended) = support::recv_all(&mut ws).await;
                assert_eq!(received, ["one".into(), "two".into()], "{what} to {end:?}");
                assert_eq!(ended.is_ok(), clean, "{what} to {end:?}: {ended:?}");
                drop(ws);
                // The transport is ended, so that neither end waits for the other.
                read_to_end(&mut peer).await;
            });
        }
    }
}

#[test]
fn an_error_is_told_once_and_nothing_behind_it() {
    for what in ["a violation", "a lost connection", "a reset", "a code", "no answer to a close"] {
        for (end, other) in ENDS {
            run(what, async {
                let (pipe, mut peer) = duplex(1024);
                let mut ws = socket(end, pipe, &Config::default());
                write(&mut peer, text_frame(other, "before")).await;
                match what {
                    "a violation" => write(&mut peer, [0xf0, 0x80]).await,
                    "a code" => write(&mut peer, close_frame(other, 1011)).await,
                    "no answer to a close" => ws.start_close(1000, "").unwrap(),
                    _ => {}
                }
                let _kept = match what {
                    "a lost connection" => {
                        drop(peer);
                        None
                    }
                    "a reset" => {
                        assert_eq!(ws.recv().await.unwrap(), Some("before".into()));
                        drop(peer.resetting_on_drop());
                        None
                    }
                    _ => Some(peer),
                };
                if what != "a reset" {
                    assert_eq!(ws.recv().await.unwrap(), Some("before".into()), "{what} at {end:?}");
                }
                let error = ws.recv().await.expect_err(what);
                assert!(error.is_disconnect() && error.close_code().is_some(), "{what} at {end:?}: {error}");
                for _ in 0..3 {
                    assert!(matches!(ws.recv().await, Ok(None)), "{what} at {end:?}");
                }
            });
        }
    }
}

/// If two ends each see the other break the protocol at the same moment, both report it, and neither waits forever.
#[test]
fn both_ends_may_fail_at_once() {
    for closed_before in [false, true] {
        run("violations both ways", async {
            let (client_pipe, mut to_client) = duplex(1024);
            let (server_pipe, mut to_server) = duplex(1024);
            let taps = [(client_pipe.tap(), End::Client), (server_pipe.tap(), End::Server)];
            let mut client = socket(End::Client, client_pipe, &Config::default());
            let mut server = socket(End::Server, server_pipe, &Config::default());
            if closed_before {
                client.start_close(1000, "").unwrap();
                server.start_close(1000, "").unwrap();
            }
            // A proxy between them inserts an invalid frame before the other's data.
            write(&mut to_client, frame(End::Server, 0x83, b"")).await;
            write(&mut to_server, frame(End::Client, 0x83, b"")).await;
            let between = tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut to_client, &mut to_server).await;
            });
            let start = Instant::now();
            let (one, other) = tokio::join!(client.recv(), server.recv());
            for error in [one.unwrap_err(), other.unwrap_err()] {
                assert!(matches!(error, Error::Protocol(ProtocolError::Frame(_))), "{error}");
            }
            assert!(matches!(client.recv().await, Ok(None)) && matches!(server.recv().await, Ok(None)));
            drop((client, server));
            between.await.unwrap();
            assert_eq!(start.elapsed(), Duration::ZERO, "nobody had to be given up");
            for (tap, end) in taps {
                let frames = whole_frames(&tap.written(), end);
                let code = if closed_before { 1000 } else { 1002 };
                assert_eq!((frames.len(), close_code(&frames)), (1, Some(code)), "{end:?}");
            }
        });
    }
}

/// The time runs from the moment of the close, whether or not the data queued before the close frame was sent.
#[test]
fn the_close_timeout_runs_though_earlier_messages_wait() {
    for (end, _) in ENDS {
        for limit in [5, 30] {
            run("a close behind a full queue", async {
                let (pipe, _peer) = duplex(16);
                let tap = pipe.tap();
                let config = Config::default().with_close_timeout(Duration::from_secs(limit));
                let mut ws = socket(end, pipe, &config);
                ws.feed(vec![0; 5000]).await.unwrap();
                let start = Instant::now();
                assert!(matches!(ws.close(1000, "").await, Err(Error::CloseTimeout)), "{end:?}");
                assert_eq!(start.elapsed().as_secs(), limit, "{end:?}");
                assert!(tap.is_dropped(), "{end:?}");
            });
        }
    }
}

#[test]
fn close_frames_are_these_bytes() {
    let masked = |payload: &[u8]| frame(End::Client, 0x80 | CLOSE, payload);
    let plain = |payload: &[u8]| frame(End::Server, 0x80 | CLOSE, payload);
    assert_eq!(masked(b""), [&[0x88, 0x80][..], &KEY].concat());
    assert_eq!(plain(b""), [0x88, 0x00]);
    for (frame, payload) in [
        (None, &b""[..]),
        (Some(CloseFrame::new(1000.into(), "")), b"\x03\xe8"),
        (Some(CloseFrame::new(1000.into(), "done")), b"\x03\xe8done"),
        (Some(CloseFrame::new(1013.into(), "")), b"\x03\xf5"),
        (Some(CloseFrame::new(1014.into(), "")), b"\x03\xf6"),
    ] {
        for (end, bytes) in [(End::Client, masked(payload)), (End::Server, plain(payload))] {
            for by_sender in [false, true] {
                run("a close frame", async {
                    let (pipe, mut peer) = duplex(1024);
                    let mut ws = socket(end, pipe, &Config::default());
                    if by_sender {
                        ws.sender().start_close_with(frame.clone()).unwrap();
                        assert!(matches!(ws.sender().start_close_with(None), Err(Error::Closed)));
                        let sent = ws.sender().close_sent().expect("a close frame");
                        assert_eq!(
                            (sent.code == 1005.into(), sent.on_wire()),
                            (frame.is_none(), frame.clone())
                        );
                    } else {
                        ws.start_close_with(frame.clone()).unwrap();
                        assert!(matches!(ws.start_close_with(None), Err(Error::Closed)));
                    }
                    let other = if end == End::Client { End::Server } else { End::Client };
                    write(&mut peer, support::frame(other, 0x80 | CLOSE, payload)).await;
                    peer.shutdown().await.unwrap();
                    assert_eq!(support::recv_all(&mut ws).await.0, [], "{frame:?}");
                    drop(ws);
                    assert_eq!(read_to_end(&mut peer).await, bytes, "{end:?}, {frame:?}");
                });
            }
        }
    }
}

/// The key is the application's choice below the client: a key of zeros leaves the payload readable.
#[test]
fn frames_are_masked_with_the_key_that_the_source_gives() {
    for (key, payload) in [([0; 4], *b"hello"), ([0x20; 4], *b"HELLO")] {
        run("a key", async {
            let keys: fn() -> MaskingKey = match key {
                [0, ..] => || MaskingKey::new([0; 4]),
                _ => || MaskingKey::new([0x20; 4]),
            };
            let (pipe, mut peer) = duplex(1024);
            let mut ws = WebSocket::new(pipe, Handover::client(keys), &Config::default());
            ws.send("hello").await.unwrap();
            ws.abort();
            assert_eq!(read_to_end(&mut peer).await, [&[0x81, 0x85][..], &key, &payload].concat());
        });
    }
}

#[test]
fn either_end_answers_pings_unless_it_is_told_not_to() {
    for (end, other) in ENDS {
        for auto_pong in [true, false] {
            run("pings", async {
                let (pipe, mut peer) = duplex(1024);
                let tap = pipe.tap();
                let mut ws = socket(end, pipe, &Config::default().with_auto_pong(auto_pong));
                for payload in [&b""[..], b"here?", &[7; 125]] {
                    write(&mut peer, frame(other, 0x80 | PING, payload)).await;
                    assert_eq!(
                        ws.next_event().await.unwrap(),
                        Some(Incoming::Ping(payload.to_vec().into())),
                        "{end:?}"
                    );
                    ws.flush().await.unwrap();
                    if auto_pong {
                        let answer = Frame { fin: true, opcode: PONG, payload: payload.to_vec() };
                        assert_eq!(whole_frames(&tap.written(), end).last(), Some(&answer), "{end:?}");
                    }
                }
                assert_eq!(whole_frames(&tap.written(), end).len(), if auto_pong { 3 } else { 0 });
                ws.abort();
            });
        }
    }
}

/// Each length class, whole and in fragments, to either end.
#[test]
fn messages_of_every_kind_and_length_come_back() {
    for (end, other) in ENDS {
        run("an echo", async {
            let (pipe, mut peer) = duplex(1 << 20);
            let echoing = tokio::spawn(echo(socket(end, pipe, &Config::default())));
            let mut sent = Vec::new();
            for len in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
                for opcode in [TEXT, BINARY] {
                    sent.push(Frame { fin: true, opcode, payload: vec![b'x'; len] });
                }
            }
            for Frame { opcode, payload, .. } in &sent {
                write(&mut peer, frame(other, 0x80 | opcode, payload)).await;
                // The same in three fragments, with a ping in between.
                let third = payload.len() / 3;
                write(&mut peer, frame(other, *opcode, &payload[..third])).await;
                write(&mut peer, frame(other, 0x80 | PING, b"")).await;
                write(&mut peer, frame(other, CONTINUATION, &payload[third..2 * third])).await;
                write(&mut peer, frame(other, 0x80 | CONTINUATION, &payload[2 * third..])).await;
                let echoes = read_frames(&mut peer, end, 3).await;
                let echoes: Vec<_> = echoes.into_iter().filter(|frame| frame.opcode != PONG).collect();
                assert_eq!(messages(&echoes).len(), 2, "{end:?}: {} bytes", payload.len());
                for echoed in echoes {
                    assert!(
                        echoed.opcode == *opcode && echoed.payload == *payload,
                        "{end:?}: {}",
                        payload.len()
                    );
                }
            }
            drop(peer);
            assert!(matches!(echoing.await.unwrap(), Err(Error::Lost)));
        });
    }
}

/// A write to a byte stream whose connection is closing is an error, and its reads still end cleanly.
#[test]
fn a_byte_stream_that_is_closing_takes_no_bytes() {
    run("a byte stream", async {
        let (pipe, mut peer) = duplex(1024);
        let mut stream = socket(End::Server, pipe, &Config::default()).into_byte_stream();
        stream.get_mut().start_close(4000, "").unwrap();
        let error = stream.write_all(b"late").await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe, "{error}");
        write(&mut peer, [text_frame(End::Client, "still read"), close_frame(End::Client, 4000)].concat())
            .await;
        let mut read = String::new();
        stream.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "still read");
        assert!(stream.write_all(b"later").await.is_err());
        drop(stream);
        assert_eq!(close_code(&read_frames(&mut peer, End::Server, 1).await), Some(4000));
    });
}

/// A byte stream is read only as fast as the application reads from it; unread data stays with the peer.
#[test]
fn a_byte_stream_holds_the_peer_back() {
    run("a byte stream", async {
        let (pipe, mut peer) = duplex(64);
        let tap = pipe.tap();
        let mut stream = socket(End::Server, pipe, &Config::default()).into_byte_stream();
        let talking = tokio::spawn(async move {
            for _ in 0..1000 {
                write(&mut peer, text_frame(End::Client, "0123456789")).await;
            }
            peer
        });
        let mut bytes = [0; 10];
        stream.read_exact(&mut bytes).await.unwrap();
        let read = tap.counts().bytes_read;
        sleep(Duration::from_secs(60)).await;
        assert_eq!(tap.counts().bytes_read, read);
        assert!(!talking.is_finished());
        let mut rest = vec![0; 9990];
        stream.read_exact(&mut rest).await.unwrap();
        drop(talking.await.unwrap());
    });
}

#[test]
fn to_close_again_is_harmless() {
    for (end, other) in ENDS {
        run("a second close", async {
            let (pipe, mut peer) = duplex(1024);
            let mut ws = socket(end, pipe, &Config::default());
            write(&mut peer, close_frame(other, 1000)).await;
            peer.shutdown().await.unwrap();
            for _ in 0..3 {
                ws.close(4001, "mine").await.unwrap();
            }
            assert!(matches!(ws.start_close(4001, ""), Err(Error::Closed)));
            ws.abort();
            let frames = read_frames(&mut peer, end, 2).await;
            assert_eq!((frames.len(), close_code(&frames)), (1, Some(4001)), "{end:?}");
        });
    }
}
