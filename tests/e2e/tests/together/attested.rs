//! Machines that are lost: a hold on them goes on until somebody vouches that the machine is off, and no longer.
//!
//! The machine is one that the test plays; who waits for it is a real pod on a real one.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use konductor_api::annotations::{GRANT, NUDGED};
use konductor_api::conditions::STALLED;
use konductor_api::ledger::{Evidence, Release};
use konductor_api::mutex::{Mutex, MutexStatus};
use konductor_e2e::namespace::{Namespace, in_namespace};
use konductor_e2e::played::PlayedNode;
use konductor_e2e::workload::{has_succeeded, is_waiting, pod, until_pod};
use konductor_e2e::{primitive, wait};
use kube::ResourceExt;

/// The garbage collector of pods waits 40 s before it believes that a node is gone, and Konductor twice as long.
const PATIENCE: Duration = Duration::from_secs(240);
const SILENT_FOR: Duration = Duration::from_secs(3);

/// A holder at work on a machine that falls silent, and somebody who waits behind it.
async fn holder_on_a_silent_machine(namespace: &Namespace) -> Result<PlayedNode> {
    let node = PlayedNode::new(namespace).await?;
    primitive::mutex(namespace, "db").await?;
    node.takes(pod("holder").mutex("db")).create(namespace).await?;
    node.starts_the_waiter(namespace, "holder").await?;
    until_pod(namespace, "holder", "told to start", |pod| {
        grant(pod).is_some_and(|text| text.ends_with(" go"))
    })
    .await?;
    node.starts_main(namespace, "holder").await?;
    pod("next").mutex("db").create(namespace).await?;
    until_pod(namespace, "next", "waiting", is_waiting).await?;
    primitive::until_waiting(namespace, "db", 1).await?;

    node.falls_silent().await?;
    let mutex = wait::until(&namespace.api(), "db", "in doubt", |mutex: &Mutex| {
        let status = mutex.status.clone().unwrap_or_default();
        status.ledger.holders.iter().any(|holder| holder.suspect.is_some())
    })
    .await?;
    let status = mutex.status.context("a status")?;
    let stalled = status.common.conditions.iter().find(|known| known.type_ == STALLED);
    let stalled = stalled.context("a condition Stalled")?;
    assert_eq!(stalled.status, "True", "{stalled:?}");
    assert!(stalled.message.contains("out-of-service"), "it says what ends the doubt: {}", stalled.message);
    wait::stays("held by pod/holder", SILENT_FOR, async || {
        Ok(namespace.api::<Mutex>().get("db").await?.status.unwrap_or_default().holder.as_deref()
            == Some("pod/holder"))
    })
    .await?;
    Ok(node)
}

fn grant(pod: &Pod) -> Option<&str> {
    pod.metadata.annotations.as_ref()?.get(GRANT).map(String::as_str)
}

/// The release of the holder, once the next one is through.
async fn release_of_the_holder(namespace: &Namespace) -> Result<Release> {
    let pods = namespace.api::<Pod>();
    wait::until_within(PATIENCE, &pods, "next", "through", has_succeeded).await?;
    let status: MutexStatus = namespace.api::<Mutex>().get("db").await?.status.context("a status")?;
    let release = status.ledger.history.iter().find(|release| release.holder == "pod/holder");
    release.cloned().context("no release of the holder in the history")
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_machine_that_is_declared_off_gives_up_its_hold_and_a_silent_one_does_not() {
    in_namespace("declared-off", async |namespace| {
        let node = holder_on_a_silent_machine(namespace).await?;
        node.is_declared_off().await?;
        let release = release_of_the_holder(namespace).await?;
        assert_eq!(release.evidence, Evidence::A1);
        wait::until_gone(&namespace.api::<Pod>(), "holder").await?;
        node.remove().await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_machine_that_is_removed_gives_up_its_hold_after_a_quarantine() {
    in_namespace("removed", async |namespace| {
        let node = holder_on_a_silent_machine(namespace).await?;
        node.remove().await?;
        let release = release_of_the_holder(namespace).await?;
        assert_eq!(release.evidence, Evidence::A2);
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_pod_whose_kubelet_missed_the_verdict_is_changed_once_more() {
    in_namespace("nudged", async |namespace| {
        let node = PlayedNode::new(namespace).await?;
        primitive::mutex(namespace, "db").await?;
        node.takes(pod("told").mutex("db")).create(namespace).await?;
        node.starts_the_waiter(namespace, "told").await?;
        let told = until_pod(namespace, "told", "told to start", |pod| grant(pod).is_some()).await?;
        assert!(!told.annotations().contains_key(NUDGED));
        let nudged =
            until_pod(namespace, "told", "nudged", |pod| pod.annotations().contains_key(NUDGED)).await?;
        assert_eq!(grant(&told), grant(&nudged), "the verdict is what it was");
        node.starts_main(namespace, "told").await?;
        node.remove().await
    })
    .await;
}
