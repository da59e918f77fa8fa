//! One chain: a first member that runs, others that wait behind it, and the times at which they took over.
//!
//! May touch: objects of the bench's namespace. What must stay true: no hand-over is measured before everybody waits,
//! the times are written by the containers themselves on one clock, and nothing of a chain is left when it is over.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use konductor_api::annotations::WAITER_CONTAINER;
use serde_json::{Value, json};

use super::manifests::{CHAIN, Case, FLOOR_WAITER, GO, Member, NAMESPACE, OPEN};
use crate::proxy::{Change, Proxy, refused};

const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(100);

/// What came out of a chain.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// From each main's end to the next main's start, in seconds.
    pub(super) handovers: Vec<f64>,
    /// How long this process took from seeing an end to having told the next one; of the floor only.
    pub(super) reactions: Vec<f64>,
}

/// Pods as they were last, in the order of their creation.
struct Pods<'a> {
    proxy: &'a Proxy,
    changes: Receiver<Change>,
    known: BTreeMap<String, Value>,
}

/// Runs a chain. `seconds` has one entry for each main container; `meanwhile` is called while all but one wait.
pub(super) fn run(
    proxy: &Proxy,
    case: Case,
    chain: &str,
    seconds: &[f64],
    meanwhile: impl FnOnce(),
) -> Result<Outcome> {
    let outcome = links(proxy, case, chain, seconds, meanwhile);
    let cleared = clear(proxy, chain);
    outcome.and_then(|outcome| cleared.map(|()| outcome)).with_context(|| format!("chain {chain}"))
}

fn links(
    proxy: &Proxy,
    case: Case,
    chain: &str,
    seconds: &[f64],
    meanwhile: impl FnOnce(),
) -> Result<Outcome> {
    if case != Case::Floor {
        let mutex = json!({"apiVersion": "konductor.io/v1", "kind": "Mutex", "metadata": {"name": chain}, "spec": {}});
        proxy.create(&mutexes(), &mutex)?;
    }
    let (sender, changes) = channel();
    proxy.follow(&format!("{}?labelSelector={CHAIN}%3D{chain}", pods()), sender);
    let mut pods = Pods { proxy, changes, known: BTreeMap::new() };
    let names: Vec<_> = (0..seconds.len()).map(|number| format!("{chain}-{number:02}")).collect();
    for (index, (name, &seconds)) in names.iter().zip(seconds).enumerate() {
        let (path, object) = case.manifest(&Member { name, chain, seconds, first: index == 0 });
        create(proxy, &path, &object)?;
        if index == 0 {
            pods.until("the first member runs", |pods| running(pods, 1))?;
        }
    }
    let waiter = if case == Case::Floor { FLOOR_WAITER } else { WAITER_CONTAINER };
    pods.until("all others wait", |pods| {
        pods.values().filter(|pod| waits(pod, waiter)).count() == seconds.len() - 1
    })?;
    meanwhile();
    let first = pods.name_of(&names, 0)?;
    pods.tell(&first, OPEN)?;
    let mut outcome = Outcome::default();
    if case == Case::Floor {
        for (index, next) in names.iter().enumerate().skip(1) {
            let last = pods.name_of(&names, index - 1)?;
            let seen = pods.until("the end of a member", |pods| pods.get(&last).is_some_and(ended))?;
            pods.tell(next, GO)?;
            outcome.reactions.push(seen.elapsed().as_secs_f64());
        }
    }
    pods.until("all members have ended", |pods| {
        pods.values().filter(|pod| ended(pod)).count() == seconds.len()
    })?;
    let mut runs = pods.known.keys().map(|name| times(proxy, name)).collect::<Result<Vec<_>>>()?;
    runs.sort_by(|one, other| one.0.total_cmp(&other.0));
    for pair in runs.windows(2) {
        if let [(_, end), (start, _)] = pair {
            ensure!(start >= end, "two members ran at the same time: one until {end}, one from {start}");
            outcome.handovers.push(start - end);
        }
    }
    Ok(outcome)
}

impl Pods<'_> {
    /// Takes changes in until it is so; when the change that made it so was read.
    fn until(&mut self, what: &str, so: impl Fn(&BTreeMap<String, Value>) -> bool) -> Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Instant::now();
        while !so(&self.known) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(change) = self.changes.recv_timeout(left) else {
                bail!(
                    "waited {PATIENCE:?} in vain until {what}; kubectl -n {NAMESPACE} get pods shows where it stands"
                );
            };
            seen = change.at;
            let name = change.object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if change.object["status"]["phase"] == "Failed" {
                bail!("pod {name} failed: {}", change.object["status"]);
            }
            self.known.insert(name, change.object);
        }
        Ok(seen)
    }

    /// The pod of that member: its own name, or that of its Job and five letters.
    fn name_of(&self, members: &[String], index: usize) -> Result<String> {
        let member = members.get(index).context("a member of that number")?;
        let name = self.known.keys().find(|name| name.starts_with(member.as_str()));
        name.cloned().with_context(|| format!("{member} has no pod"))
    }

    fn tell(&self, pod: &str, annotation: &str) -> Result<()> {
        self.proxy
            .merge(&format!("{}/{pod}", pods()), &json!({"metadata": {"annotations": {annotation: "yes"}}}))
            .map(drop)
    }
}

fn pods() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

fn mutexes() -> String {
    format!("/apis/konductor.io/v1/namespaces/{NAMESPACE}/mutexes")
}

/// A fresh namespace has no account for a moment, and pods are refused until it has.
fn create(proxy: &Proxy, path: &str, object: &Value) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match proxy.create(path, object) {
            Err(error) if refused(&error) == Some(403) && Instant::now() < deadline => {
                std::thread::sleep(LOOK);
            }
            other => return other.map(drop),
        }
    }
}

fn statuses<'a>(pod: &'a Value, which: &str) -> impl Iterator<Item = &'a Value> {
    pod["status"][which].as_array().into_iter().flatten()
}

fn running(pods: &BTreeMap<String, Value>, count: usize) -> bool {
    let runs =
        |pod: &Value| statuses(pod, "containerStatuses").any(|status| status["state"]["running"].is_object());
    pods.values().filter(|pod| runs(pod)).count() == count
}

fn waits(pod: &Value, waiter: &str) -> bool {
    statuses(pod, "initContainerStatuses")
        .any(|status| status["name"] == waiter && status["state"]["running"].is_object())
}

fn ended(pod: &Value) -> bool {
    statuses(pod, "containerStatuses").any(|status| status["state"]["terminated"].is_object())
}

/// When a pod's main container started and ended, by its own words.
fn times(proxy: &Proxy, pod: &str) -> Result<(f64, f64)> {
    let log = proxy.text(&format!("{}/{pod}/log?container=main", pods()))?;
    let read = |word: &str| log.lines().find_map(|line| line.strip_prefix(word)?.trim().parse::<f64>().ok());
    read("start ").zip(read("end ")).with_context(|| format!("pod {pod} does not tell its times: {log:?}"))
}

fn clear(proxy: &Proxy, chain: &str) -> Result<()> {
    let selector = format!("labelSelector={CHAIN}%3D{chain}");
    proxy.delete(&format!(
        "/apis/batch/v1/namespaces/{NAMESPACE}/jobs?{selector}&propagationPolicy=Background"
    ))?;
    proxy.delete(&format!("{}?{selector}&gracePeriodSeconds=1", pods()))?;
    let deadline = Instant::now() + PATIENCE;
    // With the last pod its finalizer is gone, and so the last write that belongs to this chain is counted.
    while proxy.get(&format!("{}?{selector}", pods()))?["items"]
        .as_array()
        .is_some_and(|pods| !pods.is_empty())
    {
        ensure!(Instant::now() < deadline, "its pods do not go away");
        std::thread::sleep(LOOK);
    }
    proxy.delete(&format!("{}/{chain}", mutexes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_waits_while_its_waiter_runs_and_has_ended_with_its_main() {
        let mut pod = json!({"status": {
            "initContainerStatuses": [{"name": "konductor-wait", "state": {"running": {}}}],
            "containerStatuses": [{"name": "main", "state": {"waiting": {}}}],
        }});
        assert!(waits(&pod, "konductor-wait") && !waits(&pod, "wait") && !ended(&pod));
        pod["status"]["containerStatuses"][0]["state"] = json!({"running": {}});
        assert!(running(&BTreeMap::from([("a".to_owned(), pod.clone())]), 1));
        pod["status"]["containerStatuses"][0]["state"] = json!({"terminated": {}});
        assert!(ended(&pod));
    }
}
