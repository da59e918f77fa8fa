//! `cargo xtask bench crowd`: what ten thousand waiting pods cost while nothing happens, when one goes on, and at a start.
//!
//! May touch: the namespace `konductor-bench`, one Node, the operator's pods (it is started anew), `target/bench/crowd.json`. What must
//! stay true: requests and writes are those that the operators count themselves, all replicas together; the hand-over is that of
//! one among all who wait.

#![expect(clippy::print_stdout, reason = "the figures are this command's output")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::figures::store;
use super::ledger::{follow, until};
use super::manifests::NAMESPACE;
use super::played::{PlayedNode, each, is_told, pods};
use super::{Options, memory, prepare, scrape, writes};
use crate::install::NAMESPACE as SYSTEM;
use crate::proxy::{Change, Proxy};

const ANNOTATION: (&str, &str) = ("konductor.io/mutex", "crowded");
const COMPONENT: &str = "controller-manager";
const REQUESTS: &str = "konductor_api_requests_total{verb=\"";
/// For how long nothing happens.
const IDLE: Duration = Duration::from_secs(60);
/// Hand-overs.
const TURNS: usize = 20;
const START_GOAL: Duration = Duration::from_secs(10);
const MEMORY_GOAL: u64 = 100 * 1024;

/// Measures, prints, and writes the results down.
pub(super) fn run(options: &Options, count: usize) -> Result<()> {
    let proxy = Arc::new(Proxy::start(&options.kubectl, &options.kubeconfig)?);
    prepare(&proxy)?;
    let node = PlayedNode::start(&proxy)?;
    let mutexes = format!("/apis/konductor.io/v1/namespaces/{NAMESPACE}/mutexes");
    let mutex = json!({"apiVersion": "konductor.io/v1", "kind": "Mutex", "metadata": {"name": ANNOTATION.1}});
    proxy.create(&mutexes, &mutex)?;
    let (ledgers, told) = (follow(&proxy, &mutexes), follow(&proxy, &pods()));
    let filling = Instant::now();
    let names: Vec<_> = (0..count).map(|number| format!("waits-{number:05}")).collect();
    each(&names, |name| node.place(name, ANNOTATION))?;
    until(&ledgers, "all but one wait", |change| {
        Ok(change.object["status"]["waiting"].as_u64() == u64::try_from(count - 1).ok())
    })?;
    println!("{count} pods have come, and all but one wait, after {:.0?}", filling.elapsed());
    // What was put off for others' sake is written within seconds.
    sleep(Duration::from_secs(15));

    let idle = idle(&proxy)?;
    let mut holder = next(&told)?;
    let before = writes::read(&proxy)?;
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        let start = Instant::now();
        node.ends(&holder)?;
        holder = next(&told)?;
        turns.push(start.elapsed());
    }
    let per_turn = writes::since(&before, &writes::read(&proxy)?);
    turns.sort_unstable();
    let resident = resident(&proxy)?;

    let started = start_anew(&proxy, &node, &holder, &told)?;
    let resident_anew = self::resident(&proxy)?;
    node.clear()?;
    drop(node);
    proxy.remove(&format!("/api/v1/namespaces/{NAMESPACE}"))?;

    let met = |good: bool| if good { "met" } else { "missed" };
    let median = turns.get(TURNS / 2).copied().unwrap_or_default();
    let most = resident.iter().chain(&resident_anew).copied().max().unwrap_or_default();
    println!("\n{count} pods wait for one Mutex; the kubelet is played by this process");
    println!("requests in {IDLE:?} in which nothing happens, all operators: {idle:.0?}");
    println!("{:<60} {median:>8.0?}", "from the end of a holder to the next grant (p50)");
    println!("writes of {TURNS} hand-overs: {per_turn:.0?}");
    let goal = met(most <= MEMORY_GOAL);
    println!(
        "memory of each operator (VmRSS), KiB: {resident:?}, started anew: {resident_anew:?}; goal {MEMORY_GOAL}: {goal}"
    );
    let goal = met(started <= START_GOAL);
    println!(
        "{:<60} {started:>8.1?}  goal {START_GOAL:?}: {goal}",
        "from the start of the process to the first grant"
    );
    store(
        "crowd",
        &json!({
            "pods": count, "idleSeconds": IDLE.as_secs(), "idleRequests": idle, "handoverSeconds": median.as_secs_f64(),
            "handovers": TURNS, "writes": per_turn, "residentKiB": resident, "residentAnewKiB": resident_anew,
            "startSeconds": started.as_secs_f64(),
        }),
    )
}

/// Requests of the operators while nothing happens, by verb.
fn idle(proxy: &Proxy) -> Result<BTreeMap<String, f64>> {
    let before = requests(proxy)?;
    sleep(IDLE);
    let after = requests(proxy)?;
    let more = after.into_iter().map(|(verb, count)| {
        let since = count - before.get(&verb).copied().unwrap_or_default();
        (verb, since)
    });
    Ok(more.filter(|(_, count)| *count > 0.0).collect())
}

fn requests(proxy: &Proxy) -> Result<BTreeMap<String, f64>> {
    let mut requests = BTreeMap::<_, f64>::new();
    for text in scrape::component(proxy, COMPONENT, "metrics")? {
        let counts = text.lines().filter_map(|line| line.strip_prefix(REQUESTS)?.split_once("\"} "));
        for (verb, count) in counts {
            *requests.entry(verb.to_owned()).or_default() += count.parse::<f64>().context("a counter")?;
        }
    }
    Ok(requests)
}

/// The next pod that is told to start.
fn next(told: &Receiver<Change>) -> Result<Value> {
    let mut found = Value::Null;
    until(told, "somebody is told to start", |change| {
        let so = is_told(&change.object) && change.object["status"]["phase"] == "Pending";
        if so {
            found = change.object.clone();
        }
        Ok(so)
    })?;
    Ok(found)
}

/// The operator is away while the holder ends; from the start of its process to the grant that follows.
fn start_anew(proxy: &Proxy, node: &PlayedNode, holder: &Value, told: &Receiver<Change>) -> Result<Duration> {
    let deployment = format!("/apis/apps/v1/namespaces/{SYSTEM}/deployments/konductor-controller-manager");
    let replicas = proxy.get(&deployment)?["spec"]["replicas"].clone();
    let scale = |replicas: &Value| proxy.merge(&deployment, &json!({"spec": {"replicas": replicas}}));
    scale(&json!(0))?;
    while !operators(proxy)?.is_empty() {
        sleep(Duration::from_millis(100));
    }
    node.ends(holder)?;
    scale(&replicas)?;
    next(told)?;
    let granted = jiff::Timestamp::now();
    let started = operators(proxy)?
        .iter()
        .filter_map(|pod| {
            let state = &pod["status"]["containerStatuses"][0]["state"]["running"];
            state["startedAt"].as_str()?.parse::<jiff::Timestamp>().ok()
        })
        .min()
        .context("an operator that runs")?;
    Ok(Duration::try_from(granted.duration_since(started)).unwrap_or_default())
}

fn operators(proxy: &Proxy) -> Result<Vec<Value>> {
    let selector = format!("app.kubernetes.io/component%3D{COMPONENT}");
    let list = proxy.get(&format!("/api/v1/namespaces/{SYSTEM}/pods?labelSelector={selector}"))?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

fn resident(proxy: &Proxy) -> Result<Vec<u64>> {
    let uids = memory::uids(&json!({"items": operators(proxy)?}));
    Ok(memory::resident("konductor-operator", &uids))
}
