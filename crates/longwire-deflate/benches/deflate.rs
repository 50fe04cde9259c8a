//! The cost of a message of 1 KiB, and of giving contexts back between messages.
//!
//! `cargo bench -p longwire-deflate`

use std::fmt::Write;

use divan::{Bencher, black_box, counter::BytesCount};
use flate2::{Decompress, FlushDecompress};
use longwire_deflate::{Deflater, Direction, Inflater, Level, Pool, WindowBits};

fn main() {
    divan::main();
}

const LEN: usize = 1024;

/// The window bits, and whether the window is carried from message to message.
const DIRECTIONS: [(u8, bool); 4] = [(15, true), (12, true), (9, true), (15, false)];

/// Messages that are alike but differ in their numbers: none is repeated within a window.
fn messages() -> Vec<Vec<u8>> {
    let mut x = 1_u32;
    let mut number = move || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        x >> 12
    };
    let mut message = || {
        let mut text = String::new();
        while text.len() < LEN {
            let (id, price, size) = (number(), number(), number() % 1000);
            write!(text, r#"{{"id":{id},"price":{price}.25,"size":{size},"side":"buy"}},"#).unwrap();
        }
        text.truncate(LEN);
        text.into_bytes()
    };
    (0..64).map(|_| message()).collect()
}

fn direction((bits, context_takeover): (u8, bool)) -> Direction {
    Direction { window_bits: WindowBits::new(bits).unwrap(), context_takeover }
}

/// The messages, compressed one after the other: any of the second half may follow the last one.
fn compressed(of: (u8, bool)) -> Vec<Vec<u8>> {
    let mut deflater = Deflater::new(&Pool::default(), direction(of), Level::FASTEST).unwrap();
    let compress = |message: Vec<u8>| {
        let mut out = Vec::new();
        deflater.compress(&message, &mut out);
        out
    };
    messages().into_iter().map(compress).collect()
}

#[divan::bench(args = DIRECTIONS, consts = [1, 6])]
fn deflate<const LEVEL: u8>(bencher: Bencher<'_, '_>, of: (u8, bool)) {
    let mut deflater = Deflater::new(&Pool::default(), direction(of), Level::new(LEVEL).unwrap()).unwrap();
    bench_deflate(bencher, move |message, out| deflater.compress(message, out));
}

#[divan::bench(args = DIRECTIONS)]
fn deflate_parked_each_time(bencher: Bencher<'_, '_>, of: (u8, bool)) {
    let mut deflater = Deflater::new(&Pool::default(), direction(of), Level::FASTEST).unwrap();
    bench_deflate(bencher, move |message, out| {
        deflater.compress(message, out);
        deflater.park();
    });
}

fn bench_deflate(bencher: Bencher<'_, '_>, mut compress: impl FnMut(&[u8], &mut Vec<u8>)) {
    let messages = messages();
    let mut next = messages.iter().cycle();
    let mut out = Vec::new();
    bencher.counter(BytesCount::new(LEN)).bench_local(move || {
        out.clear();
        compress(next.next().unwrap(), &mut out);
        black_box(out.len())
    });
}

#[divan::bench(args = DIRECTIONS)]
fn inflate(bencher: Bencher<'_, '_>, of: (u8, bool)) {
    let mut inflater = Inflater::new(&Pool::default(), direction(of));
    bench_inflate(bencher, of, move |mut input, out| {
        inflater.inflate(&mut input, out, 1 << 20).unwrap();
        inflater.finish().unwrap();
    });
}

/// A decompressor for each connection, and no check of a message's end.
#[divan::bench(args = DIRECTIONS)]
fn inflate_naively(bencher: Bencher<'_, '_>, of: (u8, bool)) {
    let mut context = Decompress::new(false);
    bench_inflate(bencher, of, move |input, out| {
        out.reserve(2 * LEN);
        for part in [input, &[0x00, 0x00, 0xff, 0xff]] {
            context.decompress_vec(part, out, FlushDecompress::Sync).unwrap();
        }
        if !of.1 {
            context.reset(false);
        }
    });
}

fn bench_inflate(bencher: Bencher<'_, '_>, of: (u8, bool), mut inflate: impl FnMut(&[u8], &mut Vec<u8>)) {
    let compressed = compressed(of);
    let mut out = Vec::new();
    for message in &compressed {
        inflate(message, &mut out);
    }
    let mut next = compressed[32..].iter().cycle();
    bencher.counter(BytesCount::new(LEN)).bench_local(move || {
        out.clear();
        inflate(next.next().unwrap(), &mut out);
        assert_eq!(out.len(), LEN);
    });
}
