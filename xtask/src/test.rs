//! `cargo xtask test`: every check and every test, cheap ones first; `.ci/run` calls it.
//!
//! May touch: `target/`, and a cluster of its own (or the one that was named). What must stay true: one command tells
//! whether the tree is good; what could not be checked is told and never taken for fine; a cluster that this run
//! brought up is gone afterwards, and one that was there stays.
//!
//! The way through: [`mod@cargo`], [`chart`] (checks without a cluster) → [`cluster`] (those with one); [`report`] and
//! [`tally`] tell how it went.

mod cargo;
mod chart;
mod cluster;
mod report;
mod tally;

pub(crate) use cluster::koncli;

use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use konductor_cluster::{Kubernetes, Progress};

use self::cargo::cargo;
use self::report::Report;
use crate::generate;
use crate::target::Choice;

/// What to test.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Options {
    /// Only tests whose name contains one of these, and no other checks
    filter: Vec<String>,
    /// Only what needs no cluster
    #[arg(long)]
    no_cluster: bool,
    #[command(flatten)]
    choice: Choice,
    /// Name of the cluster to bring up; not the one of `cargo xtask demo`, so that both can run
    #[arg(long, default_value = "test")]
    name: String,
    /// The Kubernetes of that cluster: 1.30, 1.36 or 1.37
    #[arg(long, default_value_t = Kubernetes::DEFAULT, conflicts_with = "kubeconfig", value_name = "MINOR")]
    kubernetes: Kubernetes,
    /// Leave the cluster running
    #[arg(long)]
    keep: bool,
    /// Check each crate alone too, which is slow: a manifest that only works beside others fails there
    #[arg(long)]
    each_alone: bool,
    /// Begin nothing after a failure
    #[arg(long)]
    fail_fast: bool,
}

/// Runs what was asked for and fails if anything did.
pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let mut report = Report::new(options.fail_fast);
    if options.filter.is_empty() {
        checks(&mut report, options.each_alone);
    }
    let arguments = with_filter(&["test", "--workspace", "--locked", "--no-fail-fast"], &[], &options.filter);
    report.tests("tests without a cluster", |tally| cargo::test(cargo(&as_strs(&arguments)), tally));
    if options.no_cluster {
        report.skip("tests on a cluster", "--no-cluster");
    } else {
        cluster::run(&mut report, options);
    }
    report.finish(started)
}

/// Everything that is no test, cheapest first.
fn checks(report: &mut Report, each_alone: bool) {
    report.step("formatting", || cargo::run(cargo(&["fmt", "--all", "--check"])));
    report.step("generated files", || generate::run(true));
    report.step("clippy", || {
        cargo::run(cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
    });
    report.step("documentation of the code", || {
        let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"]);
        doc.env("RUSTDOCFLAGS", "-D warnings");
        cargo::run(doc)
    });
    // Only what is in the tree: a new advisory must not turn an unrelated change red.
    if cargo::has("deny") {
        report.step("licences and bans", || {
            cargo::run(cargo(&["deny", "--locked", "check", "licenses", "bans", "sources"]))
        });
    } else {
        report.skip("licences and bans", "cargo-deny is not installed");
    }
    if each_alone {
        report.step("each crate alone", || {
            for name in cargo::crates()? {
                cargo::run(cargo(&["check", "--quiet", "--locked", "--package", &name]))
                    .with_context(|| format!("{name} builds only beside others"))?;
            }
            Ok(())
        });
    } else {
        report.skip("each crate alone", "--each-alone was not given");
    }
    report.step("chart", || match konductor_cluster::helm(Progress::Shown) {
        Ok(helm) => chart::check(&helm),
        Err(error) => bail!("helm is needed and could not be built: {error:#}"),
    });
}

/// The arguments of `cargo test`, those of the tests behind them.
fn with_filter(cargo: &[&str], tests: &[&str], filter: &[String]) -> Vec<String> {
    let mut arguments: Vec<_> = cargo.iter().map(|&argument| argument.to_owned()).collect();
    if !tests.is_empty() || !filter.is_empty() {
        arguments.push("--".to_owned());
        arguments.extend(tests.iter().map(|&argument| argument.to_owned()));
        arguments.extend_from_slice(filter);
    }
    arguments
}

fn as_strs(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_go_to_the_tests_and_not_to_cargo() {
        let filter = ["a".to_owned(), "b".to_owned()];
        assert_eq!(with_filter(&["test"], &[], &filter), ["test", "--", "a", "b"]);
        assert_eq!(with_filter(&["test"], &["--ignored"], &[]), ["test", "--", "--ignored"]);
        assert_eq!(with_filter(&["test"], &[], &[]), ["test"]);
    }
}
