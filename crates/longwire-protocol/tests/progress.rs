//! Facts about a message that is under way, as the two halves tell them, and the memory that is kept for it.

use longwire_protocol::{
    CloseCode, CloseFrame, Event, Inbound, Limits, Message, MessageRef, ProtocolError, Role,
};

fn client() -> Inbound {
    Inbound::new(Role::Client, Limits::default())
}

/// The beginning of a text of ten bytes, with three of them.
const TEN_BYTES: &[u8] = b"\x81\x0aabc";

#[test]
fn what_is_left_of_a_frame_is_told() {
    let mut inbound = client();
    assert_eq!((inbound.frame_left(), inbound.payload_left()), (0, 0), "before a header");
    assert_eq!(inbound.decode(&mut &TEN_BYTES[..]), Ok(None));
    assert_eq!((inbound.frame_left(), inbound.payload_left()), (7, 7));
    inbound.set_parts(true);
    assert_eq!((inbound.frame_left(), inbound.payload_left()), (0, 0), "pieces are handed out as they come");
    let mut inbound = client();
    assert_eq!(inbound.decode(&mut &b"\x89\x0aabc"[..]), Ok(None));
    assert_eq!((inbound.frame_left(), inbound.payload_left()), (0, 0), "of a ping");
    // Once pieces were handed out, the rest of the message is not read into its memory.
    let mut inbound = client();
    inbound.set_parts(true);
    assert!(matches!(inbound.decode(&mut &TEN_BYTES[..]), Ok(Some(Event::Part(_)))));
    inbound.set_parts(false);
    assert_eq!(inbound.payload_left(), 0);
}

#[test]
fn the_kind_of_the_next_frame_is_told() {
    let mut inbound = client();
    for (input, is_control) in [
        (&b""[..], None),
        (b"\x81", Some(false)),
        (b"\x02", Some(false)),
        (b"\x80", Some(false)),
        (b"\x88", Some(true)),
        (b"\x89", Some(true)),
        (b"\x8a", Some(true)),
    ] {
        assert_eq!(inbound.is_control_next(input), is_control, "{input:02x?}");
    }
    // The beginning of a header that was taken already.
    assert_eq!(inbound.decode(&mut &b"\x8a"[..]), Ok(None));
    assert_eq!((inbound.is_control_next(b""), inbound.is_control_next(b"\x01")), (Some(true), Some(true)));
    // A frame whose payload is arriving.
    let mut inbound = client();
    assert_eq!(inbound.decode(&mut &TEN_BYTES[..]), Ok(None));
    assert_eq!(inbound.is_control_next(b"\x89\0"), Some(false));
    let mut inbound = client();
    assert_eq!(inbound.decode(&mut &b"\x89\x02a"[..]), Ok(None));
    assert_eq!(inbound.is_control_next(b"\x01"), Some(true));
}

#[test]
fn the_rest_of_a_message_of_which_pieces_were_handed_out_is_skipped() {
    let mut inbound = client();
    inbound.set_parts(true);
    let mut input = &b"\x01\x02ab"[..];
    assert!(matches!(inbound.decode(&mut input), Ok(Some(Event::Part(part))) if !part.last));
    inbound.set_parts(false);
    let mut input = &b"\x00\x01c\x80\x01d\x81\x01e"[..];
    assert_eq!(inbound.decode(&mut input), Ok(Some(Event::Message("e".into()))));
    // A call that changes nothing skips nothing.
    let mut inbound = client();
    assert_eq!(inbound.decode(&mut &b"\x01\x02ab"[..]), Ok(None));
    inbound.set_parts(false);
    assert_eq!(inbound.decode(&mut &b"\x80\x01c"[..]), Ok(Some(Event::Message("abc".into()))));
    // Nor does one that asks for pieces again.
    let mut inbound = client();
    inbound.set_parts(true);
    assert!(matches!(inbound.decode(&mut &b"\x01\x02ab"[..]), Ok(Some(Event::Part(_)))));
    inbound.set_parts(true);
    assert!(matches!(inbound.decode(&mut &b"\x80\x01c"[..]), Ok(Some(Event::Part(part))) if part.last));
}

/// The shortcut for whole messages must leave everything else to `decode`.
#[test]
fn the_shortcut_takes_nothing_while_something_is_in_progress() {
    let text = b"\x81\x80\0\0\0\0";
    for (case, before) in [
        ("a header", &b"\x81"[..]),
        ("a payload", b"\x81\x8a\0\0\0\0abc"),
        ("a fragment", b"\x01\x81\0\0\0\0a"),
        ("a control frame", b"\x89\x82\0\0\0\0a"),
    ] {
        let mut inbound = Inbound::new(Role::Server, Limits::default());
        assert_eq!(inbound.decode(&mut &before[..]), Ok(None), "{case}");
        let mut input = &text[..];
        assert_eq!(inbound.decode_message(&mut input), None, "{case}");
        assert_eq!(input.len(), text.len(), "{case}");
        assert_eq!(inbound.decode_in_place(&mut text.to_owned()), None, "{case}");
    }
    let mut inbound = Inbound::new(Role::Server, Limits::default());
    assert_eq!(inbound.decode_message(&mut &text[..]), Some(Message::text("")));
    // After the end of a conversation, a message is no message.
    assert!(inbound.decode(&mut &b"\x88\x80\0\0\0\0"[..]).is_ok());
    assert_eq!(inbound.decode_message(&mut &text[..]), None);
    let mut inbound = Inbound::new(Role::Server, Limits::default());
    inbound.set_parts(true);
    assert_eq!(inbound.decode_message(&mut &text[..]), None);
}

/// Once what was in progress is complete, the shortcut takes the next message.
#[test]
fn the_shortcut_takes_the_message_after_anything_whole() {
    enum Step {
        Decode(&'static [u8]),
        ReadDirectly,
        Parts(bool),
    }
    use Step::{Decode, Parts, ReadDirectly};
    let (text, half) = (&b"\x81\x81\0\0\0\0a"[..], &b"\x81\x82\0\0\0\0a"[..]);
    for (case, steps) in [
        ("a message", &[Decode(text)][..]),
        ("a message in three pieces", &[Decode(&text[..1]), Decode(&text[1..4]), Decode(&text[4..])]),
        ("a payload in two pieces", &[Decode(half), Decode(b"a")]),
        ("a payload that was read directly", &[Decode(half), ReadDirectly]),
        (
            "a control frame between fragments",
            &[Decode(b"\x01\x81\0\0\0\0a"), Decode(b"\x89\x81\0\0\0\0a"), Decode(b"\x80\x81\0\0\0\0a")],
        ),
        ("messages in parts", &[Parts(true), Decode(text), Parts(false)]),
        ("the rest of a message in parts", &[Parts(true), Decode(half), Parts(false), Decode(b"a")]),
    ] {
        let mut inbound = Inbound::new(Role::Server, Limits::default());
        for (number, step) in (1..).zip(steps) {
            match step {
                &Decode(mut bytes) => drop(inbound.decode(&mut bytes).expect("no violation")),
                ReadDirectly => {
                    let ((), result) = inbound.read_payload(|buf| buf.put_u8(b'a'));
                    assert!(result.is_ok_and(|event| event.is_some()), "{case}");
                }
                Parts(parts) => inbound.set_parts(*parts),
            }
            let next = b"\x81\x80\0\0\0\0";
            let is_last = number == steps.len();
            assert_eq!(
                inbound.decode_in_place(&mut next.to_owned()).is_some(),
                is_last,
                "{case}, step {number}"
            );
            assert_eq!(inbound.decode_message(&mut &next[..]).is_some(), is_last, "{case}, step {number}");
        }
    }
}

/// With a header of each length, the shortcut takes a whole message. It takes no incomplete one, and no other frame.
#[test]
fn the_shortcut_takes_whole_messages_only() {
    const LEN: usize = 300;
    let payload = &[b'x'; LEN][..];
    let long = |first: u8| [&[first, 126, 1, 44][..], payload].concat();
    let longest = |first: u8| [&[first, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &vec![b'x'; 1 << 16]].concat();
    for (case, bytes, is_taken) in [
        ("a short text", b"\x81\x02ab".to_vec(), true),
        ("a text with a length in 16 bits", long(0x81), true),
        ("a binary message with a length in 16 bits", long(0x82), true),
        ("a text with a length in 64 bits", longest(0x81), true),
        ("the first of several frames", long(0x01), false),
        ("the last of several frames", long(0x80), false),
    ] {
        for missing in [0, 1, 2, 3, bytes.len() - 1] {
            let case = format!("{case}, without {missing} bytes");
            let mut bytes = bytes[..bytes.len() - missing].to_vec();
            let is_taken = is_taken && missing == 0;
            let mut input = &bytes[..];
            let message = client().decode_message(&mut input);
            assert_eq!((message.is_some(), input.is_empty()), (is_taken, is_taken), "{case}");
            let len = bytes.len();
            let in_place = client().decode_in_place(&mut bytes);
            assert_eq!(in_place.map(|(_, taken)| taken), is_taken.then_some(len), "{case}");
        }
    }
}

/// A message that is left in its place or copied, of each kind, masked or not.
#[test]
fn a_message_is_left_in_place_if_it_is_valid() {
    for (case, role, bytes, message) in [
        ("a text", Role::Client, &b"\x81\x02ab"[..], Some(MessageRef::Text("ab"))),
        ("a masked text", Role::Server, b"\x81\x82\x01\x02\x03\x04\x60\x60", Some(MessageRef::Text("ab"))),
        ("bytes", Role::Client, b"\x82\x01\xff", Some(MessageRef::Binary(b"\xff"))),
        ("masked bytes", Role::Server, b"\x82\x81\x01\x02\x03\x04\xfe", Some(MessageRef::Binary(b"\xff"))),
        ("what is not UTF-8", Role::Client, b"\x81\x01\xff", None),
        ("what is not UTF-8, masked", Role::Server, b"\x81\x81\x01\x02\x03\x04\xfe", None),
    ] {
        let mut inbound = Inbound::new(role, Limits::default());
        let mut input = bytes.to_vec();
        let taken = inbound.decode_in_place(&mut input);
        assert_eq!(taken, message.map(|message| (message, bytes.len())), "{case}");
        let copied = Inbound::new(role, Limits::default()).decode_message(&mut &bytes[..]);
        assert_eq!(copied.as_ref().map(MessageRef::from), message, "{case}, copied");
        if message.is_none() {
            assert_eq!(input, bytes, "{case}: the input is as it was");
            assert_eq!(inbound.decode(&mut &input[..]), Err(ProtocolError::InvalidUtf8), "{case}");
        }
    }
}

/// The memory of a message of many small frames is moved seldom.
#[test]
fn the_memory_of_many_fragments_grows_by_doubling() {
    let mut inbound = client();
    assert_eq!(inbound.decode(&mut &b"\x02\x0a0123456789"[..]), Ok(None));
    assert_eq!(inbound.held(), 10, "a first frame that is here gets what it needs");
    let (mut moves, mut held) = (0, inbound.held());
    for _ in 0..10_000 {
        assert_eq!(inbound.decode(&mut &b"\x00\x0a0123456789"[..]), Ok(None));
        moves += u32::from(std::mem::replace(&mut held, inbound.held()) != held);
        assert!(inbound.held() >= held, "it shrank");
        held = inbound.held();
    }
    assert!((10..=18).contains(&moves), "{moves} moves");
    assert!(inbound.held() <= 2 * 100_010, "{} bytes", inbound.held());
    // The last frame needs no room for another.
    let mut inbound = client();
    assert_eq!(inbound.decode(&mut &b"\x02\x0a0123456789"[..]), Ok(None));
    assert_eq!(inbound.decode(&mut &b"\x80\x0a01234"[..]), Ok(None));
    assert_eq!(inbound.held(), 20);
}

#[test]
fn spare_memory_is_used_for_a_payload_that_fits_it() {
    const LEN: usize = 100 * 1024;
    let header = [&[0x82, 127][..], &(LEN as u64).to_be_bytes()].concat();
    for (spare, is_used) in [(LEN, true), (2 * LEN, true), (LEN - 1, false), (2 * LEN + 1, false)] {
        let mut inbound = client();
        let mut spare = Vec::with_capacity(spare);
        let capacity = spare.capacity();
        spare.push(7);
        assert_eq!(inbound.decode_lending(&mut &header[..], &mut spare), Ok(None));
        assert_eq!(spare.capacity() == 0, is_used, "{capacity}");
        assert_eq!(inbound.held(), if is_used { capacity } else { 0 });
        let message = inbound.decode(&mut &vec![1; LEN][..]);
        assert_eq!(message, Ok(Some(Event::Message(Message::binary(vec![1; LEN])))));
    }
    // Little is not worth it, and a message that has begun keeps its own.
    let mut spare = Vec::with_capacity(1024);
    assert_eq!(client().decode_lending(&mut &b"\x82\x7e\x04\x00"[..], &mut spare), Ok(None));
    assert!(spare.capacity() >= 1024);
    let mut inbound = client();
    let mut spare = Vec::with_capacity(LEN);
    assert_eq!(inbound.decode_lending(&mut &b"\x02\x01a"[..], &mut spare), Ok(None));
    let continued = [&[0x80, 127][..], &(LEN as u64).to_be_bytes()].concat();
    assert_eq!(inbound.decode_lending(&mut &continued[..], &mut spare), Ok(None));
    assert!(spare.capacity() >= LEN);
}

#[test]
fn a_close_frame_is_checked() {
    assert_eq!(CloseFrame::new(CloseCode::NORMAL, "bye").check(), Ok(()));
    assert!(CloseFrame::new(CloseCode::ABNORMAL_CLOSURE, "").check().is_err());
    assert!(CloseFrame::new(CloseCode::NORMAL, "a".repeat(124)).check().is_err());
}

#[test]
fn a_violation_inside_of_a_message_is_found_behind_the_shortcut() {
    let mut inbound = client();
    assert_eq!(inbound.decode(&mut &b"\x01\x01a"[..]), Ok(None));
    assert_eq!(inbound.decode(&mut &b"\x81\x01b"[..]), Err(ProtocolError::UnfinishedMessage));
}

#[cfg(feature = "deflate")]
mod deflate {
    use longwire_deflate::{DeflateOptions, Pool, accept};
    use longwire_protocol::{Compress, Compression, Outbound};

    use super::*;

    fn ends() -> (Outbound, Inbound, Compression) {
        let options = DeflateOptions::default();
        let agreement = accept([[("client_max_window_bits", None)]], &options).unwrap();
        let compression = Compression::new(agreement, &options, &Pool::default());
        let (mut outbound, mut inbound) = (Outbound::new(None), client());
        outbound.set_compression(&compression);
        inbound.set_compression(&compression);
        (outbound, inbound, compression)
    }

    fn sent(outbound: &mut Outbound, message: &str) -> Vec<u8> {
        outbound.message_with(message.into(), Compress::Always).unwrap();
        let bytes = outbound.queue().contiguous().expect("a short message").to_vec();
        outbound.written(bytes.len());
        bytes
    }

    #[test]
    fn a_message_that_is_decompressed_in_part_is_told() {
        let (mut outbound, mut inbound, _) = ends();
        let bytes = sent(&mut outbound, &"Hello, ".repeat(100));
        assert!(!inbound.is_inflating());
        assert_eq!(inbound.decode(&mut &bytes[..2]), Ok(None));
        assert!(!inbound.is_inflating(), "nothing was decompressed yet");
        assert_eq!(inbound.decode(&mut &bytes[2..bytes.len() - 2]), Ok(None));
        assert!(inbound.is_inflating());
        assert_eq!((inbound.frame_left(), inbound.payload_left()), (2, 0), "it is not read into its memory");
        assert!(inbound.decode(&mut &bytes[bytes.len() - 2..]).is_ok_and(|event| event.is_some()));
        assert!(!inbound.is_inflating());
        let mut plain = client();
        assert_eq!(plain.decode(&mut &TEN_BYTES[..]), Ok(None));
        assert!(!plain.is_inflating(), "of an uncompressed message");
        let (mut outbound, mut inbound, _) = ends();
        let bytes = sent(&mut outbound, &"Hello, ".repeat(100));
        assert_eq!(inbound.decode(&mut &bytes[..bytes.len() - 2]), Ok(None));
        inbound.set_parts(true);
        assert!(!inbound.is_inflating(), "pieces are handed out as they come");
    }

    #[test]
    fn a_message_that_would_be_compressed_is_not_gathered() {
        let (mut outbound, _, _) = ends();
        for (len, is_gathered) in [(1023, true), (1024, false)] {
            assert_eq!(outbound.gather_message(&Message::text("a".repeat(len))), is_gathered, "{len}");
        }
    }

    #[test]
    fn the_shortcut_does_not_take_a_compressed_message() {
        let (mut outbound, mut inbound, _) = ends();
        let noise: String =
            (0..4000_u32).filter_map(|n| char::from_digit(n.wrapping_mul(2_654_435_761) >> 28, 16)).collect();
        let bytes = sent(&mut outbound, &noise);
        assert_eq!((bytes[0], bytes[1]), (0xc1, 126), "its length is in 16 bits");
        let mut input = &bytes[..];
        assert_eq!(inbound.decode_message(&mut input), None);
        assert_eq!(inbound.decode_in_place(&mut bytes.clone()), None);
        assert_eq!(inbound.decode(&mut input), Ok(Some(Event::Message(noise.into()))));
    }

    #[test]
    fn what_was_compressed_is_counted_at_both_ends() {
        let (mut outbound, mut inbound, _) = ends();
        let mut wire = 0;
        for message in ["Hello, Hello, Hello", "Hello, Hello, Hello, Hello"] {
            let bytes = sent(&mut outbound, message);
            wire += bytes.len() as u64 - 2;
            assert_eq!(inbound.decode(&mut &bytes[..]), Ok(Some(Event::Message(message.into()))));
        }
        for stats in [outbound.compression_stats(), inbound.compression_stats()] {
            assert_eq!((stats.messages, stats.payload_bytes, stats.wire_bytes), (2, 45, wire));
        }
    }

    #[test]
    fn contexts_are_kept_until_they_are_given_back() {
        let (mut outbound, mut inbound, compression) = ends();
        let idle = || (compression.pool().idle_compressors(), compression.pool().idle_decompressors());
        let first = sent(&mut outbound, "Hello, Hello, Hello");
        assert!(inbound.decode(&mut &first[..]).is_ok());
        assert!(outbound.keeps_compressor() && inbound.keeps_decompressor());
        assert_eq!(idle(), (0, 0));
        outbound.park();
        inbound.park();
        assert!(!outbound.keeps_compressor() && !inbound.keeps_decompressor());
        assert_eq!(idle(), (1, 1));
        // The next message refers to the one before.
        let second = sent(&mut outbound, "Hello, Hello, Hello");
        assert!(second.len() < first.len(), "{} and {} bytes", first.len(), second.len());
        assert!(matches!(inbound.decode(&mut &second[..]), Ok(Some(Event::Message(_)))));
        assert!(outbound.keeps_compressor());
        outbound.abandon();
        assert!(!outbound.keeps_compressor());
    }

    #[test]
    fn an_uncompressed_message_does_not_hold_the_decompressor() {
        let (mut outbound, mut inbound, _) = ends();
        assert!(inbound.decode(&mut &sent(&mut outbound, "Hello, Hello, Hello")[..]).is_ok());
        assert!(inbound.keeps_decompressor());
        assert_eq!(inbound.decode(&mut &b"\x01\x01a"[..]), Ok(None));
        assert!(inbound.held() < 100, "{}", inbound.held());
    }
}
