//! Leases: a singleton `CronJob`, and a leader that is replaced when it is proven dead.

use anyhow::Result;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use konductor_api::annotations::{LEASE, ON_BUSY};
use konductor_api::lease::Lease;
use konductor_e2e::history::{History, Run, one_at_a_time};
use konductor_e2e::namespace::{Namespace, in_namespace};
use konductor_e2e::tools::kubectl;
use konductor_e2e::workload::{
    is_running, is_waiting, job, pod, pods_of, until_a_pod, until_complete, until_pod,
};
use konductor_e2e::{primitive, wait};
use kube::api::DeleteParams;
use serde_json::json;

async fn until_held_by(namespace: &Namespace, holder: &str) -> Result<Lease> {
    wait::until(&namespace.api::<Lease>(), "only", &format!("held by {holder}"), |lease: &Lease| {
        lease.status.as_ref().is_some_and(|status| status.holder.as_deref() == Some(holder))
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_run_of_a_cron_job_is_skipped_while_the_last_one_still_runs() {
    in_namespace("cron", async |namespace| {
        let history = History::record(namespace);
        primitive::make::<Lease>(namespace, "only", json!({"ttl": "1h"})).await?;
        let manifest = job("report")
            .annotated(LEASE, "only")
            .annotated(ON_BUSY, "skip")
            .runs("while [ ! -e /tmp/done ]; do sleep 0.2; done")
            .manifest();
        let cron = json!({
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "report"},
            // Its runs are made by hand: a test does not wait for minutes.
            "spec": {"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {
                "metadata": {"annotations": manifest["metadata"]["annotations"]},
                "spec": manifest["spec"],
            }},
        });
        namespace.create::<CronJob>(cron).await?;
        kubectl(namespace.name(), &["create", "job", "first", "--from=cronjob/report"]).await?;
        let first = until_a_pod(namespace, "first", "running", is_running).await?;
        kubectl(namespace.name(), &["create", "job", "second", "--from=cronjob/report"]).await?;
        let second = until_complete(namespace, "second").await?;
        let conditions = second.status.and_then(|status| status.conditions).unwrap_or_default();
        assert!(
            conditions.iter().any(|known| known.reason.as_deref() == Some("KonductorSkipped")),
            "{conditions:?}"
        );
        assert!(history.runs_of("second").await?.is_empty());

        let name = first.metadata.name.unwrap_or_default();
        kubectl(namespace.name(), &["exec", &name, "-c", "main", "--", "touch", "/tmp/done"]).await?;
        until_complete(namespace, "first").await?;
        kubectl(namespace.name(), &["create", "job", "third", "--from=cronjob/report"]).await?;
        until_a_pod(namespace, "third", "running", is_running).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_leader_is_replaced_when_it_is_dead_and_not_before() {
    in_namespace("leader", async |namespace| {
        let history = History::record(namespace);
        primitive::make::<Lease>(namespace, "only", json!({})).await?;
        let leads = "trap 'sleep 3; exit 0' TERM; sleep 3600 & wait";
        for name in ["p1", "p2"] {
            pod(name).annotated(LEASE, "only").grace(20).runs(leads).create(namespace).await?;
            if name == "p1" {
                until_held_by(namespace, "pod/p1").await?;
                until_pod(namespace, "p1", "running", is_running).await?;
            } else {
                until_pod(namespace, "p2", "waiting", is_waiting).await?;
            }
        }
        namespace.api::<Pod>().delete("p1", &DeleteParams::default()).await?;
        let lease = until_held_by(namespace, "pod/p2").await?;
        until_pod(namespace, "p2", "running", is_running).await?;
        let tokens: Vec<u64> = lease
            .status
            .iter()
            .flat_map(|status| {
                let history = status.ledger.history.iter().map(|release| &release.token);
                history.chain(status.ledger.holders.iter().map(|holder| &holder.token))
            })
            .filter_map(|token| token.parse().ok())
            .collect();
        assert!(tokens.len() == 2 && tokens[0] < tokens[1], "{tokens:?}");
        namespace.api::<Pod>().delete("p2", &DeleteParams::default()).await?;
        wait::until_gone(&namespace.api::<Pod>(), "p2").await?;
        one_at_a_time(&history.runs().await?, |run| run.pod.clone())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_higher_priority_goes_first() {
    in_namespace("priority", async |namespace| {
        let history = History::record(namespace);
        primitive::make::<Lease>(namespace, "only", json!({})).await?;
        pod("holds")
            .annotated(LEASE, "only")
            .runs("trap 'exit 0' TERM; sleep 3600 & wait")
            .create(namespace)
            .await?;
        until_held_by(namespace, "pod/holds").await?;
        until_pod(namespace, "holds", "running", is_running).await?;
        for (name, priority) in [("low", "-1"), ("normal", "0"), ("high", "10")] {
            job(name)
                .annotated(LEASE, "only")
                .annotated(konductor_api::annotations::PRIORITY, priority)
                .create(namespace)
                .await?;
            until_a_pod(namespace, name, "waiting", is_waiting).await?;
        }
        wait::until(&namespace.api::<Lease>(), "only", "awaited by three", |lease: &Lease| {
            lease.status.as_ref().is_some_and(|status| {
                status.common.waiting == 3
                    && status.common.queue.iter().all(|waiter| waiter.not_yet.is_none())
            })
        })
        .await?;
        namespace.api::<Pod>().delete("holds", &DeleteParams::default()).await?;
        for name in ["high", "normal", "low"] {
            until_complete(namespace, name).await?;
        }
        let runs = history.runs().await?;
        let order: Vec<_> = runs.iter().filter(|run| run.job.is_some()).map(Run::owner).collect();
        assert_eq!(order, ["high", "normal", "low"]);
        let jobs = namespace.api::<Job>().get("high").await?;
        assert!(jobs.status.is_some() && pods_of(namespace, "high").await?.len() == 1);
        Ok(())
    })
    .await;
}
