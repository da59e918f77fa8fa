//! The text of a grant.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| konductor_fuzz::targets::grant(data));
