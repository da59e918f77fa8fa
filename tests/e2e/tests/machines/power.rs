//! The power is cut: a hold stays until the machine's own kubelet reports, or somebody vouches that the machine is off.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use konductor_api::ledger::{Evidence, Holder};
use konductor_api::mutex::Mutex;
use konductor_e2e::machine::{COUNTS_ALOUD, Machine, stays_put, with_machine};
use konductor_e2e::namespace::Namespace;
use konductor_e2e::workload::{
    Workload, has_succeeded, is_running, is_waiting, job, main, pod, until_a_pod, until_complete, until_pod,
};
use konductor_e2e::{primitive, wait};
use kube::ResourceExt;
use kube::api::DeleteParams;
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
        again.goes_on_under_its_hold().await?;

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
        .pod("affinity", machine.prefers());
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

/// A pod whose containers always start again: after a boot it is the same pod, and so the same hold.
struct Restarted<'a> {
    namespace: &'a Namespace,
    pod: Pod,
    holder: Holder,
}

/// The pod of [`Restarted`].
const AGAIN: &str = "again";
/// Who waits behind it.
const BEHIND: &str = "behind";

impl<'a> Restarted<'a> {
    async fn new(namespace: &'a Namespace, machine: &'a Machine) -> Result<Self> {
        primitive::mutex(namespace, "kept").await?;
        machine
            .takes(pod(AGAIN).mutex("kept").runs(COUNTS_ALOUD))
            .pod("restartPolicy", json!("Always"))
            .create(namespace)
            .await?;
        let running = until_pod(namespace, AGAIN, "running", is_running).await?;
        stays_put(pod(BEHIND).mutex("kept")).create(namespace).await?;
        until_pod(namespace, BEHIND, "waiting", is_waiting).await?;
        let holder = Self::held(namespace).await?;
        Ok(Self { namespace, pod: running, holder })
    }

    /// Its waiter was let through once more, by a higher run of the same hold, and whoever waits still does.
    async fn goes_on_under_its_hold(&self) -> Result<()> {
        let id = |pod: &Pod| main(pod).and_then(|status| status.container_id.clone());
        let before = id(&self.pod);
        let again =
            until_pod(self.namespace, AGAIN, "running once more", |pod| is_running(pod) && id(pod) != before)
                .await?;
        assert_eq!(again.uid(), self.pod.uid());
        let holder = Self::held(self.namespace).await?;
        assert_eq!((&holder.uid, &holder.token), (&self.holder.uid, &self.holder.token));
        assert!(holder.pods[0].run > self.holder.pods[0].run, "{holder:?}");
        assert!(is_waiting(&self.namespace.api().get(BEHIND).await?));
        self.namespace.api::<Pod>().delete(AGAIN, &DeleteParams::default()).await?;
        until_pod(self.namespace, BEHIND, "through", has_succeeded).await?;
        assert_eq!(evidence_of(self.namespace, "kept", &holder.token).await?, Evidence::P1);
        Ok(())
    }

    async fn held(namespace: &Namespace) -> Result<Holder> {
        let mutex: Mutex = namespace.api().get("kept").await?;
        holders(&mutex).first().cloned().context("nobody holds")
    }
}
