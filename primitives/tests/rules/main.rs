//! The rules, one sentence a test; [`support`] has the words in which they are told.

mod support;

mod evidence;
mod gate;
mod hold;
mod invariants;
mod mutex;
mod snapshot;
mod verdict;
