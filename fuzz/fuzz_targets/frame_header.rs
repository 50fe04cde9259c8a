//! Calls the target `frame_header`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::frame_header(data));
