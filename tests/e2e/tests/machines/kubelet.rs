//! The kubelet ends: containers go on, and nobody on that machine is told anything.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use konductor_api::ledger::Evidence;
use konductor_e2e::machine::{stays_put, with_machine};
use konductor_e2e::workload::{has_succeeded, is_running, is_waiting, pod, until_pod};
use konductor_e2e::{primitive, wait};

use crate::pair::Pair;

const A_WHILE: Duration = Duration::from_secs(10);

#[tokio::test]
#[ignore = "needs the project's own cluster: cargo xtask test"]
async fn without_a_kubelet_holds_stay_and_grants_go_to_those_who_can_hear_them() {
    with_machine("deaf", async |namespace, machine| {
        let pair = Pair::new(namespace, machine, "db").await?;
        // In another queue the one on the machine is the first.
        primitive::mutex(namespace, "other").await?;
        let waits_for_a_file = "while [ ! -e /tmp/enough ]; do sleep 0.2; done";
        stays_put(pod("holder").mutex("other").runs(waits_for_a_file)).create(namespace).await?;
        until_pod(namespace, "holder", "running", is_running).await?;
        for (name, workload) in [("deaf", machine.takes(pod("deaf"))), ("hears", stays_put(pod("hears")))] {
            workload.mutex("other").create(namespace).await?;
            until_pod(namespace, name, "waiting", is_waiting).await?;
        }
        primitive::until_waiting(namespace, "other", 2).await?;

        machine.loses_its_kubelet().await?;
        pair.until_in_doubt().await?;
        pair.until_it_counts_on().await?;
        konductor_e2e::tools::kubectl(namespace.name(), &["exec", "holder", "--", "touch", "/tmp/enough"])
            .await?;
        until_pod(namespace, "hears", "through", has_succeeded).await?;
        let pods = namespace.api::<Pod>();
        wait::stays("nothing is granted on the machine", A_WHILE, async || {
            Ok(pair.is_as_it_was().await? && is_waiting(&pods.get("deaf").await?))
        })
        .await?;
        pair.until_it_counts_on().await?;

        machine.has_its_kubelet_back().await?;
        until_pod(namespace, "deaf", "through", has_succeeded).await?;
        pair.until_beyond_doubt().await?;
        pair.ends_well().await?;
        let evidence = pair.evidence().await?;
        assert!(matches!(evidence, Evidence::P1 | Evidence::P2), "{evidence}");
        Ok(())
    })
    .await;
}
