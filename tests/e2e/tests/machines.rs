//! Tests that lose a machine: each its own, so they run beside each other, and beside nothing else.
//!
//! `cargo xtask test` runs them on the project's own cluster only; nobody else's has machines to lose.

#[path = "machines/cable.rs"]
mod cable;
#[path = "machines/kubelet.rs"]
mod kubelet;
#[path = "machines/pair.rs"]
mod pair;
#[path = "machines/power.rs"]
mod power;
#[path = "machines/removed.rs"]
mod removed;
#[path = "machines/silence.rs"]
mod silence;
