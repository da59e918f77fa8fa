//! The mutating admission webhook: parse, plan, patch.
//!
//! Data passes through these rooms: [`review`] (what the API server asks, what it is told) -> [`plan`] (what should
//! this object become, or what is wrong with it; [`waiter`], [`sidecar`], [`section`], [`tokens`], [`once`] and [`containers`] say it for a pod's
//! containers, [`warnings`] what is legal but odd; [`template`] and [`traps`] say the same to whoever makes what makes pods) -> [`patch`] (the change, on raw JSON). [`admit`] is the way through
//! them; all of it is pure. Around it: [`names`] (which primitives exist, and have a ttl, best effort), [`serve`] (HTTP),
//! [`telemetry`], `certificates` (who issues ours), [`sessions`] (what sidecars must know), and [`run`], which ties them to a process.
//!
//! What must stay true: every input gets an answer, an answer needs no API call, a second pass over our own result
//! changes nothing, and no field that we do not know is lost.

pub mod admit;
mod affinity;
pub mod args;
mod certificates;
pub mod claim;
pub mod containers;
pub mod hold;
pub mod names;
mod object;
pub mod once;
pub mod patch;
pub mod plan;
pub mod review;
pub mod run;
pub mod section;
pub mod serve;
pub mod sessions;
pub mod sidecar;
mod stamp;
pub mod telemetry;
pub mod template;
pub mod tokens;
pub mod traps;
pub mod waiter;
pub mod warnings;
pub mod windows;
