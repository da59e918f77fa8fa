//! The command: lives seeds, many on all processors, or one that is told.
//!
//! May touch: standard output and threads. What must stay true: which seed is lived when changes nothing of how it is lived.

use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Parser;

use crate::flaw::{FLAWS, Flaw};
use crate::life::{Outcome, Way, live};

/// The real operator over an API server in memory, in a cluster where everything goes wrong.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask sim")]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Live only this one, and tell what happens
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    replay: Option<u64>,
    /// Plant this bug, by name; `all`: one after the other, each until it is found
    #[arg(long)]
    flaw: Option<Planted>,
    /// Go on after a seed that ends badly
    #[arg(long)]
    all: bool,
    /// How many at a time; as many as there are processors if left out
    #[arg(long)]
    jobs: Option<usize>,
}

/// Which bugs to plant.
#[derive(Clone, Copy, Debug)]
enum Planted {
    Each,
    One(Flaw),
}

impl FromStr for Planted {
    type Err = String;

    /// A name that is misspelt must not be a run without a bug, which would look as if it had not been found.
    fn from_str(name: &str) -> Result<Self, String> {
        if name == "all" {
            return Ok(Self::Each);
        }
        let called = |flaw: &Flaw| format!("{flaw:?}").eq_ignore_ascii_case(name);
        FLAWS.into_iter().find(called).map(Self::One).ok_or_else(|| format!("none of {FLAWS:?}"))
    }
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let flaw = match arguments.flaw {
        Some(Planted::Each) => return each_flaw(&arguments),
        Some(Planted::One(flaw)) => Some(flaw),
        None => None,
    };
    if let Some(seed) = arguments.replay {
        return replay(seed, flaw);
    }
    let bad = many(&arguments, flaw, !arguments.all);
    if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "a command")]
fn replay(seed: u64, flaw: Option<Flaw>) -> ExitCode {
    let outcome = live(seed, Way { flaw, told: true });
    for line in &outcome.lines {
        println!("{line}");
    }
    println!(
        "seed {seed}: {:.1} s, digest {:016x}, {:?}",
        outcome.age.as_secs_f64(),
        outcome.digest,
        outcome.tally
    );
    if outcome.broken.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[expect(clippy::print_stdout, reason = "a command")]
fn tell(outcome: &Outcome) {
    if let Some(broken) = &outcome.broken {
        println!(
            "seed {}: {} after {:.1} s: {}",
            outcome.seed,
            broken.invariant,
            broken.at.as_secs_f64(),
            broken.detail
        );
    }
}

/// The bad ones.
#[expect(clippy::print_stdout, reason = "a command")]
fn many(arguments: &Arguments, flaw: Option<Flaw>, stop: bool) -> Vec<Outcome> {
    let began = Instant::now();
    let end = arguments.start + arguments.seeds;
    let next = AtomicU64::new(arguments.start);
    let bad = Mutex::new(Vec::new());
    let total = Mutex::new(std::collections::BTreeMap::<&str, usize>::new());
    let lived = AtomicU64::new(0);
    let jobs =
        arguments.jobs.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = live(seed, Way { flaw, told: false });
                    for (what, count) in &outcome.tally {
                        *total.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() +=
                            count;
                    }
                    let so_far = lived.fetch_add(1, Ordering::Relaxed) + 1;
                    if so_far.is_multiple_of(1000) && flaw.is_none() {
                        println!("{so_far} seeds, the last {seed}, {:.0} s", began.elapsed().as_secs_f64());
                    }
                    if outcome.broken.is_some() {
                        if flaw.is_none() {
                            tell(&outcome);
                        }
                        if stop {
                            next.store(end, Ordering::Relaxed);
                        }
                        bad.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                    }
                }
            });
        }
    });
    let mut bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
    bad.sort_by_key(|outcome| outcome.seed);
    if flaw.is_none() {
        let seconds = began.elapsed().as_secs_f64();
        let lived = lived.into_inner();
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = lived as f64 / seconds;
        println!("{lived} seeds in {seconds:.1} s, {rate:.0} a second, {} bad", bad.len());
        println!("{:?}", total.into_inner().unwrap_or_else(PoisonError::into_inner));
    }
    bad
}

/// In how many seeds is each planted bug found?
#[expect(clippy::print_stdout, reason = "a command")]
fn each_flaw(arguments: &Arguments) -> ExitCode {
    let mut missed = 0;
    for flaw in FLAWS {
        let bad = many(arguments, Some(flaw), true);
        if let Some(outcome) = bad.first() {
            let broken = outcome.broken.as_ref().map_or("", |broken| broken.invariant);
            println!("{flaw:?}: {} seeds, {broken}", outcome.seed - arguments.start + 1);
        } else {
            missed += 1;
            println!("{flaw:?}: not found in {} seeds", arguments.seeds);
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
