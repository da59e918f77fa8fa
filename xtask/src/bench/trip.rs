//! `cargo xtask bench trip`: from the last arrival at a large Barrier to the write that opens it.
//!
//! May touch: the namespace `konductor-bench`, one Node, `target/bench/trip.json`. What must stay true: the clock starts
//! before the write by which the last one arrives.

#![expect(clippy::print_stdout, reason = "the figures are this command's output")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use super::figures::store;
use super::ledger::{follow, until};
use super::manifests::NAMESPACE;
use super::played::{PlayedNode, each, is_told, pods};
use super::{Options, prepare};
use crate::proxy::Proxy;

/// What the issue asks for.
const GOAL: Duration = Duration::from_secs(1);
const ANNOTATION: (&str, &str) = ("konductor.io/barrier", "meeting");

/// Measures, prints, and writes the results down.
pub(super) fn run(options: &Options, count: usize) -> Result<()> {
    let proxy = Arc::new(Proxy::start(&options.kubectl, &options.kubeconfig)?);
    prepare(&proxy)?;
    let node = PlayedNode::start(&proxy)?;
    let barriers = format!("/apis/konductor.io/v1/namespaces/{NAMESPACE}/barriers");
    let barrier = json!({
        "apiVersion": "konductor.io/v1", "kind": "Barrier", "metadata": {"name": "meeting"},
        "spec": {"expected": count},
    });
    proxy.create(&barriers, &barrier)?;
    let changes = follow(&proxy, &barriers);
    let names: Vec<_> = (1..count).map(|number| format!("arrives-{number:05}")).collect();
    let filling = Instant::now();
    each(&names, |name| node.place(name, ANNOTATION))?;
    node.bind("the-last", ANNOTATION)?;
    until(&changes, "all but one have arrived", |change| {
        Ok(change.object["status"]["arrived"].as_u64() == u64::try_from(count - 1).ok())
    })?;
    println!("all but one of {count} have come, and are counted, after {:.0?}", filling.elapsed());
    let bytes = proxy.text(&format!("{barriers}/meeting"))?.len();
    let told = follow(&proxy, &pods());

    let start = Instant::now();
    node.starts_waiting("the-last")?;
    let mut opened = None;
    until(&changes, "it is open", |change| {
        opened = Some(change.at);
        Ok(change.object["status"]["phase"] == "Open")
    })?;
    let trip = opened.context("a trip")?.duration_since(start);
    let mut have = BTreeSet::new();
    until(&told, "every pod has its grant", |change| {
        if is_told(&change.object) {
            have.insert(change.object["metadata"]["name"].to_string());
        }
        Ok(have.len() == count)
    })?;
    let all_told = start.elapsed();
    node.clear()?;
    drop(node);
    proxy.remove(&format!("/api/v1/namespaces/{NAMESPACE}"))?;

    let goal = if trip <= GOAL { "met" } else { "missed" };
    println!("\na Barrier of {count} arrivals, {bytes} bytes; the kubelet is played by this process");
    println!(
        "{:<60} {trip:>8.2?}  goal {GOAL:?}: {goal}",
        "from the last arrival to the write that opens it"
    );
    println!("{:<60} {all_told:>8.2?}", "until every pod has its grant");
    store(
        "trip",
        &json!({
            "arrivals": count, "bytes": bytes, "tripSeconds": trip.as_secs_f64(),
            "allToldSeconds": all_told.as_secs_f64(),
        }),
    )
}
