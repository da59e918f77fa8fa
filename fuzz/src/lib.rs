//! What the fuzz targets share; `webhook/tests/fuzz.rs` runs the same functions without a fuzzer.

pub mod pods;
pub mod targets;

#[path = "../../webhook/tests/support/mod.rs"]
mod support;
