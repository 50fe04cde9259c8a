//! Messages from an application's values: the kind of each message, and whether its bytes are shared or copied.

use bytes::Bytes;
use longwire_protocol::{Message, Outbound, Text};

#[test]
fn text_is_what_is_text_in_rust_and_everything_else_is_binary() {
    let rows: [(&str, Message, u8); 9] = [
        ("&str", "hello".into(), 0x81),
        ("String", String::from("hello").into(), 0x81),
        ("Text", Text::from_static("hello").into(), 0x81),
        ("text", Message::text("hello"), 0x81),
        ("Vec<u8>", b"hello".to_vec().into(), 0x82),
        ("&[u8]", b"hello"[..].into(), 0x82),
        ("Bytes", Bytes::from_static(b"hello").into(), 0x82),
        ("binary", Message::binary("hello"), 0x82),
        ("floats", Message::binary([0.5_f32, -2.0].map(f32::to_le_bytes).concat()), 0x82),
    ];
    for (case, message, first) in rows {
        assert_eq!(message.is_text(), first == 0x81, "{case}");
        assert_ne!(message.is_text(), message.is_binary(), "{case}");
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
