//! Uninstalled and installed again: what is whose stays his, who waits keeps waiting, and nothing is told to go.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use konductor_api::annotations::{FINALIZER, HOLD, SCHEDULING_GATE, SUSPENDED};
use konductor_api::gate::Gate;
use konductor_api::mutex::Mutex;
use konductor_e2e::disturb::disturbing;
use konductor_e2e::product;
use konductor_e2e::workload::{
    has_succeeded, is_running, is_waiting, job, pod, until_a_pod, until_complete, until_pod,
};
use konductor_e2e::{primitive, wait};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn uninstalling_leaves_objects_and_waiters_and_installing_again_goes_on_with_them() {
    disturbing("uninstall", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        primitive::gate(namespace, "ready", &[("data", "Complete")]).await?;
        pod("holder").mutex("db").runs("sleep 3600").create(namespace).await?;
        until_pod(namespace, "holder", "running", is_running).await?;
        pod("next").mutex("db").create(namespace).await?;
        pod("gated").gate("ready").create(namespace).await?;
        for name in ["next", "gated"] {
            until_pod(namespace, name, "waiting", is_waiting).await?;
        }
        pod("at-gate").mutex("db").annotated(HOLD, "scheduling-gate").create(namespace).await?;
        until_pod(namespace, "at-gate", "at its gate", |pod| pod.spec.as_ref().is_some_and(has_gate)).await?;
        job("suspended").mutex("db").annotated(HOLD, "suspend").create(namespace).await?;
        let is_suspended = |job: &Job| job.annotations().contains_key(SUSPENDED);
        wait::until(&namespace.api::<Job>(), "suspended", "suspended", is_suspended).await?;
        pod("windows").mutex("db").for_windows().create(namespace).await?;
        let values = product::values().await?;
        product::uninstall().await?;

        let definitions: Api<CustomResourceDefinition> = Api::all(namespace.client().clone());
        for name in ["gates.konductor.io", "mutexes.konductor.io"] {
            definitions.get(name).await?;
        }
        namespace.api::<Gate>().get("ready").await?;
        namespace.api::<Mutex>().get("db").await?;
        let pods = namespace.api::<Pod>();
        let holder = pods.get("holder").await?;
        assert!(is_running(&holder), "a holder runs on");
        assert!(!holder.finalizers().contains(&FINALIZER.to_owned()), "{:?}", holder.finalizers());

        // Nothing of ours keeps a pod, and nothing lets one go.
        pods.delete("holder", &DeleteParams::default()).await?;
        wait::until_gone(&pods, "holder").await?;
        job("data").create(namespace).await?;
        until_complete(namespace, "data").await?;
        // Nobody would lift its gate any more: it took a node, and waits there.
        until_pod(namespace, "at-gate", "waiting", is_waiting).await?;
        // The same for a Job: it has pods now, made while the webhook could still give them a waiter.
        let resumed = until_a_pod(namespace, "suspended", "waiting", is_waiting).await?.name_any();
        wait::stays("all wait", Duration::from_secs(3), async || {
            let waits = async |name| pods.get(name).await.map(|pod| is_waiting(&pod));
            let windows = pods.get("windows").await?;
            Ok(waits("next").await?
                && waits("gated").await?
                && waits("at-gate").await?
                && waits(&resumed).await?
                && windows.spec.as_ref().is_some_and(has_gate))
        })
        .await?;

        product::install(&values).await?;
        product::until_admitting(namespace).await?;
        for name in ["next", "gated", "at-gate"] {
            until_pod(namespace, name, "through", has_succeeded).await?;
        }
        until_complete(namespace, "suspended").await?;
        // What no node can run holds what it took until it is deleted.
        primitive::until_held_by(namespace, "db", "pod/windows").await?;
        pods.delete("windows", &DeleteParams::default()).await?;
        job("late").mutex("db").create(namespace).await?;
        until_complete(namespace, "late").await?;
        Ok(())
    })
    .await;
}

fn has_gate(spec: &PodSpec) -> bool {
    spec.scheduling_gates.iter().flatten().any(|gate| gate.name == SCHEDULING_GATE)
}
