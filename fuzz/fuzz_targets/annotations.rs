//! What a user writes: annotations, markers, durations.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| konductor_fuzz::targets::annotations(data));
