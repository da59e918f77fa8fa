//! `cargo xtask sim`: the real operator over an API server in memory, by the seed.
//!
//! May touch: the target folder, by way of cargo. What must stay true: the program that lives the seeds is optimised, because
//! there are many of them; a run that was interrupted goes on where `--start` says.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::images::root;

/// Which seeds.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many seeds
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first of them: a long run can be made in parts
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Live this one alone, and tell what happens
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    replay: Option<u64>,
    /// Plant a bug, by name; all: each in turn, until it is found
    #[arg(long)]
    flaw: Option<String>,
    /// Go on after a seed that ends badly
    #[arg(long)]
    all: bool,
}

impl Options {
    /// Those seeds, from the first on.
    #[cfg(test)]
    const fn of(seeds: u64) -> Self {
        Self { seeds, start: 0, replay: None, flaw: None, all: false }
    }

    fn arguments(&self) -> Vec<String> {
        let mut all = match self.replay {
            Some(seed) => vec![format!("--replay={seed}")],
            None => vec![format!("--seeds={}", self.seeds), format!("--start={}", self.start)],
        };
        all.extend(self.flaw.iter().map(|flaw| format!("--flaw={flaw}")));
        all.extend(self.all.then(|| "--all".to_owned()));
        all
    }
}

/// Lives them.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .current_dir(root())
        .args(["run", "--release", "--quiet", "--locked", "--package", "konductor-simulation", "--"])
        .args(options.arguments())
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "a seed ended badly: `cargo xtask sim --replay SEED` tells how");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_told_alone() {
        assert_eq!(Options::of(5).arguments(), ["--seeds=5", "--start=0"]);
        let replay = Options { replay: Some(7), flaw: Some("NeverLifts".to_owned()), ..Options::of(1) };
        assert_eq!(replay.arguments(), ["--replay=7", "--flaw=NeverLifts"]);
    }
}
