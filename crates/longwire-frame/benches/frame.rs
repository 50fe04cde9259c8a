//! Measures the work that every frame costs: parsing its header, masking, and for text UTF-8 validation.
//!
//! `cargo bench -p longwire-frame`; each group's `naive` or `std` row is the baseline for the others.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use longwire_frame::{FirstByte, FrameHeader, MaskingKey, Opcode, Role, Utf8Validator, mask};

fn main() {
    divan::main();
}

/// A tiny frame, the longest with a 7-bit length, one with 16 bits, and one with 64.
const SIZES: [usize; 4] = [16, 125, 1024, 64 * 1024];

const KEY: MaskingKey = MaskingKey::new([0x37, 0xfa, 0x21, 0x3d]);

mod header {
    use super::{Bencher, FirstByte, FrameHeader, KEY, Opcode, Role, SIZES, black_box};

    const BINARY: FirstByte = FirstByte::whole(Opcode::Binary);

    fn client_frame(len: usize) -> FrameHeader {
        FrameHeader::data(BINARY, len as u64, Some(KEY)).expect("a valid header")
    }

    #[divan::bench(args = SIZES)]
    fn decode(bencher: Bencher<'_, '_>, len: usize) {
        let bytes = client_frame(len).encode();
        bencher.bench_local(|| FrameHeader::parse(black_box(&bytes), Role::Server));
    }

    #[divan::bench(args = SIZES)]
    fn encode_masked(bencher: Bencher<'_, '_>, len: usize) {
        let header = client_frame(len);
        bencher.bench_local(|| black_box(header).encode());
    }

    #[divan::bench(args = SIZES)]
    fn encode_unmasked(bencher: Bencher<'_, '_>, len: usize) {
        let len = len as u64;
        bencher.bench_local(|| FrameHeader::data(BINARY, black_box(len), None).map(FrameHeader::encode));
    }
}

/// Payloads follow a header of 6, 8 or 14 bytes, so the benchmarks use an odd address and offset 3.
mod masking {
    use super::{Bencher, BytesCount, KEY, SIZES, black_box, mask};

    const OFFSET: usize = 3;

    #[divan::bench(args = SIZES)]
    fn apply_naive(bencher: Bencher<'_, '_>, len: usize) {
        let mut buf = vec![0x61; len + 1];
        bencher.counter(BytesCount::new(len)).bench_local(|| {
            for (i, byte) in black_box(&mut buf)[1..].iter_mut().enumerate() {
                *byte ^= black_box(KEY).bytes()[(OFFSET + i) % 4];
            }
        });
    }

    #[divan::bench(args = SIZES)]
    fn apply(bencher: Bencher<'_, '_>, len: usize) {
        let mut buf = vec![0x61; len + 1];
        bencher
            .counter(BytesCount::new(len))
            .bench_local(|| mask::apply(&mut black_box(&mut buf)[1..], black_box(KEY), OFFSET));
    }

    #[divan::bench(args = SIZES)]
    fn extend_naive(bencher: Bencher<'_, '_>, len: usize) {
        let src = vec![0x61; len + 1];
        let mut dst = Vec::with_capacity(len);
        bencher.counter(BytesCount::new(len)).bench_local(|| {
            let dst = black_box(&mut dst);
            dst.clear();
            let key = black_box(KEY).bytes();
            dst.extend(black_box(&src)[1..].iter().enumerate().map(|(i, byte)| byte ^ key[(OFFSET + i) % 4]));
        });
    }

    #[divan::bench(args = SIZES)]
    fn extend(bencher: Bencher<'_, '_>, len: usize) {
        let src = vec![0x61; len + 1];
        let mut dst = Vec::with_capacity(len);
        bencher.counter(BytesCount::new(len)).bench_local(|| {
            let dst = black_box(&mut dst);
            dst.clear();
            mask::extend(dst, &black_box(&src)[1..], black_box(KEY), OFFSET);
        });
    }
}

mod utf8 {
    use super::{Bencher, BytesCount, SIZES, Utf8Validator, black_box};

    fn ascii(len: usize) -> Vec<u8> {
        b"The quick brown fox jumps over the lazy dog. ".iter().copied().cycle().take(len).collect()
    }

    /// Characters of one to four bytes, filled up with ASCII to the length.
    fn mixed(len: usize) -> Vec<u8> {
        let sample = "ß κ 世 🌍 ";
        let mut text = sample.repeat(len / sample.len());
        text.push_str(&"x".repeat(len - text.len()));
        text.into_bytes()
    }

    #[divan::bench(args = SIZES)]
    fn ascii_std(bencher: Bencher<'_, '_>, len: usize) {
        std(bencher, &ascii(len));
    }

    #[divan::bench(args = SIZES)]
    fn ascii_feed(bencher: Bencher<'_, '_>, len: usize) {
        feed(bencher, &ascii(len));
    }

    #[divan::bench(args = SIZES)]
    fn mixed_std(bencher: Bencher<'_, '_>, len: usize) {
        std(bencher, &mixed(len));
    }

    #[divan::bench(args = SIZES)]
    fn mixed_feed(bencher: Bencher<'_, '_>, len: usize) {
        feed(bencher, &mixed(len));
    }

    fn std(bencher: Bencher<'_, '_>, text: &[u8]) {
        bencher
            .counter(BytesCount::of_slice(text))
            .bench_local(|| std::str::from_utf8(black_box(text)).is_ok());
    }

    fn feed(bencher: Bencher<'_, '_>, text: &[u8]) {
        bencher.counter(BytesCount::of_slice(text)).bench_local(|| {
            let mut validator = Utf8Validator::new();
            validator.feed(black_box(text)).and_then(|()| validator.finish())
        });
    }
}
