//! Messages from an application's values: the kind of each message, and whether its bytes are shared or copied.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use longwire_protocol::{Message, MessageRef, Outbound, PreparedMessage, Text};

#[test]
fn text_is_what_is_text_in_rust_and_everything_else_is_binary() {
    let rows: [(&str, Message, u8); 20] = [
        ("&str", "hello".into(), 0x81),
        ("String", String::from("hello").into(), 0x81),
        ("Text", Text::from_static("hello").into(), 0x81),
        ("&String", (&String::from("hello")).into(), 0x81),
        ("Box<str>", Box::<str>::from("hello").into(), 0x81),
        ("Arc<str>", Arc::<str>::from("hello").into(), 0x81),
        ("borrowed Cow<str>", Cow::Borrowed("hello").into(), 0x81),
        ("owned Cow<str>", Cow::<str>::Owned("hello".into()).into(), 0x81),
        ("text", Message::text("hello"), 0x81),
        ("lent text", MessageRef::from("hello").into(), 0x81),
        ("Vec<u8>", b"hello".to_vec().into(), 0x82),
        ("&[u8]", b"hello"[..].into(), 0x82),
        ("&Vec<u8>", (&b"hello".to_vec()).into(), 0x82),
        ("[u8; 5]", (*b"hello").into(), 0x82),
        ("Cow<[u8]>", Cow::Borrowed(&b"hello"[..]).into(), 0x82),
        ("Arc<[u8]>", Arc::<[u8]>::from(&b"hello"[..]).into(), 0x82),
        ("lent [u8; 5]", MessageRef::from(b"hello").into(), 0x82),
        ("Bytes", Bytes::from_static(b"hello").into(), 0x82),
        ("binary", Message::binary("hello"), 0x82),
        ("floats", Message::binary([0.5_f32, -2.0].map(f32::to_le_bytes).concat()), 0x82),
    ];
    for (case, message, first) in rows {
        assert_eq!(message.is_text(), first == 0x81, "{case}");
        assert_ne!(message.is_text(), message.is_binary(), "{case}");
        assert!(!message.is_empty(), "{case}");
        let lent = MessageRef::from(&message);
        assert_eq!((lent.is_text(), lent.is_binary()), (message.is_text(), message.is_binary()), "{case}");
        assert!(!lent.is_empty(), "{case}");
        assert_eq!(PreparedMessage::new(message.clone()).is_text(), message.is_text(), "{case}");
        let payload = if case == "floats" { b"\0\0\0\x3f\0\0\0\xc0".to_vec() } else { b"hello".to_vec() };
        let mut outbound = Outbound::new(None);
        outbound.message(message).unwrap();
        let len = u8::try_from(payload.len()).unwrap();
        assert_eq!(outbound.queue().contiguous().unwrap(), [&[first, len][..], &payload].concat(), "{case}");
    }
    for number in [0.1, -1e300] {
        let text: Message = number.to_string().into();
        assert_eq!(text.as_text().unwrap().parse(), Ok(number));
    }
}

#[test]
fn a_message_without_payload_is_empty() {
    for message in [Message::text(""), Message::binary(""), Text::new().into()] {
        assert!(message.is_empty() && MessageRef::from(&message).is_empty(), "{message:?}");
    }
}

#[test]
fn text_is_compared_and_converted_as_its_str() {
    let [before, text, after] = ["a", "b", "c"].map(Text::from);
    let [same, other] = ["b", "c"].map(String::from);
    assert!(text == *"b" && text == "b" && text == same);
    assert!(text != *"c" && text != "c" && text != other);
    let sorted: Vec<_> =
        BTreeSet::from(["c", "a", "b"].map(Text::from)).into_iter().map(String::from).collect();
    assert_eq!(sorted, ["a", "b", "c"]);
    assert!(before < text && text < after);
    assert_eq!(AsRef::<str>::as_ref(&text), "b");
    assert_eq!(AsRef::<[u8]>::as_ref(&text), b"b");
    assert_eq!(Bytes::from(text), Bytes::from_static(b"b"));
}

#[cfg(feature = "deflate")]
mod compressed {
    use longwire_deflate::{DeflateOptions, Pool, WindowBits, accept};
    use longwire_protocol::{Compression, PreparedMessage};

    use super::*;

    fn outbound(bits: u8, pool: &Pool) -> Outbound {
        let mut options = DeflateOptions::default();
        options.server_max_window_bits = WindowBits::new(bits).unwrap();
        let agreement = accept([[("client_max_window_bits", None)]], &options).unwrap();
        let mut outbound = Outbound::new(None);
        outbound.set_compression(&Compression::new(agreement, &options, pool));
        outbound
    }

    /// Returns the address and the length of the longest queued piece.
    fn piece(outbound: &Outbound) -> (*const u8, usize) {
        let mut slices = [std::io::IoSlice::new(&[]); 4];
        let filled = outbound.queue().chunks(&mut slices);
        let longest = slices[..filled].iter().max_by_key(|slice| slice.len()).unwrap();
        (longest.as_ptr(), longest.len())
    }

    #[test]
    fn a_prepared_message_is_compressed_once_for_each_window() {
        // Half of the payload is noise, so that it stays long enough to be shared and not copied.
        let mut x = 1_u32;
        let mut noise = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            x.to_be_bytes()[0]
        };
        let mixed: Vec<u8> = (0..200_000).map(|n| if n % 400 < 200 { noise() } else { 0 }).collect();
        let prepared = PreparedMessage::new(mixed);
        let pool = Pool::default();
        let send = |bits| {
            let mut outbound = outbound(bits, &pool);
            outbound.prepared(&prepared).unwrap();
            outbound
        };
        let [one, other, small] = [15, 15, 10].map(send);
        assert!(piece(&one).1 < 150_000, "it is compressed");
        assert_eq!(piece(&one), piece(&other), "the same bytes in memory");
        assert_ne!(piece(&one).0, piece(&small).0, "a smaller window has its own");
        let mut plain = Outbound::new(None);
        plain.prepared(&prepared).unwrap();
        assert!(piece(&plain).1 >= 200_000, "and who did not agree on compression gets it as it is");
    }
}
