//! The rules of RFC 6455 §5 to §7, row by row: the bytes that a peer sends, the result, and the answer.
//!
//! The bytes are written by hand, so that no mistake of the codec can hide a mistake of the state machine.

#![expect(clippy::disallowed_methods, reason = "a test needs some time to begin at")]

use std::time::Instant;

use bytes::Bytes;
use longwire_protocol::{
    CloseCode, CloseFrame, Connection, Event, FrameError, Inbound, Limits, MaskingKey, MaskingKeys, Message,
    MessageKind, Opcode, Outbound, PreparedMessage, ProtocolError, Role, SendError, State,
};
use wire_model::KEY;

const KEYS: MaskingKeys = || MaskingKey::new(KEY);

/// Returns a frame with this first byte and length, as `role` receives it: masked for a server.
fn frame(role: Role, first: u8, len: &[u8], payload: &[u8]) -> Vec<u8> {
    wire_model::frame_with_len(first, len, payload, (role == Role::Server).then_some(KEY))
}

/// Returns a short frame.
fn short(role: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    frame(role, first, &[u8::try_from(payload.len()).unwrap()], payload)
}

fn join(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.concat()
}

/// Returns all events and the end, after decoding both byte by byte and whole: both must give the same.
fn receive(role: Role, limits: Limits, bytes: &[u8]) -> (Vec<Event>, Option<ProtocolError>, usize) {
    let mut whole = Inbound::new(role, limits);
    let (mut events, mut error, mut input) = (Vec::new(), None, bytes);
    while error.is_none() && !input.is_empty() {
        match whole.decode(&mut input) {
            Ok(event) => events.extend(event),
            Err(found) => error = Some(found),
        }
    }
    let mut single = Inbound::new(role, limits);
    let (mut single_events, mut at) = (Vec::new(), bytes.len());
    for (i, byte) in bytes.iter().enumerate() {
        match single.decode(&mut std::slice::from_ref(byte)) {
            Ok(event) => single_events.extend(event),
            Err(found) => {
                assert_eq!(Some(&found), error.as_ref());
                at = i + 1;
                break;
            }
        }
    }
    assert_eq!(single_events, events);
    // Nothing is interpreted after the end.
    if error.is_some() {
        for mut inbound in [whole, single] {
            assert!(inbound.is_ended());
            let mut more = &short(role, 0x81, b"more")[..];
            assert_eq!((inbound.decode(&mut more), more), (Ok(None), &b""[..]));
        }
    }
    check_connection(role, limits, bytes, &events, error.as_ref());
    (events, error, at)
}

/// Checks that a whole connection yields the same events and the same error, and queues the answers to them, for the
/// bytes at once and one by one.
fn check_connection(
    role: Role,
    limits: Limits,
    bytes: &[u8],
    events: &[Event],
    error: Option<&ProtocolError>,
) {
    let keys = (role == Role::Client).then_some(KEYS);
    let mut answers = Outbound::new(keys);
    for event in events {
        answers.respond(event);
    }
    if let Some(error) = error {
        answers.fail(error);
    }
    let answers = drain(&mut answers, usize::MAX);
    let ends = error.is_some() || matches!(events.last(), Some(Event::Close(_)));
    for step in [bytes.len().max(1), 1] {
        let mut connection = Connection::new(role, keys, limits);
        let (mut found, mut failure) = (Vec::new(), None);
        for mut piece in bytes.chunks(step) {
            while !piece.is_empty() {
                match connection.handle_bytes(&mut piece, Instant::now()) {
                    Ok(event) => found.extend(event),
                    Err(error) => assert_eq!(failure.replace(error), None, "nothing follows the first error"),
                }
            }
        }
        assert_eq!((&found[..], failure.as_ref()), (events, error), "{role:?} {bytes:02x?}, {step} at once");
        assert_eq!(drain(connection.outbound_mut(), usize::MAX), answers, "{role:?} {bytes:02x?}");
        assert_eq!(connection.state(), if ends { State::Closed } else { State::Open });
        assert_eq!(connection.deadline().is_some(), ends, "the limit of the closing handshake");
    }
}

/// Returns the close frame that a server sends for an error.
fn answer(error: &ProtocolError) -> Vec<u8> {
    let mut outbound = Outbound::new(None);
    outbound.fail(error);
    assert_eq!(outbound.message("more".into()), Err(SendError::Closing));
    outbound.queue().contiguous().unwrap().to_vec()
}

/// Each row: the input, the number of bytes that reveal the violation, the error, the close code.
#[test]
fn violations() {
    use FrameError as F;
    use ProtocolError as P;
    for role in [Role::Client, Role::Server] {
        let mask = if role == Role::Server { 4 } else { 0 };
        let short = |first, payload: &[u8]| short(role, first, payload);
        let begun = short(0x01, b"be");
        let of = begun.len();
        let mut rows: Vec<(Vec<u8>, usize, ProtocolError, u16)> = vec![
            (short(0xa1, b""), 1, F::ReservedBits.into(), 1002),
            (short(0x91, b""), 1, F::ReservedBits.into(), 1002),
            (short(0xc1, b""), 2 + mask, P::UnexpectedRsv1, 1002),
            (
                join(&[begun.clone(), short(0xc0, b"")]),
                of + 1,
                F::UnexpectedRsv1 { opcode: Opcode::Continuation }.into(),
                1002,
            ),
            (short(0xc9, b""), 1, F::UnexpectedRsv1 { opcode: Opcode::Ping }.into(), 1002),
            (short(0x09, b""), 1, F::FragmentedControl { opcode: Opcode::Ping }.into(), 1002),
            (short(0x0a, b""), 1, F::FragmentedControl { opcode: Opcode::Pong }.into(), 1002),
            (short(0x08, b""), 1, F::FragmentedControl { opcode: Opcode::Close }.into(), 1002),
            (
                frame(role, 0x89, &[126, 0, 126], &[0; 126]),
                2,
                F::ControlTooLong { opcode: Opcode::Ping }.into(),
                1002,
            ),
            (
                frame(role, 0x88, &[127, 0, 0, 0, 0, 0, 1, 0, 0], b""),
                2,
                F::ControlTooLong { opcode: Opcode::Close }.into(),
                1002,
            ),
            (frame(role, 0x82, &[126, 0, 125], &[0; 125]), 4, F::NonMinimalLength.into(), 1002),
            (
                frame(role, 0x82, &[127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], b""),
                8,
                F::NonMinimalLength.into(),
                1002,
            ),
            (frame(role, 0x82, &[127, 0x80, 0, 0, 0, 0, 0, 0, 0], b""), 3, F::LengthTopBit.into(), 1002),
            (short(0x80, b"x"), 2 + mask, P::UnexpectedContinuation, 1002),
            (
                join(&[short(0x81, b"whole"), short(0x80, b"x")]),
                9 + 2 * mask,
                P::UnexpectedContinuation,
                1002,
            ),
            (join(&[begun.clone(), short(0x81, b"new")]), of + 2 + mask, P::UnfinishedMessage, 1002),
            (join(&[begun.clone(), short(0x02, b"new")]), of + 2 + mask, P::UnfinishedMessage, 1002),
            (short(0x88, b"x"), 3 + mask, F::TruncatedCloseCode.into(), 1002),
            (short(0x88, b"\x03\xe8\xff"), 5 + mask, F::InvalidCloseReason.into(), 1007),
            // Overlong, a surrogate, beyond U+10FFFF: each fails at the first impossible byte.
            (short(0x81, b"a\xc0\xaf"), 4 + mask, P::InvalidUtf8, 1007),
            (short(0x81, b"a\xed\xa0\x80"), 5 + mask, P::InvalidUtf8, 1007),
            (short(0x81, b"a\xf4\x90\x80\x80"), 5 + mask, P::InvalidUtf8, 1007),
            (short(0x81, b"a\xe2\x82"), 5 + mask, P::InvalidUtf8, 1007),
            (
                join(&[short(0x01, b"a\xe2"), short(0x00, b""), short(0x80, b"\x82x")]),
                10 + 3 * mask,
                P::InvalidUtf8,
                1007,
            ),
        ];
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            rows.push((short(0x80 | opcode, b""), 1, F::ReservedOpcode { opcode }.into(), 1002));
        }
        for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            let error = F::InvalidCloseCode { code: code.into() };
            rows.push((short(0x88, &code.to_be_bytes()), 4 + mask, error.into(), 1002));
        }
        for (bytes, at, expected, code) in rows {
            let (_, error, found_at) = receive(role, Limits::default(), &bytes);
            assert_eq!(error.as_ref(), Some(&expected), "{role:?} {bytes:02x?}");
            assert_eq!(found_at, at, "{role:?} {expected}: known too late or too early");
            let [high, low] = code.to_be_bytes();
            assert_eq!(answer(&expected), [0x88, 2, high, low], "{role:?} {expected}");
        }
    }
    // The mask is that of the other role (§5.1).
    let (_, error, at) = receive(Role::Server, Limits::default(), b"\x81\x01a");
    assert_eq!((error, at), (Some(F::MissingMask.into()), 2));
    let (_, error, at) = receive(Role::Client, Limits::default(), b"\x81\x81\x01\x02\x03\x04a");
    assert_eq!((error, at), (Some(F::UnexpectedMask.into()), 2));
}

#[test]
fn close_codes_that_may_be_received_are_echoed() {
    let allowed =
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    for role in [Role::Client, Role::Server] {
        for code in allowed {
            let payload = [&u16::to_be_bytes(code)[..], "Grüße".as_bytes()].concat();
            let (events, error, _) = receive(role, Limits::default(), &short(role, 0x88, &payload));
            let event = Event::Close(CloseFrame::new(CloseCode::from(code), "Grüße"));
            assert_eq!((&events[..], error), (&[event][..], None));
            let mut outbound = Outbound::new(None);
            outbound.respond(&events[0]);
            let [high, low] = code.to_be_bytes();
            assert_eq!(outbound.queue().contiguous().unwrap(), [0x88, 2, high, low]);
        }
        let (events, _, _) = receive(role, Limits::default(), &short(role, 0x88, b""));
        assert_eq!(events, [Event::Close(CloseFrame::new(CloseCode::NO_STATUS_RECEIVED, ""))]);
        let mut outbound = Outbound::new(Some(KEYS));
        outbound.respond(&events[0]);
        assert_eq!(outbound.queue().contiguous().unwrap(), [&[0x88, 0x80][..], &KEY].concat());
        // A second close frame, and data after the first, are ignored.
        let both =
            join(&[short(role, 0x88, b"\x03\xe8"), short(role, 0x88, b"\x03\xe9"), short(role, 0x81, b"x")]);
        let mut inbound = Inbound::new(role, Limits::default());
        let mut input = &both[..];
        assert!(
            matches!(inbound.decode(&mut input), Ok(Some(Event::Close(frame))) if frame.code == 1000.into())
        );
        assert_eq!((inbound.decode(&mut input), input.len()), (Ok(None), 0));
    }
}

#[test]
fn limits_are_inclusive_and_known_at_the_header() {
    let role = Role::Client;
    let limits = |max_message, max_frame, max_fragments| {
        Limits::default()
            .with_max_message(max_message)
            .with_max_frame(max_frame)
            .with_max_fragments(max_fragments)
    };
    let of = |len: usize| frame(role, 0x82, &[126, 0x01, u8::try_from(len - 256).unwrap()], &vec![7; len]);
    // A single frame.
    for limits in [limits(Some(300), None, None), limits(None, Some(300), None)] {
        let (events, error, _) = receive(role, limits, &of(300));
        assert_eq!((events.len(), error), (1, None));
        let (events, error, at) = receive(role, limits, &of(301));
        let expected = match limits.max_message {
            Some(max) => ProtocolError::MessageTooLong { len: 301, max },
            None => ProtocolError::FrameTooLong { len: 301, max: 300 },
        };
        assert_eq!((events.len(), error.as_ref(), at), (0, Some(&expected), 4));
        assert_eq!(answer(&expected), b"\x88\x02\x03\xf1", "1009");
        // The shorter ways for a message that is here as a whole leave one that is too long to `decode`.
        for (len, is_taken) in [(300, true), (301, false)] {
            let bytes = of(len);
            let message = Inbound::new(role, limits).decode_message(&mut &bytes[..]);
            assert_eq!(message.is_some(), is_taken, "{len}");
            let lent = Inbound::new(role, limits).decode_in_place(&mut bytes.clone()).is_some();
            assert_eq!(lent, is_taken, "{len}");
        }
    }
    // Several frames.
    let parts = |last: usize| {
        join(&[short(role, 0x02, &[1; 100]), short(role, 0, &[2; 100]), short(role, 0x80, &vec![3; last])])
    };
    let limit = limits(Some(300), Some(100), Some(3));
    assert_eq!(receive(role, limit, &parts(100)).1, None);
    let limit = limits(Some(299), None, None);
    let (_, error, at) = receive(role, limit, &parts(100));
    assert_eq!((error, at), (Some(ProtocolError::MessageTooLong { len: 300, max: 299 }), 2 * 102 + 2));
    // Empty fragments count.
    let (_, error, at) = receive(role, limits(None, None, Some(2)), &parts(0));
    assert_eq!((error.clone(), at), (Some(ProtocolError::TooManyFragments { max: 2 }), 2 * 102 + 2));
    assert_eq!(answer(&error.unwrap()), b"\x88\x02\x03\xf0", "1008");
    // Huge lengths do not overflow, with or without limits.
    let huge = frame(role, 0x82, &[127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], b"");
    for max in [Some(0), Some(usize::MAX), None] {
        let (_, error, at) = receive(role, limits(max, max, None), &huge);
        if max == Some(0) {
            assert!(matches!(error, Some(ProtocolError::FrameTooLong { .. })), "{error:?}");
        }
        // On 64 bits, a length may be up to the addressable size; no memory is reserved for it before its bytes arrive.
        assert!(error.is_none() || at == 10, "{max:?} {error:?}");
        let more = join(&[short(role, 0x02, b"x"), huge.clone()]);
        let (_, error, _) = receive(role, limits(Some(usize::MAX), None, None), &more);
        assert!(matches!(error, Some(ProtocolError::UnfinishedMessage)), "{error:?}");
    }
    let sum = join(&[
        short(role, 0x02, b"x"),
        frame(role, 0x80, &[127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], b""),
    ]);
    assert!(receive(role, limits(None, None, None), &sum).1.is_some(), "2^63 bytes cannot be addressed");
}

#[test]
fn lengths_of_more_than_32_bits_are_not_cut_off() {
    let small = Some(300);
    // Cut off to 32 bits, 2^32 + 1 would be one byte.
    for len in [(1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 32) + 1, (1 << 63) - 1_u64] {
        for role in [Role::Client, Role::Server] {
            let header = |first| frame(role, first, &[&[127][..], &len.to_be_bytes()].concat(), b"");
            let before = short(role, 0x02, b"x");
            for (case, bytes, total) in [
                ("whole", header(0x82), len),
                ("first", header(0x02), len),
                ("second", join(&[before.clone(), header(0x80)]), len + 1),
            ] {
                let check = |max_message, max_frame| {
                    let limits = Limits::default().with_max_message(max_message).with_max_frame(max_frame);
                    let (events, error, at) = receive(role, limits, &bytes);
                    assert_eq!((events, at), (vec![], bytes.len()), "{case}, {len} bytes");
                    error
                };
                let too_long = |max| Some(ProtocolError::MessageTooLong { len: total, max });
                assert_eq!(check(small, None), too_long(300), "{case}, {len} bytes");
                let frame_too_long = Some(ProtocolError::FrameTooLong { len, max: 300 });
                assert_eq!(check(None, small), frame_too_long, "{case}, {len} bytes");
                // Without a limit, what can be addressed is waited for: 2^31 - 1 bytes on a machine of 32 bits.
                let addressable = isize::MAX.unsigned_abs();
                let error = if total <= addressable as u64 { None } else { too_long(addressable) };
                assert_eq!(check(None, None), error, "{case}, {len} bytes");
            }
        }
    }
}

#[test]
fn control_frames_come_between_fragments() {
    for role in [Role::Client, Role::Server] {
        let bytes = join(&[
            short(role, 0x01, b"Gr\xc3"),
            short(role, 0x89, b"ping"),
            short(role, 0x00, b""),
            short(role, 0x8a, &[9; 125]),
            short(role, 0x80, b"\xbc\xc3\x9fe"),
        ]);
        let (events, error, _) = receive(role, Limits::default(), &bytes);
        let expected = [
            Event::Ping(Bytes::from_static(b"ping")),
            Event::Pong(vec![9; 125].into()),
            Event::Message("Grüße".into()),
        ];
        assert_eq!((&events[..], error), (&expected[..], None));
    }
}

#[test]
fn frames_as_they_are_sent() {
    for len in [0_usize, 1, 125, 126, 65535, 65536, 100_000] {
        let header = match len {
            0..126 => vec![u8::try_from(len).unwrap()],
            126..65536 => [&[126][..], &u16::try_from(len).unwrap().to_be_bytes()].concat(),
            _ => [&[127][..], &(len as u64).to_be_bytes()].concat(),
        };
        let payload = vec![b'x'; len];
        let text = String::from_utf8(payload.clone()).unwrap();
        for (keys, role) in [(None, Role::Client), (Some(KEYS), Role::Server)] {
            for (message, first) in
                [(Message::from(text.clone()), 0x81), (Message::from(payload.clone()), 0x82)]
            {
                let expected = frame(role, first, &header, &payload);
                let mut outbound = Outbound::new(keys);
                outbound.message(message.clone()).unwrap();
                assert_eq!(drain(&mut outbound, 1000), expected, "{len}");
                if outbound.gather_message(&message) {
                    assert_eq!(drain(&mut outbound, 7), expected, "{len}, gathered");
                }
                outbound.prepared(&PreparedMessage::new(message.clone())).unwrap();
                assert_eq!(drain(&mut outbound, usize::MAX), expected, "{len}, prepared");
            }
        }
    }
}

fn drain(outbound: &mut Outbound, step: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !outbound.queue().is_empty() {
        let pending = outbound.pending();
        let mut slices = [std::io::IoSlice::new(&[]); 3];
        let filled = outbound.queue().chunks(&mut slices);
        let next: Vec<u8> =
            slices[..filled].iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
        outbound.written(next.len());
        // More remains if a pong has waited for this space.
        assert!(outbound.pending() >= pending - next.len());
        bytes.extend(next);
    }
    bytes
}

#[test]
fn messages_in_parts_are_one_message() {
    let mut outbound = Outbound::new(None);
    assert_eq!(outbound.last_part(Bytes::new()), Err(SendError::NoMessageOpen));
    outbound.begin(MessageKind::Text).unwrap();
    assert_eq!(outbound.begin(MessageKind::Text), Err(SendError::MessageOpen));
    assert_eq!(outbound.message("other".into()), Err(SendError::MessageOpen));
    assert!(!outbound.gather_message(&"other".into()));
    outbound.part("a".into()).unwrap();
    outbound.ping(b"p").unwrap();
    outbound.prepared(&PreparedMessage::new("news")).unwrap();
    assert_eq!(outbound.pending(), 3 + 3 + 6, "the news waits");
    outbound.part(Bytes::new()).unwrap();
    outbound.last_part("b".into()).unwrap();
    assert_eq!(drain(&mut outbound, 5), b"\x01\x01a\x89\x01p\x00\x00\x80\x01b\x81\x04news");
    assert_eq!(outbound.last_part(Bytes::new()), Err(SendError::NoMessageOpen));
    // Closing abandons an open message.
    outbound.begin(MessageKind::Binary).unwrap();
    outbound.close(Some(CloseFrame::new(CloseCode::NORMAL, "bye"))).unwrap();
    assert_eq!(outbound.last_part("c".into()), Err(SendError::Closing));
    assert_eq!(outbound.ping(b""), Err(SendError::Closing));
    assert_eq!(outbound.prepared(&PreparedMessage::new("news")), Err(SendError::Closing));
    assert_eq!(outbound.close(None), Err(SendError::Closing));
    assert_eq!(drain(&mut outbound, 100), b"\x88\x05\x03\xe8bye");
}

#[test]
fn what_must_not_be_sent_is_refused() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
        let mut outbound = Outbound::new(None);
        let error = outbound.close(Some(CloseFrame::new(CloseCode::from(code), ""))).unwrap_err();
        assert!(matches!(error, SendError::Frame(FrameError::InvalidCloseCode { .. })), "{code}: {error}");
        assert!(outbound.queue().is_empty() && !outbound.is_closing());
    }
    let mut outbound = Outbound::new(None);
    assert!(outbound.close(Some(CloseFrame::new(CloseCode::NORMAL, "x".repeat(124)))).is_err());
    assert!(outbound.ping(&[0; 126]).is_err() && outbound.pong(&[0; 126]).is_err());
    assert!(outbound.queue().is_empty());
    outbound.close(Some(CloseFrame::new(CloseCode::NORMAL, "x".repeat(123)))).unwrap();
    assert_eq!(outbound.queue().len(), 127);
}

/// "If an endpoint receives a Ping frame and has not yet sent Pong frame(s) in response to previous Ping frame(s), the
/// endpoint MAY elect to send a Pong frame for only the most recently processed Ping frame." (§5.5.3)
#[test]
fn at_most_one_pong_is_owed_and_it_is_the_newest() {
    let mut outbound = Outbound::new(None);
    let ping = |payload: &'static [u8]| Event::Ping(Bytes::from_static(payload));
    outbound.respond(&ping(b"one"));
    assert_eq!(drain(&mut outbound, 100), b"\x8a\x03one");
    let waiting = vec![0; 100_000];
    outbound.message(waiting.clone().into()).unwrap();
    let pending = outbound.pending();
    for _ in 0..10_000 {
        outbound.respond(&ping(b"old"));
    }
    outbound.respond(&ping(b"new"));
    assert_eq!(outbound.pending(), pending, "nothing grows while the peer does not read");
    let bytes = drain(&mut outbound, 10_000);
    assert_eq!(&bytes[pending..], b"\x8a\x03new");
    outbound.set_auto_pong(false);
    outbound.respond(&ping(b"unanswered"));
    assert!(outbound.queue().is_empty());
    // A close frame discards a pong that is owed.
    outbound.set_auto_pong(true);
    outbound.message(waiting.into()).unwrap();
    outbound.respond(&ping(b"late"));
    outbound.close(None).unwrap();
    assert!(drain(&mut outbound, 10_000).ends_with(b"\x88\x00"));
}
