//! One way in for people and for CI.

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
    /// Build the images as OCI archives in target/images, without a container engine
    Images,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Images => images::run(),
    }
}
