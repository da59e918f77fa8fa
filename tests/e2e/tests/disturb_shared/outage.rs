//! The API server away for a minute: nobody is let in, nobody loses what it holds, and what ended meanwhile is released after it.
//!
//! May touch: the API server of the project's own cluster. What must stay true: it runs again, whatever becomes of the test.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use konductor_api::annotations::{LEASE, SIDECAR};
use konductor_api::lease::Lease;
use konductor_api::ledger::{Evidence, Ledger};
use konductor_api::mutex::Mutex;
use konductor_cluster::{Cluster, Daemon};
use konductor_e2e::disturb::disturbing;
use konductor_e2e::namespace::Namespace;
use konductor_e2e::tools::{koncli, koncli_done};
use konductor_e2e::workload::{has_succeeded, is_running, is_waiting, main, pod, until_pod};
use konductor_e2e::{cluster, primitive, wait};
use serde_json::json;

const OUTAGE: Duration = Duration::from_secs(60);
/// Ends well when it is told to, and not before.
const UNTIL_TOLD: &str = "trap 'exit 0' TERM; while true; do sleep 0.1; done";
/// Each with a pod that holds and one that waits; the holder of the last one ends during the outage.
const MUTEXES: [&str; 3] = ["plain", "timed", "ended"];

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn while_the_api_server_is_away_nothing_is_granted_and_nothing_is_lost() {
    disturbing("outage", async |namespace| {
        let Some(cluster) = Cluster::of_kubeconfig(&cluster::kubeconfig()?)? else {
            eprintln!("skipped: only the project's own cluster has an API server that can be stopped");
            return Ok(());
        };
        // Shorter than the outage: only time in which the API server could be read may count.
        primitive::make::<Mutex>(namespace, "timed", json!({"ttl": "20s"})).await?;
        primitive::make::<Lease>(namespace, "only", json!({"ttl": "30s"})).await?;
        primitive::mutex(namespace, "plain").await?;
        primitive::mutex(namespace, "ended").await?;
        for mutex in MUTEXES {
            // A sidecar would stop its pod, as it must where it cannot renew.
            let held = |name: &str| pod(name).mutex(mutex).annotated(SIDECAR, "never").grace(20);
            held(&holder(mutex)).runs(UNTIL_TOLD).create(namespace).await?;
            until_pod(namespace, &holder(mutex), "running", is_running).await?;
            held(&next(mutex)).create(namespace).await?;
            until_pod(namespace, &next(mutex), "waiting", is_waiting).await?;
            primitive::until_waiting(namespace, mutex, 1).await?;
        }
        koncli_done(namespace, &["lease", "acquire", "only", "--holder", "ann"]).await?;
        pod("standby").annotated(LEASE, "only").annotated(SIDECAR, "never").create(namespace).await?;
        until_pod(namespace, "standby", "waiting", is_waiting).await?;
        let (ledgers, containers) = (ledgers(namespace).await?, containers(namespace).await?);
        let leader = leader(namespace).await?;

        koncli_done(namespace, &["lease", "renew", "only", "--holder", "ann"]).await?;
        let ended = containers.last().context("three containers")?.clone();
        let back = without_api_server(namespace, &cluster, &ended).await?;

        wait::until_true("the claim is renewed", async || {
            let said = koncli(namespace.name(), &["lease", "renew", "only", "--holder", "ann"]).await?;
            Ok(said.code == Some(0))
        })
        .await?;
        ensure!(self::leader(namespace).await? == leader, "the claim was lost");
        for (mutex, before) in MUTEXES.iter().zip(&ledgers).take(2) {
            let now = ledger(namespace, mutex).await?;
            ensure!(now == *before, "{mutex} was {before:?} and is {now:?}");
        }
        // That of an end which nobody could hear of is the ordinary one, and comes after the outage, as the grant does.
        until_pod(namespace, &next("ended"), "through", has_succeeded).await?;
        let released = ledger(namespace, "ended").await?;
        let before = ledgers.last().and_then(|ledger| ledger.holders.first()).context("a holder")?;
        let release = released.history.iter().find(|release| release.token == before.token);
        let release = release.context("no release of who ended")?;
        ensure!(matches!(release.evidence, Evidence::P1 | Evidence::P2), "{release:?}");
        ensure!(release.at.0.as_second() >= back.as_second(), "{release:?}, back at {back}");

        ensure!(self::containers(namespace).await?[..2] == containers[..2], "a holder was started again");
        for (mutex, id) in MUTEXES.iter().zip(&containers).take(2) {
            kill(&cluster, id).await?;
            until_pod(namespace, &next(mutex), "through", has_succeeded).await?;
        }
        koncli_done(namespace, &["lease", "release", "only", "--holder", "ann"]).await?;
        until_pod(namespace, "standby", "through", has_succeeded).await.map(drop)
    })
    .await;
}

/// Stops it, ends a container meanwhile, and starts it again in any case; says when that was.
async fn without_api_server(namespace: &Namespace, cluster: &Cluster, ends: &str) -> Result<Timestamp> {
    let with = |act: fn(&Cluster, Daemon) -> Result<()>| {
        let cluster = cluster.clone();
        tokio::task::spawn_blocking(move || act(&cluster, Daemon::ApiServer))
    };
    with(Cluster::kill).await??;
    let outcome = async {
        kill(cluster, ends).await?;
        wait::stays("the API server is away", OUTAGE, async || {
            Ok(namespace.client().apiserver_version().await.is_err())
        })
        .await
    }
    .await;
    let back = Timestamp::now();
    with(Cluster::start).await??;
    wait::until_true("the API server answers", async || {
        Ok(namespace.client().apiserver_version().await.is_ok())
    })
    .await?;
    outcome.map(|()| back)
}

/// Tells a container to end.
async fn kill(cluster: &Cluster, id: &str) -> Result<()> {
    let (cluster, id) = (cluster.clone(), id.to_owned());
    tokio::task::spawn_blocking(move || cluster.kill_container(&id, "TERM")).await?
}

fn holder(mutex: &str) -> String {
    format!("{mutex}-holder")
}

fn next(mutex: &str) -> String {
    format!("{mutex}-next")
}

async fn ledger(namespace: &Namespace, mutex: &str) -> Result<Ledger> {
    let mutex: Mutex = namespace.api().get(mutex).await?;
    Ok(beyond_doubt(mutex.status.context("a status")?.ledger))
}

/// A node that could tell nobody that it is well may be doubted for a moment.
fn beyond_doubt(mut ledger: Ledger) -> Ledger {
    ledger.holders.iter_mut().for_each(|holder| holder.suspect = None);
    ledger
}

async fn ledgers(namespace: &Namespace) -> Result<Vec<Ledger>> {
    let mut ledgers = Vec::new();
    for mutex in MUTEXES {
        ledgers.push(ledger(namespace, mutex).await?);
    }
    Ok(ledgers)
}

/// Who leads, and all that is remembered of others.
async fn leader(namespace: &Namespace) -> Result<Ledger> {
    let lease: Lease = namespace.api().get("only").await?;
    Ok(beyond_doubt(lease.status.context("a status")?.ledger))
}

/// The IDs of the holders' containers: that of one that was started again is another.
async fn containers(namespace: &Namespace) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for mutex in MUTEXES {
        let pod: Pod = namespace.api().get(&holder(mutex)).await?;
        ids.push(main(&pod).and_then(|status| status.container_id.clone()).context("it has run")?);
    }
    Ok(ids)
}
