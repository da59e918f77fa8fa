//! The rules of Konductor: what each primitive does, as pure functions.
//!
//! In the order in which data passes: [`record`] (what is kept of a pod) -> [`critical`] (the containers it is about) -> [`evidence`] (what a pod's status proves) -> [`facts`] (of pods and Jobs) ->
//! [`snapshot`] (all that a step may know) -> [`queue`], [`token`] -> [`step`] (what a step answers) -> [`hold`] (when does one hold end, which of its
//! pods may be told; [`claim`] for those of claims; [`silence`] for those with a `ttl`), [`turn`] (who leaves, waits and enters; shared by all that can be held) -> a rule file each:
//! [`gate`], [`waitgroup`], [`barrier`], [`semaphore`], [`rwmutex`], [`mutex`], [`lease`], [`once`] (each with `step`,
//! `entrance` and `check`) -> [`invariants`] (checked before every write) -> [`committed`] and [`entrance`] (where
//! somebody stands at one primitive) -> [`verdict`] (what a pod or Job is told,
//! from what was committed). [`describe`] is what people read of it; [`looked`] and the clock are what gates look at.
//!
//! What must stay true: no I/O, no clock, no random, no client; the same snapshot gives the same step in the operator,
//! in a test and in a simulation. Facts are monotone, so a snapshot that is old makes a step late, never wrong.
#![deny(clippy::disallowed_methods)]

pub mod barrier;
pub mod claim;
mod clock;
pub mod committed;
pub mod critical;
pub mod describe;
pub mod entrance;
pub mod evidence;
pub mod facts;
pub mod gate;
pub mod gated;
pub mod hold;
pub mod invariants;
pub mod lease;
pub mod looked;
pub mod mutex;
pub mod once;
pub mod queue;
pub mod record;
pub mod reservation;
pub mod rwmutex;
pub mod semaphore;
pub mod silence;
pub mod snapshot;
pub mod step;
pub mod token;
pub mod turn;
pub mod verdict;
pub mod waitgroup;
