//! A whole review, as it comes over the wire.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| konductor_fuzz::targets::review(data));
