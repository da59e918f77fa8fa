//! Holders that are taken away: the next one starts when their containers have really ended, and not when somebody
//! asked for it.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::Eviction;
use konductor_api::annotations::FINALIZER;
use konductor_api::mutex::Mutex;
use konductor_e2e::history::{History, Run, one_at_a_time};
use konductor_e2e::namespace::{Namespace, in_namespace, in_privileged_namespace};
use konductor_e2e::shared::{BEATS, LISTENS, Shared};
use konductor_e2e::workload::{
    has_succeeded, is_running, is_waiting, job, pod, until_a_pod, until_complete, until_pod,
};
use konductor_e2e::{primitive, wait};
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

/// The holder gets so long to end, and does not use it to end.
const GRACE_SECONDS: u32 = 6;

/// Runs a holder whose main is deaf to SIGTERM and somebody who waits behind it, takes the holder away, and checks that
/// the other one finds the holder dead.
async fn the_next_one_waits_for_the_end_of(
    namespace: &Namespace,
    taken_away: impl AsyncFn(&Namespace, &Pod) -> Result<()>,
) -> Result<(Run, Run)> {
    let shared = Shared::new(namespace).await?;
    let history = History::record(namespace);
    primitive::mutex(namespace, "db").await?;
    let holder = shared.with(job("holder").mutex("db").grace(GRACE_SECONDS).runs(BEATS));
    holder.create(namespace).await?;
    let holder = until_a_pod(namespace, "holder", "running", is_running).await?;
    shared.with(pod("next").mutex("db").runs(LISTENS)).create(namespace).await?;
    until_pod(namespace, "next", "waiting", is_waiting).await?;
    primitive::until_waiting(namespace, "db", 1).await?;

    taken_away(namespace, &holder).await?;
    until_pod(namespace, "next", "through", has_succeeded).await?;
    let runs = history.runs().await?;
    one_at_a_time(&runs, |run| run.owner().to_owned())?;
    shared.sweep(namespace).await?;
    let of = |owner: &str| runs.iter().find(|run| run.owner() == owner).cloned();
    Ok((of("holder").context("no run of the holder")?, of("next").context("no run of the next one")?))
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_deleted_holder_holds_to_the_end_of_its_grace_period() {
    in_privileged_namespace("delete", async |namespace| {
        let (holder, next) = the_next_one_waits_for_the_end_of(namespace, async |namespace, holder| {
            namespace.api::<Pod>().delete(&holder.name_any(), &DeleteParams::default()).await?;
            let deleted = until_pod(namespace, &holder.name_any(), "being deleted", |pod| {
                pod.metadata.deletion_timestamp.is_some()
            })
            .await?;
            assert!(
                deleted.finalizers().iter().any(|known| known == FINALIZER),
                "{:?}",
                deleted.finalizers()
            );
            // It lives on for seconds, and so does its hold.
            wait::stays("held by job/holder", Duration::from_secs(3), async || {
                let mutex = namespace.api::<Mutex>().get("db").await?.status.unwrap_or_default();
                Ok(mutex.holder.as_deref() == Some("job/holder"))
            })
            .await
        })
        .await?;
        let lived = next.started.as_second() - holder.started.as_second();
        assert!(lived >= i64::from(GRACE_SECONDS), "the holder lived for {lived} s: {holder:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_holder_that_is_deleted_by_force_is_kept_until_its_end_is_seen() {
    in_privileged_namespace("force", async |namespace| {
        the_next_one_waits_for_the_end_of(namespace, async |namespace, holder| {
            let now = DeleteParams::default().grace_period(0);
            namespace.api::<Pod>().delete(&holder.name_any(), &now).await?;
            Ok(())
        })
        .await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_evicted_holder_holds_to_the_end_of_its_containers() {
    in_privileged_namespace("evict", async |namespace| {
        the_next_one_waits_for_the_end_of(namespace, async |namespace, holder| {
            let name = holder.name_any();
            let eviction: Eviction = serde_json::from_value(json!({"metadata": {"name": name}}))?;
            let post = PostParams::default();
            let pods = namespace.api::<Pod>();
            pods.create_subresource::<_, Value>("eviction", &name, &post, &eviction).await?;
            Ok(())
        })
        .await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_deleted_job_holds_until_its_pods_are_dead() {
    in_privileged_namespace("job", async |namespace| {
        the_next_one_waits_for_the_end_of(namespace, async |namespace, _| {
            namespace.api::<Job>().delete("holder", &DeleteParams::background()).await?;
            wait::until_gone(&namespace.api::<Job>(), "holder").await
        })
        .await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_container_that_restarts_in_its_pod_keeps_the_hold() {
    in_namespace("restart", async |namespace| {
        let history = History::record(namespace);
        primitive::mutex(namespace, "db").await?;
        let fails_once = "[ -e /scratch/seen ] || { touch /scratch/seen; sleep 2; exit 1; }; sleep 1";
        for (name, workload) in
            [("whole", job("whole").mutex("db")), ("each", job("each").each_pod_mutex("db"))]
        {
            workload
                .restarts_in_place()
                .runs(fails_once)
                .pod("volumes", json!([{"name": "scratch", "emptyDir": {}}]))
                .container("volumeMounts", json!([{"name": "scratch", "mountPath": "/scratch"}]))
                .create(namespace)
                .await?;
            until_a_pod(namespace, name, "there", |_| true).await?;
        }
        job("next").mutex("db").create(namespace).await?;
        for name in ["whole", "each", "next"] {
            until_complete(namespace, name).await?;
        }
        let runs = history.runs().await?;
        one_at_a_time(&runs, |run| run.pod_uid.clone())?;
        for name in ["whole", "each"] {
            let own: Vec<_> = runs.iter().filter(|run| run.owner() == name).collect();
            assert!(own.len() == 2 && own[0].pod_uid == own[1].pod_uid, "{own:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_pod_that_is_deleted_while_it_waits_leaves_the_queue_and_nothing_of_it_runs() {
    in_namespace("leave", async |namespace| {
        let history = History::record(namespace);
        primitive::mutex(namespace, "db").await?;
        let until_told = "trap 'exit 0' TERM; sleep 3600 & wait";
        pod("holder").mutex("db").grace(10).runs(until_told).create(namespace).await?;
        primitive::until_held_by(namespace, "db", "pod/holder").await?;
        for name in ["second", "third"] {
            pod(name).mutex("db").create(namespace).await?;
            until_pod(namespace, name, "waiting", is_waiting).await?;
        }
        primitive::until_waiting(namespace, "db", 2).await?;
        let pods = namespace.api::<Pod>();
        pods.delete("second", &DeleteParams::default()).await?;
        wait::until_gone(&pods, "second").await?;
        let mutex = primitive::until_waiting(namespace, "db", 1).await?.status.unwrap_or_default();
        assert_eq!(mutex.common.queue[0].name, "third");

        until_pod(namespace, "holder", "running", is_running).await?;
        pods.delete("holder", &DeleteParams::default()).await?;
        until_pod(namespace, "third", "through", has_succeeded).await?;
        let mutex = primitive::until_free(namespace, "db").await?.status.unwrap_or_default();
        let released: Vec<_> = mutex.ledger.history.iter().map(|release| release.holder.as_str()).collect();
        assert_eq!(released, ["pod/third", "pod/holder"]);
        assert!(history.runs_of("second").await?.is_empty());
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_namespace_with_holders_and_waiters_can_be_deleted() {
    in_namespace("namespace", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        primitive::gate(namespace, "ready", &[("data", "Complete")]).await?;
        pod("holder").mutex("db").runs("sleep 3600").create(namespace).await?;
        primitive::until_held_by(namespace, "db", "pod/holder").await?;
        job("queued").mutex("db").create(namespace).await?;
        job("gated").gate("ready").create(namespace).await?;
        until_a_pod(namespace, "queued", "waiting", is_waiting).await?;
        until_a_pod(namespace, "gated", "waiting", is_waiting).await?;
        namespace.delete().await?;
        namespace.until_gone().await
    })
    .await;
}
