//! A real Kubernetes for the tests and the demo, built from Go modules and run in namespaces of its own.
//!
//! [`Cluster::up`] builds what is missing (into a cache outside the tree), starts a control plane and one node beside
//! whatever else the machine runs, and returns when pods can be created. [`Cluster::join`] adds a node that can be lost. Needs Linux and root, and says in one
//! sentence what else is missing. May touch: the cache, `/var/lib/konductor`, cgroups below `/konductor-NAME`, and
//! nothing else of the machine; everything that runs lives in one pid namespace per node and ends with it.
//!
//! The way through: `machine` (can it run here?) → `recipes` and `cache` (programs) → `layout`, `pki`,
//! `config`, `settings`, `images` (a cluster's files) → `node`, `cable`, `cgroups` (namespaces) → `daemons`, `processes`
//! (what runs in them) → `cluster` (the order of it all) → `worker` (further nodes, and their loss).

mod cable;
mod cache;
mod cgroups;
mod cluster;
mod config;
mod daemons;
mod images;
mod kubernetes;
mod layout;
mod machine;
mod node;
mod pki;
mod processes;
mod progress;
mod recipes;
mod run;
mod settings;
mod worker;

pub use cluster::{Cluster, DEFAULT_NAME, Options, Status};
pub use daemons::Daemon;
pub use kubernetes::{Kubernetes, UnknownVersion};
pub use node::MOST as MOST_NODES;
pub use progress::Progress;
pub use recipes::{cert_manager, crane, helm};
pub use worker::Worker;
