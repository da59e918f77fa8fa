//! `cargo xtask bench admission`: what Konductor adds to the creation of pods and Jobs, annotated or not.
//!
//! May touch: two namespaces, `target/bench/admission.json`; what it creates is a dry run, which goes the whole way but for
//! the store. What must stay true: the ways are taken in turns, one call of each after the other, so that whatever else the
//! machine does slows all of them; and the webhook's own counter says whom it was asked about.

#![expect(clippy::print_stdout, reason = "the figures are this command's output")]

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::figures::{Sample, store};
use super::manifests::NAMESPACE;
use super::{Options, prepare, scrape};
use crate::proxy::Proxy;

/// Where neither webhook nor policies look.
const WITHOUT: &str = "konductor-bench-without";
const COUNTER: &str = "konductor_webhook_requests_total{";

/// A way to create something.
struct Way {
    what: &'static str,
    path: String,
    object: Value,
    took: Sample,
}

/// Measures, prints, and writes the results down.
pub(super) fn run(options: &Options, rounds: usize) -> Result<()> {
    let proxy = Proxy::start(&options.kubectl, &options.kubeconfig)?;
    prepare(&proxy)?;
    let without = format!("/api/v1/namespaces/{WITHOUT}");
    proxy.remove(&without)?;
    let labels = json!({"konductor.io/break-glass": ""});
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": WITHOUT, "labels": labels}});
    proxy.create("/api/v1/namespaces", &namespace)?;
    let mut ways = [
        way("a pod without Konductor", WITHOUT, pod(false)),
        way("a pod that is not annotated", NAMESPACE, pod(false)),
        way("a pod that is annotated", NAMESPACE, pod(true)),
        way("a Job without Konductor", WITHOUT, job(false)),
        way("a Job that is not annotated", NAMESPACE, job(false)),
        way("a Job that is annotated", NAMESPACE, job(true)),
    ];
    // The first calls of a namespace wait for its ServiceAccount, and for connections.
    for way in &ways {
        for _ in 0..20 {
            proxy.create(&way.path, &way.object)?;
        }
    }
    let annotated = |way: &&Way| way.object["metadata"]["annotations"].is_object();
    let asked = asked(&proxy)?;
    for _ in 0..rounds {
        for way in &mut ways {
            let start = Instant::now();
            proxy.create(&way.path, &way.object)?;
            way.took.extend([start.elapsed().as_secs_f64()]);
        }
    }
    let asked = self::asked(&proxy)? - asked;
    proxy.remove(&without)?;
    proxy.remove(&format!("/api/v1/namespaces/{NAMESPACE}"))?;

    println!("\ndry runs, {rounds} of each, one after the other, as a client sees them, in ms");
    println!("{:<32} {:>7} {:>7} {:>7}", "", "p50", "p99", "max");
    for Way { what, took, .. } in &ways {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| took.at(share).unwrap_or_default() * 1e3);
        println!("{what:<32} {p50:>7.2} {p99:>7.2} {max:>7.2}");
    }
    let expected = rounds * ways.iter().filter(annotated).count();
    println!("the webhook was asked {asked} times, about {expected} annotated objects");
    ensure!(asked == u64::try_from(expected)?, "the webhook was asked about what did not ask for it");
    let rows: Vec<_> = ways.iter().map(|way| json!({"what": way.what, "took": way.took.json()})).collect();
    store("admission", &json!({"rounds": rounds, "asked": asked, "ways": rows}))
}

fn way(what: &'static str, namespace: &str, object: Value) -> Way {
    let collection = match object["kind"].as_str() {
        Some("Job") => format!("/apis/batch/v1/namespaces/{namespace}/jobs"),
        _ => format!("/api/v1/namespaces/{namespace}/pods"),
    };
    Way { what, path: format!("{collection}?dryRun=All"), object, took: Sample::default() }
}

fn metadata(annotated: bool) -> Value {
    if annotated {
        json!({"name": "x", "annotations": {"konductor.io/mutex": "bench"}})
    } else {
        json!({"name": "x"})
    }
}

fn spec() -> Value {
    json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox:1.36"}]})
}

fn pod(annotated: bool) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata(annotated), "spec": spec()})
}

fn job(annotated: bool) -> Value {
    let template = json!({"template": {"spec": spec()}});
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata(annotated), "spec": template})
}

/// How often all replicas of the webhook were asked.
fn asked(proxy: &Proxy) -> Result<u64> {
    let metrics = scrape::component(proxy, "webhook", "health")?;
    let counts = metrics.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with(COUNTER));
    Ok(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}
