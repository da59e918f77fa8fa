//! Simulate: the real rules on a virtual clock, told as a timeline.
//!
//! Pure. The way through: [`scenario`] (manifests, and how long each workload runs) -> [`world`] (an API server and a kubelet that
//! make no mistakes) and `operator` (the real steps and verdicts) -> [`story`] (what people read). What must stay true: who
//! is let in, and when, is decided by `konductor-primitives` alone; the same scenario gives the same story.

mod objects;
mod operator;
mod pods;
pub mod scenario;
mod story;
mod world;

pub use scenario::Scenario;
pub use world::run;
