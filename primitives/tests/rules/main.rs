//! The rules, one sentence a test; [`support`] has the words in which they are told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what they expect in the shortest way"
)]

mod support;

mod barrier;
mod claim;
mod claimants;
mod critical;
mod evidence;
mod facts;
mod gate;
mod generations;
mod hold;
mod invariants;
mod lease;
mod looked;
mod models;
mod mutex;
mod once;
mod patience;
mod reservation;
mod rwmutex;
mod semaphore;
mod silence;
mod simulation;
mod snapshot;
mod suspended;
mod turn;
mod verdict;
mod waitgroup;
mod windows;
