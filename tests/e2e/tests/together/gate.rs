//! Gates: who waits starts when the conditions are met, not before, and fails at once when they never can be.

use anyhow::Result;
use k8s_openapi::api::batch::v1::Job;
use konductor_api::conditions::{FAILURE_TARGET, reason};
use konductor_api::gate::{ConditionOutcome, Gate, GatePhase};
use konductor_e2e::history::History;
use konductor_e2e::namespace::{Namespace, in_namespace};
use konductor_e2e::workload::{
    has_condition, has_failed, has_started, is_waiting, job, pod, pods_of, until_a_pod, until_complete,
    until_failed, until_pod, waiter_exit_code,
};
use konductor_e2e::{primitive, wait};
use kube::ResourceExt;
use kube::api::DeleteParams;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_gated_job_starts_after_the_condition_complete_and_not_after_the_first_of_ten_completions() {
    in_namespace("ten", async |namespace| {
        let history = History::record(namespace);
        primitive::gate(namespace, "ready", &[("data", "Complete")]).await?;
        job("train").gate("ready").create(namespace).await?;
        until_a_pod(namespace, "train", "waiting", is_waiting).await?;

        job("data").pods(10, 4).runs("sleep 0.2").create(namespace).await?;
        let succeeded = |job: &Job| job.status.as_ref().and_then(|status| status.succeeded).unwrap_or(0);
        let early = wait::until(&namespace.api::<Job>(), "data", "at its first completion", |job| {
            succeeded(job) >= 1
        })
        .await?;
        assert!(!has_condition(&early, "Complete"), "ten completions were too quick to test anything");
        assert_eq!(history.runs_of("train").await?, []);

        until_complete(namespace, "train").await?;
        let data = until_complete(namespace, "data").await?;
        let complete = data.status.as_ref().and_then(|status| status.completion_time.clone()).unwrap();
        let runs = history.runs_of("train").await?;
        assert_eq!(runs.len(), 1, "{runs:?}");
        assert!(runs[0].started >= complete.0, "{runs:?} before {complete:?}");

        let gate = namespace.api::<Gate>().get("ready").await?.status.unwrap();
        assert_eq!(gate.phase, Some(GatePhase::Open));
        assert_eq!(gate.met.as_deref(), Some("1/1"));
        assert_eq!(gate.condition_statuses[0].uid, data.uid());
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_gate_stays_open_after_the_job_that_opened_it_was_deleted() {
    in_namespace("latch", async |namespace| {
        primitive::gate(namespace, "ready", &[("data", "Complete")]).await?;
        job("data").create(namespace).await?;
        until_phase(namespace, "ready", GatePhase::Open).await?;

        let jobs = namespace.api::<Job>();
        jobs.delete("data", &DeleteParams::background()).await?;
        wait::until_gone(&jobs, "data").await?;
        job("train").gate("ready").create(namespace).await?;
        until_complete(namespace, "train").await?;

        // A new Job of that name, even one that fails, is nothing to a latched condition.
        job("data").runs("exit 1").create(namespace).await?;
        until_failed(namespace, "data").await?;
        job("late").gate("ready").create(namespace).await?;
        until_complete(namespace, "late").await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_failed_job_fails_at_once_whoever_waits_for_it_and_nothing_of_them_runs() {
    in_namespace("fail", async |namespace| {
        let history = History::record(namespace);
        primitive::gate(namespace, "ready", &[("data", "Complete")]).await?;
        // Retries are no way around: none of them is spent on a verdict.
        job("train").gate("ready").retries(3).create(namespace).await?;
        pod("bare").gate("ready").create(namespace).await?;
        until_a_pod(namespace, "train", "waiting", is_waiting).await?;
        until_pod(namespace, "bare", "waiting", is_waiting).await?;
        job("data").runs("exit 1").create(namespace).await?;

        let train = until_failed(namespace, "train").await?;
        let conditions = train.status.and_then(|status| status.conditions).unwrap_or_default();
        for type_ in [FAILURE_TARGET, "Failed"] {
            let condition = conditions.iter().find(|known| known.type_ == type_).unwrap();
            assert_eq!(condition.reason.as_deref(), Some(reason::JOB_DENIED), "{condition:?}");
            let message = condition.message.as_deref().unwrap_or_default();
            assert!(message.contains("ready") && message.contains("data"), "{message}");
        }
        let bare = until_pod(namespace, "bare", "failed", has_failed).await?;
        assert_eq!(waiter_exit_code(&bare), Some(65));

        let gate = until_phase(namespace, "ready", GatePhase::Failed).await?;
        assert_eq!(gate.condition_statuses[0].outcome, ConditionOutcome::Impossible);

        // Whoever comes later, too.
        job("late").gate("ready").create(namespace).await?;
        until_failed(namespace, "late").await?;
        let ran = history.runs().await?;
        assert!(ran.iter().all(|run| run.owner() == "data"), "{ran:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_job_that_names_two_gates_waits_for_both() {
    in_namespace("two", async |namespace| {
        primitive::gate(namespace, "first", &[("one", "Complete")]).await?;
        primitive::gate(namespace, "second", &[("two", "Complete"), ("three", "Failed")]).await?;
        job("last").gate("first, second").create(namespace).await?;
        let waiting = until_a_pod(namespace, "last", "waiting", is_waiting).await?;

        job("one").create(namespace).await?;
        job("two").create(namespace).await?;
        until_phase(namespace, "first", GatePhase::Open).await?;
        wait::until(&namespace.api::<Gate>(), "second", "half open", |gate| {
            gate.status.as_ref().and_then(|status| status.met.as_deref()) == Some("1/2")
        })
        .await?;
        until_pod(namespace, &waiting.name_any(), "still waiting", is_waiting).await?;

        job("three").runs("exit 1").create(namespace).await?;
        until_complete(namespace, "last").await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn all_pods_of_a_gated_job_and_each_pod_of_a_gated_template_start_once_it_is_open() {
    in_namespace("many", async |namespace| {
        let history = History::record(namespace);
        primitive::gate(namespace, "ready", &[("data", "Complete")]).await?;
        job("whole").gate("ready").pods(3, 3).create(namespace).await?;
        job("each").each_pod_gate("ready").pods(3, 3).create(namespace).await?;
        for name in ["whole", "each"] {
            wait::until_true(&format!("three pods of {name} wait"), async || {
                Ok(pods_of(namespace, name).await?.iter().filter(|pod| is_waiting(pod)).count() == 3)
            })
            .await?;
        }
        // One Job and three pods.
        wait::until(&namespace.api::<Gate>(), "ready", "awaited by four", |gate| {
            gate.status.as_ref().is_some_and(|status| status.common.waiting == 4)
        })
        .await?;
        assert_eq!(history.runs().await?, []);
        job("data").create(namespace).await?;
        for name in ["whole", "each"] {
            until_complete(namespace, name).await?;
            let pods = pods_of(namespace, name).await?;
            assert!(pods.len() == 3 && pods.iter().all(has_started), "no retries, no leftovers");
        }
        Ok(())
    })
    .await;
}

async fn until_phase(
    namespace: &Namespace,
    name: &str,
    phase: GatePhase,
) -> Result<konductor_api::gate::GateStatus> {
    let gate = wait::until(&namespace.api::<Gate>(), name, &format!("{phase:?}"), |gate| {
        gate.status.as_ref().and_then(|status| status.phase) == Some(phase)
    })
    .await?;
    Ok(gate.status.unwrap_or_default())
}
