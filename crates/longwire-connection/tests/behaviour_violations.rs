//! Violations of the protocol: the close frame that the peer sees, and the error that the application sees.

mod support;

use std::time::Duration;

use longwire_connection::testing::duplex;
use longwire_connection::{
    CloseCode, CloseFrame, Config, Error, FrameError, Limits, Message, ProtocolError, drive,
};
use support::{BINARY, CLOSE, CONTINUATION, End, KEY, PING, TEXT, recv_all, run, socket};
use support::{close_code, frame, read_frames, read_to_end, text_frame, whole_frames, write};
use tokio::io::AsyncWriteExt;

const FIN: u8 = 0x80;

struct Case {
    name: &'static str,
    /// The bytes that the peer sends after one good message.
    said: Vec<u8>,
    code: u16,
    is: fn(&ProtocolError) -> bool,
}

/// Returns the violations of a peer that is `from`.
fn cases(from: End) -> Vec<Case> {
    use ProtocolError as P;
    let other = if from == End::Client { End::Server } else { End::Client };
    let case = |name, said, code, is| Case { name, said, code, is };
    let is_frame: fn(&P) -> bool = |error| matches!(error, P::Frame(_));
    vec![
        case("RSV1", frame(from, FIN | 0x40 | TEXT, b"x"), 1002, |error| matches!(error, P::UnexpectedRsv1)),
        case("RSV2", frame(from, FIN | 0x20 | TEXT, b"x"), 1002, is_frame),
        case("RSV3", frame(from, FIN | 0x10 | TEXT, b"x"), 1002, is_frame),
        case("a reserved opcode", frame(from, FIN | 0x3, b"x"), 1002, is_frame),
        case("a reserved control opcode", frame(from, FIN | 0xb, b""), 1002, is_frame),
        case("a mask where it must not be, or none", text_frame(other, "x"), 1002, is_frame),
        case("a fragmented ping", frame(from, PING, b"x"), 1002, is_frame),
        case("a long ping", frame(from, FIN | PING, &[0; 126]), 1002, is_frame),
        case("a continuation of nothing", frame(from, FIN | CONTINUATION, b"x"), 1002, |error| {
            matches!(error, P::UnexpectedContinuation)
        }),
        case(
            "a message inside another",
            [frame(from, TEXT, b"x"), frame(from, FIN | BINARY, b"y")].concat(),
            1002,
            |error| matches!(error, P::UnfinishedMessage),
        ),
        case("a close frame of one byte", frame(from, FIN | CLOSE, &[3]), 1002, is_frame),
        case("close code 1005", frame(from, FIN | CLOSE, &1005_u16.to_be_bytes()), 1002, is_frame),
        case("close code 999", frame(from, FIN | CLOSE, &999_u16.to_be_bytes()), 1002, is_frame),
        case("text that is not UTF-8", frame(from, FIN | TEXT, &[0xff]), 1007, |error| {
            matches!(error, P::InvalidUtf8)
        }),
        case("text that is cut short", frame(from, FIN | TEXT, &[0xe2, 0x82]), 1007, |error| {
            matches!(error, P::InvalidUtf8)
        }),
        case("a long frame", frame(from, FIN | BINARY, &[0; 101]), 1009, |error| {
            matches!(error, P::FrameTooLong { len: 101, max: 100 })
        }),
        case(
            "a long message",
            [frame(from, BINARY, &[0; 100]), frame(from, CONTINUATION, &[0; 51])].concat(),
            1009,
            |error| matches!(error, P::MessageTooLong { max: 150, .. }),
        ),
        case(
            "empty fragments",
            [frame(from, TEXT, b""), frame(from, CONTINUATION, b"").repeat(4)].concat(),
            1008,
            |error| matches!(error, P::TooManyFragments { max: 4 }),
        ),
    ]
}

fn config() -> Config {
    let limits = Limits::default().with_max_message(150).with_max_frame(100).with_max_fragments(4);
    Config::default().with_limits(limits)
}

/// The good message before the violation is received, nothing after it is, and the peer reads the code although it
/// continues to send.
#[test]
fn a_violation_ends_the_connection_with_its_code() {
    for (end, driven) in [(End::Client, false), (End::Server, false), (End::Server, true)] {
        let from = if end == End::Client { End::Server } else { End::Client };
        for Case { name, said, code, is } in cases(from) {
            let what = format!("{name} to {end:?}, driven: {driven}");
            run(&what, async {
                let (pipe, peer) = duplex(64 * 1024);
                let tap = pipe.tap();
                let mut peer = peer.resetting_on_drop();
                write(&mut peer, [text_frame(from, "good"), said, text_frame(from, "behind")].concat()).await;
                let mut ws = socket(end, pipe, &config());
                let check = |messages: Vec<Message>, error: Error| {
                    assert_eq!(messages, [Message::text("good")], "{what}");
                    assert_eq!(error.close_code(), Some(code.into()), "{what}");
                    assert!(matches!(&error, Error::Protocol(error) if is(error)), "{what}: {error:?}");
                };
                let (messages, error) = if driven {
                    let mut messages = Vec::new();
                    let error = drive(ws, async |mut ws| {
                        let (got, end) = recv_all(&mut ws).await;
                        messages = got;
                        assert!(matches!(ws.send("x").await, Err(Error::Closed)));
                        end
                    });
                    // The handler ends before the peer is read; the peer then sees the end of the transport.
                    let (ended, seen) = tokio::join!(error, async {
                        let seen = read_frames(&mut peer, end, 1).await;
                        drop(peer);
                        seen
                    });
                    assert_eq!(close_code(&seen), Some(code), "{what}");
                    (messages, ended.unwrap_err())
                } else {
                    let (messages, end) = recv_all(&mut ws).await;
                    assert!(matches!(ws.send("x").await, Err(Error::Closed)), "{what}");
                    assert!(matches!(ws.recv().await, Ok(None)), "{what}: the error is told once");
                    drop(ws);
                    (messages, end.unwrap_err())
                };
                check(messages, error);
                let frames = whole_frames(&tap.written(), end);
                assert_eq!(frames.len(), 1, "{what}");
                assert_eq!(close_code(&frames), Some(code), "{what}");
                tokio::time::sleep(Duration::from_secs(6)).await;
                assert!(tap.is_dropped(), "{what}: the peer has five seconds");
            });
        }
    }
}

/// The rules are checked at the header: a length that was only announced costs neither memory nor time.
#[test]
fn a_claimed_length_is_refused_before_its_payload() {
    run("a claimed length", async {
        let (pipe, mut peer) = duplex(1024);
        let mut ws = socket(End::Server, pipe, &config());
        let mut header = vec![FIN | BINARY, 0x80 | 127];
        header.extend((1_u64 << 40).to_be_bytes());
        header.extend(KEY);
        write(&mut peer, header).await;
        let error = ws.recv().await.unwrap_err();
        assert_eq!(error.close_code(), Some(1009.into()));
        drop(ws);
        peer.shutdown().await.unwrap();
        let bytes = read_to_end(&mut peer).await;
        assert_eq!(close_code(&whole_frames(&bytes, End::Server)), Some(1009));
    });
}

/// A length of eight bytes with its highest bit set is invalid (RFC 6455 §5.2).
#[test]
fn lengths_not_in_their_only_form_are_refused() {
    for (case, length) in [
        ("125 in 16 bits", &[126, 0, 125][..]),
        ("65535 in 64 bits", &[127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
        ("the highest bit", &[127, 0x80, 0, 0, 0, 0, 0, 0, 1]),
    ] {
        run(case, async {
            let (pipe, mut peer) = duplex(1024);
            let mut ws = socket(End::Client, pipe, &Config::default());
            write(&mut peer, [&[FIN | BINARY], length].concat()).await;
            let error = ws.recv().await.unwrap_err();
            assert!(matches!(error, Error::Protocol(ProtocolError::Frame(_))), "{case}: {error}");
            assert_eq!(error.close_code(), Some(1002.into()), "{case}");
            ws.abort();
        });
    }
}

#[test]
fn what_must_not_be_sent_is_refused_and_nothing_is_lost() {
    run("invalid closes", async {
        let (pipe, _peer) = duplex(1024);
        let tap = pipe.tap();
        let mut ws = socket(End::Server, pipe, &Config::default());
        for code in [0, 999, 1004, 1005, 1006, 1015, 5000] {
            let refused = ws.start_close(code, "").unwrap_err();
            assert!(
                matches!(refused, Error::Invalid(FrameError::InvalidCloseCode { .. })),
                "{code}: {refused:?}"
            );
        }
        let long = CloseFrame::new(CloseCode::NORMAL, "x".repeat(124));
        assert!(matches!(ws.start_close_with(Some(long)), Err(Error::Invalid(_))));
        assert_eq!(tap.written(), b"");
        ws.send("still open").await.unwrap();
        // 122 bytes and a character of two: the socket closes, with as much of the reason as fits.
        ws.start_close(1000, &format!("{}\u{e9}", "x".repeat(122))).unwrap();
        assert!(matches!(ws.start_close(1000, ""), Err(Error::Closed)), "there is one close frame");
        ws.abort();
        let frames = whole_frames(&tap.written(), End::Server);
        assert_eq!((frames.len(), &frames[1].payload[2..]), (2, "x".repeat(122).as_bytes()));
    });
}
