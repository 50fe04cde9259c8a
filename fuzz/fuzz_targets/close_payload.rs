//! Calls the target `close_payload`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::close_payload(data));
