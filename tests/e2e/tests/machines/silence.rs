//! A machine that is cut off with a leader on it: the leader stops by itself, and the next one leads after the `ttl` and not before.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use konductor_api::annotations::{LEASE, RENEWED};
use konductor_api::lease::Lease;
use konductor_api::ledger::Evidence;
use konductor_e2e::machine::{stays_put, with_machine};
use konductor_e2e::namespace::Namespace;
use konductor_e2e::tools::kubectl;
use konductor_e2e::workload::{is_running, is_waiting, pod, until_pod};
use konductor_e2e::{primitive, wait};
use kube::ResourceExt;
use serde_json::json;

use crate::pair::PATIENCE;

const TTL: Duration = Duration::from_secs(21);
/// A sidecar renews after a third of the `ttl`, give or take what a renewal takes.
const LATEST_RENEWAL: Duration = Duration::from_secs(9);
/// Tells the time, in seconds of the clock that all nodes of this cluster have in common, and this process with them; SIGTERM is
/// nothing to it.
const TELLS_THE_TIME: &str = "trap '' TERM; while true; do cut -d' ' -f1 /proc/uptime; sleep 0.1; done";

#[tokio::test]
#[ignore = "needs the project's own cluster: cargo xtask test"]
async fn a_leader_that_is_cut_off_has_stopped_before_the_next_one_leads() {
    with_machine("silent", async |namespace, machine| {
        primitive::make::<Lease>(namespace, "only", json!({"ttl": format!("{}s", TTL.as_secs())})).await?;
        machine.takes(pod("first").annotated(LEASE, "only").runs(TELLS_THE_TIME)).create(namespace).await?;
        until_pod(namespace, "first", "leading, and heard of", |pod| {
            is_running(pod) && pod.annotations().contains_key(RENEWED)
        })
        .await?;
        stays_put(pod("second").annotated(LEASE, "only").runs(TELLS_THE_TIME)).create(namespace).await?;
        until_pod(namespace, "second", "waiting", is_waiting).await?;
        let token = token_of_the_leader(namespace).await?;

        machine.is_cut_off().await?;
        let cut = uptime()?;
        wait::until_within(PATIENCE, &namespace.api::<Pod>(), "second", "leading", is_running).await?;
        let lease: Lease = namespace.api().get("only").await?;
        let status = lease.status.context("a status")?;
        let release = status.ledger.history.iter().find(|release| release.token == token);
        let release = release.context("no release of the first leader in the history")?;
        ensure!(release.evidence == Evidence::T, "{release:?}");
        let next = status.ledger.holders.first().context("nobody leads")?;
        ensure!(
            next.token.parse::<u64>()? > token.parse::<u64>()?,
            "TokenMonotone: {token}, then {}",
            next.token
        );

        let led = first_words(namespace, "second").await?;
        let last = machine.last_words(namespace, "first").await?.parse::<f64>()?;
        ensure!(last < led, "HolderStopsFirst: the first one led until {last}, the second one from {led} on");
        let floor = cut + TTL.as_secs_f64() - LATEST_RENEWAL.as_secs_f64();
        ensure!(led >= floor, "TtlFloor: cut off at {cut}, and replaced at {led}");

        // What was lost is deleted, and goes when its machine is heard of again.
        machine.is_mended().await?;
        wait::until_gone(&namespace.api::<Pod>(), "first").await
    })
    .await;
}

fn uptime() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/uptime")?;
    Ok(text.split_whitespace().next().context("no time")?.parse()?)
}

async fn token_of_the_leader(namespace: &Namespace) -> Result<String> {
    let lease: Lease = namespace.api().get("only").await?;
    let status = lease.status.context("a status")?;
    Ok(status.ledger.holders.first().context("nobody leads")?.token.clone())
}

async fn first_words(namespace: &Namespace, pod: &str) -> Result<f64> {
    let said = wait::until_some("it has said something", async || {
        let said = kubectl(namespace.name(), &["logs", pod, "-c", "main"]).await?;
        Ok(said.out.lines().next().map(str::to_owned))
    })
    .await?;
    Ok(said.parse()?)
}
