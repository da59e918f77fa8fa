//! Model checking: every state that a small world can come to, and the shipped rules have to hold in each.
//!
//! The simulation among the rules' tests tells long stories by chance; here short ones are told without exception.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests say what they expect in the shortest way, and how much they looked at"
)]

mod invariants;
mod locks;
mod mutants;
mod objects;
mod run;
