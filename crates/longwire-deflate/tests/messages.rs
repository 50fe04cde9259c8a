//! The RFC's example messages, invalid message ends, and the state kept between messages.

use hex_literal::hex;
use longwire_deflate::{Deflater, Direction, InflateError, Inflater, Level, Pool, PoolOptions, WindowBits};

const TAKEOVER: Direction = Direction { window_bits: WindowBits::MAX, context_takeover: true };
const NO_TAKEOVER: Direction = Direction { window_bits: WindowBits::MAX, context_takeover: false };

/// Decompresses messages one after the other, each byte by byte.
fn read(direction: Direction, messages: &[&[u8]]) -> Result<Vec<Vec<u8>>, InflateError> {
    let mut inflater = Inflater::new(&Pool::default(), direction);
    let read_one = |message: &&[u8]| {
        let mut out = Vec::new();
        for byte in message.chunks(1) {
            inflater.inflate(&mut &*byte, &mut out, 1000)?;
        }
        inflater.finish().map(|()| out)
    };
    messages.iter().map(read_one).collect()
}

#[test]
fn reads_the_messages_of_the_rfc() {
    for (case, message) in [
        ("§7.2.3.1 one block", &hex!("f2 48 cd c9 c9 07 00")[..]),
        ("§7.2.3.3 no compression", &hex!("00 05 00 fa ff 48 65 6c 6c 6f 00")),
        ("§7.2.3.4 BFINAL", &hex!("f3 48 cd c9 c9 07 00 00")),
        ("§7.2.3.4 BFINAL, and nothing behind it", &hex!("f3 48 cd c9 c9 07 00")),
        ("§7.2.1, an empty block with BFINAL at the end", &hex!("f2 48 cd c9 c9 07 00 00 00 ff ff 01")),
        ("§7.2.3.5 two blocks", &hex!("f2 48 05 00 00 00 ff ff ca c9 c9 07 00")),
    ] {
        for direction in [TAKEOVER, NO_TAKEOVER] {
            let twice = read(direction, &[message, message]);
            assert_eq!(twice, Ok(vec![b"Hello".to_vec(); 2]), "{case} {direction:?}");
        }
    }
}

#[test]
fn a_message_may_refer_to_the_one_before_only_with_takeover() {
    // RFC 7692 §7.2.3.2
    let messages = [&hex!("f2 48 cd c9 c9 07 00")[..], &hex!("f2 00 11 00 00")];
    assert_eq!(read(TAKEOVER, &messages), Ok(vec![b"Hello".to_vec(); 2]));
    assert_eq!(read(NO_TAKEOVER, &messages), Err(InflateError::Data));
}

#[test]
fn an_empty_message_is_one_byte_on_any_context() {
    // RFC 7692 §7.2.3.6
    for direction in [TAKEOVER, NO_TAKEOVER] {
        let pool = Pool::default();
        let mut deflater = Deflater::new(&pool, direction, Level::FASTEST).unwrap();
        let messages: [&[u8]; 5] = [b"", b"Hello", b"", b"", b"Hello"];
        let wire = messages.map(|message| {
            let mut out = Vec::new();
            deflater.compress(message, &mut out);
            if message.is_empty() {
                assert_eq!(out, [0x00]);
            }
            out
        });
        let wire = wire.each_ref().map(Vec::as_slice);
        assert_eq!(read(direction, &wire), Ok(messages.map(<[u8]>::to_vec).to_vec()));
    }
    assert_eq!(read(TAKEOVER, &[b""]), Ok(vec![vec![]]), "no payload at all");
}

#[test]
fn a_final_block_does_not_end_the_window() {
    // "Hello" with BFINAL, then §7.2.3.2's reference to it: in the next message, and in the same one.
    let (hello, again) = (hex!("f3 48 cd c9 c9 07 00 00"), hex!("f2 00 11 00 00"));
    assert_eq!(read(TAKEOVER, &[&hello, &again, &again]), Ok(vec![b"Hello".to_vec(); 3]));
    let both = [&hello[..7], &again].concat();
    assert_eq!(read(TAKEOVER, &[&both, &again]), Ok(vec![b"HelloHello".to_vec(), b"Hello".to_vec()]));
    assert_eq!(read(NO_TAKEOVER, &[&both]), Err(InflateError::Data));
}

#[test]
fn a_message_that_ends_within_a_block_is_an_error() {
    for message in [
        &hex!("f2 48 cd c9 c9 07 00")[..],
        &hex!("00 05 00 fa ff 48 65 6c 6c 6f 00"),
        &hex!("f3 48 cd c9 c9 07 00 00"),
        &hex!("f3 48 cd c9 c9 07 00 f2 48 cd c9 c9 07 00"),
    ] {
        for len in 1..message.len() {
            // The second message cut to 1 byte is an empty message; the others cut to 7 are the whole block with
            // BFINAL.
            let complete = (len == 1 && message[0] == 0x00) || (len == 7 && message[0] == 0xf3);
            let read = read(TAKEOVER, &[&message[..len]]);
            assert_eq!(read.is_err(), !complete, "{len} of {message:02x?}: {read:?}");
        }
    }
}

/// A sender must remove the four bytes (RFC 7692 §7.2.1). Some do not, and the meaning is unambiguous.
#[test]
fn a_message_may_keep_the_end_that_its_sender_should_have_removed() {
    let again = hex!("f2 00 11 00 00");
    for message in [
        &hex!("f2 48 cd c9 c9 07 00")[..],
        &hex!("00 05 00 fa ff 48 65 6c 6c 6f 00"),
        &hex!("f3 48 cd c9 c9 07 00 00"),
        &hex!("f2 48 cd c9 c9 07 00 00 00 ff ff 01"),
    ] {
        let with_tail = [message, &hex!("00 00 ff ff")].concat();
        for direction in [TAKEOVER, NO_TAKEOVER] {
            let read = read(direction, &[&with_tail, message, &with_tail]);
            assert_eq!(read, Ok(vec![b"Hello".to_vec(); 3]), "{message:02x?} {direction:?}");
        }
        let read = read(TAKEOVER, &[&with_tail, &again, &again, &with_tail]);
        assert_eq!(read, Ok(vec![b"Hello".to_vec(); 4]), "the window lives on: {message:02x?}");
    }
    let read_one = |message: &[u8]| read(TAKEOVER, &[message]).map(|mut messages| messages.remove(0));
    let tail = hex!("00 00 ff ff");
    assert_eq!(read_one(&[&[0][..], &tail].concat()), Ok(vec![]), "of an empty message");
    assert_eq!(read_one(&hex!("00 04 00 fb ff 00 00 ff ff")), Ok(tail.to_vec()), "as the data of a block");
    // A code of 15 ones ends the block within the last two bytes.
    let left_over = hex!(
        "04 e0 81 92 24 49 92 24 c9 7e 1b 12 8b"
        "9a 47 56 cf de fb ff bf 79 00 00 00 ff ff"
    );
    for (case, message) in [
        ("within a stored block", &hex!("00 09 00 f6 ff 00 00 ff ff")[..]),
        ("as a length", &hex!("00 00 ff ff")),
        ("within a fixed code", &hex!("f2 48 00 00 ff ff")),
        ("among the lengths of codes", &hex!("04 00 00 ff ff")),
        ("with a bit left over, which begins a block", &left_over),
    ] {
        let read = read_one(message);
        assert!(matches!(read, Err(InflateError::Truncated | InflateError::Data)), "{case}: {read:?}");
    }
}

#[test]
fn what_is_appended_to_a_message_is_not_part_of_it() {
    for (case, message) in [
        ("four bytes missing", &hex!("00 04 00 fb ff")[..]),
        ("four bytes missing from a block with BFINAL", &hex!("01 04 00 fb ff")),
        ("nine bytes missing", &hex!("01 09 00 f6 ff")),
        ("as many missing as an empty block and the end have", &hex!("00 09 00 f6 ff")),
        ("as many as four of them and the end have", &hex!("00 18 00 e7 ff")),
        ("within a fixed code", &hex!("f2 48")),
        ("among the lengths of codes", &hex!("04 04")),
        ("among them, at their beginning", &hex!("04 00")),
    ] {
        for direction in [TAKEOVER, NO_TAKEOVER] {
            assert_eq!(read(direction, &[message]), Err(InflateError::Truncated), "{case}");
        }
    }
}

#[test]
fn what_is_no_deflate_data_is_an_error() {
    for (case, message) in [
        ("block type 3", &hex!("06 00")[..]),
        ("stored length without its complement", &hex!("00 05 00 05 00")),
        ("distance before the start", &hex!("f2 00 11 00 00")),
        ("code lengths that are too many", &hex!("04 ff ff ff ff ff")),
        ("behind a final block", &hex!("03 00 06 00")),
    ] {
        assert_eq!(read(NO_TAKEOVER, &[message]), Err(InflateError::Data), "{case}");
    }
}

#[test]
fn an_inflater_starts_over_after_an_error() {
    let pool = Pool::default();
    let mut inflater = Inflater::new(&pool, TAKEOVER);
    let mut out = Vec::new();
    for _ in 0..2 {
        inflater.inflate(&mut &hex!("f2 48 cd c9 c9 07 00")[..], &mut out, 100).unwrap();
        inflater.finish().unwrap();
        let mut input = &hex!("06")[..];
        assert_eq!(inflater.inflate(&mut input, &mut out, 100), Err(InflateError::Data));
        assert_eq!(inflater.window_memory(), 0);
        assert_eq!(inflater.finish(), Ok(()));
        let mut input = &hex!("f2 00 11 00 00")[..];
        assert_eq!(inflater.inflate(&mut input, &mut out, 100), Err(InflateError::Data));
    }
}

#[test]
fn a_message_is_too_big_with_its_first_byte_too_much() {
    let message = hex!("f2 48 cd c9 c9 07 00");
    for (room, capacity) in [(0, 0), (0, 100), (4, 0), (4, 4), (4, 100)] {
        let mut inflater = Inflater::new(&Pool::default(), TAKEOVER);
        let mut out = Vec::with_capacity(capacity);
        let result = inflater.inflate(&mut &message[..], &mut out, room);
        assert_eq!(result, Err(InflateError::TooBig { room }), "room {room}, capacity {capacity}");
        assert_eq!(out, &b"Hello"[..room]);
    }
    for capacity in [0, 5, 100] {
        let mut inflater = Inflater::new(&Pool::default(), TAKEOVER);
        let mut out = Vec::with_capacity(capacity);
        out.extend_from_slice(&b"....."[..capacity.min(5)]);
        inflater.inflate(&mut &message[..], &mut out, 5).unwrap();
        inflater.finish().unwrap();
        assert_eq!(out.len(), capacity.min(5) + 5);
    }
    // An empty message needs no space.
    let mut inflater = Inflater::new(&Pool::default(), TAKEOVER);
    inflater.inflate(&mut &[0][..], &mut Vec::new(), 0).unwrap();
    inflater.finish().unwrap();
}

#[test]
fn final_blocks_are_paid_for_with_bytes() {
    // Two bytes encode an empty block with BFINAL; each one makes the inflater read its window again.
    let finals = |count: usize| hex!("03 00").repeat(count);
    // 32, and one more for each 32 bytes: 34 of them have 68 bytes, and so have paid for themselves. 35 have 70.
    assert_eq!(read(TAKEOVER, &[&finals(34)]), Ok(vec![vec![]]));
    assert_eq!(read(TAKEOVER, &[&finals(35)]), Err(InflateError::TooManyFinals));
    // This sender ends each of its frames with such a block.
    let frame = [&hex!("01 20 00 df ff")[..], &[b'x'; 32]].concat();
    assert_eq!(read(TAKEOVER, &[&frame.repeat(20)]), Ok(vec![vec![b'x'; 640]]));
    let mut inflater = Inflater::new(&Pool::default(), TAKEOVER);
    inflater.inflate(&mut &*frame.repeat(2000), &mut Vec::new(), 64_000).unwrap();
}

#[test]
fn what_does_not_shrink_comes_whole() {
    let mut x = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        x.to_le_bytes()[3]
    })
    .take(400_000)
    .collect();
    for level in [1, 3, 6, 9] {
        let pool = Pool::default();
        let mut deflater = Deflater::new(&pool, TAKEOVER, Level::new(level).unwrap()).unwrap();
        let mut inflater = Inflater::new(&pool, TAKEOVER);
        for len in [1, 100, 60_000, 65_000, 65_536, 70_000, 130_000, 400_000] {
            // The capacities range from none to enough for everything.
            for capacity in [0, len, 2 * len] {
                let mut wire = Vec::with_capacity(capacity);
                deflater.compress(&noise[..len], &mut wire);
                let mut out = Vec::new();
                inflater.inflate(&mut &*wire, &mut out, len).unwrap();
                inflater.finish().unwrap();
                assert!(out == noise[..len], "{len} bytes at level {level}");
            }
        }
    }
}

#[test]
fn eight_bits_cannot_be_sent_but_read() {
    let window_bits = WindowBits::MIN;
    for context_takeover in [true, false] {
        let direction = Direction { window_bits, context_takeover };
        assert!(Deflater::new(&Pool::default(), direction, Level::FASTEST).is_none());
        let message = hex!("f2 48 cd c9 c9 07 00");
        assert_eq!(read(direction, &[&message]), Ok(vec![b"Hello".to_vec()]));
    }
    let direction = Direction { window_bits, context_takeover: true };
    let mut inflater = Inflater::new(&Pool::default(), direction);
    let stored = [&hex!("00 00 04 ff fb")[..], &[7; 1024], &[0]].concat();
    inflater.inflate(&mut &*stored, &mut Vec::new(), 1024).unwrap();
    assert_eq!(inflater.window_memory(), 256);
}

#[test]
fn contexts_are_held_no_longer_than_needed() {
    let pool = Pool::default();
    let mut deflaters: Vec<_> =
        [TAKEOVER, NO_TAKEOVER].map(|of| Deflater::new(&pool, of, Level::FASTEST).unwrap()).into();
    let idle = || (pool.idle_compressors(), pool.idle_decompressors());
    let mut out = Vec::new();
    deflaters[1].compress(b"Hello", &mut out);
    assert_eq!(idle(), (1, 0), "without takeover, a message");
    deflaters[1].compress_part(b"Hel", &mut out);
    deflaters[1].park();
    assert_eq!(idle(), (0, 0), "not in the midst of one");
    deflaters[1].compress(b"", &mut out);
    assert_eq!(idle(), (1, 0));
    deflaters[0].compress(b"Hello", &mut out);
    assert_eq!((idle(), deflaters[0].window_memory() >= 5), ((0, 0), true), "with takeover, until parked");
    deflaters[0].park();
    assert_eq!((idle(), deflaters[0].window_memory()), ((1, 0), 5));
    deflaters[0].note(b"Hello");
    deflaters[0].compress(b"Hello", &mut out);
    deflaters.clear();
    assert_eq!(idle(), (1, 0), "or dropped");

    let mut inflater = Inflater::new(&pool, TAKEOVER);
    inflater.inflate(&mut &[][..], &mut out, 100).unwrap();
    inflater.inflate(&mut &hex!("f2 48 cd c9")[..], &mut out, 100).unwrap();
    assert_eq!(idle(), (1, 0));
    inflater.inflate(&mut &hex!("c9 07 00")[..], &mut out, 100).unwrap();
    assert!(!inflater.is_parked());
    inflater.park();
    assert_eq!(idle(), (1, 0), "not in the midst of a message");
    inflater.finish().unwrap();
    assert_eq!((idle(), inflater.is_parked()), ((1, 0), false), "with takeover, until parked");
    inflater.park();
    assert_eq!((idle(), inflater.is_parked(), inflater.window_memory()), ((1, 1), true, 5));
    inflater.inflate(&mut &hex!("f2 00")[..], &mut out, 100).unwrap();
    assert_eq!(idle(), (1, 0));
    drop(inflater);
    assert_eq!(idle(), (1, 1), "or dropped");
    let mut inflater = Inflater::new(&pool, NO_TAKEOVER);
    inflater.inflate(&mut &hex!("f2 48 cd c9 c9 07 00")[..], &mut out, 100).unwrap();
    assert_eq!(idle(), (1, 0));
    inflater.finish().unwrap();
    assert_eq!((idle(), inflater.is_parked()), ((1, 1), true), "without takeover, a message");
}

#[test]
fn only_as_many_decompressors_are_kept_as_the_pool_allows() {
    let mut options = PoolOptions::default();
    options.kept_decompressors = 1;
    let pool = Pool::new(options);
    let hello = |inflater: &mut Inflater, bytes: &[u8]| {
        inflater.inflate(&mut &*bytes, &mut Vec::new(), 100)?;
        inflater.finish().map(|()| inflater.is_parked())
    };
    let whole = hex!("f2 48 cd c9 c9 07 00");
    let mut inflaters = [(); 3].map(|()| Inflater::new(&pool, TAKEOVER));
    assert_eq!(hello(&mut inflaters[0], &whole), Ok(false));
    assert_eq!(hello(&mut inflaters[1], &whole), Ok(true), "one keeps its own already");
    assert_eq!(hello(&mut inflaters[0], &hex!("f2 00 11 00 00")), Ok(false), "and goes on with it");
    assert_eq!(hello(&mut inflaters[1], &hex!("f2 00 11 00 00")), Ok(true), "the other reads its window");
    inflaters[0].park();
    assert_eq!(hello(&mut inflaters[1], &whole), Ok(false), "until that one is parked");
    assert_eq!(
        hello(&mut inflaters[1], &hex!("f3 48 cd c9 c9 07 00")),
        Ok(true),
        "or has come to a final block"
    );
    assert_eq!(hello(&mut inflaters[2], &whole), Ok(false));
    assert_eq!(hello(&mut inflaters[2], &hex!("ff")), Err(InflateError::Data));
    assert_eq!(hello(&mut inflaters[1], &whole), Ok(false), "or has failed");
    drop(inflaters);
    assert_eq!(hello(&mut Inflater::new(&pool, TAKEOVER), &whole), Ok(false), "or is dropped");
}

#[test]
fn only_as_many_compressors_are_kept_as_the_pool_allows() {
    let pool = Pool::new(PoolOptions::default().with_kept_compressors(1));
    let mut deflaters = [(); 3].map(|()| Deflater::new(&pool, TAKEOVER, Level::FASTEST).unwrap());
    let hello = |deflater: &mut Deflater| {
        deflater.compress(b"Hello", &mut Vec::new());
        deflater.is_parked()
    };
    assert!(!hello(&mut deflaters[0]));
    assert!(hello(&mut deflaters[1]), "one keeps its own already");
    assert!(!hello(&mut deflaters[0]), "and continues with it");
    assert_eq!(pool.idle_compressors(), 1);
    deflaters[0].park();
    assert!(!hello(&mut deflaters[1]), "until that one is parked");
    deflaters[1].forget();
    assert!(!hello(&mut deflaters[2]), "or starts over");
    deflaters[2].note(b"Hello");
    assert!(!hello(&mut deflaters[0]), "or its message comes from elsewhere");
    drop(deflaters);
    let mut last = Deflater::new(&pool, TAKEOVER, Level::FASTEST).unwrap();
    last.compress(b"", &mut Vec::new());
    let mut other = Deflater::new(&pool, TAKEOVER, Level::FASTEST).unwrap();
    assert!(!hello(&mut other), "or is dropped; an empty message needs none");
}

/// Connections that take turns use the same contexts again and again, however many they are.
#[test]
fn contexts_in_turn_are_as_many_as_allowed_and_one() {
    let options = PoolOptions::default();
    let pool = Pool::new(options);
    let mut ends: Vec<_> = (0..100)
        .map(|_| (Deflater::new(&pool, TAKEOVER, Level::FASTEST).unwrap(), Inflater::new(&pool, TAKEOVER)))
        .collect();
    for round in 0..5 {
        for (number, (deflater, inflater)) in ends.iter_mut().enumerate() {
            let message = format!("message {round} to {number}").repeat(50);
            let mut wire = Vec::new();
            deflater.compress(message.as_bytes(), &mut wire);
            let mut read = Vec::new();
            inflater.inflate(&mut &*wire, &mut read, 10_000).unwrap();
            inflater.finish().unwrap();
            assert_eq!(read, message.as_bytes());
        }
        let kept = |is_parked: &dyn Fn(&(Deflater, Inflater)) -> bool| {
            ends.iter().filter(|ends| !is_parked(ends)).count()
        };
        assert_eq!(kept(&|(deflater, _)| deflater.is_parked()), options.kept_compressors);
        assert_eq!(kept(&|(_, inflater)| inflater.is_parked()), options.kept_decompressors);
        assert_eq!((pool.idle_compressors(), pool.idle_decompressors()), (1, 1));
    }
}

#[test]
fn a_deflater_keeps_the_end_of_its_window_in_proportion_to_its_level() {
    let message = noise(1000);
    for (level, bits, kept) in [(1, 15, 4096), (2, 15, 8192), (7, 15, 28_672), (9, 15, 32_768), (1, 10, 1024)]
    {
        let pool = Pool::new(PoolOptions::default().with_kept_compressors(0));
        let of = Direction { window_bits: WindowBits::new(bits).unwrap(), context_takeover: true };
        let mut deflater = Deflater::new(&pool, of, Level::new(level).unwrap()).unwrap();
        let mut inflater = Inflater::new(&pool, of);
        let mut send = |plain: &[u8]| {
            let mut wire = Vec::new();
            deflater.compress(plain, &mut wire);
            let mut read = Vec::new();
            inflater.inflate(&mut &*wire, &mut read, plain.len()).unwrap();
            inflater.finish().unwrap();
            assert!(read == plain);
            (wire.len(), deflater.window_memory())
        };
        send(&message[..100]);
        send(&vec![b' '; kept - 400]);
        assert!(send(&message[..100]).0 < 60, "level {level}, {bits} bits: it is still kept");
        assert!(send(&vec![b' '; kept]).1 <= kept, "level {level}, {bits} bits");
        assert!(send(&message[..100]).0 > 90, "level {level}, {bits} bits: it is not kept");
    }
}

#[test]
fn short_messages_are_kept_in_proportion_to_the_level_too() {
    let message = noise(100);
    for (level, kept) in [(1, 4096), (2, 8192), (4, 16_384)] {
        let pool = Pool::new(PoolOptions::default().with_kept_compressors(0));
        let mut deflater = Deflater::new(&pool, TAKEOVER, Level::new(level).unwrap()).unwrap();
        let mut send = |plain: &[u8]| {
            let mut wire = Vec::new();
            deflater.compress(plain, &mut wire);
            wire.len()
        };
        for (between, is_kept) in [(kept - 300, true), (kept + 200, false)] {
            send(&message);
            for _ in 0..between / 100 {
                send(&[b' '; 100]);
            }
            assert_eq!(send(&message) < 60, is_kept, "level {level}, {between} bytes between");
        }
    }
}

#[test]
fn the_end_of_a_flush_is_not_sent() {
    // "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end." (RFC 7692 §7.2.1)
    for level in 1..=9 {
        let mut deflater = Deflater::new(&Pool::default(), TAKEOVER, Level::new(level).unwrap()).unwrap();
        for message in [&b"Hello"[..], b"Hello", &noise(1000)] {
            let mut wire = Vec::new();
            deflater.compress(message, &mut wire);
            assert!(!wire.ends_with(&hex!("00 00 ff ff")), "level {level}: {wire:02x?}");
        }
    }
}

#[test]
fn a_compressed_message_takes_little_more_memory_than_its_plaintext() {
    let message = noise(1000);
    let mut deflater = Deflater::new(&Pool::default(), TAKEOVER, Level::FASTEST).unwrap();
    let mut wire = Vec::new();
    deflater.compress(&message, &mut wire);
    assert!(wire.len() > 1040, "nearly nine bits for each byte: {}", wire.len());
    // Nine bits for each byte, and some: it has not grown on the way, which would double it.
    assert!(wire.capacity() <= 1000 + 1000 / 8 + 32, "{} bytes", wire.capacity());
}

#[test]
fn their_debug_form_tells_what_they_hold() {
    let pool = Pool::default();
    let mut deflater = Deflater::new(&pool, TAKEOVER, Level::FASTEST).unwrap();
    deflater.note(b"Hello");
    deflater.park();
    let shown = format!("{deflater:?}");
    assert!(shown.contains("parked: true, window_memory: 5"), "{shown}");
    let mut inflater = Inflater::new(&pool, TAKEOVER);
    inflater.inflate(&mut &hex!("f2 48")[..], &mut Vec::new(), 100).unwrap();
    let shown = format!("{inflater:?}");
    assert!(shown.contains("within_message: true, window_memory: "), "{shown}");
    let shown = format!("{pool:?}");
    assert!(shown.contains("kept_decompressors: 64"), "{shown}");
}

fn noise(len: usize) -> Vec<u8> {
    let mut x = 7_u32;
    let next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        x.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn a_context_tells_nothing_of_whoever_had_it_before() {
    let pool = Pool::default();
    let hello = hex!("f2 48 cd c9 c9 07 00");
    let given_up = |len: usize| {
        let mut inflater = Inflater::new(&pool, TAKEOVER);
        inflater.inflate(&mut &hello[..len], &mut Vec::new(), 100).unwrap();
        let mut deflater = Deflater::new(&pool, TAKEOVER, Level::FASTEST).unwrap();
        deflater.compress_part(&b"Hello, Hello, Hello"[..len], &mut Vec::new());
    };
    for len in 1..=hello.len() {
        given_up(len);
        assert_eq!((pool.idle_compressors(), pool.idle_decompressors()), (1, 1));
        let mut inflater = Inflater::new(&pool, TAKEOVER);
        let mut out = Vec::new();
        inflater.inflate(&mut &hello[..], &mut out, 100).unwrap();
        inflater.finish().unwrap();
        assert_eq!(out, b"Hello");
        drop(inflater);
        let mut inflater = Inflater::new(&pool, TAKEOVER);
        let refers_back = inflater.inflate(&mut &hex!("f2 00 11 00 00")[..], &mut out, 100);
        assert_eq!(refers_back, Err(InflateError::Data), "what another connection has read");

        given_up(len);
        let mut deflater = Deflater::new(&pool, TAKEOVER, Level::FASTEST).unwrap();
        let mut wire = Vec::new();
        deflater.compress(b"Hello, Hello, Hello", &mut wire);
        assert_eq!(read(NO_TAKEOVER, &[&wire]), Ok(vec![b"Hello, Hello, Hello".to_vec()]));
    }
}

#[test]
fn a_long_message_is_found_again_after_parking() {
    let pool = Pool::default();
    let mut deflater = Deflater::new(&pool, TAKEOVER, Level::FASTEST).unwrap();
    // Nothing in it repeats.
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let snapshot: Vec<u8> = (0..20_000).map(|_| next()).collect();
    let mut wire = Vec::new();
    for round in 0..3 {
        wire.clear();
        // In parts, which are one message.
        deflater.compress_part(&snapshot[..9000], &mut wire);
        deflater.compress(&snapshot[9000..], &mut wire);
        assert_eq!(wire.len() < 1000, round > 0, "round {round}: {} bytes", wire.len());
        deflater.park();
        assert!((20_000..=20_480).contains(&deflater.window_memory()), "round {round}");
    }
    // If it does not come again, it is forgotten little by little.
    for _ in 0..8 {
        deflater.compress(b"short", &mut wire);
        deflater.park();
    }
    assert!(deflater.window_memory() <= 4096, "{}", deflater.window_memory());
}

#[test]
fn both_halves_are_small_until_used() {
    assert!(size_of::<Deflater>() <= 64, "{}", size_of::<Deflater>());
    assert!(size_of::<Inflater>() <= 88, "{}", size_of::<Inflater>());
}
