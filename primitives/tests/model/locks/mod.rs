//! All kinds share one world and differ in their rules.
//!
//! In the order of a run: [`model`] says which actions there are, [`rest`] where there are none; [`operator`], [`node`] and [`around`] make them;
//! [`cache`] asks the shipped functions; [`kind`] (what is held) and [`doors`] (what opens) know what differs. [`tests`] and
//! [`open`] check each kind within its bounds, [`found`] that mutants are found, and what is known not to hold. What must
//! stay true: see [`world`].

mod around;
mod cache;
mod doors;
mod found;
mod kind;
mod model;
mod node;
mod open;
mod operator;
mod reserved;
mod rest;
mod tests;
pub(crate) mod world;
