//! Pods of any shape, made from the bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| konductor_fuzz::targets::pods(data));
