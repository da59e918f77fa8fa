//! The power is cut: a hold stays until the machine's own kubelet reports, or somebody vouches that the machine is off.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use konductor_api::ledger::Evidence;
use konductor_api::mutex::Mutex;
use konductor_e2e::machine::{COUNTS_ALOUD, Machine, stays_put, with_machine};
use konductor_e2e::namespace::Namespace;
use konductor_e2e::workload::{
    Workload, has_succeeded, is_running, is_waiting, job, pod, pods_of, until_a_pod, until_complete,
    until_pod,
};
use konductor_e2e::{primitive, wait};
use kube::ResourceExt;
use serde_json::json;

use crate::pair::{Pair, evidence_of, holders};

/// A good while for whoever would rather guess.
const A_WHILE: Duration = Duration::from_secs(15);

#[tokio::test]
#[ignore = "needs the project's own cluster: cargo xtask test"]
async fn a_machine_without_power_keeps_its_holds_until_somebody_vouches_that_it_is_off() {
    with_machine("vouched", async |namespace, machine| {
        let pair = Pair::new(namespace, machine, "db").await?;
        let lost = night_job_on(machine, namespace).await?;
        machine.loses_power().await?;

        pair.until_in_doubt().await?;
        // Kubernetes deletes the pod of the Job, counts it as failed and makes another: that proves nothing.
        let replacement = until_a_pod(namespace, "nightly", "another that waits", |pod| {
            pod.name_any() != lost.pod && is_waiting(pod)
        })
        .await?;
        let pods = namespace.api::<Pod>();
        wait::stays("nobody is granted anything", A_WHILE, async || {
            Ok(pair.is_as_it_was().await? && is_waiting(&pods.get(&replacement.name_any()).await?))
        })
        .await?;

        machine.is_declared_off().await?;
        assert_eq!(pair.evidence().await?, Evidence::A1);
        until_complete(namespace, "nightly").await?;
        assert_eq!(evidence_of(namespace, "night", &lost.token).await?, Evidence::A1);
        for gone in [&pair.holder(), &lost.pod] {
            wait::until_gone(&pods, gone).await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs the project's own cluster: cargo xtask test"]
async fn a_machine_that_boots_again_reports_what_has_ended_and_goes_on_with_what_may() {
    with_machine("boots", async |namespace, machine| {
        let pair = Pair::new(namespace, machine, "db").await?;
        let again = Restarted::new(namespace, machine).await?;
        let boot = machine.boot_id()?;
        machine.loses_power().await?;
        pair.until_in_doubt().await?;
        machine.boots().await?;
        assert_eq!(pair.evidence().await?, Evidence::P1);
        machine.until_ready().await?;
        assert_ne!(machine.boot_id()?, boot);
        again.runs_on_under_its_hold().await?;

        // So quickly that nobody ever noticed.
        let pair = Pair::new(namespace, machine, "quick").await?;
        machine.loses_power().await?;
        machine.boots().await?;
        assert_eq!(pair.evidence().await?, Evidence::P1);
        Ok(())
    })
    .await;
}

/// The hold of a pod that a Job made.
struct Lost {
    pod: String,
    token: String,
}

/// A Job each of whose pods takes the mutex `night`: the first is on the machine, and Kubernetes gives it up 5 s after the
/// machine.
async fn night_job_on(machine: &Machine, namespace: &Namespace) -> Result<Lost> {
    primitive::mutex(namespace, "night").await?;
    let ends_elsewhere = format!("if [ $NODE = {} ]; then {COUNTS_ALOUD}; fi", machine.name());
    let workload: Workload<Job> = job("nightly")
        .each_pod_mutex("night")
        .retries(3)
        .runs(&ends_elsewhere)
        .container("env", json!([{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]))
        .pod("tolerations", json!([
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5},
        ]))
        .pod("affinity", json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "preference": {"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [machine.name()]},
            ]}},
        ]}}));
    workload.create(namespace).await?;
    let pod = until_a_pod(namespace, "nightly", "running on the machine", |pod| {
        is_running(pod) && pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&machine.name())
    })
    .await?;
    let mutex: Mutex = namespace.api().get("night").await?;
    let holder = holders(&mutex).first().context("nobody holds")?;
    assert_eq!(holder.uid, pod.uid().unwrap_or_default());
    Ok(Lost { pod: pod.name_any(), token: holder.token.clone() })
}

/// A Job whose container starts again in its pod: after a boot it is the same pod, and so the same hold.
struct Restarted<'a> {
    namespace: &'a Namespace,
    machine: &'a Machine,
    pod: Pod,
    token: String,
}

impl<'a> Restarted<'a> {
    async fn new(namespace: &'a Namespace, machine: &'a Machine) -> Result<Self> {
        primitive::mutex(namespace, "kept").await?;
        let once_more = format!("if [ -e /kept/boot ]; then exit 0; fi; touch /kept/boot; {COUNTS_ALOUD}");
        let volume = json!([{"name": "kept", "emptyDir": {}}]);
        machine
            .takes(job("again").mutex("kept").restarts_in_place().runs(&once_more))
            .pod("volumes", volume)
            .container("volumeMounts", json!([{"name": "kept", "mountPath": "/kept"}]))
            .create(namespace)
            .await?;
        let pod = until_a_pod(namespace, "again", "running", is_running).await?;
        stays_put(pod_behind()).create(namespace).await?;
        until_pod(namespace, BEHIND, "waiting", is_waiting).await?;
        let mutex: Mutex = namespace.api().get("kept").await?;
        let token = holders(&mutex).first().context("nobody holds")?.token.clone();
        Ok(Self { namespace, machine, pod, token })
    }

    /// It ends well in the end, in the same pod and with the same token; whoever waited comes after it.
    async fn runs_on_under_its_hold(&self) -> Result<()> {
        let (namespace, name) = (self.namespace, self.machine.name());
        until_complete(namespace, "again").await?;
        let pods = pods_of(namespace, "again").await?;
        assert_eq!(pods.len(), 1, "{name}: no other pod was needed");
        assert_eq!(pods[0].uid(), self.pod.uid());
        until_pod(namespace, BEHIND, "through", has_succeeded).await?;
        let evidence = evidence_of(namespace, "kept", &self.token).await?;
        assert!(matches!(evidence, Evidence::P1 | Evidence::P2), "{evidence}");
        Ok(())
    }
}

/// Who waits behind the Job.
const BEHIND: &str = "behind";

fn pod_behind() -> Workload<Pod> {
    pod(BEHIND).mutex("kept")
}
