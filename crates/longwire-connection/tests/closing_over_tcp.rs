//! The end of a connection over TCP: the bytes that a dropped socket, a handler that returned and the end of `main`
//! still write, and the time that a peer may take to read them.
//!
//! The peer is a thread with a blocking socket. Operations with a deadline have a short limit, and each step within
//! it takes far less.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream as StdStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use longwire_connection::testing::duplex;
use longwire_connection::{Config, Error, Handover, Message, MessageKind, Transport, WebSocket, drive};
use support::{
    End, check_wire, close_code, close_frame, messages, one_key, socket, text_frame, whole_frames,
};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, timeout};

const ENDS: [End; 2] = [End::Client, End::Server];

/// The buffer sizes of a connection's sockets, small so that most of a message is still in the library.
const BUFFERS: u32 = 64 * 1024;

fn other(end: End) -> End {
    if end == End::Client { End::Server } else { End::Client }
}

fn web_socket<T: Transport>(end: End, io: T, config: &Config) -> WebSocket<T> {
    let handover = if end == End::Client { Handover::client(one_key) } else { Handover::server() };
    WebSocket::new(io, handover, config)
}

/// Creates the two ends of a connection over loopback: one for the library, one for a thread.
async fn connected() -> (TcpStream, StdStream) {
    let listener = TcpSocket::new_v4().unwrap();
    listener.set_send_buffer_size(BUFFERS).unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(1).unwrap();
    let peer = TcpSocket::new_v4().unwrap();
    peer.set_recv_buffer_size(BUFFERS).unwrap();
    let (peer, accepted) =
        tokio::join!(peer.connect(listener.local_addr().unwrap()), async { listener.accept().await });
    let peer = peer.unwrap().into_std().unwrap();
    peer.set_nonblocking(false).unwrap();
    (accepted.unwrap().0, peer)
}

/// Reads to the end, which may be a reset.
fn read_all(peer: &mut StdStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match peer.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    bytes
}

/// Reads `chunk` bytes at a time, with a pause in between, until a message of [`LONG`] and a close frame have
/// arrived, or until the end. Then answers as `end` and waits for the end.
fn read_slowly(mut peer: StdStream, end: End, chunk: usize) -> JoinHandle<Vec<u8>> {
    // A header of ten bytes and a close frame of four, plus a mask in each from a client.
    let whole = LONG + 14 + if end == End::Server { 8 } else { 0 };
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut buf = vec![0; chunk];
        loop {
            match peer.read(&mut buf) {
                Ok(0) | Err(_) => return bytes,
                Ok(n) => bytes.extend_from_slice(&buf[..n]),
            }
            if bytes.len() == whole {
                peer.write_all(&close_frame(end, 1000)).unwrap();
                let _ = peer.read_to_end(&mut bytes);
                return bytes;
            }
            thread::sleep(Duration::from_millis(10));
        }
    })
}

/// Waits for the peer while the runtime continues.
async fn joined(reading: JoinHandle<Vec<u8>>) -> Vec<u8> {
    while !reading.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    reading.join().unwrap()
}

/// The length of a message that takes a slow peer several times [`LIMIT`].
const LONG: usize = 2 << 20;

/// The close timeout, which applies to a peer that reads nothing.
const LIMIT: Duration = Duration::from_millis(300);

fn with_limit() -> Config {
    Config::default().with_close_timeout(LIMIT)
}

/// Creates a runtime like `#[tokio::main(flavor = "current_thread")]` does, or one without timers.
fn main_runtime(timers: bool) -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_io();
    if timers {
        builder.enable_time();
    }
    builder.build().unwrap()
}

/// The end of a test's `main`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastLine {
    /// The socket is dropped at the end.
    Drops,
    /// The socket is dropped, and other tasks run for a while.
    DropsEarly,
    /// The receiving half is dropped, and the sending half lives on.
    DropsReceiver,
    /// A task that drives a handler is running.
    Drives,
}

const LAST_LINES: [LastLine; 4] =
    [LastLine::Drops, LastLine::DropsEarly, LastLine::DropsReceiver, LastLine::Drives];

async fn main_body<T: Transport>(ws: WebSocket<T>, last_line: LastLine) {
    let mut ws = ws;
    ws.send("bye").await.unwrap();
    match last_line {
        LastLine::Drops => drop(ws),
        LastLine::DropsEarly => {
            drop(ws);
            support::settle().await;
        }
        LastLine::DropsReceiver => {
            let (sender, receiver) = ws.split();
            drop(receiver);
            assert!(sender.is_closed());
        }
        LastLine::Drives => {
            tokio::spawn(drive(ws, async |mut ws| ws.recv().await.map(drop)));
            support::settle().await;
        }
    }
}

/// "An endpoint SHOULD use a method that cleanly closes the TCP connection" (RFC 6455 §7.1.1): nothing runs after
/// the end of `main`, so everything that can be written must be written there.
#[test]
fn a_socket_at_the_end_of_main_sends_its_close_frame_over_tcp() {
    for end in ENDS {
        for last_line in LAST_LINES {
            for timers in [true, false] {
                // The wait for the peer needs a timer, in a task that has already written its close frame.
                if !timers && last_line == LastLine::DropsEarly {
                    continue;
                }
                for round in 0..10 {
                    let runtime = main_runtime(timers);
                    let peer = runtime.block_on(async {
                        let (io, peer) = connected().await;
                        main_body(web_socket(end, io, &Config::default()), last_line).await;
                        peer
                    });
                    drop(runtime);
                    let mut peer = peer;
                    let frames = whole_frames(&read_all(&mut peer), end);
                    let what = format!("{end:?}, {last_line:?}, timers: {timers}, round {round}");
                    assert_eq!(messages(&frames), [Message::text("bye")], "{what}");
                    assert_eq!(close_code(&frames), Some(1000), "{what}");
                }
            }
        }
    }
}

#[test]
fn a_socket_at_the_end_of_main_sends_its_close_frame_in_memory() {
    for end in ENDS {
        for last_line in LAST_LINES {
            for timers in [true, false] {
                if !timers && last_line == LastLine::DropsEarly {
                    continue;
                }
                let (pipe, mut peer) = duplex(1024);
                let runtime = main_runtime(timers);
                runtime.block_on(main_body(socket(end, pipe, &Config::default()), last_line));
                drop(runtime);
                let bytes = main_runtime(false).block_on(support::read_to_end(&mut peer));
                let what = format!("{end:?}, {last_line:?}, timers: {timers}");
                assert_eq!(close_code(&whole_frames(&bytes, end)), Some(1000), "{what}");
            }
        }
    }
}

/// The socket is dropped without any runtime.
#[test]
fn a_socket_that_is_dropped_outside_a_runtime_sends_its_close_frame() {
    for end in ENDS {
        let runtime = main_runtime(true);
        let (ws, mut peer) = runtime.block_on(async {
            let (io, peer) = connected().await;
            (web_socket(end, io, &Config::default()), peer)
        });
        drop(ws);
        assert_eq!(close_code(&whole_frames(&read_all(&mut peer), end)), Some(1000), "{end:?}");
    }
}

fn run<O>(test: impl Future<Output = O>) -> O {
    main_runtime(true)
        .block_on(async { timeout(Duration::from_secs(60), test).await.expect("the test comes to an end") })
}

/// Messages that a handler sent before it returned arrive, as long as the peer reads.
#[test]
fn what_a_handler_sent_before_it_returned_arrives() {
    run(async {
        let (io, peer) = connected().await;
        let reading = read_slowly(peer, End::Client, 32 * 1024);
        let start = Instant::now();
        let driven =
            drive(web_socket(End::Server, io, &with_limit()), async |mut ws| ws.send(vec![7; LONG]).await);
        driven.await.unwrap();
        assert!(start.elapsed() > 2 * LIMIT, "it takes longer than the limit: {:?}", start.elapsed());
        let frames = whole_frames(&joined(reading).await, End::Server);
        assert_eq!(messages(&frames), [Message::binary(vec![7; LONG])]);
        assert_eq!(close_code(&frames), Some(1000));
    });
}

/// The same for an end that feeds a message and closes, in both roles.
#[test]
fn what_was_fed_before_a_close_arrives() {
    for end in ENDS {
        run(async move {
            let (io, peer) = connected().await;
            let reading = read_slowly(peer, other(end), 32 * 1024);
            let start = Instant::now();
            let mut ws = web_socket(end, io, &with_limit());
            ws.feed(vec![7; LONG]).await.unwrap();
            ws.close(1000, "").await.unwrap();
            assert!(start.elapsed() > 2 * LIMIT, "{:?}", start.elapsed());
            drop(ws);
            let frames = whole_frames(&joined(reading).await, end);
            assert_eq!(messages(&frames), [Message::binary(vec![7; LONG])], "{end:?}");
            assert_eq!(close_code(&frames), Some(1000), "{end:?}");
        });
    }
}

/// A peer that reads nothing is cut off one limit after it took the last byte.
#[test]
fn a_peer_that_takes_nothing_is_cut_at_the_close_timeout() {
    run(async {
        let (io, mut peer) = connected().await;
        let start = Instant::now();
        let driven =
            drive(web_socket(End::Server, io, &with_limit()), async |mut ws| ws.send(vec![7; LONG]).await);
        driven.await.unwrap();
        let elapsed = start.elapsed();
        assert!((LIMIT..8 * LIMIT).contains(&elapsed), "{elapsed:?}");
        let (frames, left) = check_wire(&read_all(&mut peer), End::Server);
        assert_eq!((frames.len(), close_code(&frames)), (0, None), "{left} bytes of a frame");
    });
}

/// A peer that takes a byte now and then is cut off at 24 times the limit, whatever it takes.
#[test]
fn a_peer_that_takes_a_byte_at_a_time_is_cut_as_well() {
    support::run("a byte at a time", async {
        let (pipe, mut peer) = duplex(64);
        let reading = tokio::spawn(async move {
            let mut taken = 0;
            while tokio::io::AsyncReadExt::read_u8(&mut peer).await.is_ok() {
                taken += 1;
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            taken
        });
        let start = Instant::now();
        let driven =
            drive(socket(End::Server, pipe, &Config::default()), async |mut ws| ws.send(vec![7; LONG]).await);
        driven.await.unwrap();
        assert_eq!(start.elapsed(), Config::default().close_timeout * 24);
        assert!(reading.await.unwrap() > 30);
    });
}

/// If the task that drives a connection is dropped while the connection is closing, the rest is done in the
/// background.
#[test]
fn a_drive_that_is_dropped_while_leaving_goes_on_in_the_background() {
    for unread in [false, true] {
        run(async move {
            let (io, mut peer) = connected().await;
            if unread {
                // A transport that is closed with unread bytes is reset, which can overtake the close frame.
                peer.write_all(&text_frame(End::Client, "nobody receives this").repeat(2000)).unwrap();
            }
            let driven = drive(web_socket(End::Server, io, &with_limit()), async |mut ws| {
                ws.send(vec![7; LONG]).await
            });
            // The handler returns at once; the peer does not read yet.
            assert!(timeout(Duration::from_millis(50), driven).await.is_err(), "it is leaving");
            let reading = read_slowly(peer, End::Client, 32 * 1024);
            let frames = whole_frames(&joined(reading).await, End::Server);
            assert_eq!(messages(&frames), [Message::binary(vec![7; LONG])], "unread: {unread}");
            assert_eq!(close_code(&frames), Some(1000), "unread: {unread}");
        });
    }
}

/// While a message in parts is open, `try_send` reports a full queue, as it does if too many bytes wait, and `send`
/// waits for the end of that message.
#[test]
fn a_message_in_parts_is_no_end_of_the_connection() {
    support::run("a message in parts", async {
        let (pipe, mut peer) = duplex(1024);
        let (sender, receiver) = socket(End::Server, pipe, &Config::default()).split();
        let mut writer = sender.message_writer(MessageKind::Text).await.unwrap();
        writer.write("one ").await.unwrap();
        let refused = sender.try_send("two").unwrap_err();
        assert!(matches!(refused, Error::QueueFull) && !refused.is_disconnect(), "{refused}");
        assert_eq!(refused.close_code(), None);
        let sending = tokio::spawn({
            let sender = sender.clone();
            async move { sender.send("two").await }
        });
        support::settle().await;
        assert!(!sending.is_finished() && !sender.is_closed());
        writer.finish().await.unwrap();
        sending.await.unwrap().unwrap();
        sender.try_send("three").unwrap();
        sender.start_close(1000, "").unwrap();
        let frames = support::read_frames(&mut peer, End::Server, 5).await;
        assert_eq!(messages(&frames), ["one ", "two", "three"].map(Message::text));
        receiver.abort();
    });
}

/// The mapping itself, for callers that drive the protocol themselves.
#[test]
fn errors_of_sending_are_what_they_are_in_the_protocol() {
    use longwire_connection::FrameError;
    use longwire_protocol::{CloseCode, CloseFrame, Outbound, SendError};

    let mut out = Outbound::new(None);
    out.begin(MessageKind::Text).unwrap();
    let open = out.message("x".into()).unwrap_err();
    assert_eq!(open, SendError::MessageOpen);
    assert!(matches!(Error::from(open), Error::QueueFull));
    let too_long = out.ping(&[0; 126]).unwrap_err();
    assert!(matches!(Error::from(too_long), Error::Invalid(FrameError::ControlTooLong { .. })));
    out.close(Some(CloseFrame::new(CloseCode::NORMAL, ""))).unwrap();
    assert!(matches!(Error::from(out.message("x".into()).unwrap_err()), Error::Closed));
}
