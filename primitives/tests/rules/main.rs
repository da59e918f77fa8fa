//! The rules, one sentence a test; [`support`] has the words in which they are told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what they expect in the shortest way"
)]

mod support;

mod evidence;
mod gate;
mod hold;
mod invariants;
mod model;
mod mutex;
mod simulation;
mod snapshot;
mod verdict;
