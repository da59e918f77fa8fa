//! Cargo, asked for one thing at a time.
//!
//! May touch: the target folder, by way of cargo. What must stay true: what cargo and the tests print is seen while
//! they print it, and the lock file is not changed by a test run.

#![expect(clippy::print_stdout, reason = "passing on what the tests print is this module's purpose")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::tally::Tally;
use crate::images::root;

/// A cargo command at the top of the tree.
pub(super) fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root()).args(arguments);
    command
}

/// Runs it; its words are seen.
pub(super) fn run(mut command: Command) -> Result<()> {
    let status = command.status().context("running cargo")?;
    ensure!(status.success(), "cargo: {status}; its words are above");
    Ok(())
}

/// Runs tests and counts them.
pub(super) fn test(mut command: Command, tally: &mut Tally) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("running cargo")?;
    let output = child.stdout.take().context("the output of cargo")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        tally.hear(&line);
    }
    let status = child.wait()?;
    ensure!(tally.failed == 0, "{} tests failed", tally.failed);
    ensure!(status.success(), "cargo test: {status}; its words are above");
    Ok(())
}

/// Is a cargo subcommand installed?
pub(super) fn has(subcommand: &str) -> bool {
    let mut command = cargo(&[subcommand, "--version"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The names of the workspace's crates.
pub(super) fn crates() -> Result<Vec<String>> {
    let output = cargo(&["metadata", "--no-deps", "--format-version=1", "--locked"])
        .stderr(Stdio::inherit())
        .output()
        .context("running cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", output.status);
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    Ok(packages.iter().filter_map(|package| package["name"].as_str().map(str::to_owned)).collect())
}

/// The names of the tests that `arguments` (of `cargo test`) would run.
pub(super) fn list(arguments: &[&str]) -> Result<Vec<String>> {
    let output = cargo(arguments)
        .stderr(Stdio::inherit())
        .output()
        .context("running cargo test for a list of tests")?;
    ensure!(output.status.success(), "the tests do not build; cargo's words are above");
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}
