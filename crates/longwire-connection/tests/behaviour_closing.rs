//! The end of a connection: dropped, closed, half-closed or aborted, and what each end learns of it.

mod support;

use std::time::Duration;

use longwire_connection::testing::{Pipe, duplex, pair};
use longwire_connection::{CloseCode, CloseFrame, Config, Error, State, WebSocket, drive};
use support::{CLOSE, TEXT, messages, socket, text_frame, whole_frames, write};
use support::{End, close_code, close_frame, echo, frame, read_frames, read_to_end, recv_all, run, settle};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The end of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handler {
    Returns,
    Fails,
    Panics,
    IsDropped,
}

#[test]
fn a_driven_socket_is_closed_with_what_became_of_its_handler() {
    for (handler, code) in [
        (Handler::Returns, 1000),
        (Handler::Fails, 1011),
        (Handler::Panics, 1011),
        (Handler::IsDropped, 1000),
    ] {
        run("the end of a handler", async {
            let (pipe, mut peer) = duplex(1024);
            let tap = pipe.tap();
            let ws = socket(End::Server, pipe, &Config::default());
            let driven = tokio::spawn(drive(ws, async move |mut ws: WebSocket<Pipe>| {
                ws.send("last words").await.unwrap();
                match handler {
                    Handler::Returns => Ok(()),
                    Handler::Fails => Err("failed"),
                    Handler::Panics => panic!("{} on purpose", ws.stats().messages_sent),
                    Handler::IsDropped => std::future::pending().await,
                }
            }));
            settle().await;
            if handler == Handler::IsDropped {
                driven.abort();
            } else {
                assert_eq!(driven.is_finished(), handler == Handler::Panics, "the others wait for the peer");
            }
            let frames = read_frames(&mut peer, End::Server, 2).await;
            assert_eq!(messages(&frames), ["last words".into()], "{handler:?}");
            assert_eq!(close_code(&frames), Some(code), "{handler:?}");
            assert!(!tap.is_dropped());
            write(&mut peer, close_frame(End::Client, code)).await;
            assert_eq!(read_to_end(&mut peer).await, b"");
            settle().await;
            assert!(tap.is_dropped(), "{handler:?}: the server ends the transport first");
            match (handler, driven.await) {
                (Handler::Returns, Ok(Ok(()))) | (Handler::Fails, Ok(Err("failed"))) => {}
                (Handler::Panics, Err(error)) => assert!(error.is_panic()),
                (Handler::IsDropped, Err(error)) => assert!(error.is_cancelled()),
                (_, other) => panic!("{handler:?}: {other:?}"),
            }
        });
    }
}

#[test]
fn a_dropped_socket_is_closed_in_the_background() {
    for end in [End::Client, End::Server] {
        run("a dropped socket", async {
            let (pipe, mut peer) = duplex(1024);
            let tap = pipe.tap();
            drop(socket(end, pipe, &Config::default()));
            assert_eq!(close_code(&read_frames(&mut peer, end, 1).await), Some(1000));
            let other = if end == End::Client { End::Server } else { End::Client };
            write(&mut peer, close_frame(other, 1000)).await;
            settle().await;
            assert_eq!(tap.is_dropped(), end == End::Server, "a client waits for the server's end");
            peer.shutdown().await.unwrap();
            settle().await;
            assert!(tap.is_dropped());
        });
    }
}

#[test]
fn a_peer_that_does_not_close_has_the_close_timeout() {
    run("a close that is not answered", async {
        let (pipe, _peer) = duplex(1024);
        let tap = pipe.tap();
        let mut ws = socket(End::Server, pipe, &Config::default());
        let start = Instant::now();
        assert!(matches!(ws.close(1000, "").await, Err(Error::CloseTimeout)));
        assert_eq!(start.elapsed(), CLOSE_TIMEOUT);
        assert!(tap.is_dropped());
        assert_eq!(ws.state(), State::Closed);
        assert!(matches!(ws.recv().await, Ok(None)));
    });
    for driven in [false, true] {
        run("a drop that is not answered", async {
            let (pipe, mut peer) = duplex(1024);
            let tap = pipe.tap();
            let ws = socket(End::Server, pipe, &Config::default());
            if driven {
                tokio::spawn(drive(ws, async |ws| {
                    drop(ws);
                    Ok::<_, Error>(())
                }));
            } else {
                drop(ws);
            }
            // Traffic is not an answer to the close frame.
            for _ in 0..49 {
                sleep(Duration::from_millis(100)).await;
                write(&mut peer, text_frame(End::Client, "still talking")).await;
            }
            assert!(!tap.is_dropped());
            sleep(Duration::from_millis(200)).await;
            assert!(tap.is_dropped(), "driven: {driven}");
        });
    }
}

/// A transport dropped with unread bytes is reset, and the reset overtakes the close frame. So the data that the
/// peer still sends is read first.
#[test]
fn a_close_frame_is_not_lost_behind_unread_data() {
    for driven in [false, true] {
        run("unread data", async {
            let (pipe, mut peer) = duplex(1024);
            let pipe = pipe.resetting_on_drop();
            let tap = pipe.tap();
            let ws = socket(End::Server, pipe, &Config::default());
            let talking = tokio::spawn(async move {
                // More than the transport holds, so that the peer makes progress only if its data is read.
                for _ in 0..500 {
                    write(&mut peer, text_frame(End::Client, "the peer talks and talks")).await;
                }
                let frames = read_frames(&mut peer, End::Server, 1).await;
                write(&mut peer, close_frame(End::Client, 1000)).await;
                frames
            });
            settle().await;
            if driven {
                let error = drive(ws, async |ws| {
                    drop(ws);
                    Err::<(), _>("enough")
                });
                assert_eq!(error.await, Err("enough"));
            } else {
                drop(ws);
            }
            let code = if driven { 1011 } else { 1000 };
            assert_eq!(close_code(&talking.await.unwrap()), Some(code));
            settle().await;
            assert!(tap.is_dropped());
        });
    }
}

#[test]
fn the_code_of_the_peer_is_an_error_unless_it_is_a_proper_end() {
    for (code, is_clean) in
        [(1000, true), (1001, true), (1002, false), (1008, false), (1011, false), (4000, false)]
    {
        run("the code of the peer", async {
            let (pipe, mut peer) = duplex(1024);
            let mut ws = socket(End::Server, pipe, &Config::default());
            write(&mut peer, [text_frame(End::Client, "last"), close_frame(End::Client, code)].concat())
                .await;
            let (messages, end) = recv_all(&mut ws).await;
            assert_eq!(messages, ["last".into()]);
            match end {
                Ok(()) => assert!(is_clean, "{code}"),
                Err(Error::ClosedByPeer(frame)) => assert!(!is_clean && frame.code == code.into(), "{code}"),
                Err(error) => panic!("{code}: {error}"),
            }
            assert_eq!(ws.close_received().unwrap().code, code.into());
            assert!(matches!(ws.send("x").await, Err(Error::Closed)));
            assert!(matches!(ws.recv().await, Ok(None)));
            drop(ws);
            assert_eq!(close_code(&read_frames(&mut peer, End::Server, 1).await), Some(code), "it is echoed");
        });
    }
    run("an empty close frame", async {
        let (pipe, mut peer) = duplex(1024);
        let mut ws = socket(End::Server, pipe, &Config::default());
        write(&mut peer, frame(End::Client, 0x80 | CLOSE, b"")).await;
        assert!(matches!(ws.recv().await, Ok(None)));
        assert_eq!(ws.close_received(), Some(&CloseFrame::new(CloseCode::NO_STATUS_RECEIVED, "")));
        drop(ws);
        assert_eq!(read_to_end(&mut peer).await, frame(End::Server, 0x80 | CLOSE, b""));
    });
}

/// The end of the stream without a close frame may be an attacker's doing, so it is not a clean end.
#[test]
fn an_end_without_a_close_frame_is_a_loss() {
    for (what, said) in [
        ("nothing", Vec::new()),
        ("a message", text_frame(End::Client, "last")),
        ("half a frame", text_frame(End::Client, "last")[..7].to_vec()),
        ("half a message", frame(End::Client, TEXT, b"last")),
    ] {
        for driven in [false, true] {
            run(what, async {
                let (pipe, mut peer) = duplex(1024);
                let tap = pipe.tap();
                let ws = socket(End::Server, pipe, &Config::default());
                write(&mut peer, &said).await;
                peer.shutdown().await.unwrap();
                let ended = if driven { drive(ws, echo).await } else { echo(ws).await };
                let error = ended.unwrap_err();
                assert!(matches!(error, Error::Lost), "{what}: {error}");
                assert_eq!(error.close_code(), Some(1006.into()));
                settle().await;
                assert!(tap.is_dropped(), "{what}");
                // A half-closed connection still sends: the echo of the received message arrives.
                let bytes = read_to_end(&mut peer).await;
                let frames = whole_frames(&bytes, End::Server);
                assert_eq!(messages(&frames).len(), usize::from(what == "a message"));
            });
        }
    }
}

#[test]
fn senders_of_a_socket_that_is_gone_are_told_so() {
    for how in ["dropped", "aborted", "closed by the peer", "lost"] {
        run(how, async {
            let (pipe, mut peer) = duplex(1024);
            let ws = socket(End::Server, pipe, &Config::default());
            let (sender, mut receiver) = ws.split();
            let other = sender.clone();
            assert!(sender.same_connection(&other) && !sender.is_closed());
            match how {
                "dropped" => drop(receiver),
                "aborted" => receiver.abort(),
                "closed by the peer" => {
                    write(&mut peer, close_frame(End::Client, 1000)).await;
                    assert!(matches!(receiver.recv().await, Ok(None)));
                }
                _ => {
                    drop(peer);
                    assert!(matches!(receiver.recv().await, Err(Error::Lost)));
                    drop(receiver);
                }
            }
            settle().await;
            sleep(2 * CLOSE_TIMEOUT).await;
            for sender in [sender, other] {
                assert!(sender.is_closed(), "{how}");
                assert!(matches!(sender.send("x").await, Err(Error::Closed)), "{how}");
                assert!(matches!(sender.feed("x").await, Err(Error::Closed)), "{how}");
                assert!(matches!(sender.try_send("x"), Err(Error::Closed)), "{how}");
                assert!(matches!(sender.ping(), Err(Error::Closed)), "{how}");
                assert!(matches!(sender.pong("x"), Err(Error::Closed)), "{how}");
                assert!(matches!(sender.start_close(1000, ""), Err(Error::Closed)), "{how}");
                assert_eq!(sender.queued(), 0, "{how}");
            }
        });
    }
}

/// A sender that waits for room is woken when there will never be any.
#[test]
fn senders_that_wait_are_told_of_the_end() {
    for how in ["dropped", "aborted", "aborted by a sender", "closing", "closed by the peer", "violated"] {
        run(how, async {
            let (pipe, mut peer) = duplex(16);
            let ws = socket(End::Server, pipe, &Config::default().with_send_queue(100));
            let (sender, mut receiver) = ws.split();
            sender.feed(vec![0; 200]).await.unwrap();
            let waiting = tokio::spawn({
                let sender = sender.clone();
                async move { sender.send("x").await }
            });
            settle().await;
            assert!(!waiting.is_finished());
            let start = Instant::now();
            match how {
                "dropped" => drop(receiver),
                "aborted" => receiver.abort(),
                "aborted by a sender" => sender.abort(),
                "closing" => sender.start_close(1000, "").unwrap(),
                _ => {
                    let said =
                        if how == "violated" { vec![0xf0, 0x80] } else { close_frame(End::Client, 1000) };
                    write(&mut peer, said).await;
                    tokio::spawn(async move { receiver.recv().await });
                }
            }
            assert!(matches!(waiting.await.unwrap(), Err(Error::Closed)), "{how}");
            assert_eq!(start.elapsed(), Duration::ZERO, "{how}");
            drop(peer);
        });
    }
}

#[test]
fn abort_says_nothing() {
    for driven in [false, true] {
        run("abort", async {
            let (pipe, mut peer) = duplex(1024);
            let tap = pipe.tap();
            let ws = socket(End::Server, pipe, &Config::default());
            if driven {
                let aborting = drive(ws, async |ws| {
                    ws.abort();
                    Ok::<_, Error>(())
                });
                aborting.await.unwrap();
            } else {
                ws.abort();
            }
            assert!(tap.is_dropped(), "at once");
            assert_eq!(read_to_end(&mut peer).await, b"");
        });
    }
    run("abort by a sender", async {
        let (mut client, server) = pair(Config::default());
        let sender = server.sender();
        let receiving = tokio::spawn(echo(server));
        settle().await;
        sender.abort();
        assert!(matches!(client.recv().await, Err(Error::Lost)), "the peer sees 1006");
        assert!(matches!(receiving.await.unwrap(), Err(Error::Lost)));
    });
}

/// Both ends may close at the same time (RFC 6455 §7.1.2). Neither close is an error.
#[test]
fn closes_may_cross() {
    run("crossing closes", async {
        let (mut client, mut server) = pair(Config::default());
        client.start_close(4001, "mine").unwrap();
        server.start_close(4002, "mine").unwrap();
        assert_eq!(client.state(), State::Closing);
        let (one, other) = tokio::join!(client.recv(), server.recv());
        assert!(matches!((one, other), (Ok(None), Ok(None))));
        assert_eq!(client.close_received().unwrap().code, 4002.into());
        assert_eq!(server.close_received().unwrap().code, 4001.into());
    });
}

/// A client waits for the server to end the transport, but not forever.
#[test]
fn a_server_that_does_not_end_the_transport_is_left_in_time() {
    for peer_first in [false, true] {
        run("a server that stays", async {
            let (pipe, mut peer) = duplex(1024);
            let tap = pipe.tap();
            let mut ws = socket(End::Client, pipe, &Config::default());
            if !peer_first {
                ws.start_close(1000, "").unwrap();
            }
            write(&mut peer, close_frame(End::Server, 1000)).await;
            assert!(matches!(ws.recv().await, Ok(None)));
            // The time counts from the close frames, or from the last byte that the peer has taken.
            sleep(Duration::from_secs(2)).await;
            drop(ws);
            assert_eq!(close_code(&read_frames(&mut peer, End::Client, 1).await), Some(1000));
            sleep(Duration::from_millis(2900)).await;
            assert!(!tap.is_dropped(), "the peer first: {peer_first}");
            sleep(Duration::from_millis(2200)).await;
            assert!(tap.is_dropped(), "the peer first: {peer_first}");
        });
    }
}
