//! The documented figures: defaults, close codes, and the amounts kept or processed at once.

mod support;

use std::sync::Arc;
use std::time::Duration;

use longwire_connection::testing::duplex;
use longwire_connection::{
    CloseCode, CloseFrame, Config, Error, Incoming, Message, Pong, ProtocolError, drive,
};
use support::{CLOSE, End, PING, frame, messages, read_frames, run, settle, socket, whole_frames, write};
use tokio::io::AsyncWriteExt;

#[test]
fn defaults_are_the_documented_ones() {
    let config = Config::default();
    assert_eq!(config.close_timeout, Duration::from_secs(5));
    assert_eq!(config.send_queue, 131_072);
    assert_eq!((config.keepalive, config.rate_limit, config.memory), (None, None, None));
    assert!(config.auto_pong);
    assert_eq!(Pong::MAX_PENDING, 16);
    #[cfg(feature = "deflate")]
    assert_eq!(config.deflate_idle, Duration::from_millis(250));
}

#[test]
fn close_codes_are_the_documented_ones() {
    let io = || Error::Io(Arc::new(std::io::ErrorKind::BrokenPipe.into()));
    for (error, code, is_disconnect) in [
        (Error::Protocol(ProtocolError::UnfinishedMessage), Some(1002), true),
        (Error::RateExceeded, Some(1008), true),
        (Error::OutOfMemory, Some(1013), true),
        (Error::ClosedByPeer(CloseFrame::new(CloseCode::from(4000), "")), Some(4000), true),
        (Error::Lost, Some(1006), true),
        (Error::PeerGone, Some(1006), true),
        (Error::CloseTimeout, Some(1006), true),
        (io(), Some(1006), true),
        (Error::Closed, None, true),
        (Error::QueueFull, None, false),
        (Error::NotText, None, false),
    ] {
        assert_eq!(error.close_code(), code.map(CloseCode::from), "{error}");
        assert_eq!(error.is_disconnect(), is_disconnect, "{error}");
    }
}

/// The codes of the peer that are not an error.
#[test]
fn clean_ends_are_1000_1001_and_none() {
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 3000, 4000] {
        run("a close frame", async move {
            let (pipe, mut peer) = duplex(1024);
            let mut ws = socket(End::Server, pipe, &Config::default());
            write(&mut peer, support::close_frame(End::Client, code)).await;
            let ended = ws.recv().await;
            assert_eq!(matches!(ended, Ok(None)), code <= 1001, "{code}: {ended:?}");
            drop(ws);
            assert_eq!(support::close_code(&read_frames(&mut peer, End::Server, 1).await), Some(code));
        });
    }
}

/// A reason is cut at 123 bytes, between characters.
#[test]
fn reasons_are_cut_at_123_bytes() {
    for (reason, kept) in
        [("x".repeat(123), 123), ("x".repeat(124), 123), ("é".repeat(70), 122), (String::new(), 0)]
    {
        run("a reason", async move {
            let (pipe, mut peer) = duplex(1024);
            let mut ws = socket(End::Server, pipe, &Config::default());
            ws.start_close(1000, &reason).unwrap();
            let frames = read_frames(&mut peer, End::Server, 1).await;
            assert_eq!(frames[0].opcode, CLOSE);
            assert_eq!(frames[0].payload[2..], reason.as_bytes()[..kept]);
            ws.abort();
        });
    }
}

/// Of the pings that arrived while a call waited, the latest sixteen are seen afterward.
#[test]
fn sixteen_control_frames_are_kept_while_a_call_waits() {
    run("pings", async {
        let (pipe, mut peer) = duplex(1 << 16);
        let tap = pipe.tap();
        let config = Config::default().with_send_queue(100);
        let mut ws = socket(End::Server, pipe, &config);
        tap.stall_writes();
        let calling = tokio::spawn(async move {
            ws.send("it waits").await.unwrap();
            let mut seen = Vec::new();
            while let Ok(Some(incoming)) = ws.next_event().await {
                if let Incoming::Ping(payload) = incoming {
                    seen.push(payload[0]);
                }
            }
            seen
        });
        settle().await;
        for number in 0..40 {
            write(&mut peer, frame(End::Client, 0x80 | PING, &[number])).await;
        }
        settle().await;
        tap.resume();
        settle().await;
        write(&mut peer, support::close_frame(End::Client, 1000)).await;
        read_frames(&mut peer, End::Server, 42).await;
        drop(peer);
        assert_eq!(calling.await.unwrap(), (24..40).collect::<Vec<_>>());
    });
}

/// While a call waits, at most 4 KiB are read in search of control frames.
#[test]
fn four_kib_are_read_while_a_call_waits() {
    run("a glance", async {
        let (pipe, mut peer) = duplex(1 << 20);
        let tap = pipe.tap();
        let mut ws = socket(End::Server, pipe, &Config::default());
        tap.stall_writes();
        let calling = tokio::spawn(async move { ws.send("it waits").await.map(|()| ws) });
        settle().await;
        peer.write_all(&frame(End::Client, 0x82, &vec![7; 100_000])).await.unwrap();
        settle().await;
        assert_eq!(tap.counts().bytes_read, 4096);
        tap.resume();
        calling.await.unwrap().unwrap().abort();
    });
}

/// Data written to a byte stream is split into messages of 64 KiB.
#[test]
fn a_byte_stream_writes_messages_of_64_kib() {
    run("a byte stream", async {
        let (pipe, mut peer) = duplex(1 << 20);
        let mut stream = socket(End::Server, pipe, &Config::default()).into_byte_stream();
        stream.write_all(&vec![7; 150_000]).await.unwrap();
        stream.flush().await.unwrap();
        let frames = read_frames(&mut peer, End::Server, 3).await;
        let lengths: Vec<_> = messages(&frames).iter().map(Message::len).collect();
        assert_eq!(lengths, [65_536, 65_536, 18_928]);
        drop(stream);
        drop(peer);
    });
}

/// One turn handles 256 events, and a read of 4 KiB costs as much as one event.
#[test]
fn a_turn_is_256_events() {
    run("a turn", async {
        let (pipe, mut peer) = duplex(1 << 20);
        let mut ws = socket(End::Server, pipe, &Config::default());
        write(&mut peer, frame(End::Client, 0x82, b"x").repeat(1000)).await;
        let mut turns = Vec::new();
        let mut received = 0;
        std::future::poll_fn(|cx| {
            let before = received;
            loop {
                let polled = std::pin::pin!(ws.recv()).poll(cx);
                match polled {
                    std::task::Poll::Ready(message) => {
                        message.unwrap().unwrap();
                        received += 1;
                    }
                    std::task::Poll::Pending => break,
                }
            }
            turns.push(received - before);
            if received == 1000 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        // 7 kB were read in one call, which counts as one event plus one for each 4 KiB.
        assert_eq!(turns, [254, 256, 256, 234]);
        ws.abort();
    });
}

/// The code of a socket that its handler drops: 1000, or 1011 if the handler then returns an error.
#[test]
fn sockets_dropped_by_handlers_close_with_1000_or_1011() {
    for (fails, code) in [(false, 1000), (true, 1011)] {
        run("a handler's end", async move {
            let (pipe, mut peer) = duplex(1024);
            let driving =
                tokio::spawn(drive(socket(End::Server, pipe, &Config::default()), async move |ws| {
                    drop(ws);
                    if fails { Err(()) } else { Ok(()) }
                }));
            write(&mut peer, support::close_frame(End::Client, 1000)).await;
            let frames = whole_frames(&support::read_to_end(&mut peer).await, End::Server);
            assert_eq!(support::close_code(&frames), Some(code));
            assert_eq!(driving.await.unwrap().is_err(), fails);
        });
    }
}
