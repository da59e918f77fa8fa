//! `cargo xtask bench`: what Konductor costs, measured on a cluster.
//!
//! May touch: one namespace of the cluster, and `target/bench`. What must stay true: what is compared is measured in the
//! same run, interleaved, so that a busy machine slows both.
//!
//! The way through: [`handover`] (the order of it all) → [`chain`] (one chain of pods or Jobs) → [`manifests`]; and
//! [`admission`], [`clients`], and [`ledger`], [`trip`] and [`crowd`], whose thousands of pods are on a node that is [`played`]; beside them [`figures`], [`memory`],
//! [`scrape`], [`writes`].

mod admission;
mod chain;
mod clients;
mod crowd;
mod figures;
mod handover;
mod ledger;
mod manifests;
mod memory;
mod played;
mod scrape;
mod trip;
mod writes;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::install;
use crate::proxy::Proxy;
use crate::target::Choice;

/// Which one.
#[derive(Debug, Subcommand)]
pub(crate) enum Name {
    /// From the end of one main container to the start of the next, beside the least that is possible
    Handover {
        /// Hand-overs of each kind
        #[arg(long, default_value_t = 60)]
        rounds: usize,
        #[command(flatten)]
        choice: Choice,
    },
    /// What Konductor adds to the creation of pods and Jobs, annotated or not
    Admission {
        /// Calls of each kind
        #[arg(long, default_value_t = 1000)]
        rounds: usize,
        #[command(flatten)]
        choice: Choice,
    },
    /// Many `koncli run` at once on one Semaphore, and what they ask of the API server
    Clients {
        /// How many
        #[arg(long, default_value_t = 200)]
        count: usize,
        #[command(flatten)]
        choice: Choice,
    },
    /// Grants of one Semaphore that are committed in a second, beside bare compare-and-swap writes
    Ledger(Crowd),
    /// From the last arrival at a large Barrier to the write that opens it
    Trip(Crowd),
    /// What thousands of waiting pods cost: while nothing happens, when one goes on, and when the operator starts
    Crowd(Crowd),
}

/// So many pods, on a node whose kubelet this process plays.
#[derive(Debug, Args)]
pub(crate) struct Crowd {
    /// Pods [default: 1000 for a ledger, else 10000]
    #[arg(long)]
    count: Option<usize>,
    #[command(flatten)]
    choice: Choice,
}

/// What to measure with.
#[derive(Debug)]
struct Options {
    /// A kubectl.
    kubectl: PathBuf,
    /// The cluster.
    kubeconfig: PathBuf,
    /// The waiter's image, for its size.
    waiter: PathBuf,
}

/// Brings Konductor, as it is in the tree, onto a cluster and measures.
pub(crate) fn run(name: &Name) -> Result<()> {
    let (Name::Handover { choice, .. }
    | Name::Admission { choice, .. }
    | Name::Clients { choice, .. }
    | Name::Ledger(Crowd { choice, .. })
    | Name::Trip(Crowd { choice, .. })
    | Name::Crowd(Crowd { choice, .. })) = name;
    let target = choice.resolve()?;
    let images = install::onto(&target)?;
    let options = Options {
        kubectl: target.kubectl()?,
        kubeconfig: target.kubeconfig().to_owned(),
        waiter: images.waiter.archive,
    };
    match name {
        Name::Handover { rounds, .. } => handover::run(&options, *rounds),
        Name::Admission { rounds, .. } => admission::run(&options, *rounds),
        Name::Clients { count, .. } => clients::run(&options, &crate::test::koncli()?, *count),
        Name::Ledger(crowd) => ledger::run(&options, crowd.count.unwrap_or(1000)),
        Name::Trip(crowd) => trip::run(&options, crowd.count.unwrap_or(10_000)),
        Name::Crowd(crowd) => crowd::run(&options, crowd.count.unwrap_or(10_000)),
    }
}

/// An empty namespace.
fn prepare(proxy: &Proxy) -> Result<()> {
    proxy.remove(&format!("/api/v1/namespaces/{}", manifests::NAMESPACE))?;
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": manifests::NAMESPACE}});
    proxy.create("/api/v1/namespaces", &namespace).map(drop)
}
