//! The memory of a decompressor, measured with a counting allocator.
//!
//! A single test, because the counter is process-wide.

use std::alloc::System;

use cap::Cap;
use longwire_deflate::{Direction, Inflater, Pool, PoolOptions, WindowBits};

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

#[test]
fn a_decompressor_takes_what_is_documented() {
    let mut options = PoolOptions::default();
    options.idle_decompressors = 0;
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
}
