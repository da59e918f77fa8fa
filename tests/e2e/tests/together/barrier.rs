//! Barriers: all of them, then all at once; a retry never counts twice.

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use konductor_api::annotations::{BARRIER, BARRIER_ARRIVE, BARRIER_WAIT};
use konductor_api::barrier::{Barrier, BarrierPhase, BarrierStatus};
use konductor_e2e::history::History;
use konductor_e2e::namespace::{Namespace, in_namespace};
use konductor_e2e::workload::{
    has_condition, is_waiting, job, pods_of, until_a_pod, until_complete, until_failed,
};
use konductor_e2e::{primitive, wait};
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;

async fn until(
    namespace: &Namespace,
    name: &str,
    what: &str,
    holds: impl Fn(&BarrierStatus) -> bool,
) -> Result<BarrierStatus> {
    let barrier = wait::until(&namespace.api::<Barrier>(), name, what, |barrier: &Barrier| {
        barrier.status.as_ref().is_some_and(&holds)
    })
    .await?;
    Ok(barrier.status.unwrap_or_default())
}

/// Deletes the waiting pod of a Job and waits for the one that takes its place.
async fn replace_pod(namespace: &Namespace, name: &str) -> Result<()> {
    let old = until_a_pod(namespace, name, "waiting", is_waiting).await?;
    namespace.api::<Pod>().delete(&old.name_any(), &DeleteParams::default()).await?;
    until_a_pod(namespace, name, "waiting again", |pod| pod.uid() != old.uid() && is_waiting(pod)).await?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn three_jobs_start_together_and_one_whose_pod_was_replaced_twice_counted_once() {
    in_namespace("barrier", async |namespace| {
        let history = History::record(namespace);
        primitive::make::<Barrier>(namespace, "stage", json!({"expected": 3})).await?;
        job("a").annotated(BARRIER, "stage").retries(4).create(namespace).await?;
        job("b").annotated(BARRIER, "stage").create(namespace).await?;
        for _ in 0..2 {
            replace_pod(namespace, "a").await?;
        }
        let two = until(namespace, "stage", "with two arrivals", |status| status.arrived == 2).await?;
        assert_eq!(two.phase, Some(BarrierPhase::Waiting));
        assert!(history.runs().await?.is_empty(), "nobody passes early");

        job("c").annotated(BARRIER, "stage").create(namespace).await?;
        for name in ["a", "b", "c"] {
            until_complete(namespace, name).await?;
        }
        let open =
            until(namespace, "stage", "open", |status| status.phase == Some(BarrierPhase::Open)).await?;
        assert_eq!((open.arrived, open.arrived_of.as_deref()), (3, Some("3/3")));
        let opened = open.opened_at.map(|at| at.0).unwrap_or_default();
        let runs = history.runs().await?;
        assert!(runs.iter().all(|run| run.started >= opened), "{runs:?} before {opened}");

        // It stays open for who comes late.
        job("late").annotated(BARRIER, "stage").create(namespace).await?;
        until_complete(namespace, "late").await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_pods_of_an_indexed_job_meet_and_an_index_counts_once() {
    in_namespace("indexed", async |namespace| {
        let history = History::record(namespace);
        primitive::make::<Barrier>(namespace, "shards", json!({"expected": 4})).await?;
        job("train")
            .each_pod_annotated(BARRIER, "shards")
            .pods(4, 3)
            .spec("completionMode", json!("Indexed"))
            .retries(4)
            .create(namespace)
            .await?;
        until(namespace, "shards", "with three arrivals", |status| status.arrived == 3).await?;
        replace_pod(namespace, "train").await?;
        let three = until(namespace, "shards", "still with three", |status| status.arrived == 3).await?;
        let told = serde_json::to_string(&three.arrivals)?;
        assert_eq!(told, "[\"job/train[0-2]\"]");
        // More than fit at once: a barrier larger than the parallelism never fills, which its status shows.
        primitive::change::<Barrier>(namespace, "shards", json!({"expected": 3})).await?;
        until_complete(namespace, "train").await?;
        assert_eq!(history.runs_of("train").await?.len(), 4);
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn workers_arrive_by_succeeding_and_a_reducer_waits_for_them_without_counting() {
    in_namespace("fanin", async |namespace| {
        let history = History::record(namespace);
        primitive::make::<Barrier>(namespace, "mapped", json!({"expected": 2})).await?;
        job("reduce").annotated(BARRIER_WAIT, "mapped").create(namespace).await?;
        job("fails").annotated(BARRIER_ARRIVE, "mapped").runs("exit 1").create(namespace).await?;
        job("w1").annotated(BARRIER_ARRIVE, "mapped").create(namespace).await?;
        until_failed(namespace, "fails").await?;
        until_complete(namespace, "w1").await?;
        let one = until(namespace, "mapped", "with one arrival", |status| status.arrived == 1).await?;
        assert_eq!(serde_json::to_string(&one.succeeded)?, "[\"job/w1\"]");
        until_a_pod(namespace, "reduce", "waiting", is_waiting).await?;
        // A pod's success counts too, by its index.
        job("w2")
            .each_pod_annotated(BARRIER_ARRIVE, "mapped")
            .pods(1, 1)
            .spec("completionMode", json!("Indexed"))
            .create(namespace)
            .await?;
        until_complete(namespace, "reduce").await?;
        let end = |runs: &[konductor_e2e::history::Run]| {
            runs.iter().filter_map(|run| Some(run.end.as_ref()?.at)).max()
        };
        let (w1, w2) = (history.runs_of("w1").await?, history.runs_of("w2").await?);
        let reduce = history.runs_of("reduce").await?;
        assert!(
            reduce.len() == 1 && Some(reduce[0].started) >= end(&w1).max(end(&w2)),
            "{reduce:?} {w1:?} {w2:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_quorum_opens_it_and_a_timeout_fails_everybody_who_waits() {
    in_namespace("quorum", async |namespace| {
        primitive::make::<Barrier>(namespace, "most", json!({"expected": 3, "quorum": 2})).await?;
        primitive::make::<Barrier>(namespace, "never", json!({"expected": 2, "timeout": "2s"})).await?;
        for name in ["a", "b"] {
            job(name).annotated(BARRIER, "most").create(namespace).await?;
        }
        job("alone").annotated(BARRIER, "never").create(namespace).await?;
        for name in ["a", "b"] {
            until_complete(namespace, name).await?;
        }
        let alone = until_failed(namespace, "alone").await?;
        let why = alone.status.and_then(|status| status.conditions).unwrap_or_default();
        assert!(
            why.iter().any(|known| known
                .message
                .as_deref()
                .unwrap_or("")
                .contains("barrier/never has failed")),
            "{why:?}"
        );
        let failed =
            until(namespace, "never", "failed", |status| status.phase == Some(BarrierPhase::Failed)).await?;
        assert_eq!(failed.arrived, 1);

        // Another number is another generation.
        primitive::change::<Barrier>(namespace, "never", json!({"expected": 1})).await?;
        job("again").annotated(BARRIER, "never").create(namespace).await?;
        until_complete(namespace, "again").await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_cyclic_barrier_closes_again_behind_each_round() {
    in_namespace("cyclic", async |namespace| {
        primitive::make::<Barrier>(namespace, "round", json!({"expected": 2, "cyclic": true})).await?;
        for round in 1..=2 {
            job(&format!("a{round}")).annotated(BARRIER, "round").create(namespace).await?;
            until(namespace, "round", "with one arrival", |status| status.arrived == 1).await?;
            let waits = until_a_pod(namespace, &format!("a{round}"), "waiting", is_waiting).await?;
            assert!(is_waiting(&waits));
            job(&format!("b{round}")).annotated(BARRIER, "round").create(namespace).await?;
            for name in ["a", "b"] {
                until_complete(namespace, &format!("{name}{round}")).await?;
            }
            let status = until(namespace, "round", "closed again", |status| status.arrived == 0).await?;
            assert_eq!((status.generation, status.phase), (round + 1, Some(BarrierPhase::Waiting)));
        }
        assert!(pods_of(namespace, "a1").await?.len() == 1);
        let a1 = namespace.api::<k8s_openapi::api::batch::v1::Job>().get("a1").await?;
        assert!(has_condition(&a1, "Complete"));
        Ok(())
    })
    .await;
}
