//! One way in for people and for CI.

mod cluster;
mod generate;
mod images;
mod oci;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "One way in for people and for CI")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The project's own Kubernetes, built from source and run beside whatever else this machine does
    #[command(subcommand)]
    Cluster(cluster::Action),
    /// Build the images as OCI archives in target/images, without a container engine
    Images,
    /// Write the files that follow from the Rust types: the CRDs and the reference tables of docs/
    Generate {
        /// Write nothing; fail if a file is not what the types say
        #[arg(long)]
        check: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Cluster(action) => cluster::run(action),
        Command::Images => images::run(),
        Command::Generate { check } => generate::run(check),
    }
}
