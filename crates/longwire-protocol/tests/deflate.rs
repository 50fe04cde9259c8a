//! Compressed messages through both halves: every kind of sending, any split, and invalid input.

#![cfg(feature = "deflate")]

use bytes::Bytes;
use longwire_deflate::{Agreement, DeflateOptions, Pool, WindowBits, accept};
use longwire_protocol::{
    CloseCode, Compress, Compression, Event, Inbound, Limits, MaskingKey, MaskingKeys, Message, MessageKind,
    Outbound, PreparedMessage, ProtocolError, Role,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const KEYS: MaskingKeys = || MaskingKey::new([0x37, 0xfa, 0x21, 0x3d]);

/// The way in which a message is sent.
#[derive(Clone, Debug)]
enum How {
    Whole(Compress),
    /// From a payload that is borrowed.
    Lent,
    Prepared,
    /// Cut at these 255ths of its length.
    Parts(Compress, Vec<u8>),
    /// The connection was idle before.
    Parked,
}

fn options(bits: u8, no_takeover: bool) -> DeflateOptions {
    let mut options = DeflateOptions::default();
    options.threshold = 20;
    options.server_no_context_takeover = no_takeover;
    options.client_no_context_takeover = no_takeover;
    options.server_max_window_bits = WindowBits::new(bits).unwrap();
    options.client_max_window_bits = WindowBits::new(bits).unwrap();
    options
}

fn agreement(options: &DeflateOptions) -> Agreement {
    accept([[("client_max_window_bits", None)]], options).unwrap()
}

fn compression(bits: u8, no_takeover: bool) -> Compression {
    let options = options(bits, no_takeover);
    Compression::new(agreement(&options), &options, &Pool::default())
}

fn ends(role: Role, limits: Limits, compression: &Compression) -> (Outbound, Inbound) {
    let mut outbound = Outbound::new((role == Role::Client).then_some(KEYS));
    let mut inbound = Inbound::new(if role == Role::Client { Role::Server } else { Role::Client }, limits);
    outbound.set_compression(compression);
    inbound.set_compression(compression);
    (outbound, inbound)
}

fn drain(outbound: &mut Outbound) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !outbound.queue().is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 4];
        let filled = outbound.queue().chunks(&mut slices);
        let before = bytes.len();
        bytes.extend(slices[..filled].iter().flat_map(|slice| slice.iter()));
        outbound.written(bytes.len() - before);
    }
    bytes
}

fn send(outbound: &mut Outbound, message: &Message, how: &How) {
    match how {
        How::Whole(compress) => outbound.message_with(message.clone(), *compress).unwrap(),
        How::Lent => outbound.message_ref(message.into()).unwrap(),
        How::Prepared => outbound.prepared(&PreparedMessage::new(message.clone())).unwrap(),
        How::Parked => {
            outbound.park();
            assert!(!outbound.keeps_compressor());
            outbound.message(message.clone()).unwrap();
        }
        How::Parts(compress, cuts) => {
            let payload = Bytes::copy_from_slice(message.as_bytes());
            let mut cuts: Vec<_> = cuts.iter().map(|&cut| payload.len() * usize::from(cut) / 255).collect();
            cuts.sort_unstable();
            outbound.begin_with(message.kind(), *compress).unwrap();
            let mut start = 0;
            for cut in cuts {
                outbound.part(payload.slice(start..cut)).unwrap();
                start = cut;
            }
            outbound.last_part(payload.slice(start..)).unwrap();
        }
    }
}

fn receive(inbound: &mut Inbound, bytes: &[u8], steps: &[usize]) -> Result<Vec<Message>, ProtocolError> {
    let mut messages = Vec::new();
    let (mut rest, mut steps) = (bytes, steps.iter().cycle());
    while !rest.is_empty() {
        let step = steps.next().map_or(rest.len(), |&step| step.min(rest.len()));
        let (mut piece, after) = rest.split_at(step);
        rest = after;
        while !piece.is_empty() {
            let event = inbound.decode(&mut piece)?;
            let inflated = inbound.take_inflated();
            assert!(inflated < 80 << 10, "{inflated} bytes in one call");
            assert!(event.is_some() || piece.is_empty() || inflated >= 64 << 10);
            let Some(event) = event else { continue };
            let Event::Message(message) = event else { panic!("{event:?}") };
            messages.push(message);
        }
    }
    Ok(messages)
}

/// Does the same with an inbound half that yields parts.
fn receive_parts(
    inbound: &mut Inbound,
    bytes: &[u8],
    steps: &[usize],
) -> Result<Vec<Message>, ProtocolError> {
    inbound.set_parts(true);
    let (mut messages, mut data) = (Vec::new(), Vec::new());
    let (mut rest, mut steps) = (bytes, steps.iter().cycle());
    while !rest.is_empty() {
        let step = steps.next().map_or(rest.len(), |&step| step.min(rest.len()));
        let (mut piece, after) = rest.split_at(step);
        rest = after;
        while !piece.is_empty() {
            match inbound.decode(&mut piece)? {
                Some(Event::Part(part)) => {
                    assert!(part.data.len() < 80 << 10, "a part of {} bytes", part.data.len());
                    data.extend(part.data);
                    if part.last {
                        let data = std::mem::take(&mut data);
                        messages.push(match part.kind {
                            MessageKind::Text => String::from_utf8(data).expect("checked").into(),
                            MessageKind::Binary => data.into(),
                        });
                    }
                }
                other => assert_eq!(other, None),
            }
        }
    }
    Ok(messages)
}

fn message() -> impl Strategy<Value = Message> {
    let words = vec(select(&["alpha ", "beta ", "Grüße ", "{\"id\":", "42}, "][..]), 0..400);
    let noise = vec(any::<u8>(), 0..3000);
    // Takes several steps of decompression from some hundred bytes.
    let long = (any::<u8>(), 60_000..150_000_usize).prop_map(|(byte, len)| vec![byte; len].into());
    prop_oneof![
        20 => words.prop_map(|words| words.concat().into()),
        20 => noise.prop_map(Message::from),
        1 => long,
    ]
}

fn how() -> impl Strategy<Value = How> {
    let compress = select(&[Compress::Auto, Compress::Always, Compress::Never][..]);
    prop_oneof![
        compress.clone().prop_map(How::Whole),
        Just(How::Lent),
        Just(How::Prepared),
        Just(How::Parked),
        (compress, vec(any::<u8>(), 0..4)).prop_map(|(compress, cuts)| How::Parts(compress, cuts)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_sent_is_what_is_received(
        role in select(&[Role::Client, Role::Server][..]),
        bits in 9..=15_u8,
        no_takeover in any::<bool>(),
        sent in vec((message(), how()), 1..8),
        steps in vec(1..2000_usize, 1..6),
    ) {
        let compression = compression(bits, no_takeover);
        let (mut outbound, mut inbound) = ends(role, Limits::default(), &compression);
        for (message, how) in &sent {
            send(&mut outbound, message, how);
        }
        let bytes = drain(&mut outbound);
        let messages: Vec<_> = sent.into_iter().map(|(message, _)| message).collect();
        prop_assert_eq!(receive(&mut inbound, &bytes, &steps), Ok(messages.clone()));
        let mut inbound = ends(role, Limits::default(), &compression).1;
        prop_assert_eq!(receive_parts(&mut inbound, &bytes, &steps), Ok(messages));
    }

    #[test]
    fn garbage_is_an_error_and_nothing_is_interpreted_after_it(
        payload in vec(any::<u8>(), 1..120),
        no_takeover in any::<bool>(),
        step in 1..20_usize,
    ) {
        let compression = compression(15, no_takeover);
        let mut bytes = vec![0xc2, u8::try_from(payload.len()).unwrap()];
        bytes.extend(&payload);
        let whole = receive(&mut ends(Role::Server, Limits::default(), &compression).1, &bytes, &[]);
        let (_, mut inbound) = ends(Role::Server, Limits::default(), &compression);
        let split = receive(&mut inbound, &bytes, &[step]);
        prop_assert_eq!(&split, &whole);
        if let Err(error) = split {
            prop_assert!(matches!(error, ProtocolError::MalformedCompression | ProtocolError::TooManyFinalBlocks));
            prop_assert!(inbound.is_ended());
        }
    }
}

#[test]
fn rsv1_is_set_on_the_first_frame_of_a_compressed_message_alone() {
    let compression = compression(15, false);
    let first_bytes = |how: &How, message: &Message| {
        let (mut outbound, _) = ends(Role::Server, Limits::default(), &compression);
        send(&mut outbound, message, how);
        let (mut bytes, mut first) = (&drain(&mut outbound)[..], Vec::new());
        while let [byte, len, rest @ ..] = bytes {
            assert!(*len < 126, "short enough");
            first.push(*byte);
            bytes = &rest[usize::from(*len)..];
        }
        first
    };
    let long = Message::from("text ".repeat(20));
    assert_eq!(first_bytes(&How::Whole(Compress::Auto), &long), [0xc1]);
    assert_eq!(first_bytes(&How::Whole(Compress::Never), &long), [0x81]);
    assert_eq!(first_bytes(&How::Whole(Compress::Auto), &"short".into()), [0x81], "below the threshold");
    assert_eq!(first_bytes(&How::Whole(Compress::Always), &"short".into()), [0xc1]);
    assert_eq!(first_bytes(&How::Prepared, &long), [0xc1]);
    let parts = How::Parts(Compress::Always, vec![100, 255]);
    assert_eq!(first_bytes(&parts, &long), [0x41, 0x00, 0x80]);
}

#[test]
fn rsv1_where_it_means_nothing_is_an_error() {
    let compression = compression(15, false);
    let decode = |inbound: &mut Inbound, bytes: &[u8]| inbound.decode(&mut &*bytes);
    let mut plain = Inbound::new(Role::Client, Limits::default());
    assert_eq!(decode(&mut plain, b"\xc1\x00"), Err(ProtocolError::UnexpectedRsv1));
    for bytes in [&b"\x01\x00\xc0\x00"[..], b"\xc9\x00", b"\xc8\x00"] {
        let mut inbound = ends(Role::Server, Limits::default(), &compression).1;
        let error = decode(&mut inbound, bytes).unwrap_err();
        assert_eq!(error.close_code(), CloseCode::PROTOCOL_ERROR, "{bytes:x?}: {error}");
    }
}

#[test]
fn broken_compression_has_its_close_code() {
    let frame = |payload: &[u8]| {
        let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&[0xc2, 126][..], &len, payload].concat()
    };
    for (case, payload, code) in [
        ("a reserved kind of block", &[0x07; 200][..], CloseCode::INVALID_PAYLOAD),
        ("a stored block whose length is not said twice", &[0; 200], CloseCode::INVALID_PAYLOAD),
        ("a distance beyond the beginning", &[0x62; 200], CloseCode::INVALID_PAYLOAD),
        (
            "a stored block that is cut short",
            &[&[0, 200, 0, 55, 255], &[7; 150][..]].concat(),
            CloseCode::INVALID_PAYLOAD,
        ),
        ("a thousand ends of the stream", &[0x03, 0x00].repeat(10_000), CloseCode::POLICY_VIOLATION),
    ] {
        for (role, takeover) in [(Role::Server, true), (Role::Server, false)] {
            let mut inbound = ends(role, Limits::default(), &compression(15, !takeover)).1;
            let error = receive(&mut inbound, &frame(payload), &[]).expect_err(case);
            assert_eq!(error.close_code(), code, "{case}: {error}");
            let mut answer = Outbound::new(None);
            answer.fail(&error);
            assert_eq!(drain(&mut answer)[2..], u16::from(code).to_be_bytes(), "{case}");
        }
    }
}

/// 32 ends of the stream, and one more for each 32 bytes. An end takes two bytes, and other data pays for ends as well.
#[test]
fn ends_of_the_stream_are_allowed_up_to_a_number() {
    for (case, stored, allowed) in [("nothing else", 0, 34), ("1019 bytes", 1019_u16, 68)] {
        let mut data = Vec::new();
        if stored > 0 {
            data.push(0);
            data.extend(stored.to_le_bytes());
            data.extend((!stored).to_le_bytes());
            data.extend(vec![7; stored.into()]);
        }
        for (ends_of_stream, is_allowed) in [(allowed, true), (allowed + 1, false)] {
            let payload = [&data[..], &[0x03, 0x00].repeat(ends_of_stream)].concat();
            let bytes = wire_model::frame(0xc2, &payload, None);
            let mut inbound = ends(Role::Server, Limits::default(), &compression(15, false)).1;
            let received = receive(&mut inbound, &bytes, &[]);
            let expected = if is_allowed {
                Ok(vec![vec![7; stored.into()].into()])
            } else {
                Err(ProtocolError::TooManyFinalBlocks)
            };
            assert_eq!(received, expected, "{case}: {ends_of_stream} ends");
        }
    }
}

/// A megabyte of zeros compresses to a kilobyte, and the limit is in between.
#[test]
fn the_limit_is_on_what_a_message_yields() {
    let compression = compression(15, false);
    let bomb = |len: usize| {
        let (mut outbound, _) = ends(Role::Server, Limits::default(), &compression);
        outbound.message(vec![0; len].into()).unwrap();
        drain(&mut outbound)
    };
    let max = 100_000;
    let limits = Limits::default().with_max_message(max);
    for steps in [&[][..], &[1], &[100]] {
        let mut inbound = ends(Role::Server, limits, &compression).1;
        assert_eq!(receive(&mut inbound, &bomb(max), steps), Ok(vec![vec![0; max].into()]));
        let mut inbound = ends(Role::Server, limits, &compression).1;
        let error = receive(&mut inbound, &bomb(max + 1), steps).unwrap_err();
        assert_eq!(error, ProtocolError::MessageTooLong { len: 100_001, max });
        assert_eq!(error.close_code(), CloseCode::MESSAGE_TOO_BIG);
    }
    // For a message in parts, the limit applies to the sum of its parts.
    let mut inbound = ends(Role::Server, limits, &compression).1;
    inbound.set_parts(true);
    let bytes = bomb(10 * max);
    let (mut input, mut yielded) = (&bytes[..], 0);
    let error = loop {
        match inbound.decode(&mut input) {
            Ok(Some(Event::Part(part))) => yielded += part.data.len(),
            Ok(other) => assert!(other.is_none() && !input.is_empty(), "{other:?}"),
            Err(error) => break error,
        }
        assert!(yielded <= max);
    };
    assert_eq!(error.close_code(), CloseCode::MESSAGE_TOO_BIG);
}

/// Incompressible data is sent uncompressed if that is allowed, and may be as long as the limit.
#[test]
fn noise_of_the_longest_allowed_length_arrives() {
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(100_000)
    .collect();
    let limits = Limits::default().with_max_message(noise.len());
    for no_takeover in [false, true] {
        let (mut outbound, mut inbound) = ends(Role::Client, limits, &compression(15, no_takeover));
        outbound.message(noise.clone().into()).unwrap();
        let bytes = drain(&mut outbound);
        assert_eq!(bytes[0], if no_takeover { 0x82 } else { 0xc2 });
        assert_eq!(receive(&mut inbound, &bytes, &[]), Ok(vec![noise.clone().into()]));
        let max = noise.len() - 1;
        let mut inbound =
            ends(Role::Client, Limits::default().with_max_message(max), &compression(15, no_takeover)).1;
        let error = receive(&mut inbound, &bytes, &[]).unwrap_err();
        assert_eq!(error, ProtocolError::MessageTooLong { len: 100_000, max });
    }
}

/// A step may end when the decompressor has taken the whole frame but not yet returned all of its bytes.
#[test]
fn the_last_bytes_of_a_step_arrive() {
    let compression = compression(15, false);
    for role in [Role::Client, Role::Server] {
        for len in (64 << 10..(64 << 10) + 300).step_by(7) {
            let (mut outbound, mut inbound) = ends(role, Limits::default(), &compression);
            outbound.message(vec![0; len].into()).unwrap();
            assert_eq!(
                receive(&mut inbound, &drain(&mut outbound), &[]),
                Ok(vec![vec![0; len].into()]),
                "{len}"
            );
        }
    }
}

/// A megabyte in a kilobyte, in one frame or in many: no call decompresses more than one step of it.
#[test]
fn one_call_decompresses_a_bounded_amount() {
    const LEN: usize = 1 << 20;
    for role in [Role::Client, Role::Server] {
        for how in [
            How::Whole(Compress::Always),
            How::Parts(Compress::Always, (0..=255).collect()),
            How::Parts(Compress::Always, vec![255]),
        ] {
            let message = Message::from(vec![7; LEN]);
            let (mut outbound, mut inbound) = ends(role, Limits::default(), &compression(15, false));
            send(&mut outbound, &message, &how);
            let bytes = drain(&mut outbound);
            let (mut input, mut calls, mut work) = (&bytes[..], 0, 0);
            let received = loop {
                assert!(!input.is_empty(), "what is left to do is seen by what is left of the input");
                assert_eq!(inbound.decode(&mut &[][..]), Ok(None), "nothing to take is no error");
                let event = inbound.decode(&mut input).unwrap();
                calls += 1;
                let inflated = inbound.take_inflated();
                assert!(inflated < 80 << 10, "{how:?}: {inflated} bytes in one call");
                work += inflated;
                if let Some(event) = event {
                    break event;
                }
            };
            assert_eq!(received, Event::Message(message));
            assert_eq!((work, input.len(), inbound.take_inflated()), (LEN, 0, 0), "{how:?}");
            assert!((LEN >> 17..=(LEN >> 16) + 1).contains(&calls), "{how:?}: {calls} calls");
            assert_eq!(inbound.compression_stats().payload_bytes, LEN as u64);
            assert_eq!(inbound.compression_stats().wire_bytes, outbound.compression_stats().wire_bytes);
        }
    }
}

#[test]
fn an_unfinished_compressed_message_holds_its_decompressor() {
    let compression = compression(15, true);
    let (mut outbound, mut inbound) = ends(Role::Server, Limits::default(), &compression);
    outbound.message_with("Hello, Hello, Hello".into(), Compress::Always).unwrap();
    let bytes = drain(&mut outbound);
    assert_eq!(inbound.held(), 0);
    assert_eq!(inbound.decode(&mut &bytes[..5]), Ok(None));
    assert!((48 << 10..49 << 10).contains(&inbound.held()), "{}", inbound.held());
    assert!(matches!(inbound.decode(&mut &bytes[5..]), Ok(Some(Event::Message(_)))));
    assert_eq!((inbound.held(), inbound.keeps_decompressor()), (0, false));
    // An abandoned message gives its decompressor back.
    assert_eq!(inbound.decode(&mut &bytes[..5]), Ok(None));
    inbound.end();
    assert_eq!((inbound.held(), inbound.keeps_decompressor()), (0, false));
}

/// "Hello" with the four bytes that a sender must remove (RFC 7692 §7.2.1), masked with a key of zeros.
#[test]
fn a_message_that_kept_its_end_is_delivered() {
    let kept = b"\xc1\x8b\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff";
    let again = b"\xc1\x85\0\0\0\0\xf2\x00\x11\x00\x00";
    for steps in [&[][..], &[1], &[3]] {
        let mut inbound = ends(Role::Client, Limits::default(), &compression(15, true)).1;
        let bytes = [&kept[..], kept].concat();
        assert_eq!(receive(&mut inbound, &bytes, steps), Ok(vec!["Hello".into(); 2]));
        let mut inbound = ends(Role::Client, Limits::default(), &compression(15, false)).1;
        let bytes = [&kept[..], again, kept].concat();
        assert_eq!(receive(&mut inbound, &bytes, steps), Ok(vec!["Hello".into(); 3]));
    }
}

#[test]
fn text_is_checked_where_it_is_decompressed() {
    for (text, valid) in [(&b"Gr\xc3\xbc\xc3\x9fe"[..], true), (b"Gr\xc3\x28", false), (b"Gr\xc3", false)] {
        let (mut outbound, mut inbound) = ends(Role::Server, Limits::default(), &compression(15, false));
        outbound.message_with(Bytes::from_static(text).into(), Compress::Always).unwrap();
        let mut bytes = drain(&mut outbound);
        assert_eq!(bytes[0], 0xc2);
        bytes[0] = 0xc1;
        let received = receive(&mut inbound, &bytes, &[1]);
        assert_eq!(received.is_ok(), valid);
        if let Err(error) = received {
            assert_eq!(error, ProtocolError::InvalidUtf8);
        }
    }
}

#[test]
fn the_default_threshold_is_1024_bytes() {
    let options = DeflateOptions::default();
    let compression = Compression::new(agreement(&options), &options, &Pool::default());
    for (len, first) in [(1023, 0x82), (1024, 0xc2)] {
        let (mut outbound, _) = ends(Role::Server, Limits::default(), &compression);
        outbound.message(vec![0; len].into()).unwrap();
        assert_eq!(drain(&mut outbound)[0], first, "{len} bytes");
    }
}

#[test]
fn with_a_window_of_eight_bits_messages_are_sent_uncompressed() {
    let (mut outbound, _) = ends(Role::Client, Limits::default(), &compression(8, false));
    outbound.message_with("text ".repeat(20).into(), Compress::Always).unwrap();
    assert_eq!(drain(&mut outbound)[0], 0x81);
}
