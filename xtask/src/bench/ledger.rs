//! `cargo xtask bench ledger`: how many grants of one Semaphore are committed in a second.
//!
//! May touch: the namespace `konductor-bench`, one Node, `target/bench/ledger.json`. What must stay true: the bare
//! compare-and-swap is measured in the same run against the same API server, and no version of a ledger that is seen may
//! hold more than there are permits.

#![expect(clippy::print_stdout, reason = "the figures are this command's output")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::figures::{rate, store};
use super::manifests::NAMESPACE;
use super::played::{PlayedNode, each, is_told, pods};
use super::{Options, prepare, writes};
use crate::proxy::{Change, Proxy};

const PATIENCE: Duration = Duration::from_secs(300);
/// Bytes of an entry of a ledger, about.
const ENTRY: usize = 330;
/// Compare-and-swap writes.
const SWAPS: usize = 200;
/// Permits where holders come and go.
const PERMITS: usize = 100;
/// What the issue asks for.
const GOAL: f64 = 500.0;

/// Measures, prints, and writes the results down.
pub(super) fn run(options: &Options, count: usize) -> Result<()> {
    let proxy = Arc::new(Proxy::start(&options.kubectl, &options.kubeconfig)?);
    prepare(&proxy)?;
    let node = PlayedNode::start(&proxy)?;
    let bare = [swaps(&proxy, "small", 1_000)?, swaps(&proxy, "large", count * ENTRY)?];
    let (ledger, told, wave_writes) = wave(&proxy, &node, count)?;
    let (sustained, sustained_writes) = sustained(&proxy, &node, count)?;
    node.clear()?;
    drop(node);
    proxy.remove(&format!("/api/v1/namespaces/{NAMESPACE}"))?;

    println!("\nin a second, one Semaphore, {count} pods; the kubelet is played by this process");
    println!("{:<66} {:>9.0}", "bare compare-and-swap writes of 1 kB, one after the other", bare[0]);
    println!("{:<66} {:>9.0}", "the same of an object as large as the ledger", bare[1]);
    let goal = if ledger >= GOAL { "met" } else { "missed" };
    println!("{:<66} {ledger:>9.0}  goal {GOAL}: {goal}", "grants committed, all permits free at once");
    println!("{:<66} {told:>9.0}", "the same, until every pod has its grant");
    println!("{:<66} {sustained:>9.0}", "grants, holders coming and going on 100 permits, to the end");
    println!("operator's writes for each grant, all at once: {wave_writes:.2?}");
    println!("operator's writes for each grant, coming and going: {sustained_writes:.2?}");
    store(
        "ledger",
        &json!({
            "pods": count,
            "perSecond": {
                "bareSwap": bare[0], "bareSwapAsLargeAsTheLedger": bare[1], "committed": ledger, "told": told,
                "sustained": sustained,
            },
            "writesPerGrant": {"atOnce": wave_writes, "sustained": sustained_writes},
        }),
    )
}

/// Writes of one object of that size in a second, each on the condition that nobody wrote it since.
fn swaps(proxy: &Proxy, name: &str, bytes: usize) -> Result<f64> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"ledger": "x".repeat(bytes)},
    });
    let mut version = proxy.create(&path, &object)?["metadata"]["resourceVersion"].clone();
    let start = Instant::now();
    for number in 0..SWAPS {
        let change =
            json!({"metadata": {"resourceVersion": version}, "data": {"number": number.to_string()}});
        version = proxy.merge(&format!("{path}/{name}"), &change)?["metadata"]["resourceVersion"].clone();
    }
    Ok(rate(SWAPS, start.elapsed()))
}

/// Everybody waits, then all permits are there: grants committed in a second, and pods told in a second.
fn wave(proxy: &Arc<Proxy>, node: &PlayedNode, count: usize) -> Result<(f64, f64, writes::Writes)> {
    let names: Vec<_> = (0..count).map(|number| format!("wave-{number:05}")).collect();
    each(&names, |name| node.place(name, ("konductor.io/semaphore", "wave")))?;
    let (ledgers, told) = (follow(proxy, &semaphores()), follow(proxy, &pods()));
    let before = writes::read(proxy)?;
    let start = Instant::now();
    semaphore(proxy, "wave", count)?;
    let mut committed = None;
    until(&ledgers, "all permits are held", |change| {
        committed = Some(change.at);
        Ok(in_use(change, "wave", count)? == Some(count))
    })?;
    let mut have = BTreeSet::new();
    until(&told, "every pod has its grant", |change| {
        if is_told(&change.object) {
            have.insert(change.object["metadata"]["name"].to_string());
        }
        Ok(have.len() == count)
    })?;
    let (told_in, since) = (start.elapsed(), committed.context("a commit")?.duration_since(start));
    let each_writes = per(&writes::since(&before, &writes::read(proxy)?), count);
    println!("all {count} grants were committed after {since:.2?}, and told after {told_in:.2?}");
    let pods_now = proxy.get(&pods())?;
    let all: Vec<_> = pods_now["items"].as_array().cloned().unwrap_or_default();
    each(&all, |pod| node.ends(pod))?;
    until(&ledgers, "nobody holds any more", |change| Ok(in_use(change, "wave", count)? == Some(0)))?;
    node.clear()?;
    Ok((rate(count, since), rate(count, told_in), each_writes))
}

/// Everybody waits for a hundred permits; whoever is told ends at once.
fn sustained(proxy: &Arc<Proxy>, node: &PlayedNode, count: usize) -> Result<(f64, writes::Writes)> {
    let names: Vec<_> = (0..count).map(|number| format!("flow-{number:05}")).collect();
    each(&names, |name| node.place(name, ("konductor.io/semaphore", "flow")))?;
    let (ledgers, told) = (follow(proxy, &semaphores()), follow(proxy, &pods()));
    let before = writes::read(proxy)?;
    let start = Instant::now();
    semaphore(proxy, "flow", PERMITS)?;
    let (mut ended, mut full) = (BTreeSet::new(), 0);
    while ended.len() < count {
        let first = told.recv_timeout(PATIENCE).context("no pod was told for minutes")?;
        let batch: Vec<_> = std::iter::once(first)
            .chain(told.try_iter())
            .map(|change| change.object)
            .filter(|pod| is_told(pod) && pod["status"]["phase"] == "Pending")
            .filter(|pod| pod["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("flow-")))
            .filter(|pod| ended.insert(pod["metadata"]["name"].to_string()))
            .collect();
        each(&batch, |pod| node.ends(pod))?;
        for change in ledgers.try_iter() {
            full = full.max(in_use(&change, "flow", PERMITS)?.unwrap_or(0));
        }
    }
    let took = start.elapsed();
    println!("{count} pods had one of {PERMITS} permits each within {took:.2?}; at most {full} held at once");
    Ok((rate(count, took), per(&writes::since(&before, &writes::read(proxy)?), count)))
}

/// How many permits of that semaphore are held, if it is the one; more than there are is an error.
fn in_use(change: &Change, name: &str, permits: usize) -> Result<Option<usize>> {
    if change.object["metadata"]["name"] != name {
        return Ok(None);
    }
    let held = change.object["status"]["holders"].as_array().map_or(0, Vec::len);
    ensure!(held <= permits, "SemaphoreBound: {held} of {permits} permits");
    Ok(Some(held))
}

fn semaphore(proxy: &Proxy, name: &str, permits: usize) -> Result<()> {
    let object = json!({
        "apiVersion": "konductor.io/v1", "kind": "Semaphore", "metadata": {"name": name}, "spec": {"permits": permits},
    });
    proxy.create(&semaphores(), &object).map(drop)
}

fn semaphores() -> String {
    format!("/apis/konductor.io/v1/namespaces/{NAMESPACE}/semaphores")
}

/// What is there, and every change.
pub(super) fn follow(proxy: &Proxy, path: &str) -> Receiver<Change> {
    let (sender, changes) = channel();
    proxy.follow(path, sender);
    changes
}

/// Reads changes until it is so.
pub(super) fn until(
    changes: &Receiver<Change>,
    what: &str,
    mut so: impl FnMut(&Change) -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(change) = changes.recv_timeout(left) else {
            bail!("waited {PATIENCE:?} in vain until {what}")
        };
        if so(&change)? {
            return Ok(());
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn per(writes: &writes::Writes, count: usize) -> writes::Writes {
    writes.iter().map(|(what, sum)| (what.clone(), sum / count as f64)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn more_holders_than_permits_end_the_bench() {
        let ledger = |holders: usize| Change {
            object: json!({"metadata": {"name": "a"}, "status": {"holders": vec![Value::Null; holders]}}),
            at: Instant::now(),
        };
        assert_eq!(in_use(&ledger(2), "a", 2).unwrap(), Some(2));
        assert!(in_use(&ledger(3), "a", 2).is_err());
        assert_eq!(in_use(&ledger(3), "another", 2).unwrap(), None);
    }
}
