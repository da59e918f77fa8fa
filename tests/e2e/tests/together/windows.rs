//! A Windows pod is held by its scheduling gate alone. The machine is played: what is shown is what Konductor and the API
//! server do.

use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use konductor_api::annotations::{FINALIZER, GRANT, HOLD, SCHEDULING_GATE};
use konductor_api::conditions::GRANTED;
use konductor_api::ledger::Evidence;
use konductor_e2e::namespace::{in_privileged_namespace, refusal};
use konductor_e2e::played::PlayedNode;
use konductor_e2e::tools::kubectl_with;
use konductor_e2e::workload::{MAIN, Workload, has_succeeded, is_running, is_waiting, pod, until_pod};
use konductor_e2e::{primitive, wait};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

fn windows(name: &str) -> Workload<Pod> {
    pod(name).mutex("db").for_windows()
}

fn is_gated(pod: &Pod) -> bool {
    let gates = pod.spec.iter().flat_map(|spec| spec.scheduling_gates.iter().flatten());
    gates.into_iter().any(|gate| gate.name == SCHEDULING_GATE)
}

fn is_told_why(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|known| {
        known.type_ == GRANTED && known.message.as_deref().unwrap_or_default().contains("held by pod/holder")
    })
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_pod_of_windows_waits_at_its_gate_and_is_released_on_its_kubelets_last_word() {
    in_privileged_namespace("windows", async |namespace| {
        let node = PlayedNode::new(namespace).await?;
        primitive::mutex(namespace, "db").await?;
        pod("holder").mutex("db").runs("sleep 3600").create(namespace).await?;
        until_pod(namespace, "holder", "running", is_running).await?;
        let manifest = windows("win").manifest().to_string();
        let said = kubectl_with(namespace.name(), &["create", "-f", "-"], &manifest).await?;
        assert!(said.success && said.err.contains("waits at a scheduling gate"), "{}", said.err);
        let win = until_pod(namespace, "win", "told what it waits for", is_told_why).await?;
        assert!(is_gated(&win) && win.spec.context("no spec")?.init_containers.is_none());

        // Nobody lifts the gate, and nobody places it.
        let pods = namespace.api::<Pod>();
        let without = Patch::Merge(json!({"spec": {"schedulingGates": null}}));
        let refused = refusal(pods.patch("win", &PatchParams::default(), &without).await);
        let refused = refused.context("the gate was lifted")?;
        assert!(refused.contains("keeps the pod from taking a node before its turn"), "{refused}");
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "target": {"kind": "Node", "name": namespace.name()}, "metadata": {"name": "win"}});
        let path = format!("/api/v1/namespaces/{}/pods/win/binding", namespace.name());
        let bind = async || {
            let arguments = ["create", "--raw", &path, "-f", "-"];
            kubectl_with(namespace.name(), &arguments, &binding.to_string()).await
        };
        assert!(!bind().await?.success, "it was bound at its gate");

        pod("next").mutex("db").create(namespace).await?;
        until_pod(namespace, "next", "waiting", is_waiting).await?;
        pods.delete("holder", &DeleteParams::default()).await?;
        let let_go = until_pod(namespace, "win", "let go", |pod| !is_gated(pod)).await?;
        assert!(let_go.annotations().get(GRANT).is_some_and(|grant| grant.ends_with(" go")), "{let_go:?}");
        assert!(let_go.finalizers().iter().any(|finalizer| finalizer == FINALIZER));
        primitive::until_held_by(namespace, "db", "pod/win").await?;

        let bound = bind().await?;
        assert!(bound.success, "{}", bound.err);
        until_pod(namespace, "win", "bound", |pod| {
            pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(namespace.name()))
        })
        .await?;
        let now = || Time(Timestamp::now());
        let ended = json!({"terminated": {
            "exitCode": 0, "reason": "Completed", "startedAt": now(), "finishedAt": now(), "containerID": "played://m",
        }});
        let shows = async |phase: &str, conditions: serde_json::Value| {
            let container = json!({
                "name": MAIN, "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                "containerID": "played://m", "state": ended,
            });
            let status = json!({"phase": phase, "containerStatuses": [container], "conditions": conditions});
            pods.patch_status("win", &PatchParams::default(), &Patch::Strategic(json!({"status": status}))).await
        };
        // All has ended, and the kubelet has not said its last word.
        shows("Running", json!([])).await?;
        wait::stays("held", Duration::from_secs(2), async || {
            Ok(is_waiting(&pods.get("next").await?))
        })
        .await?;
        let over = json!([{"type": "ContainersReady", "status": "False", "reason": "PodCompleted"}]);
        shows("Succeeded", over).await?;
        until_pod(namespace, "next", "through", has_succeeded).await?;
        let mutex = primitive::until_free(namespace, "db").await?;
        let history = mutex.status.context("no status")?.ledger.history;
        let release = history.iter().find(|release| release.holder == "pod/win").context("not released")?;
        assert_eq!(release.evidence, Evidence::P1);
        node.remove().await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_its_gate_cannot_hold_is_refused() {
    in_privileged_namespace("windows-not", async |namespace| {
        let placed = windows("placed").pod("nodeName", json!("n1")).is_refused(namespace).await?;
        assert!(placed.contains("held by its scheduling gate only"), "{placed}");
        let once = windows("once").annotated("konductor.io/once", "seed").is_refused(namespace).await?;
        assert!(once.contains("no command can be made to run once"), "{once}");
        let asked = windows("asked").annotated(HOLD, "suspend").is_refused(namespace).await?;
        assert!(asked.contains("only a Job can be suspended"), "{asked}");
        Ok::<(), anyhow::Error>(())
    })
    .await;
}
