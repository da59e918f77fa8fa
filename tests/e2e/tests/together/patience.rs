//! Patience: what becomes of those who do not want to wait, or not for ever; and several primitives at once.

use konductor_api::annotations::{GATE, LEASE, MUTEX, ON_BUSY, ON_TIMEOUT, SEMAPHORE, TIMEOUT};
use konductor_api::gate::Gate;
use konductor_api::lease::Lease;
use konductor_api::mutex::Mutex;
use konductor_api::semaphore::Semaphore;
use konductor_e2e::history::{History, one_at_a_time};
use konductor_e2e::namespace::in_namespace;
use konductor_e2e::primitive;
use konductor_e2e::workload::{
    has_failed, is_running, is_waiting, job, pod, until_a_pod, until_complete, until_failed, until_pod,
    waiter_exit_code,
};
use serde_json::json;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_time_that_is_up_fails_skips_or_lets_proceed() {
    in_namespace("timeout", async |namespace| {
        let history = History::record(namespace);
        primitive::make::<Gate>(namespace, "closed", json!({})).await?;
        let waits = |name: &str| job(name).annotated(GATE, "closed").annotated(TIMEOUT, "3s");
        waits("fails").retries(3).create(namespace).await?;
        waits("skips").annotated(ON_TIMEOUT, "skip").create(namespace).await?;
        waits("proceeds").annotated(ON_TIMEOUT, "proceed").create(namespace).await?;
        pod("bare").annotated(GATE, "closed").annotated(TIMEOUT, "3s").create(namespace).await?;

        let failed = until_failed(namespace, "fails").await?;
        let status = failed.status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let why = conditions.iter().find(|known| known.reason.as_deref() == Some("KonductorTimedOut"));
        assert!(
            why.is_some_and(|known| known.message.as_deref().unwrap_or("").starts_with("3s are over")),
            "{conditions:?}"
        );
        assert_eq!(status.failed, Some(1), "no retry was spent on it");
        until_complete(namespace, "skips").await?;
        until_complete(namespace, "proceeds").await?;
        let bare = until_pod(namespace, "bare", "failed", has_failed).await?;
        assert_eq!(waiter_exit_code(&bare), Some(66));
        let ran: Vec<_> = history.runs().await?.iter().map(|run| run.owner().to_owned()).collect();
        assert_eq!(ran, ["proceeds"]);
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn who_does_not_want_to_wait_fails_at_once_and_runs_where_nobody_is_in_the_way() {
    in_namespace("busy", async |namespace| {
        let history = History::record(namespace);
        primitive::make::<Lease>(namespace, "only", json!({})).await?;
        pod("holds").annotated(LEASE, "only").runs("sleep 3600").create(namespace).await?;
        until_pod(namespace, "holds", "running", is_running).await?;
        let tries = |name: &str| job(name).annotated(LEASE, "only").annotated(ON_BUSY, "fail");
        tries("vain").create(namespace).await?;
        until_failed(namespace, "vain").await?;
        pod("also").annotated(LEASE, "only").annotated(ON_BUSY, "fail").create(namespace).await?;
        let also = until_pod(namespace, "also", "failed", has_failed).await?;
        assert_eq!(waiter_exit_code(&also), Some(67));

        let pods = namespace.api::<k8s_openapi::api::core::v1::Pod>();
        pods.delete("holds", &kube::api::DeleteParams::default()).await?;
        konductor_e2e::wait::until(&namespace.api::<Lease>(), "only", "free", |lease: &Lease| {
            lease.status.as_ref().is_some_and(|status| status.ledger.holders.is_empty())
        })
        .await?;
        tries("free").create(namespace).await?;
        until_complete(namespace, "free").await?;
        let ran: Vec<_> = history.runs().await?.iter().map(|run| run.owner().to_owned()).collect();
        assert_eq!(ran, ["holds", "free"]);
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn jobs_that_take_a_gate_a_semaphore_and_a_mutex_at_once_get_through_one_by_one() {
    in_namespace("several", async |namespace| {
        let history = History::record(namespace);
        primitive::gate(namespace, "ready", &[("data", "Complete")]).await?;
        primitive::make::<Semaphore>(namespace, "limit", json!({"permits": 2})).await?;
        primitive::make::<Mutex>(namespace, "db", json!({})).await?;
        let tells =
            "[ -n \"$KONDUCTOR_TOKEN_MUTEX_DB\" ] && [ -n \"$KONDUCTOR_TOKEN_SEMAPHORE_LIMIT\" ] && sleep 1";
        for name in ["a", "b", "c"] {
            job(name)
                .annotated(GATE, "ready")
                .annotated(SEMAPHORE, "limit")
                .annotated(MUTEX, "db")
                .runs(tells)
                .create(namespace)
                .await?;
        }
        for name in ["a", "b", "c"] {
            until_a_pod(namespace, name, "waiting", is_waiting).await?;
        }
        let semaphore = namespace.api::<Semaphore>().get("limit").await?;
        assert_eq!(
            semaphore.status.map(|status| status.in_use),
            Some(0),
            "nothing is held while a gate is closed"
        );
        job("data").create(namespace).await?;
        for name in ["a", "b", "c"] {
            until_complete(namespace, name).await?;
        }
        let runs = history.runs().await?;
        let of_three: Vec<_> = runs.into_iter().filter(|run| run.owner() != "data").collect();
        one_at_a_time(&of_three, |run| run.owner().to_owned())
    })
    .await;
}
