//! `WaitGroups`: when all members are through, however it went for them.

use konductor_api::annotations::{WAITGROUP, WAITGROUP_WAIT};
use konductor_api::waitgroup::{WaitGroup, WaitGroupPhase};
use konductor_e2e::history::History;
use konductor_e2e::namespace::in_namespace;
use konductor_e2e::workload::{is_waiting, job, pod, until_a_pod, until_complete};
use konductor_e2e::{primitive, wait};
use serde_json::json;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn who_waits_starts_when_every_member_has_ended_also_one_that_failed() {
    in_namespace("group", async |namespace| {
        let history = History::record(namespace);
        primitive::make::<WaitGroup>(namespace, "workers", json!({"expectAtLeast": 5})).await?;
        job("report").annotated(WAITGROUP_WAIT, "workers").create(namespace).await?;
        until_a_pod(namespace, "report", "waiting", is_waiting).await?;

        job("good").annotated(WAITGROUP, "workers").runs("sleep 2").create(namespace).await?;
        job("bad").annotated(WAITGROUP, "workers").retries(1).runs("exit 1").create(namespace).await?;
        pod("bare").annotated(WAITGROUP, "workers").runs("sleep 1").create(namespace).await?;
        // Two indexes, of which one fails once: the retry is the same member.
        let flaky =
            "if [ $JOB_COMPLETION_INDEX = 0 ] && [ $(($(date +%s) % 2)) = 0 ]; then exit 1; fi; sleep 1";
        job("indexed")
            .each_pod_annotated(WAITGROUP, "workers")
            .pods(2, 2)
            .spec("completionMode", json!("Indexed"))
            .retries(6)
            .runs(flaky)
            .create(namespace)
            .await?;
        until_complete(namespace, "report").await?;
        let done = wait::until(&namespace.api::<WaitGroup>(), "workers", "done", |group: &WaitGroup| {
            group.status.as_ref().is_some_and(|status| status.phase == Some(WaitGroupPhase::Done))
        })
        .await?;
        let status = done.status.unwrap_or_default();
        assert_eq!((status.counter, status.done_of.as_deref()), (0, Some("5/5")), "{status:?}");
        let runs = history.runs().await?;
        let started = runs.iter().find(|run| run.owner() == "report").map(|run| run.started);
        for run in runs.iter().filter(|run| run.owner() != "report") {
            assert!(run.end.as_ref().map(|end| end.at) <= started, "{run:?} after {started:?}");
        }
        Ok(())
    })
    .await;
}
