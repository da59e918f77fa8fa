//! `cargo xtask bench handover`: from the end of one main container to the start of the next one.
//!
//! May touch: the namespace `konductor-bench` and `target/bench/handover.json`. What must stay true: the floor is
//! measured in the same run, chain by chain in turn with Konductor's, and ends are spread over the second that the
//! kubelet's rounds last, for in step with it every figure is the same wrong one.

#![expect(clippy::print_stdout, reason = "the figures are this command's output")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use super::chain;
use super::figures::{HEADS, Sample, store};
use super::manifests::{CHAIN, Case, NAMESPACE};
use super::writes::{self, Writes};
use super::{Options, memory, prepare};
use crate::install;
use crate::proxy::Proxy;

/// Hand-overs in one chain.
const LINKS: usize = 5;
/// How long a main container runs at least: long enough for the kubelet to have come to rest after its start.
const SHORTEST: f64 = 1.0;
/// Multiples of it, cut to what stands behind the point, fill the second evenly however many there are.
const GOLDEN: f64 = 0.618_033_988_749_895;
/// Issue and design ask for no more than this times the floor.
const GOAL: f64 = 1.1;

/// All that was measured.
#[derive(Default)]
struct Results {
    handovers: BTreeMap<Case, Sample>,
    reactions: Sample,
    writes: BTreeMap<Case, Writes>,
    holds: BTreeMap<Case, usize>,
    waiters_kib: Vec<u64>,
}

/// Measures so many hand-overs of each kind, rounded up to whole chains; prints, and writes the results down.
pub(super) fn run(options: &Options, rounds: usize) -> Result<()> {
    let proxy = Proxy::start(&options.kubectl, &options.kubeconfig)?;
    prepare(&proxy)?;
    let chains = rounds.div_ceil(LINKS).max(1);
    let (start, mut results) = (Instant::now(), Results::default());
    println!(
        "{chains} chains of {LINKS} hand-overs of each kind; this takes about {} minutes",
        minutes(chains)
    );
    for number in 0..chains {
        for case in Case::ALL {
            results.measure(&proxy, case, number)?;
        }
        println!("{:>5} s  chain {} of {chains}", start.elapsed().as_secs(), number + 1);
    }
    let operators = proxy.get(&format!(
        "/api/v1/namespaces/{}/pods?labelSelector=app.kubernetes.io/component%3Dcontroller-manager",
        install::NAMESPACE
    ))?;
    let operator_kib = memory::resident("konductor-operator", &memory::uids(&operators));
    let waiter_bytes = memory::in_image(&options.waiter, "konductor-wait")?;
    proxy.delete(&format!("/api/v1/namespaces/{NAMESPACE}"))?;
    results.print();
    println!(
        "\nkonductor-wait: {waiter_bytes} bytes on disk; in memory while it waits: {}",
        kib(&results.waiters_kib)
    );
    println!("operator in memory: {}", kib(&operator_kib));
    store("handover", &results.json(waiter_bytes, &operator_kib))
}

/// Starting and clearing away a chain takes about six seconds, a link about three.
fn minutes(chains: usize) -> usize {
    (chains * Case::ALL.len() * (6 + 3 * LINKS)).div_ceil(60)
}

/// How long each main container of a chain runs. The last one hands over to nobody.
fn seconds(number: usize) -> Vec<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
    let fraction = |link: usize| ((number * LINKS + link) as f64 * GOLDEN).fract();
    (0..LINKS).map(|link| SHORTEST + fraction(link)).chain([0.0]).collect()
}

impl Results {
    fn measure(&mut self, proxy: &Proxy, case: Case, number: usize) -> Result<()> {
        let name = format!("{}-{number:03}", case.name());
        let before = if case == Case::Floor { Writes::new() } else { writes::read(proxy)? };
        let waiters_kib = RefCell::new(Vec::new());
        let look = || {
            if case == Case::Floor || number > 0 {
                return;
            }
            let path = format!("/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={CHAIN}%3D{name}");
            let uids = proxy.get(&path).map(|list| memory::uids(&list)).unwrap_or_default();
            *waiters_kib.borrow_mut() = memory::resident("konductor-wait", &uids);
        };
        let outcome = chain::run(proxy, case, &name, &seconds(number), look)?;
        if case != Case::Floor {
            let more = writes::since(&before, &writes::read(proxy)?);
            let sum = self.writes.entry(case).or_default();
            for (what, count) in more {
                *sum.entry(what).or_default() += count;
            }
            *self.holds.entry(case).or_default() += LINKS + 1;
        }
        self.handovers.entry(case).or_default().extend(outcome.handovers);
        self.reactions.extend(outcome.reactions);
        self.waiters_kib.extend(waiters_kib.into_inner());
        Ok(())
    }

    /// How many times the floor's median a case's median is.
    fn ratio(&self, case: Case) -> Option<f64> {
        Some(self.handovers.get(&case)?.at(0.5)? / self.handovers.get(&Case::Floor)?.at(0.5)?)
    }

    fn print(&self) {
        println!("\nfrom the end of main to the start of the next main, in seconds");
        println!("{:<34} {HEADS}  times the floor", "");
        for (case, sample) in &self.handovers {
            let ratio = self.ratio(*case).map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            println!("{:<34} {}  {ratio}", case.title(), sample.row());
        }
        println!("goal: at most {GOAL} times the floor");
        println!(
            "\nthe floor's own reaction, from seeing an end to having told the next:\n{:<34} {HEADS}",
            ""
        );
        println!("{:<34} {}", "", self.reactions.row());
        for (case, writes) in &self.writes {
            println!("\nAPI writes of the operator for each hold, {}:", case.title());
            for (what, each) in self.each(*case, writes) {
                println!("  {what:<12} {each:>6.2}");
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
    fn each<'a>(&self, case: Case, writes: &'a Writes) -> impl Iterator<Item = (&'a str, f64)> {
        let holds = self.holds.get(&case).copied().unwrap_or(1).max(1) as f64;
        writes.iter().map(move |(what, count)| (what.as_str(), count / holds))
    }

    fn json(&self, waiter_bytes: u64, operator_kib: &[u64]) -> Value {
        let cases: BTreeMap<_, _> = self
            .handovers
            .iter()
            .map(|(case, sample)| {
                let mut value = sample.json();
                value["timesTheFloor"] = json!(self.ratio(*case));
                if let Some(writes) = self.writes.get(case) {
                    value["writesPerHold"] = json!(self.each(*case, writes).collect::<BTreeMap<_, _>>());
                }
                (case.name(), value)
            })
            .collect();
        json!({
            "handover": cases,
            "floorReaction": self.reactions.json(),
            "waiterBytes": waiter_bytes,
            "waiterResidentKiB": self.waiters_kib,
            "operatorResidentKiB": operator_kib,
        })
    }
}

fn kib(values: &[u64]) -> String {
    match (values.iter().min(), values.iter().max()) {
        (Some(least), Some(most)) if least == most => format!("{least} KiB"),
        (Some(least), Some(most)) => format!("{least} to {most} KiB ({} processes)", values.len()),
        _ => "not seen from this machine".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_spread_over_the_second() {
        let mut fractions: Vec<_> =
            (0..12).flat_map(|number| seconds(number).into_iter().take(LINKS)).map(f64::fract).collect();
        fractions.sort_by(f64::total_cmp);
        assert_eq!(fractions.len(), 60);
        // Sixty ends, and no gap of more than three sixtieths.
        assert!(fractions.windows(2).all(|pair| pair[1] - pair[0] < 0.05), "{fractions:?}");
    }

    #[test]
    fn medians_are_compared_with_the_floors() {
        let mut results = Results::default();
        results.handovers.entry(Case::Floor).or_default().extend([2.0]);
        results.handovers.entry(Case::Job).or_default().extend([3.0]);
        assert_eq!(results.ratio(Case::Job), Some(1.5));
        assert_eq!(results.ratio(Case::Pod), None);
        assert_eq!(results.json(7, &[])["handover"]["job"]["timesTheFloor"], 1.5);
        assert_eq!((kib(&[]), kib(&[5, 5]).as_str()), ("not seen from this machine".to_owned(), "5 KiB"));
    }
}
