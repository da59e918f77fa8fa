//! What stands around the real binaries in tests: a volume as the kubelet makes it, an operator that listens.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "support code of several tests, each of which uses a part"
)]

#[cfg(feature = "hold")]
pub(crate) mod operator;
pub(crate) mod volume;
