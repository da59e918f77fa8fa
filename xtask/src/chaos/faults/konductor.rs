//! Faults of Konductor's own parts.
//!
//! May touch: pods and Deployments of `konductor-system`, and rules in a node's network namespace that are about one pod. What
//! must stay true: what is stopped goes on, and what is cut off is let through again.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Done, Fault, Until};
use crate::chaos::random::Random;
use crate::chaos::scene::{RULES, Scene, output, until};
use crate::install::NAMESPACE as SYSTEM;

const OPERATOR: &str = "controller-manager";
const WEBHOOK: &str = "webhook";
/// As pods see the API server.
const API: &str = "10.96.0.1";

/// Does it and undoes it.
pub(super) fn inject(fault: Fault, scene: &Scene, random: &mut Random) -> Result<Option<Done>> {
    let component = match fault {
        Fault::WebhookDeleted | Fault::WebhooksGone => WEBHOOK,
        _ => OPERATOR,
    };
    let mut replicas: Vec<_> = scene.replicas(component)?.iter().filter_map(Replica::read).collect();
    random.shuffle(&mut replicas);
    // Rather the one that works than the one that stands by.
    if component == OPERATOR && random.percent(70) {
        let leader = leader(scene)?;
        replicas.sort_by_key(|replica| !leader.contains(&replica.name));
    }
    let Some(first) = replicas.first() else { return Ok(None) };
    match fault {
        Fault::OperatorDeleted | Fault::WebhookDeleted => {
            scene.proxy.delete(&format!("/api/v1/namespaces/{SYSTEM}/pods/{}", first.name))?;
        }
        Fault::OperatorKilled => first.signal(scene, "KILL")?,
        Fault::OperatorsKilled => replicas.iter().try_for_each(|replica| replica.signal(scene, "KILL"))?,
        Fault::OperatorStopped => {
            first.signal(scene, "STOP")?;
            sleep(random.seconds(5, 30));
            // Somebody else may have ended it meanwhile.
            let _ = first.signal(scene, "CONT");
        }
        Fault::OperatorReset => first.shut_off(scene, "reject with tcp reset", random.seconds(1, 3))?,
        Fault::OperatorCutOff => first.shut_off(scene, "drop", random.seconds(5, 25))?,
        _ => {
            let path = format!("/apis/apps/v1/namespaces/{SYSTEM}/deployments/konductor-webhook");
            let scale = |replicas: u64| {
                until("the webhook is scaled", Duration::from_secs(180), || {
                    let fields = json!({"spec": {"replicas": replicas}});
                    scene.proxy.merge(&path, &fields).map(|_| true)
                })
            };
            let before = scene.proxy.get(&path)?["spec"]["replicas"].as_u64().context("replicas")?;
            scale(0)?;
            sleep(random.seconds(3, 10));
            scale(before.max(2))?;
        }
    }
    let all = matches!(fault, Fault::OperatorsKilled | Fault::WebhooksGone);
    let what = if all { format!("{} replicas", replicas.len()) } else { first.name.clone() };
    Ok(Some(Done { what, until: Until::Serving }))
}

/// Who holds the Leases of that namespace.
fn leader(scene: &Scene) -> Result<String> {
    let leases = scene.proxy.get(&format!("/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"))?;
    let leases = leases["items"].as_array().cloned().unwrap_or_default();
    Ok(leases.iter().filter_map(|lease| lease["spec"]["holderIdentity"].as_str()).collect())
}

/// A pod of Konductor's.
struct Replica {
    name: String,
    node: String,
    address: String,
    container: String,
}

impl Replica {
    /// One that runs.
    fn read(pod: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let status = &pod["status"]["containerStatuses"][0];
        if status["state"]["running"].is_null() || !pod["metadata"]["deletionTimestamp"].is_null() {
            return None;
        }
        Some(Self {
            name: text(&pod["metadata"]["name"])?,
            node: text(&pod["spec"]["nodeName"])?,
            address: text(&pod["status"]["podIP"])?,
            container: text(&status["containerID"])?,
        })
    }

    fn signal(&self, scene: &Scene, signal: &str) -> Result<()> {
        scene.signal(&self.node, &self.container, signal)
    }

    /// What it sends to the API server meets this verdict for so long.
    fn shut_off(&self, scene: &Scene, verdict: &str, time: Duration) -> Result<()> {
        let rule = format!("meta l4proto tcp ip saddr {} ct original ip daddr {API} {verdict}", self.address);
        // To the API server of its own node it comes in; to that of another it is passed on.
        let chain = |hook: &str| format!("chain {hook} {{ type filter hook {hook} priority 0; {rule}; }}");
        let rules = ["input", "forward"].map(chain).join("\n");
        let mut nft = scene.command_on(&self.node, "nft")?;
        let cut = output(nft.arg(format!("table inet {RULES} {{\n{rules}\n}}")));
        if cut.is_ok() {
            sleep(time);
        }
        scene.let_through(&self.node);
        cut.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_replica_that_runs_is_hit() {
        let mut pod = json!({
            "metadata": {"name": "a"}, "spec": {"nodeName": "n1"},
            "status": {"podIP": "10.244.1.2", "containerStatuses": [{"containerID": "containerd://c",
                "state": {"running": {}}}]},
        });
        assert_eq!(Replica::read(&pod).unwrap().container, "containerd://c");
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(Replica::read(&pod).is_none());
    }
}
