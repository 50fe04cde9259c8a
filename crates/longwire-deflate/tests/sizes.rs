//! The effect of the options, in bytes: context takeover, the window and the level.

use std::fmt::Write as _;

use longwire_deflate::{Deflater, Direction, Inflater, Level, Pool, WindowBits};

/// Compresses messages one after the other and decompresses them again; returns the compressed size of each.
fn sizes(direction: Direction, level: Level, messages: &[&[u8]]) -> Vec<usize> {
    let pool = Pool::default();
    let mut deflater = Deflater::new(&pool, direction, level).unwrap();
    let mut inflater = Inflater::new(&pool, direction);
    let one = |message: &&[u8]| {
        let mut wire = Vec::new();
        deflater.compress(message, &mut wire);
        let mut read = Vec::new();
        inflater.inflate(&mut &*wire, &mut read, message.len()).unwrap();
        inflater.finish().unwrap();
        assert!(read == **message);
        wire.len()
    };
    messages.iter().map(one).collect()
}

/// Bytes without internal repetition.
fn noise(len: usize) -> Vec<u8> {
    let mut x = 7_u32;
    let next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        x.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn a_second_copy_is_small_with_takeover_and_as_large_without() {
    let message = noise(500);
    for bits in [10, 12, 15] {
        let window_bits = WindowBits::new(bits).unwrap();
        for level in [Level::FASTEST, Level::default(), Level::new(9).unwrap()] {
            let sizes = |context_takeover| {
                sizes(Direction { window_bits, context_takeover }, level, &[&message, &message, &message])
            };
            let with = sizes(true);
            assert!(with[0] > 450 && with[1] < 100 && with[2] < 100, "{bits} bits: {with:?}");
            let without = sizes(false);
            assert_eq!(without, [without[0]; 3], "{bits} bits");
        }
    }
}

#[test]
fn a_compressor_looks_back_no_further_than_its_window() {
    for bits in [9, 10, 12, 15_u8] {
        let window_bits = WindowBits::new(bits).unwrap();
        let direction = Direction { window_bits, context_takeover: true };
        let message = noise(200);
        // The gap between the copies is as large as the window, or well within it.
        for (between, is_found) in [(window_bits.size(), false), (window_bits.size() / 4 - 100, true)] {
            let filler = vec![b' '; between];
            let sizes = sizes(direction, Level::default(), &[&message, &filler, &message]);
            assert_eq!(sizes[2] < 100, is_found, "{bits} bits, {between} bytes between: {sizes:?}");
        }
    }
}

#[test]
fn a_higher_level_searches_harder() {
    let mut text = String::new();
    for n in 0..2000 {
        write!(text, "{{\"id\":{},\"name\":\"user {}\"}},", n * 7919 % 1000, n % 13).unwrap();
    }
    let size = |level| {
        let direction = Direction { window_bits: WindowBits::MAX, context_takeover: false };
        sizes(direction, Level::new(level).unwrap(), &[text.as_bytes()])[0]
    };
    let [fast, middle, hard] = [1, 6, 9].map(size);
    assert!(fast > middle && middle >= hard, "{fast} {middle} {hard}");
}
