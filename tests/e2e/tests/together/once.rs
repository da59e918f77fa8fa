//! Once: until one has succeeded, and then nobody.

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use konductor_api::annotations::ONCE;
use konductor_api::once::{Once, OncePhase, OnceStatus};
use konductor_e2e::history::{History, one_at_a_time};
use konductor_e2e::namespace::{Namespace, in_namespace};
use konductor_e2e::workload::{
    is_running, is_waiting, job, pods_of, until_a_pod, until_complete, until_failed,
};
use konductor_e2e::{primitive, wait};
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;

async fn until(namespace: &Namespace, what: &str, holds: impl Fn(&OnceStatus) -> bool) -> Result<OnceStatus> {
    let once = wait::until(&namespace.api::<Once>(), "init", what, |once: &Once| {
        once.status.as_ref().is_some_and(&holds)
    })
    .await?;
    Ok(once.status.unwrap_or_default())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn when_the_first_is_killed_half_way_the_second_runs_and_the_third_is_skipped() {
    in_namespace("once", async |namespace| {
        let history = History::record(namespace);
        primitive::make::<Once>(namespace, "init", json!({})).await?;
        job("first").annotated(ONCE, "init").runs("sleep 3600").create(namespace).await?;
        let killed = until_a_pod(namespace, "first", "running", is_running).await?;
        for name in ["second", "third"] {
            job(name).annotated(ONCE, "init").runs("sleep 1").create(namespace).await?;
            until_a_pod(namespace, name, "waiting", is_waiting).await?;
        }
        namespace.api::<Pod>().delete(&killed.name_any(), &DeleteParams::default()).await?;
        until_failed(namespace, "first").await?;
        until_complete(namespace, "second").await?;
        let third = until_complete(namespace, "third").await?;
        let conditions = third.status.and_then(|status| status.conditions).unwrap_or_default();
        assert!(
            conditions.iter().any(|known| known.reason.as_deref() == Some("KonductorSkipped")),
            "{conditions:?}"
        );
        let done = until(namespace, "executed", |status| status.executed).await?;
        assert_eq!(
            (done.phase, done.executor.as_deref(), done.attempts),
            (Some(OncePhase::Executed), Some("job/second"), 1)
        );
        let runs = history.runs().await?;
        assert!(runs.iter().all(|run| run.owner() != "third"), "{runs:?}");
        one_at_a_time(&runs, |run| run.owner().to_owned())?;

        // Who comes later need not run either, and leaves nothing behind.
        job("late").annotated(ONCE, "init").create(namespace).await?;
        until_complete(namespace, "late").await?;
        assert!(history.runs_of("late").await?.is_empty());
        wait::until_true("the pods of the skipped are gone", async || {
            Ok(pods_of(namespace, "late").await?.is_empty())
        })
        .await?;

        // A new key is a new once.
        primitive::change::<Once>(namespace, "init", json!({"key": "v2"})).await?;
        job("v2").annotated(ONCE, "init").create(namespace).await?;
        until_complete(namespace, "v2").await?;
        assert_eq!(history.runs_of("v2").await?.len(), 1);
        let done = until(namespace, "executed for v2", |status| status.executor.as_deref() == Some("job/v2"))
            .await?;
        assert_eq!(done.key.as_deref(), Some("v2"));
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn after_as_many_failures_as_are_allowed_whoever_waits_fails() {
    in_namespace("attempts", async |namespace| {
        primitive::make::<Once>(namespace, "init", json!({"maxAttempts": 2})).await?;
        // The retries of one Job are one attempt.
        job("first").annotated(ONCE, "init").retries(1).runs("exit 1").create(namespace).await?;
        until(namespace, "run by the first", |status| status.phase == Some(OncePhase::Running)).await?;
        for name in ["second", "third"] {
            job(name).annotated(ONCE, "init").runs("sleep 1; exit 1").create(namespace).await?;
            until_a_pod(namespace, name, "there", |_| true).await?;
        }
        for name in ["first", "second", "third"] {
            until_failed(namespace, name).await?;
        }
        let failed = until(namespace, "failed", |status| status.phase == Some(OncePhase::Failed)).await?;
        assert_eq!(failed.attempts, 2);
        primitive::change::<Once>(namespace, "init", json!({"maxAttempts": 3})).await?;
        job("fourth").annotated(ONCE, "init").create(namespace).await?;
        until_complete(namespace, "fourth").await?;
        Ok(())
    })
    .await;
}
