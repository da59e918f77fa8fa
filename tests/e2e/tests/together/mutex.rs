//! Mutexes: one at a time, in the order of the queue, with a token that rises.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use konductor_api::annotations::{MUTEX, QUEUED};
use konductor_api::ledger::Evidence;
use konductor_api::mutex::Mutex;
use konductor_e2e::history::{History, Run, one_at_a_time};
use konductor_e2e::namespace::{Namespace, in_namespace, in_privileged_namespace};
use konductor_e2e::shared::{COUNTS, Shared};
use konductor_e2e::workload::{
    has_condition, has_succeeded, is_running, is_waiting, job, pod, pods_of, until_a_pod, until_complete,
    until_pod,
};
use konductor_e2e::{primitive, wait};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

/// Writes the token where the test finds it.
const TELLS_TOKEN: &str = "printf %s $KONDUCTOR_TOKEN > /dev/termination-log";

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn twelve_jobs_run_one_at_a_time_in_the_order_of_their_stamps() {
    in_privileged_namespace("twelve", async |namespace| {
        let shared = Shared::new(namespace).await?;
        let history = History::record(namespace);
        primitive::mutex(namespace, "db").await?;
        let pods = namespace.api::<Pod>();
        shared
            .with(pod("first").mutex("db").runs("trap 'exit 0' TERM; sleep 3600 & wait"))
            .create(namespace)
            .await?;
        until_pod(namespace, "first", "running", is_running).await?;

        for number in 1..=12 {
            let name = format!("j{number:02}");
            let fails_once =
                format!("if [ ! -e /shared/{name} ]; then touch /shared/{name}; exit 1; fi; {COUNTS}");
            let workload = match number {
                3 => job(&name).mutex("db").retries(2).runs(&fails_once),
                6 => job(&name).each_pod_mutex("db").retries(2).runs(&fails_once),
                8 => job(&name).mutex("db").restarts_in_place().runs(&fails_once),
                9 => job(&name).each_pod_mutex("db").restarts_in_place().runs(&fails_once),
                _ if number % 2 == 0 => job(&name).each_pod_mutex("db").runs(COUNTS),
                _ => job(&name).mutex("db").runs(COUNTS),
            };
            shared.with(workload).create(namespace).await?;
            until_a_pod(namespace, &name, "there", |_| true).await?;
        }
        primitive::until_waiting(namespace, "db", 12).await?;
        wait::until_true("all twelve waiters run", async || {
            Ok(pods.list(&ListParams::default()).await?.iter().filter(|pod| is_waiting(pod)).count() == 12)
        })
        .await?;
        let stamps = stamps(namespace).await?;
        assert_eq!(stamps.len(), 12, "{stamps:?}");
        assert_eq!(stamps.values().collect::<BTreeSet<_>>().len(), 12, "no two stamps are the same");

        pods.delete("first", &DeleteParams::default()).await?;
        for number in 1..=12 {
            until_complete(namespace, &format!("j{number:02}")).await?;
        }
        primitive::until_free(namespace, "db").await?;

        let runs = history.runs().await?;
        one_at_a_time(&runs, |run| run.owner().to_owned())?;
        assert_eq!(shared.sweep(namespace).await?, 12, "an update was lost: two ran at once");
        let succeeded: Vec<_> = runs.iter().filter(|run| !run.message().is_empty()).collect();
        assert_eq!(succeeded.len(), 12, "{runs:?}");
        // The retry of j06 is a new pod and stands at the end of the queue: it is not among the stamps.
        let order: Vec<_> = runs.iter().filter_map(|run| stamps.get(&participant(run, &stamps))).collect();
        assert!(order.len() >= 12 && order.is_sorted(), "{order:?}\n{runs:#?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn without_a_mutex_both_witnesses_see_the_overlap() {
    in_privileged_namespace("overlap", async |namespace| {
        let shared = Shared::new(namespace).await?;
        let history = History::record(namespace);
        let meet = format!(
            "touch /shared/$HOSTNAME; until [ $(ls /shared | wc -l) -ge 3 ]; do sleep 0.1; done; {COUNTS}"
        );
        shared.with(job("free").pods(3, 3).runs(&meet)).create(namespace).await?;
        until_complete(namespace, "free").await?;
        let runs = history.runs().await?;
        assert!(one_at_a_time(&runs, |run| run.pod_uid.clone()).is_err(), "{runs:?}");
        assert!(shared.sweep(namespace).await? < 3, "{runs:?}");
        Ok(())
    })
    .await;
}

/// The queue stamp of each participant of the twelve: the Job where the Job is annotated, else its pod.
async fn stamps(namespace: &Namespace) -> Result<BTreeMap<String, String>> {
    let mut stamps = BTreeMap::new();
    for job in namespace.api::<Job>().list(&ListParams::default()).await? {
        let name = job.name_any();
        if let Some(stamp) = job.annotations().get(QUEUED).filter(|_| job.annotations().contains_key(MUTEX)) {
            stamps.insert(name, stamp.clone());
            continue;
        }
        let pod = pods_of(namespace, &name).await?.into_iter().next().context("no pod")?;
        let stamp = pod.annotations().get(QUEUED).with_context(|| format!("{name}: no stamp"))?;
        stamps.insert(pod.uid().unwrap_or_default(), stamp.clone());
    }
    Ok(stamps)
}

/// As [`stamps`] has it.
fn participant(run: &Run, stamps: &BTreeMap<String, String>) -> String {
    if stamps.contains_key(run.owner()) { run.owner().to_owned() } else { run.pod_uid.clone() }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_pods_of_an_annotated_job_run_together_under_one_token() {
    in_namespace("together", async |namespace| {
        let history = History::record(namespace);
        primitive::mutex(namespace, "db").await?;
        let three = format!("{TELLS_TOKEN}; sleep 2");
        job("three").mutex("db").pods(3, 3).runs(&three).create(namespace).await?;
        primitive::until_held_by(namespace, "db", "job/three").await?;
        job("next").mutex("db").runs(TELLS_TOKEN).create(namespace).await?;
        until_complete(namespace, "three").await?;
        until_complete(namespace, "next").await?;

        let runs = history.runs().await?;
        one_at_a_time(&runs, |run| run.owner().to_owned())?;
        let of =
            |owner: &str| runs.iter().filter(|run| run.owner() == owner).map(token).collect::<BTreeSet<_>>();
        assert_eq!(runs.len(), 4, "{runs:?}");
        assert_eq!(of("three").len(), 1, "{runs:?}");
        assert!(of("three").last() < of("next").first(), "{runs:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_pods_of_an_annotated_template_run_one_after_another_each_with_its_own_token() {
    in_namespace("each", async |namespace| {
        let history = History::record(namespace);
        primitive::mutex(namespace, "db").await?;
        let script = format!("{TELLS_TOKEN}; sleep 1");
        job("each").each_pod_mutex("db").pods(3, 3).runs(&script).create(namespace).await?;
        until_complete(namespace, "each").await?;

        let runs = history.runs().await?;
        one_at_a_time(&runs, |run| run.pod_uid.clone())?;
        let tokens: Vec<_> = runs.iter().map(token).collect();
        assert!(tokens.len() == 3 && tokens.is_sorted_by(|earlier, later| earlier < later), "{runs:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_annotated_job_keeps_its_hold_and_its_token_over_a_retry() {
    in_namespace("retry", async |namespace| {
        let history = History::record(namespace);
        primitive::mutex(namespace, "db").await?;
        job("fails").mutex("db").retries(1).runs(&format!("{TELLS_TOKEN}; exit 1")).create(namespace).await?;
        primitive::until_held_by(namespace, "db", "job/fails").await?;
        job("next").mutex("db").create(namespace).await?;
        until_complete(namespace, "next").await?;

        let runs = history.runs().await?;
        one_at_a_time(&runs, |run| run.owner().to_owned())?;
        let owners: Vec<_> = runs.iter().map(Run::owner).collect();
        assert_eq!(owners, ["fails", "fails", "next"], "{runs:?}");
        assert!(token(&runs[0]).is_some() && token(&runs[0]) == token(&runs[1]), "{runs:?}");
        let fails = namespace.api::<Job>().get("fails").await?;
        assert!(has_condition(&fails, "Failed"), "the hold ends with the Job, not with its first pod");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn tokens_rise_also_when_the_mutex_is_deleted_and_created_anew() {
    in_namespace("token", async |namespace| {
        let mut tokens = Vec::new();
        for round in 0..2 {
            primitive::mutex(namespace, "db").await?;
            for turn in 0..2 {
                let name = format!("p{round}{turn}");
                pod(&name).mutex("db").runs(TELLS_TOKEN).create(namespace).await?;
                let done = until_pod(namespace, &name, "through", has_succeeded).await?;
                tokens.push(konductor_e2e::shared::termination_message(&done).parse::<u64>()?);
            }
            let mutex = primitive::until_free(namespace, "db").await?;
            let last = mutex.status.and_then(|status| status.ledger.last_token);
            assert_eq!(last, tokens.last().map(ToString::to_string));
            namespace.api::<Mutex>().delete("db", &DeleteParams::default()).await?;
        }
        assert!(tokens.is_sorted_by(|earlier, later| earlier < later), "{tokens:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn jobs_that_name_the_same_two_mutexes_in_either_order_both_get_through_with_a_token_of_each() {
    in_namespace("crossed", async |namespace| {
        let history = History::record(namespace);
        for name in ["a", "b"] {
            primitive::mutex(namespace, name).await?;
        }
        let script = "[ -n \"$KONDUCTOR_TOKEN_MUTEX_A\" ] && [ -n \"$KONDUCTOR_TOKEN_MUTEX_B\" ] && sleep 1";
        for (name, mutexes) in [("ab", "a,b"), ("ba", "b,a"), ("also-ab", "a,b")] {
            job(name).mutex(mutexes).runs(script).create(namespace).await?;
        }
        for name in ["ab", "ba", "also-ab"] {
            until_complete(namespace, name).await?;
        }
        one_at_a_time(&history.runs().await?, |run| run.owner().to_owned())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_job_that_waits_for_a_gate_and_a_mutex_takes_the_mutex_last() {
    in_namespace("both", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        primitive::gate(namespace, "ready", &[("data", "Complete")]).await?;
        job("gated").gate("ready").mutex("db").create(namespace).await?;
        until_a_pod(namespace, "gated", "waiting", is_waiting).await?;
        // It was first, but it does not hold the lock idle while it waits for the gate.
        job("other").mutex("db").create(namespace).await?;
        until_complete(namespace, "other").await?;
        job("data").create(namespace).await?;
        until_complete(namespace, "gated").await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_next_one_starts_while_the_last_ones_sidecar_is_still_stopping() {
    in_namespace("sidecar", async |namespace| {
        let history = History::record(namespace);
        primitive::mutex(namespace, "db").await?;
        let stubborn = json!([{
            "name": "stubborn",
            "image": konductor_e2e::workload::IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "restartPolicy": "Always",
            "command": ["sh", "-c", "trap '' TERM; while true; do sleep 1; done"],
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }]);
        pod("last")
            .mutex("db")
            .grace(20)
            .pod("initContainers", stubborn)
            .runs("sleep 1")
            .create(namespace)
            .await?;
        primitive::until_held_by(namespace, "db", "pod/last").await?;
        pod("next").mutex("db").runs("sleep 1").create(namespace).await?;
        until_pod(namespace, "next", "through", has_succeeded).await?;

        let last = namespace.api::<Pod>().get("last").await?;
        assert!(!has_succeeded(&last), "the sidecar was not stubborn enough to test anything");
        one_at_a_time(&history.runs().await?, |run| run.pod.clone())?;
        let mutex = primitive::until_free(namespace, "db").await?.status.unwrap_or_default();
        let released = mutex.ledger.history.iter().find(|release| release.holder == "pod/last");
        assert_eq!(released.map(|release| release.evidence), Some(Evidence::P2));
        Ok(())
    })
    .await;
}

/// What the run wrote, as a number: tokens are compared as such.
fn token(run: &Run) -> Option<u64> {
    run.message().parse().ok()
}
