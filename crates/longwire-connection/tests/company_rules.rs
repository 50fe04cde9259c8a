//! Rules for connections that several tasks use, each with the input that would break it.

#![allow(clippy::similar_names, reason = "what is being received and what was received")]

mod support;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::stream::FusedStream;
use futures_util::{SinkExt, StreamExt};
use longwire_connection::testing::{Gate, Gated, Pipe, Tap, duplex, gated};
use longwire_connection::{
    Config, Error, Handover, Keepalive, Message, MessageKind, PreparedMessage, Sender, WebSocket, drive,
};
use support::{
    CLOSE, End, PING, PONG, TEXT, check_wire, close_code, close_frame, echo, frame, messages, one_key,
    read_frames, run, settle, socket, sockets, text_frame, write,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep, timeout};

/// Below the close timeout of 5 s: a longer wait has waited for that timeout.
const PROMPTLY: Duration = Duration::from_secs(1);

const ENDS: [End; 2] = [End::Client, End::Server];

fn other(end: End) -> End {
    if end == End::Client { End::Server } else { End::Client }
}

fn handover(end: End) -> Handover {
    match end {
        End::Client => Handover::client(one_key),
        End::Server => Handover::server(),
    }
}

/// Creates a pair whose first socket is this end.
fn pair_of(end: End, capacity: usize, config: &Config) -> (WebSocket<Pipe>, Tap, WebSocket<Pipe>) {
    let (pipe, peer) = duplex(capacity);
    let tap = pipe.tap();
    (socket(end, pipe, config), tap, socket(other(end), peer, config))
}

async fn promptly<O>(what: &str, future: impl Future<Output = O>) -> O {
    timeout(PROMPTLY, future).await.unwrap_or_else(|_| panic!("{what} waits"))
}

// Broadcasts and messages in parts.

/// Broadcasts that wait for the end of a message in parts must not take the room that its parts need.
#[test]
fn deferred_broadcasts_do_not_block_the_message_that_they_wait_for() {
    for end in ENDS {
        for total in [64 * 1024, 256 * 1024] {
            for dropping in [false, true] {
                run("broadcasts and a writer", async move {
                    let (ws, _tap, mut peer) = pair_of(end, 4096, &Config::default());
                    let (sender, mut receiver) = ws.split();
                    let receiving = tokio::spawn(async move { receiver.recv().await });
                    let prepared = PreparedMessage::new(vec![7; 4096]);
                    let sending = tokio::spawn(async move {
                        let mut writer = sender.message_writer(MessageKind::Binary).await.unwrap();
                        writer.write("one ").await.unwrap();
                        let mut accepted = 0;
                        for _ in 0..total / 4096 {
                            let sent = if dropping {
                                sender.send_prepared_dropping(&prepared, 512 * 1024).map(drop)
                            } else {
                                sender.try_send_prepared(&prepared, 512 * 1024)
                            };
                            accepted += usize::from(sent.is_ok());
                        }
                        let what = format!("{end:?}, {total} bytes");
                        promptly(&format!("{what}: write"), writer.write("two")).await.unwrap();
                        promptly(&format!("{what}: finish"), writer.finish()).await.unwrap();
                        promptly(&format!("{what}: flush"), sender.flush()).await.unwrap();
                        sender.start_close(1000, "").unwrap();
                        accepted
                    });
                    let mut received = Vec::new();
                    while let Some(message) = peer.recv().await.unwrap() {
                        received.push(message);
                    }
                    let accepted = sending.await.unwrap();
                    assert_eq!(received[0], Message::binary("one two"));
                    assert_eq!(received.len() - 1, accepted, "each accepted broadcast arrives");
                    drop(peer);
                    assert_eq!(receiving.await.unwrap().unwrap(), None);
                });
            }
        }
    }
}

// Waiting for a caller's own message.

/// With a steady stream of broadcasts that keeps the queue filled, `send_flushed` waits only for its own message.
#[test]
fn send_flushed_does_not_wait_for_broadcasts_after_it() {
    for end in ENDS {
        run("send_flushed and broadcasts", async move {
            let (pipe, mut peer) = duplex(64);
            let tap = pipe.tap();
            let (sender, mut receiver) = socket(end, pipe, &Config::default()).split();
            let receiving = tokio::spawn(async move { while let Ok(Some(_)) = receiver.recv().await {} });
            let reading = tokio::spawn(async move {
                // 1000 bytes per second.
                let mut buf = [0; 10];
                while peer.read_exact(&mut buf).await.is_ok() {
                    sleep(Duration::from_millis(10)).await;
                }
            });
            let broadcasting = tokio::spawn({
                let sender = sender.clone();
                async move {
                    let prepared = PreparedMessage::new(vec![7; 100]);
                    // More than the peer reads: the queue of about 1000 bytes is never empty.
                    while !matches!(
                        sender.try_send_prepared(&prepared, 1000),
                        Err(Error::Closed | Error::Io(_))
                    ) {
                        sleep(Duration::from_millis(20)).await;
                    }
                }
            });
            sleep(Duration::from_secs(5)).await;
            for number in 0..3 {
                let text = format!("message {number}");
                // Up to 1100 bytes are ahead of it.
                let sent = timeout(Duration::from_secs(4), sender.send_flushed(text.as_str())).await;
                let (frames, _) = check_wire(&tap.written(), end);
                let written = messages(&frames).contains(&Message::text(text));
                let sent = sent.unwrap_or_else(|_| {
                    panic!("{end:?}: send_flushed waits; its message was written: {written}");
                });
                sent.unwrap();
                assert!(written, "{end:?}: send_flushed returned before its message was written");
            }
            sender.abort();
            broadcasting.await.unwrap();
            receiving.await.unwrap();
            reading.await.unwrap();
        });
    }
}

/// Broadcasts dropped after a message must not count as written before it.
#[test]
fn send_flushed_does_not_take_dropped_bytes_for_written_ones() {
    run("send_flushed and dropped broadcasts", async {
        let (pipe, mut peer) = duplex(1 << 20);
        let tap = pipe.tap();
        tap.stall_writes();
        let (sender, mut receiver) = socket(End::Server, pipe, &Config::default()).split();
        let receiving = tokio::spawn(async move { receiver.recv().await });
        settle().await;
        let mut sending = pin!(sender.send_flushed("wait for me"));
        assert!(poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await.is_pending());
        let mut dropped = 0;
        for number in 0..50_u8 {
            let prepared = PreparedMessage::new(vec![number; 1000]);
            dropped += sender.send_prepared_dropping(&prepared, 5000).unwrap_or(0);
            settle().await;
        }
        assert!(dropped > 20, "{dropped}");
        let early = timeout(PROMPTLY, &mut sending).await;
        assert!(early.is_err(), "send_flushed returned although nothing was written: {early:?}");
        assert_eq!(sender.stats().bytes_sent, 0, "nothing was written");
        tap.resume();
        promptly("send_flushed", sending).await.unwrap();
        promptly("flush", sender.flush()).await.unwrap();
        assert_eq!(sender.stats().bytes_sent, tap.written().len() as u64);
        sender.start_close(1000, "").unwrap();
        settle().await;
        assert_eq!(sender.stats().bytes_sent, tap.written().len() as u64);
        write(&mut peer, close_frame(End::Client, 1000)).await;
        assert_eq!(receiving.await.unwrap().unwrap(), None);
    });
}

/// Dropping broadcasts between one that has begun and a later message changes the position of that message.
#[test]
fn bytes_sent_are_the_bytes_that_the_peer_got() {
    for limit in [1500, 3000, 10_000] {
        run("bytes sent", async move {
            let (pipe, peer) = duplex(700);
            let tap = pipe.tap();
            let ws = socket(End::Server, pipe, &Config::default());
            let (sender, mut receiver) = ws.split();
            let receiving = tokio::spawn(async move { receiver.recv().await });
            let mut peer = socket(End::Client, peer, &Config::default());
            for number in 0..40_u8 {
                let prepared = PreparedMessage::new(vec![number; 500]);
                let _ = sender.send_prepared_dropping(&prepared, limit);
            }
            let sending = tokio::spawn({
                let sender = sender.clone();
                async move {
                    sender.send_flushed("last").await.unwrap();
                    sender.start_close(1000, "").unwrap();
                }
            });
            let mut received = Vec::new();
            while let Some(message) = peer.recv().await.unwrap() {
                received.push(message);
            }
            sending.await.unwrap();
            assert_eq!(received.last(), Some(&Message::text("last")));
            drop(peer);
            assert_eq!(receiving.await.unwrap().unwrap(), None);
            assert_eq!(sender.stats().bytes_sent, tap.written().len() as u64);
        });
    }
}

/// A full queue and a flush: both tasks are woken.
#[test]
fn a_full_queue_and_a_flush() {
    for end in ENDS {
        run("a full queue and a flush", async move {
            let config = Config::default().with_send_queue(1);
            let (ws, tap, mut peer) = pair_of(end, 1 << 16, &config);
            let (sender, mut receiver) = ws.split();
            let receiving = tokio::spawn(async move { receiver.recv().await });
            tap.stall_writes();
            let mut tasks = tokio::task::JoinSet::new();
            for number in 0..10 {
                let sender = sender.clone();
                tasks.spawn(async move {
                    if number % 2 == 0 { sender.flush().await } else { sender.send("x").await }
                });
                settle().await;
            }
            tap.resume();
            promptly("ten tasks", async {
                while let Some(task) = tasks.join_next().await {
                    task.unwrap().unwrap();
                }
            })
            .await;
            sender.start_close(1000, "").unwrap();
            let (received, end) = support::recv_all(&mut peer).await;
            end.unwrap();
            assert_eq!(received.len(), 5);
            drop(peer);
            assert_eq!(receiving.await.unwrap().unwrap(), None);
        });
    }
}

/// Gives the tokens of its clones back when they are dropped.
struct Token(#[allow(dead_code, reason = "it is counted")] Arc<()>);

impl Wake for Token {
    fn wake(self: Arc<Self>) {}
}

/// Cancelled calls must not leave anything registered: a stalled connection would collect a waker for each.
#[test]
fn cancelled_calls_do_not_collect_wakers() {
    const CALLS: usize = 10_000;
    for end in ENDS {
        run("cancelled calls", async move {
            let (io, gate) = gated();
            gate.shut_writes();
            let config = Config::default().with_send_queue(1);
            let (sender, receiver) = WebSocket::new(io, handover(end), &config).split();
            sender.try_send("it stalls").unwrap();
            let alive = Arc::new(());
            let prepared = PreparedMessage::new("x");
            for (name, call) in [
                ("send", Call(&|sender| Box::pin(sender.send("x")))),
                ("send_flushed", Call(&|sender| Box::pin(sender.send_flushed("x")))),
                ("feed", Call(&|sender| Box::pin(sender.feed("x")))),
                ("flush", Call(&|sender| Box::pin(sender.flush()))),
                (
                    "send_prepared",
                    Call(&|sender| {
                        let prepared = prepared.clone();
                        Box::pin(async move { sender.send_prepared(&prepared, 1).await })
                    }),
                ),
            ] {
                for _ in 0..CALLS {
                    let waker = Waker::from(Arc::new(Token(Arc::clone(&alive))));
                    let polled = (call.0)(&sender).as_mut().poll(&mut Context::from_waker(&waker));
                    assert!(polled.is_pending(), "{end:?}: {name}: {polled:?}");
                }
                let kept = Arc::strong_count(&alive) - 1;
                assert!(kept <= 100, "{end:?}: {kept} wakers are kept of {CALLS} cancelled calls of {name}");
            }
            gate.open();
            receiver.abort();
        });
    }
}

type Calling<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>>;

/// A call of a sender that can be repeated.
struct Call<'a>(&'a dyn for<'s> Fn(&'s Sender) -> Calling<'s>);

// Halves split by the futures crate and by tokio.

fn keepalive() -> Keepalive {
    Keepalive::default().with_interval(Duration::from_secs(30)).with_timeout(Duration::from_secs(20))
}

/// The half that receives notices that the peer is gone, whatever the other half does.
#[test]
fn a_blocked_sink_does_not_take_the_keepalive_from_the_stream() {
    for end in ENDS {
        for cancelled in [false, true] {
            run("sink and stream", async move {
                let config = Config::default().with_keepalive(keepalive()).with_send_queue(100);
                let (ws, tap, _peer) = pair_of(end, 64, &config);
                let (mut sink, mut stream) = StreamExt::split(ws);
                let streaming = tokio::spawn(async move {
                    let item = stream.next().await;
                    (item, Instant::now())
                });
                settle().await;
                let start = Instant::now();
                tap.stall();
                let sinking = tokio::spawn(async move {
                    if cancelled {
                        // Its last poll is at the end of a second in which nothing else happens.
                        let sent = timeout(PROMPTLY, async {
                            loop {
                                sink.send(Message::binary(vec![7; 60])).await?;
                            }
                        });
                        let sent: Result<Result<(), Error>, _> = sent.await;
                        assert!(sent.is_err(), "{sent:?}");
                        sleep(Duration::from_secs(300)).await;
                    } else {
                        while sink.send(Message::binary(vec![7; 60])).await.is_ok() {}
                    }
                });
                let (item, at) = timeout(Duration::from_secs(120), streaming)
                    .await
                    .unwrap_or_else(|_| panic!("{end:?}, cancelled: {cancelled}: the stream does not notice"))
                    .unwrap();
                assert!(matches!(item, Some(Err(Error::PeerGone))), "{item:?}");
                assert!(
                    at - start <= Duration::from_secs(81),
                    "{end:?}, cancelled: {cancelled}: {:?}",
                    at - start
                );
                timeout(Duration::from_secs(301), sinking).await.expect("the sink ends").unwrap();
            });
        }
    }
}

/// Both halves of a split byte stream see the end, in whatever order they waited for it.
#[test]
fn both_halves_of_a_byte_stream_see_the_end() {
    for end in ENDS {
        for read_first in [true, false] {
            for slowly in [true, false] {
                run("halves of a byte stream", async move {
                    let (ws, tap, peer) = pair_of(end, 1024, &Config::default());
                    let peering = tokio::spawn(echo(peer));
                    let (mut read, mut write) = tokio::io::split(ws.into_byte_stream());
                    write.write_all(b"x").await.unwrap();
                    read.read_exact(&mut [0]).await.unwrap();
                    if slowly {
                        tap.peer().stall_writes();
                    }
                    let reading = async move { read.read_to_end(&mut Vec::new()).await };
                    let shutting = async move { write.shutdown().await };
                    let (reading, shutting) = if read_first {
                        let reading = tokio::spawn(reading);
                        settle().await;
                        (reading, tokio::spawn(shutting))
                    } else {
                        let shutting = tokio::spawn(shutting);
                        if slowly {
                            settle().await;
                        }
                        (tokio::spawn(reading), shutting)
                    };
                    settle().await;
                    tap.peer().resume();
                    let what = format!("{end:?}, read first: {read_first}, slowly: {slowly}");
                    promptly(&format!("{what}: shutdown"), shutting).await.unwrap().unwrap();
                    promptly(&format!("{what}: read"), reading).await.unwrap().unwrap();
                    peering.await.unwrap().unwrap();
                });
            }
        }
    }
}

/// The same for a futures split: `close` of the sink, and the stream that waits for the peer's close frame.
#[test]
fn a_stream_ends_when_the_sink_is_closed() {
    for end in ENDS {
        run("close of a sink", async move {
            let (ws, _tap, peer) = pair_of(end, 1024, &Config::default());
            let peering = tokio::spawn(echo(peer));
            let (mut sink, mut stream) = StreamExt::split(ws);
            let streaming = tokio::spawn(async move { stream.next().await.is_none() });
            settle().await;
            promptly("close", sink.close()).await.unwrap();
            assert!(promptly("stream", streaming).await.unwrap());
            drop(sink);
            peering.await.unwrap().unwrap();
        });
    }
}

/// A stream with an error still to yield is not terminated.
#[test]
fn a_stream_with_an_error_to_yield_is_not_terminated() {
    for end in ENDS {
        for (what, bytes, held) in [
            ("close frame 1011", close_frame(other(end), 1011), true),
            ("close frame 1011, flushed at once", close_frame(other(end), 1011), false),
            ("a violation", frame(other(end), 0x83, b""), true),
            ("the transport's end", Vec::new(), false),
        ] {
            run(what, async move {
                let (io, gate) = gated();
                let (sender, mut receiver) = WebSocket::new(io, handover(end), &Config::default()).split();
                if held {
                    gate.shut_flushes();
                }
                assert!(!receiver.is_terminated(), "{what}: while it is open");
                gate.feed(bytes);
                if !held {
                    gate.end_reads();
                }
                for poll in 0..3 {
                    let polled = poll_fn(|cx| Poll::Ready(receiver.poll_next_unpin(cx))).await;
                    match polled {
                        Poll::Pending => {
                            assert!(
                                !receiver.is_terminated(),
                                "{end:?}, {what}: terminated before its error, poll {poll}"
                            );
                            gate.open();
                        }
                        Poll::Ready(Some(Err(_))) => break,
                        Poll::Ready(item) => panic!("{end:?}, {what}: {item:?}"),
                    }
                }
                assert!(receiver.next().await.is_none());
                assert!(receiver.is_terminated());
                drop(sender);
                gate.end_reads();
            });
        }
    }
}

/// The same with a message before the close frame: the error is not yielded yet.
#[test]
fn a_stream_is_not_terminated_before_it_has_yielded_its_last_message() {
    for end in ENDS {
        run("last message", async move {
            let (io, gate) = gated();
            let (sender, mut receiver) = WebSocket::new(io, handover(end), &Config::default()).split();
            gate.feed([text_frame(other(end), "last"), close_frame(other(end), 1011)].concat());
            assert_eq!(receiver.next().await.unwrap().unwrap(), Message::text("last"));
            assert!(!receiver.is_terminated(), "{end:?}: an error follows");
            assert!(matches!(receiver.next().await, Some(Err(Error::ClosedByPeer(_)))));
            assert!(receiver.next().await.is_none());
            assert!(receiver.is_terminated());
            drop(sender);
            gate.end_reads();
        });
    }
}

// Blocked calls.

/// A ping is answered while a call waits for the peer to read, as soon as there is room.
#[test]
fn a_ping_is_answered_while_a_send_is_blocked() {
    for end in ENDS {
        for driven in [false, true] {
            run("a ping and a blocked send", async move {
                let config = Config::default().with_send_queue(100);
                let (pipe, mut peer) = duplex(64);
                let ws = socket(end, pipe, &config);
                let sending = tokio::spawn(async move {
                    if driven {
                        drive(ws, async |mut ws| send_for_ever(&mut ws).await).await
                    } else {
                        let mut ws = ws;
                        send_for_ever(&mut ws).await
                    }
                });
                settle().await;
                write(&mut peer, frame(other(end), 0x80 | PING, b"there?")).await;
                settle().await;
                // The queue and the pipe hold at most 300 bytes ahead of the pong.
                let frames = read_frames(&mut peer, end, 12).await;
                assert!(
                    frames.iter().any(|frame| frame.opcode == PONG && frame.payload == b"there?"),
                    "{end:?}, driven: {driven}: no pong among {} frames",
                    frames.len(),
                );
                drop(peer);
                assert!(sending.await.unwrap().is_err());
            });
        }
    }
}

async fn send_for_ever(ws: &mut WebSocket<Pipe>) -> Result<(), Error> {
    loop {
        ws.send(vec![7; 40]).await?;
    }
}

/// A close frame of the peer ends a call that waits for the peer to read. A partly written message is given up at
/// the close timeout, everything else at once.
#[test]
fn a_close_frame_ends_a_blocked_call() {
    for end in ENDS {
        for call in ["send", "flush", "sink", "writer"] {
            run("a close frame and a blocked call", async move {
                let config = Config::default().with_send_queue(100);
                let (pipe, mut peer) = duplex(64);
                let mut ws = socket(end, pipe, &config);
                let calling = tokio::spawn(async move {
                    let error = match call {
                        "send" => send_for_ever(&mut ws).await.unwrap_err(),
                        "sink" => loop {
                            if let Err(error) = SinkExt::send(&mut ws, Message::binary(vec![7; 40])).await {
                                break error;
                            }
                        },
                        "flush" => {
                            ws.feed(vec![7; 400]).await.unwrap();
                            // It may also succeed, after the peer has read.
                            ws.flush().await.err().unwrap_or(Error::Closed)
                        }
                        _ => {
                            let mut writer = ws.message_writer(MessageKind::Binary).await.unwrap();
                            loop {
                                if let Err(error) = writer.write(vec![7; 40]).await {
                                    break error;
                                }
                            }
                        }
                    };
                    (error, Instant::now(), ws.recv().await)
                });
                settle().await;
                let start = Instant::now();
                write(&mut peer, close_frame(other(end), 1000)).await;
                let (error, at, end_of_it) = if call == "flush" {
                    // The bytes before the close frame are still owed, and the peer reads them.
                    settle().await;
                    let reading = tokio::spawn(async move { support::read_to_end(&mut peer).await });
                    let ended = promptly(&format!("{end:?}: {call}"), calling).await.unwrap();
                    drop(reading);
                    ended
                } else {
                    let ended = timeout(Duration::from_secs(13), calling).await;
                    drop(peer);
                    ended.unwrap_or_else(|_| panic!("{end:?}: {call} waits")).unwrap()
                };
                assert!(matches!(error, Error::Closed | Error::CloseTimeout), "{end:?}: {call}: {error}");
                assert!(
                    at - start <= Config::default().close_timeout + PROMPTLY,
                    "{end:?}: {call} ended after {:?}",
                    at - start
                );
                assert!(!matches!(end_of_it, Ok(Some(_))), "{end:?}: {call}: {end_of_it:?}");
            });
        }
    }
}

/// Messages that arrive while a call waits are received afterward, in order.
#[test]
fn messages_wait_while_a_send_is_blocked() {
    for end in ENDS {
        run("messages and a blocked send", async move {
            let config = Config::default().with_send_queue(100);
            let (pipe, mut peer) = duplex(4096);
            let tap = pipe.tap();
            let mut ws = socket(end, pipe, &config);
            tap.stall_writes();
            let working = tokio::spawn(async move {
                for _ in 0..5 {
                    ws.send(vec![7; 60]).await.unwrap();
                }
                let (received, ended) = support::recv_all(&mut ws).await;
                (received, ended)
            });
            settle().await;
            let ping = frame(other(end), 0x80 | PING, b"?");
            write(
                &mut peer,
                [&ping[..], &text_frame(other(end), "one"), &ping, &text_frame(other(end), "two")].concat(),
            )
            .await;
            settle().await;
            tap.resume();
            write(&mut peer, close_frame(other(end), 1000)).await;
            let frames = read_frames(&mut peer, end, 8).await;
            assert_eq!(close_code(&frames), Some(1000));
            assert_eq!(frames.iter().filter(|frame| frame.opcode == PONG).count(), 2);
            drop(peer);
            let (received, ended) = working.await.unwrap();
            assert_eq!(received, [Message::from("one"), Message::from("two")]);
            ended.unwrap();
        });
    }
}

// Handlers.

/// If a handler drops the receiving side and continues, the peer sees the close frame at once.
#[test]
fn a_driven_handler_that_drops_its_socket_closes_at_once() {
    for keeps_sender in [false, true] {
        for polled in [false, true] {
            run("a handler that lives on", async move {
                let (client, server) = duplex(1024);
                let tap = server.tap();
                let (mut client, server) = sockets((client, server), &Config::default());
                let driving = tokio::spawn(drive(server, async move |mut ws| {
                    if polled {
                        assert_eq!(ws.recv().await?, Some(Message::text("hello")));
                    }
                    let (sender, receiver) = ws.split();
                    drop(receiver);
                    let sender = keeps_sender.then_some(sender);
                    sleep(Duration::from_secs(10)).await;
                    drop(sender);
                    Ok::<_, Error>(())
                }));
                client.send("hello").await.unwrap();
                let what = format!("keeps the sender: {keeps_sender}, received before: {polled}");
                let ended = promptly(&format!("{what}: the peer"), client.recv()).await;
                assert!(matches!(ended, Ok(None)), "{what}: {ended:?}");
                assert_eq!(close_code(&check_wire(&tap.written(), End::Server).0), Some(1000));
                drop(client);
                let dropped = timeout(PROMPTLY, async {
                    while !tap.is_dropped() {
                        sleep(Duration::from_millis(10)).await;
                    }
                });
                assert!(dropped.await.is_ok(), "{what}: the transport is kept while the handler lives");
                driving.await.unwrap().unwrap();
            });
        }
    }
}

/// A ping to a handler that has dropped its socket is followed by the close frame, although no pong is due any
/// more.
#[test]
fn a_ping_to_a_dropped_socket_gets_a_close_frame() {
    run("a ping to a dropped socket", async {
        let (mut client, server) = duplex(1024);
        let server = socket(End::Server, server, &Config::default());
        let driving = tokio::spawn(drive(server, async |ws| {
            drop(ws);
            sleep(Duration::from_secs(10)).await;
            Ok::<_, Error>(())
        }));
        settle().await;
        write(&mut client, frame(End::Client, 0x80 | PING, b"?")).await;
        let frames = promptly("the peer", read_frames(&mut client, End::Server, 1)).await;
        assert_eq!(close_code(&frames), Some(1000), "{frames:?}");
        write(&mut client, close_frame(End::Client, 1000)).await;
        let rest = promptly("the end of the transport", support::read_to_end(&mut client)).await;
        assert_eq!(rest, b"");
        driving.await.unwrap().unwrap();
    });
}

/// A transport that accepts nothing and takes time to return pending, during which its connection is locked.
struct Slow {
    dropped: Arc<AtomicUsize>,
}

impl AsyncRead for Slow {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Slow {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        spin(50);
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// The drive ends on one thread while the receiving side is dropped on another, and a third makes both wait for the
/// lock. One of the two must drop the transport.
#[test]
fn a_transport_is_dropped_whoever_is_last() {
    const ROUNDS: usize = 2000;
    for with_runtime in [false, true] {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let enter = || with_runtime.then(|| runtime.enter());
        let config = Config::default().with_close_timeout(Duration::from_millis(20));
        let dropped = Arc::new(AtomicUsize::new(0));
        let barrier = Barrier::new(3);
        let (to_dropping, sockets) = mpsc::channel::<WebSocket<Slow>>();
        let (to_locking, senders) = mpsc::channel::<Sender>();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let _entered = enter();
                for ws in sockets {
                    barrier.wait();
                    drop(ws);
                    barrier.wait();
                }
            });
            threads.spawn(|| {
                for sender in senders {
                    barrier.wait();
                    for _ in 0..20 {
                        let _ = pin!(sender.flush()).poll(&mut Context::from_waker(Waker::noop()));
                    }
                    barrier.wait();
                }
            });
            let _entered = enter();
            for round in 0..ROUNDS {
                let ws = WebSocket::new(Slow { dropped: Arc::clone(&dropped) }, Handover::server(), &config);
                let sender = ws.sender();
                sender.try_send("it stalls").unwrap();
                let driven = drive(ws, |ws| {
                    to_dropping.send(ws).unwrap();
                    std::future::pending::<Result<(), Error>>()
                });
                let mut driven = Box::pin(driven);
                let _ = driven.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                to_locking.send(sender).unwrap();
                barrier.wait();
                // From no time at all to the time of some operations under the lock.
                spin(round % 97 * 3);
                drop(driven);
                barrier.wait();
            }
            drop((to_dropping, to_locking));
        });
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while dropped.load(Ordering::Relaxed) < ROUNDS && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let dropped = dropped.load(Ordering::Relaxed);
        assert_eq!(dropped, ROUNDS, "transports that are dropped (with a runtime: {with_runtime})");
    }
}

/// Spins for a moment, so that the threads meet in different ways.
fn spin(rounds: usize) {
    for _ in 0..rounds * 20 {
        std::hint::spin_loop();
    }
}

// Compression.

/// Giving a compressor back while a send is blocked changes neither its message nor its end.
#[cfg(feature = "deflate")]
#[test]
fn parking_and_a_blocked_send() {
    use longwire_connection::Compression;
    use longwire_connection::deflate::{DeflateOptions, Pool, accept};

    run("parking and a blocked send", async {
        let options = DeflateOptions::default();
        let agreement = accept([[("client_max_window_bits", None)]], &options).unwrap();
        let pool = Pool::default();
        let compression = || Compression::new(agreement, &options, &pool);
        let (client, server) = duplex(4096);
        let tap = server.tap();
        let config = Config::default().with_send_queue(100);
        let mut client =
            WebSocket::new(client, Handover::client(one_key).compression(compression()), &config);
        let server = WebSocket::new(server, Handover::server().compression(compression()), &config);
        let (sender, mut receiver) = server.split();
        let receiving = tokio::spawn(async move { receiver.recv().await });
        let text = |number: usize| format!("{number} parked and taken up again ").repeat(200);
        sender.send(text(0)).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), text(0).into());
        tap.stall_writes();
        let sending = tokio::spawn({
            let sender = sender.clone();
            async move {
                for number in 1..8 {
                    sender.send(text(number)).await?;
                }
                let mut writer = sender.message_writer(MessageKind::Text).await?;
                writer.write(text(8)).await?;
                writer.finish().await
            }
        });
        // Four times the limit after which a compressor is given back.
        sleep(Duration::from_secs(1)).await;
        assert!(!sending.is_finished());
        assert_eq!(pool.idle_compressors(), 1, "given back while the send is blocked");
        tap.resume();
        for number in 1..=8 {
            let message = promptly("recv", client.recv()).await.unwrap().unwrap();
            assert_eq!(message, text(number).into());
            sleep(Duration::from_millis(300)).await;
        }
        promptly("sends", sending).await.unwrap().unwrap();
        sender.start_close(1000, "").unwrap();
        assert_eq!(client.recv().await.unwrap(), None);
        drop(client);
        assert_eq!(receiving.await.unwrap().unwrap(), None);
    });
}

// Pings and writers.

/// Control frames are sent between the parts of a message, and a pong arrives while a message is open.
#[test]
fn a_ping_goes_between_the_parts_of_a_message() {
    for end in ENDS {
        run("ping and writer", async move {
            let (ws, tap, mut peer) = pair_of(end, 64, &Config::default());
            let (sender, mut receiver) = ws.split();
            let receiving = tokio::spawn(async move { receiver.recv().await });
            let peering = tokio::spawn(async move {
                let message = peer.recv().await.unwrap();
                (message, peer.recv().await.unwrap())
            });
            let mut writer = sender.message_writer(MessageKind::Text).await.unwrap();
            writer.write("one ").await.unwrap();
            promptly("the pong", sender.ping().unwrap()).await.unwrap();
            writer.write("two").await.unwrap();
            promptly("the pong", sender.ping().unwrap()).await.unwrap();
            writer.finish().await.unwrap();
            sender.start_close(1000, "").unwrap();
            let (message, end_of_it) = peering.await.unwrap();
            assert_eq!((message, end_of_it), (Some(Message::text("one two")), None));
            assert_eq!(receiving.await.unwrap().unwrap(), None);
            let opcodes: Vec<_> =
                check_wire(&tap.written(), end).0.iter().map(|frame| frame.opcode).collect();
            assert_eq!(opcodes, [TEXT, PING, support::CONTINUATION, PING, support::CONTINUATION, CLOSE]);
        });
    }
}

/// A [`Gate`] shows the property that these tests rely on: only the transport wakes a call.
#[test]
fn a_gate_wakes_nobody_by_itself() {
    run("a gate", async {
        let (io, gate): (Gated, Gate) = gated();
        gate.shut_writes();
        let (sender, receiver) = WebSocket::new(io, Handover::server(), &Config::default()).split();
        let mut sending = pin!(sender.send("x"));
        assert!(timeout(Duration::from_secs(100), &mut sending).await.is_err());
        gate.open();
        promptly("send", sending).await.unwrap();
        receiver.abort();
    });
}
