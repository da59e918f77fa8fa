//! One way in for people and for CI.

#![expect(clippy::print_stderr, reason = "where errors and advice end up")]

mod bench;
mod chaos;
mod cluster;
mod demo;
mod fuzz;
mod generate;
mod http;
mod images;
mod install;
mod oci;
#[cfg(test)]
mod papers;
mod proxy;
mod sim;
mod soak;
mod target;
mod test;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "One way in for people and for CI")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A cluster, Konductor, and a pipeline of annotated Jobs told while it runs
    Demo(target::Choice),
    /// Every check and every test, cheap ones first
    Test(test::Options),
    /// What Konductor costs, measured on a cluster
    #[command(subcommand)]
    Bench(bench::Name),
    /// Feed what reads other people's input with what nobody would write; installs cargo-fuzz if it is not there
    Fuzz(fuzz::Options),
    /// The real operator over an API server in memory, in a cluster where everything goes wrong, by the seed
    Sim(sim::Options),
    /// Admit annotated pods for half an hour while certificates and replicas of the webhook come and go
    Soak(soak::Options),
    /// Hand-overs while machines, control plane, Konductor and workloads fail; on a cluster of its own
    Chaos(chaos::Options),
    /// The project's own Kubernetes, built from source and run beside whatever else this machine does
    #[command(subcommand)]
    Cluster(cluster::Action),
    /// Build the images, bring them to a cluster and install Konductor there from the chart of this tree
    Install(target::Choice),
    /// Uninstall Konductor; the custom resource definitions, and with them everybody's objects, stay
    Uninstall(target::Choice),
    /// Build the images as OCI archives in target/images, without a container engine
    Images,
    /// Write the files that follow from the Rust types: the CRDs and the reference tables of docs/
    Generate {
        /// Write nothing; fail if a file is not what the types say
        #[arg(long)]
        check: bool,
    },
}

/// Errors are sentences for whoever runs this; where they were raised is no help to them.
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Demo(choice) => demo::run(&choice),
        Command::Test(options) => test::run(&options),
        Command::Bench(name) => bench::run(&name),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Sim(options) => sim::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::Chaos(options) => chaos::run(&options),
        Command::Cluster(action) => cluster::run(action),
        Command::Install(choice) => install(&choice),
        Command::Uninstall(choice) => uninstall(&choice),
        Command::Images => images::run(),
        Command::Generate { check } => generate::run(check),
    }
}

fn install(choice: &target::Choice) -> anyhow::Result<()> {
    let target = choice.resolve()?;
    install::onto(&target)?;
    eprintln!(
        "Konductor is installed; to look at it: {} --kubeconfig {} -n {} get pods",
        target.kubectl()?.display(),
        target.kubeconfig().display(),
        install::NAMESPACE
    );
    Ok(())
}

fn uninstall(choice: &target::Choice) -> anyhow::Result<()> {
    let target =
        choice.resolve_running()?.context("no cluster runs, so Konductor is not installed on any")?;
    install::uninstall(&target.helm()?, target.kubeconfig())
}
