//! `cargo xtask bench`: what Konductor costs, measured on a cluster.
//!
//! May touch: one namespace of the cluster, and `target/bench`. What must stay true: what is compared is measured in the
//! same run, interleaved, so that a busy machine slows both.
//!
//! The way through: [`handover`] (the order of it all) → [`chain`] (one chain of pods or Jobs) → [`manifests`];
//! beside them [`figures`], [`memory`], [`writes`].

mod chain;
mod figures;
mod handover;
mod manifests;
mod memory;
mod writes;

use anyhow::Result;
use clap::Subcommand;

use crate::install;
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
}

/// Brings Konductor, as it is in the tree, onto a cluster and measures.
pub(crate) fn run(name: &Name) -> Result<()> {
    let Name::Handover { rounds, choice } = name;
    let target = choice.resolve()?;
    let images = install::onto(&target)?;
    handover::run(&handover::Options {
        rounds: *rounds,
        kubectl: target.kubectl()?,
        kubeconfig: target.kubeconfig().to_owned(),
        waiter: images.waiter.archive,
    })
}
