//! `cargo xtask sim`: the real operator over an API server in memory, by the seed.
//!
//! May touch: the target folder, by way of cargo. What must stay true: the program that lives the seeds is optimised, because
//! there are many of them; what it can be told is written down there alone, its help too.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::images::root;

/// For the program that lives the seeds: it explains them itself.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// As its own help has them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Lives them.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .current_dir(root())
        .args(["run", "--release", "--quiet", "--locked", "--package", "konductor-simulation", "--"])
        .args(&options.arguments)
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "the simulation failed: `cargo xtask sim --replay SEED` tells how a seed ends");
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command as Clap, FromArgMatches as _};

    use super::*;

    #[test]
    fn everything_goes_to_the_program() {
        for arguments in
            [&["--seeds", "5", "--start=7"][..], &["--all", "--flaw", "all"], &["--help"], &["-h"], &[]]
        {
            let command = Options::augment_args(Clap::new("sim"));
            let matches = command.try_get_matches_from([&["sim"], arguments].concat()).unwrap();
            let options = Options::from_arg_matches(&matches).unwrap();
            assert_eq!(options.arguments, arguments);
        }
    }
}
