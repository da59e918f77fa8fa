//! `cargo xtask fuzz`: libFuzzer on the targets of `fuzz/`.
//!
//! May touch: `fuzz/corpus` and `fuzz/artifacts`, which are not committed, and `target/`. What must stay true: the
//! toolchain of the tree is enough. Coverage needs no nightly compiler; sanitizers would, and there is no unsafe code in
//! what is fuzzed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::images::{root, target_folder};

/// What to fuzz.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// One of review, annotations, pods, grant; all of them if left out
    target: Option<String>,
    /// For how long, each
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
}

/// The targets, and the folders of inputs that they start from.
const TARGETS: [(&str, &[&str]); 4] = [
    ("review", &["fuzz/seeds/review", "webhook/tests/reviews"]),
    ("annotations", &["fuzz/seeds/annotations"]),
    ("pods", &["fuzz/seeds/pods"]),
    ("grant", &["fuzz/seeds/grant"]),
];

/// Fuzzes one target or all, one after the other; the first that finds something ends it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted = |name: &str| options.target.as_deref().is_none_or(|target| target == name);
    let targets: Vec<_> = TARGETS.into_iter().filter(|(name, _)| wanted(name)).collect();
    if targets.is_empty() {
        bail!("there is no such target; there are {}", TARGETS.map(|(name, _)| name).join(", "));
    }
    let program = cargo_fuzz()?;
    // Apart from other builds, which have no instrumentation.
    let target = target_folder();
    for (name, seeds) in targets {
        // What libFuzzer finds new goes into the first folder.
        let corpus = root().join("fuzz/corpus").join(name);
        std::fs::create_dir_all(&corpus).with_context(|| format!("creating {}", corpus.display()))?;
        let status = Command::new(&program)
            .current_dir(root())
            .env("CARGO_TARGET_DIR", target.join("fuzz"))
            .args(["fuzz", "run", "--fuzz-dir", "fuzz", "--sanitizer", "none", name])
            .arg(corpus)
            .args(seeds)
            .args(["--", "-timeout=10", "-max_len=65536", "-print_final_stats=1"])
            .arg(format!("-max_total_time={}", options.minutes * 60))
            .status()
            .context("running cargo-fuzz")?;
        ensure!(
            status.success(),
            "{name}: {status}; if it was an input, it is in fuzz/artifacts/{name}: fix what it breaks, and keep it in \
             fuzz/seeds/{name}, where `cargo test -p konductor-webhook --test fuzz` tries it from then on"
        );
    }
    Ok(())
}

/// The one that is installed, else one of our own in `target/`.
fn cargo_fuzz() -> Result<PathBuf> {
    let works = |program: &PathBuf| {
        let mut command = Command::new(program);
        command.args(["fuzz", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let tools = root().join("target/tools");
    let own = tools.join("bin/cargo-fuzz");
    for program in [PathBuf::from("cargo-fuzz"), own.clone()] {
        if works(&program) {
            return Ok(program);
        }
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let install = ["install", "cargo-fuzz", "--version", "^0.13", "--locked", "--root"];
    let status = Command::new(cargo).args(install).arg(&tools).status().context("installing cargo-fuzz")?;
    ensure!(status.success(), "cargo-fuzz could not be installed: {status}");
    Ok(own)
}
