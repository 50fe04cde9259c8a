//! Messages that are small on the wire and huge once decompressed, measured with a counting allocator.
//!
//! A single test, because the counter is process-wide.

use std::alloc::System;

use cap::Cap;
use longwire_deflate::{Deflater, Direction, InflateError, Inflater, Level, Pool, WindowBits};

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

const LIMIT: usize = 1 << 20;

/// Allowance for a decompressor (48 KiB), a full window while it grows, and the memory of the test harness.
const BESIDES: usize = 160 * 1024;

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    let direction = Direction { window_bits: WindowBits::MAX, context_takeover: true };
    let bomb = bomb(16 << 20);
    assert!(bomb.len() < 25 << 10, "{} bytes for 16 MiB", bomb.len());
    // The peak counter never falls, so the heap is filled up to the peak reached while the bomb was made.
    let ballast = Vec::<u8>::with_capacity(HEAP.max_allocated().saturating_sub(HEAP.allocated()));
    for (case, piece) in [("bytes", 1), ("packets", 1400), ("at once", bomb.len())] {
        let pool = Pool::default();
        let mut inflater = Inflater::new(&pool, direction);
        let before = HEAP.allocated();
        let mut out = Vec::new();
        let mut taken = 0;
        let error = bomb
            .chunks(piece)
            .find_map(|mut input| {
                let (len, left) = (input.len(), LIMIT - out.len());
                let result = inflater.inflate(&mut input, &mut out, left);
                taken += len - input.len();
                result.err()
            })
            .expect("an error");
        assert!(matches!(error, InflateError::TooBig { .. }), "{case}: {error}");
        assert_eq!(out.len(), LIMIT, "{case}");
        assert_eq!(out.capacity(), LIMIT, "{case}");
        assert!(taken < bomb.len() / 8, "{case}: took {taken} of {} bytes", bomb.len());
        let peak = HEAP.max_allocated() - before;
        assert!(peak <= LIMIT + BESIDES, "{case}: {peak} bytes at the peak");
    }

    // These blocks yield nothing: they are consumed and counted, but not stored.
    let empty = [0x00, 0x00, 0x00, 0xff, 0xff].repeat(1 << 20);
    let ballast_for_empty = HEAP.max_allocated() - HEAP.allocated();
    let filled = Vec::<u8>::with_capacity(ballast_for_empty);
    let before = HEAP.allocated();
    let pool = Pool::default();
    let mut inflater = Inflater::new(&pool, direction);
    let (mut input, mut out) = (&empty[..], Vec::new());
    inflater.inflate(&mut input, &mut out, LIMIT).expect("valid, and nothing");
    assert!(input.is_empty() && out.is_empty());
    inflater.inflate(&mut &[0][..], &mut out, LIMIT).expect("valid");
    inflater.finish().expect("complete");
    // Space is reserved for the output that the input may yield, but no more than the limit.
    assert!(HEAP.max_allocated() - before <= LIMIT + BESIDES);
    drop((ballast, filled));
}

/// Compresses `len` zeros, at a ratio of about 1000 to 1.
fn bomb(len: usize) -> Vec<u8> {
    let direction = Direction { window_bits: WindowBits::MAX, context_takeover: true };
    let mut deflater = Deflater::new(&Pool::default(), direction, Level::SMALLEST).expect("15 bits");
    let zeroes = vec![0; 1 << 20];
    let mut out = Vec::new();
    for _ in 0..len >> 20 {
        deflater.compress_part(&zeroes, &mut out);
    }
    deflater.compress(&[], &mut out);
    out
}
