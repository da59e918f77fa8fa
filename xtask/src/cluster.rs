//! `cargo xtask cluster up`, `down`, `status`: the project's own Kubernetes.
//!
//! May touch: what [`konductor_cluster`] does. What must stay true: standard output holds the line that a shell can
//! evaluate, and everything else goes to standard error.

#![expect(clippy::print_stdout, reason = "the line to evaluate is this command's output")]
#![expect(clippy::print_stderr, reason = "and this is what a person reads beside it")]

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use konductor_cluster::{Cluster, DEFAULT_NAME, Kubernetes, MOST_NODES, Options, Progress, Status};

/// What to do with a cluster.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Build what is missing, start it, and print how to use it; repairs a cluster of which parts have ended
    Up {
        #[command(flatten)]
        name: Name,
        /// The Kubernetes that it is made of: 1.30, 1.36 or 1.37
        #[arg(long, default_value_t = Kubernetes::DEFAULT, value_name = "MINOR")]
        kubernetes: Kubernetes,
        /// Nodes that it has at least; further ones join, and those that are off are started
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(MOST_NODES)))]
        nodes: u8,
    },
    /// End it and remove all that it left
    Down(Name),
    /// Say whether it runs
    Status(Name),
}

/// Which cluster.
#[derive(Args)]
pub(crate) struct Name {
    /// Clusters of different names run beside each other
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
}

/// Does it.
pub(crate) fn run(action: Action) -> Result<()> {
    match action {
        Action::Up { name, kubernetes, nodes } => {
            let options = Options { kubernetes, nodes, ..name.options() };
            let cluster = Cluster::up(&options)?;
            eprintln!("cluster {} is up; to use it from this shell:", options.name);
            println!("export KUBECONFIG={}", cluster.kubeconfig().display());
            eprintln!(
                "kubectl of its version: {}\nlogs: {}\nto end it: cargo xtask cluster down{}",
                cluster.kubectl().display(),
                cluster.logs().display(),
                name.flag()
            );
        }
        Action::Down(name) => {
            let options = name.options();
            let there_was = Cluster::down(&options)?;
            eprintln!("cluster {} {}", options.name, if there_was { "is gone" } else { "was not there" });
        }
        Action::Status(name) => {
            let options = name.options();
            match Cluster::status(&options)? {
                Status::Up { kubeconfig } => {
                    eprintln!("cluster {} is up", options.name);
                    println!("export KUBECONFIG={}", kubeconfig.display());
                }
                Status::Down => bail!(
                    "cluster {} does not run: cargo xtask cluster up{} starts it",
                    options.name,
                    name.flag()
                ),
                Status::Broken { reason } => bail!(
                    "cluster {} is broken: {reason}\ncargo xtask cluster up{} repairs it",
                    options.name,
                    name.flag()
                ),
            }
        }
    }
    Ok(())
}

impl Name {
    fn options(&self) -> Options {
        Options { name: self.name.clone(), progress: Progress::Shown, ..Options::default() }
    }

    /// For a command line that means the same cluster.
    fn flag(&self) -> String {
        if self.name == DEFAULT_NAME { String::new() } else { format!(" --name {}", self.name) }
    }
}
