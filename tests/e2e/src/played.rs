//! A node whose kubelet the test plays: a machine that can be lost without losing one.
//!
//! Nothing runs on it. What its pods show is written here as a kubelet writes it, so the API server, the controllers of
//! Kubernetes and Konductor see a machine like any other. May touch: one Node, and the status of pods that name it. What
//! must stay true: it carries a taint, so no real pod is placed there, and it is gone when the test is over.

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use konductor_api::annotations::WAITER_CONTAINER;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::namespace::Namespace;
use crate::wait;
use crate::workload::{IMAGE, MAIN, Workload, waiter};

/// See the module.
#[derive(Debug)]
pub struct PlayedNode {
    nodes: Api<Node>,
    name: String,
}

impl PlayedNode {
    /// A machine that is alive; its name is that of the test's namespace.
    pub async fn new(namespace: &Namespace) -> Result<Self> {
        let node = Self { nodes: Api::all(namespace.client().clone()), name: namespace.name().to_owned() };
        let object = json!({
            "metadata": {"name": node.name},
            "spec": {"taints": [{"key": "konductor.io/played", "effect": "NoSchedule"}]},
        });
        node.nodes.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        node.says_ready("True").await?;
        Ok(node)
    }

    /// Binds a pod to it.
    #[must_use]
    pub fn takes<K>(&self, workload: Workload<K>) -> Workload<K> {
        workload.pod("nodeName", json!(self.name))
    }

    /// Its waiter runs.
    pub async fn starts_the_waiter(&self, namespace: &Namespace, pod: &str) -> Result<()> {
        let running = json!({"running": {"startedAt": Time(Timestamp::now())}});
        let waiting = json!({"waiting": {"reason": "PodInitializing"}});
        shows(namespace, pod, ("Pending", &running, &waiting)).await
    }

    /// It found its grant: the waiter has passed and main runs.
    pub async fn starts_main(&self, namespace: &Namespace, pod: &str) -> Result<()> {
        let pods = namespace.api::<Pod>();
        let known = pods.get(pod).await?;
        let started = waiter(&known)
            .and_then(|status| status.state.as_ref()?.running.as_ref()?.started_at.clone())
            .context("its waiter does not run")?;
        let now = Time(Timestamp::now());
        let passed = json!({"terminated": {
            "exitCode": 0, "reason": "Completed", "startedAt": started, "finishedAt": now,
        }});
        shows(namespace, pod, ("Running", &passed, &json!({"running": {"startedAt": now}}))).await
    }

    /// Nothing is heard of it any more.
    pub async fn falls_silent(&self) -> Result<()> {
        self.says_ready("Unknown").await
    }

    /// An administrator says that it is off.
    pub async fn is_declared_off(&self) -> Result<()> {
        let taint = json!({
            "key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute",
        });
        let played = json!({"key": "konductor.io/played", "effect": "NoSchedule"});
        let patch = Patch::Strategic(json!({"spec": {"taints": [taint, played]}}));
        self.nodes.patch(&self.name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Its object is removed.
    pub async fn remove(&self) -> Result<()> {
        self.nodes.delete(&self.name, &DeleteParams::default()).await?;
        wait::until_true("the node is gone", async || Ok(self.nodes.get_opt(&self.name).await?.is_none()))
            .await
    }

    async fn says_ready(&self, status: &str) -> Result<()> {
        let condition = json!({
            "type": "Ready", "status": status, "reason": "Played",
            "lastHeartbeatTime": Time(Timestamp::now()), "lastTransitionTime": Time(Timestamp::now()),
        });
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        self.nodes.patch_status(&self.name, &PatchParams::default(), &patch).await?;
        Ok(())
    }
}

/// Writes a phase, and the states of waiter and main.
async fn shows(
    namespace: &Namespace,
    pod: &str,
    (phase, waiter, main): (&str, &Value, &Value),
) -> Result<()> {
    let status = |name: &str, state: &Value| {
        let began = state.get("waiting").is_none();
        json!({
            "name": name, "image": IMAGE, "imageID": "", "ready": false, "restartCount": 0, "state": state,
            "containerID": if began { format!("played://{name}") } else { String::new() },
        })
    };
    let patch = json!({"status": {
        "phase": phase,
        "initContainerStatuses": [status(WAITER_CONTAINER, waiter)],
        "containerStatuses": [status(MAIN, main)],
    }});
    let pods = namespace.api::<Pod>();
    pods.patch_status(pod, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}
