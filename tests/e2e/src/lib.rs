//! Support for the end-to-end tests: what every test of `tests/` needs and none of them is about.
//!
//! The way through: [`cluster`] (where to test) → [`namespace`] (a place of one's own, with a dump when a test fails) →
//! [`workload`] and [`primitive`] (what a user would apply) → [`wait`] (until something is so) → [`history`] and
//! [`shared`] (what really ran when). [`product`] is the installed Konductor, [`disturb`] what takes parts of it away, [`proxy`] a way to the API server that
//! can be cut, [`played`] a node that is none, [`machine`] one that can be lost.
//! What must stay true: no test sleeps for something to happen, none leaves anything behind, and none but those of
//! `tests/disturb_shared/` touches what others share.

pub mod cert_manager;
pub mod cluster;
pub mod disturb;
mod dump;
pub mod history;
pub mod machine;
pub mod namespace;
pub mod played;
pub mod primitive;
pub mod product;
pub mod proxy;
pub mod shared;
pub mod tools;
pub mod wait;
pub mod workload;
