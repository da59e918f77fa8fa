//! The simulation: the real operator, twice, over an API server in memory, in a cluster where everything goes wrong.
//!
//! One seed is one life ([`live`]): a [`story`] (what there is and who comes) told by [`people`] and [`clients`] to a
//! [`cluster`]: a [`store`] with the [`server`], [`patch`]es and [`watch`]es of an API server, machines ([`node`]) with
//! [`kubelet`]s that [`report`], [`controllers`], and pods as [`admission`] leaves them. Each operator talks through a
//! [`network`] with a [`weather`]. Everything that happens goes into a [`history`], and every invariant that has a name is
//! [`check`]ed against what really runs. [`flaw`]s prove that the checks find what they should.
//! [`command`] lives many.
//!
//! What must stay true: the operator is the shipped one; time and chance come from the seed alone, so whatever a seed shows it
//! shows again.
#![allow(clippy::unwrap_used, reason = "all of this crate is a test")]

mod admission;
mod check;
mod clients;
mod cluster;
pub mod command;
mod controllers;
pub mod flaw;
pub mod history;
mod kubelet;
pub mod life;
mod network;
mod node;
mod patch;
mod people;
mod random;
mod report;
mod server;
mod store;
mod story;
mod watch;
mod weather;

pub use flaw::{FLAWS, Flaw};
pub use history::Broken;
pub use life::{Outcome, Way, live};
