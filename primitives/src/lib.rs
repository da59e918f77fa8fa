//! The rules of Konductor: what each primitive does, as pure functions.
//!
//! In the order in which data passes: [`evidence`] (what a pod's status proves) -> [`snapshot`] (all that a step may
//! know) -> [`queue`], [`token`] -> [`step`] (what a step answers) -> [`hold`] (when does one hold end, which of its
//! pods may be told) -> [`gate`], [`mutex`] (a rule file each) -> [`invariants`] (checked before every write) ->
//! [`verdict`] (what a pod is told, from what was committed).
//!
//! What must stay true: no I/O, no clock, no random, no client; the same snapshot gives the same step in the operator,
//! in a test and in a simulation. Facts are monotone, so a snapshot that is old makes a step late, never wrong.
#![deny(clippy::disallowed_methods)]

pub mod evidence;
pub mod gate;
pub mod hold;
pub mod invariants;
pub mod mutex;
pub mod queue;
pub mod snapshot;
pub mod step;
pub mod token;
pub mod verdict;
