//! The operator: it keeps the ledgers and tells the waiters.
//!
//! In the order in which data passes: [`caches`] (watches, and the liveness of [`nodes`]) -> [`index`] (who is
//! concerned by what) -> [`queue`] -> [`observe`] and [`sight`] (the snapshot; what gates look at, by [`watches`] where
//! nobody else does) -> [`reconcile`] (snapshot, pure step, one
//! compare-and-swap by [`commit`]) -> [`notify`] (pods and Jobs; [`line`](mod@line) has their places, [`crowd`] bounds their turn) -> [`advice`] (for people) ->
//! [`finalizers`]. Beside them [`sessions`] (what sidecars say), [`election`] (which replica works), [`backoff`], [`events`], [`telemetry`], [`health`], [`uninstall`]; [`operator`] ties them, and [`run`] puts a process around it.
//!
//! What must stay true: the ledger in the API server is the only truth; every write names the version that it was
//! decided on; absence is read from the API server and never from a cache; whoever is told is in a committed ledger
//! first. Two operators at once can delay each other and nothing else.

mod advice;
pub mod args;
pub mod backoff;
mod caches;
mod claims;
pub mod client;
pub mod clock;
mod commit;
mod crowd;
pub mod election;
mod events;
mod finalizers;
mod gates;
mod health;
mod index;
mod jobs;
mod line;
mod nodes;
mod notify;
mod observe;
pub mod operator;
mod queue;
mod reconcile;
mod rules;
mod run;
mod sessions;
mod sight;
mod silence;
mod telemetry;
mod uninstall;
mod watches;

pub use run::main;
