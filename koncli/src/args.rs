//! The command line: the one definition of every command and flag.
//!
//! Types only. What must stay true: help texts are what the reference shows.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::lint::{Code, Severity};

/// Coordinates Kubernetes Jobs and Pods: who holds, who waits, and what a manifest would do.
#[derive(Debug, Parser)]
#[command(name = "koncli", version, disable_help_subcommand = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show manifests as the webhook would change them, without a cluster
    Inject(Inject),
    /// Take out of manifests what the webhook, or inject, has put into them
    Uninject(Uninject),
    /// Find what is wrong with manifests before they are applied, without a cluster
    Lint(Lint),
    /// Say which version this is
    Version,
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Which manifests.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Files {
    /// Files and folders with manifests (.yaml, .yml, .json); - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Flags of `inject`.
#[derive(Debug, clap::Args)]
pub struct Inject {
    /// Which manifests.
    #[command(flatten)]
    pub files: Files,
    /// The image of the waiter
    #[arg(long, env = "KONCLI_WAITER_IMAGE", hide_env_values = true, default_value = concat!("localhost/konductor-waiter:", env!("CARGO_PKG_VERSION")))]
    pub waiter_image: String,
    /// yaml or json
    #[arg(short, long, default_value = "yaml")]
    pub output: Document,
}

/// Flags of `uninject`.
#[derive(Debug, clap::Args)]
pub struct Uninject {
    /// Which manifests.
    #[command(flatten)]
    pub files: Files,
    /// yaml or json
    #[arg(short, long, default_value = "yaml")]
    pub output: Document,
}

/// How manifests are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Document {
    /// As YAML documents.
    Yaml,
    /// As JSON objects, one a line.
    Json,
}

/// Flags of `lint`.
#[derive(Debug, clap::Args)]
pub struct Lint {
    /// Which manifests.
    #[command(flatten)]
    pub files: Files,
    /// Codes to leave out, e.g. KON03
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    pub ignore: Vec<Code>,
    /// From what on it ends with 1: error, warning or never
    #[arg(long, value_name = "SEVERITY", default_value = "error")]
    pub fail_on: FailOn,
    /// text, or json: one object a line
    #[arg(short, long, default_value = "text")]
    pub output: Listing,
}

/// From what on a finding is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Errors.
    Error,
    /// Warnings, too.
    Warning,
    /// Nothing.
    Never,
}

/// How findings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl FailOn {
    /// Is that a failure?
    pub fn fails(self, severity: Severity) -> bool {
        match self {
            Self::Error => severity == Severity::Error,
            Self::Warning => true,
            Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }
}
