//! The memory of a compressor and of a decompressor, measured with a counting allocator.
//!
//! A single test, because the counter is process-wide.

use std::alloc::System;

use cap::Cap;
use longwire_deflate::{Deflater, Direction, Inflater, Level, Pool, PoolOptions, WindowBits};

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

#[test]
fn contexts_take_what_is_documented() {
    let mut options = PoolOptions::default();
    options.idle_decompressors = 0;
    options.idle_compressors = 0;
    let pool = Pool::new(options);
    let mut inflater =
        Inflater::new(&pool, Direction { window_bits: WindowBits::MAX, context_takeover: true });
    let mut out = Vec::with_capacity(100);
    let before = HEAP.allocated();
    inflater.inflate(&mut &[0x00, 0x01, 0x00, 0xfe, 0xff][..], &mut out, 100).expect("a block that begins");
    let taken = HEAP.allocated() - before;
    assert!(taken <= Inflater::CONTEXT_MEMORY && taken > Inflater::CONTEXT_MEMORY - 4096, "{taken} bytes");
    inflater.discard();
    assert_eq!((HEAP.allocated(), inflater.is_parked()), (before, true));

    let mut most = 0;
    for level in 1..=9 {
        for bits in 9..=15 {
            let direction = Direction { window_bits: WindowBits::new(bits).unwrap(), context_takeover: true };
            let mut deflater = Deflater::new(&pool, direction, Level::new(level).unwrap()).unwrap();
            out.clear();
            let before = HEAP.allocated();
            deflater.compress(b"a", &mut out);
            let taken = HEAP.allocated() - before - deflater.window_memory();
            assert!(taken <= Deflater::CONTEXT_MEMORY, "level {level}, {bits} bits: {taken} bytes");
            most = most.max(taken);
        }
    }
    assert!(most > Deflater::CONTEXT_MEMORY - 16 * 1024, "{most} bytes");
}
