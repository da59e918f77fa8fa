//! Where it waits: at a scheduling gate nothing is used, nobody else lifts it, and nobody is kept from a lock by a pod
//! that finds no node.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use konductor_api::annotations::{HOLD, SCHEDULING_GATE, TIMEOUT};
use konductor_api::conditions::GRANTED;
use konductor_api::ledger::Evidence;
use konductor_api::mutex::Mutex;
use konductor_e2e::history::{History, one_at_a_time};
use konductor_e2e::namespace::{Namespace, in_namespace, refusal};
use konductor_e2e::tools::{kubectl, kubectl_with};
use konductor_e2e::workload::{
    Workload, has_failed, has_succeeded, is_running, is_waiting, job, pod, until_a_pod, until_complete,
    until_pod, waiter_exit_code,
};
use konductor_e2e::{primitive, wait};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

const OPERATOR: &str = "--as=system:serviceaccount:konductor-system:konductor-controller-manager";

fn at_gate<K>(workload: Workload<K>) -> Workload<K> {
    workload.annotated(HOLD, "scheduling-gate")
}

fn is_gated(pod: &Pod) -> bool {
    let gates = pod.spec.iter().flat_map(|spec| spec.scheduling_gates.iter().flatten());
    gates.into_iter().any(|gate| gate.name == SCHEDULING_GATE)
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|known| known.type_ == type_)
}

fn is_told_why(pod: &Pod) -> bool {
    condition(pod, GRANTED)
        .is_some_and(|known| known.message.as_deref().unwrap_or_default().contains("held by pod/holder"))
}

/// A pod that holds `db`, and one that waits for it at its gate.
async fn a_holder_and_a_gated(namespace: &Namespace) -> Result<Pod> {
    primitive::mutex(namespace, "db").await?;
    pod("holder").mutex("db").runs("sleep 3600").create(namespace).await?;
    until_pod(namespace, "holder", "running", is_running).await?;
    at_gate(pod("gated")).mutex("db").runs("sleep 2").create(namespace).await?;
    until_pod(namespace, "gated", "told what it waits for", is_told_why).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_pod_at_its_gate_has_no_node_until_it_is_its_turn() {
    in_namespace("at-gate", async |namespace| {
        let gated = a_holder_and_a_gated(namespace).await?;
        let scheduled = condition(&gated, "PodScheduled").context("no PodScheduled")?;
        assert_eq!(scheduled.reason.as_deref(), Some("SchedulingGated"));
        let pods = namespace.api::<Pod>();
        wait::stays("without a node", Duration::from_secs(2), async || {
            let gated = pods.get("gated").await?;
            Ok(is_gated(&gated) && gated.spec.context("no spec")?.node_name.is_none())
        })
        .await?;
        pods.delete("holder", &DeleteParams::default()).await?;
        let through = until_pod(namespace, "gated", "through", has_succeeded).await?;
        assert!(
            !is_gated(&through) && condition(&through, GRANTED).is_some_and(|known| known.status == "True")
        );
        let mutex = primitive::until_free(namespace, "db").await?;
        let history = mutex.status.context("no status")?.ledger.history;
        assert_eq!(history[0].holder, "pod/gated");
        assert!(matches!(history[0].evidence, Evidence::P1 | Evidence::P2), "{:?}", history[0]);
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn jobs_and_pods_at_a_gate_run_one_at_a_time_with_those_on_a_node() {
    in_namespace("mixed", async |namespace| {
        let history = History::record(namespace);
        primitive::mutex(namespace, "db").await?;
        at_gate(job("a")).mutex("db").runs("sleep 1").create(namespace).await?;
        job("b").mutex("db").runs("sleep 1").create(namespace).await?;
        at_gate(job("c")).mutex("db").pods(2, 2).runs("sleep 1").create(namespace).await?;
        let each = job("d").each_pod_mutex("db").each_pod_annotated(HOLD, "scheduling-gate");
        each.pods(2, 2).runs("sleep 1").create(namespace).await?;
        for name in ["a", "b", "c", "d"] {
            until_complete(namespace, name).await?;
        }
        primitive::until_free(namespace, "db").await?;
        let runs = history.runs().await?;
        assert_eq!(runs.len(), 6, "{runs:?}");
        one_at_a_time(&runs, |run| run.owner().to_owned())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn nobody_but_konductor_lifts_the_gate_and_konductor_does_nothing_else() {
    in_namespace("gate-forge", async |namespace| {
        a_holder_and_a_gated(namespace).await?;
        let pods = namespace.api::<Pod>();
        let without = Patch::Merge(json!({"spec": {"schedulingGates": null}}));
        let answer = pods.patch("gated", &PatchParams::default(), &without).await;
        let refused = refusal(answer).context("the gate was lifted")?;
        assert!(refused.contains("keeps the pod from taking a node before its turn"), "{refused}");
        assert!(is_gated(&pods.get("gated").await?));

        let as_operator = async |patch: &str| {
            let arguments = [OPERATOR, "patch", "pod", "gated", "--type=strategic", "--patch", patch];
            kubectl_with(namespace.name(), &arguments, "").await
        };
        for (patch, words) in [
            (
                r#"{"spec":{"containers":[{"name":"main","image":"busybox:other"}]}}"#,
                "change nothing in a pod's spec",
            ),
            (r#"{"metadata":{"annotations":{"a":"b"}}}"#, "through the pod's status only"),
        ] {
            let said = as_operator(patch).await?;
            assert!(!said.success && said.err.contains(words), "{words:?} is not in {:?}", said.err);
        }
        let said = kubectl_with(namespace.name(), &[OPERATOR, "delete", "pod", "gated"], "").await?;
        let words = "only after it has withdrawn the pod's grant";
        assert!(!said.success && said.err.contains(words), "{words:?} is not in {:?}", said.err);
        // It may lift its gate; and that starts nothing.
        let lift = r#"{"spec":{"schedulingGates":[{"$patch":"delete","name":"konductor.io/hold"}]}}"#;
        let said = as_operator(lift).await?;
        assert!(said.success, "{}", said.err);
        until_pod(namespace, "gated", "waiting on a node", is_waiting).await?;
        wait::stays("waiting", Duration::from_secs(2), async || Ok(is_waiting(&pods.get("gated").await?)))
            .await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_pod_that_finds_no_node_gives_way_to_whoever_could_start() {
    in_namespace("no-room", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        let nowhere = json!({"konductor.io-test/no-such": "node"});
        at_gate(pod("nowhere")).mutex("db").pod("nodeSelector", nowhere).create(namespace).await?;
        primitive::until_held_by(namespace, "db", "pod/nowhere").await?;
        until_pod(namespace, "nowhere", "unschedulable", |pod| {
            condition(pod, "PodScheduled")
                .is_some_and(|known| known.reason.as_deref() == Some("Unschedulable"))
        })
        .await?;
        // Nobody else wants it.
        let mutexes = namespace.api::<Mutex>();
        let held = async || {
            let status = mutexes.get("db").await?.status.context("no status")?;
            Ok(status.holder.as_deref() == Some("pod/nowhere"))
        };
        wait::stays("held", Duration::from_secs(3), held).await?;
        pod("next").mutex("db").create(namespace).await?;
        until_pod(namespace, "next", "through", has_succeeded).await?;
        let history = mutexes.get("db").await?.status.context("no status")?.ledger.history;
        let given_back =
            history.iter().find(|release| release.holder == "pod/nowhere").context("not given back")?;
        assert_eq!(given_back.evidence, Evidence::P0);
        // It waits on, and holds nothing.
        let waits = |mutex: &Mutex| {
            mutex.status.as_ref().is_some_and(|status| status.holder.is_none() && status.common.waiting == 1)
        };
        wait::until(&mutexes, "db", "free, and waited for", waits).await?;
        namespace.api::<Pod>().delete("nowhere", &DeleteParams::default()).await?;
        primitive::until_free(namespace, "db").await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn who_gives_up_at_its_gate_is_told_so_on_a_node() {
    in_namespace("gate-timeout", async |namespace| {
        a_holder_and_a_gated(namespace).await?;
        at_gate(pod("short")).mutex("db").annotated(TIMEOUT, "3s").create(namespace).await?;
        let short = until_pod(namespace, "short", "failed", has_failed).await?;
        assert_eq!(waiter_exit_code(&short), Some(66));
        at_gate(job("brief")).mutex("db").annotated(TIMEOUT, "3s").create(namespace).await?;
        konductor_e2e::workload::until_failed(namespace, "brief").await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_pod_that_names_its_node_waits_in_its_init_container_and_a_foreign_gate_keeps_it_out_of_the_ledger()
{
    in_namespace("placed", async |namespace| {
        a_holder_and_a_gated(namespace).await?;
        let node = namespace.api::<Pod>().get("holder").await?.spec.and_then(|spec| spec.node_name);
        let placed = at_gate(pod("placed")).mutex("db").pod("nodeName", json!(node.context("no node")?));
        let manifest = placed.manifest().to_string();
        let said = kubectl_with(namespace.name(), &["create", "-f", "-"], &manifest).await?;
        assert!(said.success && said.err.contains("rules out a scheduling gate"), "{}", said.err);
        assert!(!is_gated(&until_pod(namespace, "placed", "waiting", is_waiting).await?));

        primitive::mutex(namespace, "other").await?;
        let gates = json!([{"name": "example.com/elsewhere"}]);
        at_gate(pod("both")).mutex("other").pod("schedulingGates", gates).create(namespace).await?;
        at_gate(job("passes")).mutex("other").create(namespace).await?;
        until_complete(namespace, "passes").await?;
        let lift = r#"{"spec":{"schedulingGates":[{"$patch":"delete","name":"example.com/elsewhere"}]}}"#;
        kubectl(namespace.name(), &["patch", "pod", "both", "--type=strategic", "--patch", lift]).await?;
        until_pod(namespace, "both", "through", has_succeeded).await?;
        until_a_pod(namespace, "passes", "through", has_succeeded).await?;
        Ok(())
    })
    .await;
}
