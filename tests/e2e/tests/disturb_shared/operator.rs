//! The operator killed, and the operator away: nothing is lost, and nothing happens twice.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use konductor_api::annotations::FINALIZER;
use konductor_e2e::disturb::disturbing;
use konductor_e2e::history::{History, one_at_a_time};
use konductor_e2e::namespace::Namespace;
use konductor_e2e::product::{self, Component};
use konductor_e2e::shared::{COUNTS, Shared};
use konductor_e2e::tools::kubectl_with;
use konductor_e2e::workload::{
    has_condition, has_succeeded, is_running, is_waiting, job, pod, until_complete, until_pod,
};
use konductor_e2e::{primitive, wait};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

/// How often it is killed; then the rest may run in peace.
const KILLS: usize = 10;
/// As the chart has it.
const REPLICAS: i32 = 2;
/// From the death of the replica that leads to the grant by the other one.
const FAIL_OVER: Duration = Duration::from_secs(5);

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn killed_again_and_again_it_loses_nothing_and_lets_nobody_run_twice_or_beside_another() {
    disturbing("kill", async |namespace| {
        let shared = Shared::new(namespace).await?;
        let history = History::record(namespace);
        primitive::mutex(namespace, "db").await?;
        let assassin = Assassin::hire(namespace).await?;
        let mut killed = Vec::new();
        let work = async {
            for number in 1..=12 {
                let name = format!("j{number:02}");
                let workload =
                    if number % 2 == 0 { job(&name).mutex("db") } else { job(&name).each_pod_mutex("db") };
                shared.with(workload.runs(COUNTS)).create(namespace).await?;
            }
            for number in 1..=12 {
                until_complete(namespace, &format!("j{number:02}")).await?;
            }
            anyhow::Ok(())
        };
        let kills = async {
            for turn in 0..KILLS {
                let after = wait::any_moment(Duration::from_secs(5)).await;
                let how = if turn % 2 == 0 {
                    assassin.kills_the_process().await?;
                    "SIGKILL"
                } else {
                    product::kill_pods(namespace.client(), Component::Operator).await?;
                    "delete --force"
                };
                killed.push(format!("{how} after {after:?}"));
                product::until_ready(namespace.client(), Component::Operator).await?;
            }
            std::future::pending::<Result<()>>().await
        };
        let outcome = tokio::select! { done = work => done, broken = kills => broken };
        outcome.with_context(|| format!("killed: {killed:?}"))?;
        assert!(killed.len() >= 3, "the work was too quick to test anything: {killed:?}");

        primitive::until_free(namespace, "db").await?;
        let mut runs = history.runs().await?;
        runs.retain(|run| run.job.is_some());
        one_at_a_time(&runs, |run| run.owner().to_owned()).with_context(|| format!("killed: {killed:?}"))?;
        let mut times = BTreeMap::<_, usize>::new();
        for run in &runs {
            *times.entry(run.owner()).or_default() += 1;
        }
        assert!(
            times.len() == 12 && times.values().all(|times| *times == 1),
            "{times:?}; killed: {killed:?}"
        );
        assert_eq!(shared.sweep(namespace).await?, 12, "an update was lost; killed: {killed:?}");
        until_no_finalizers(namespace).await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_ends_while_it_is_away_is_acted_on_when_it_is_back() {
    disturbing("away", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        primitive::gate(namespace, "ready", &[("data", "Complete")]).await?;
        pod("holder").mutex("db").runs("sleep 3600").create(namespace).await?;
        until_pod(namespace, "holder", "running", is_running).await?;
        pod("next").mutex("db").create(namespace).await?;
        pod("gated").gate("ready").create(namespace).await?;
        for name in ["next", "gated"] {
            until_pod(namespace, name, "waiting", is_waiting).await?;
        }
        product::scale(namespace.client(), Component::Operator, 0).await?;

        let pods = namespace.api::<Pod>();
        pods.delete("holder", &DeleteParams::default()).await?;
        job("data").create(namespace).await?;
        until_complete(namespace, "data").await?;
        // The proof is kept for the operator: that of a pod by our finalizer, that of a Job by its condition.
        until_pod(namespace, "holder", "ended and kept", |pod| {
            pod.metadata.deletion_timestamp.is_some()
                && !is_running(pod)
                && pod.finalizers().contains(&FINALIZER.to_owned())
        })
        .await?;
        wait::stays("both wait", Duration::from_secs(2), async || {
            Ok(is_waiting(&pods.get("next").await?) && is_waiting(&pods.get("gated").await?))
        })
        .await?;
        // An annotated Job can still be created; it waits too.
        job("late").gate("ready").create(namespace).await?;

        product::scale(namespace.client(), Component::Operator, REPLICAS).await?;
        for name in ["next", "gated"] {
            until_pod(namespace, name, "through", has_succeeded).await?;
        }
        until_complete(namespace, "late").await?;
        wait::until_gone(&pods, "holder").await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_job_that_fails_while_it_is_away_fails_those_who_wait_when_it_is_back() {
    disturbing("away-fail", async |namespace| {
        primitive::gate(namespace, "ready", &[("data", "Complete")]).await?;
        job("train").gate("ready").create(namespace).await?;
        product::scale(namespace.client(), Component::Operator, 0).await?;
        job("data").runs("exit 1").create(namespace).await?;
        let jobs = namespace.api::<Job>();
        wait::until(&jobs, "data", "Failed", |job| has_condition(job, "Failed")).await?;
        product::scale(namespace.client(), Component::Operator, REPLICAS).await?;
        wait::until(&jobs, "train", "Failed", |job| has_condition(job, "Failed")).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_replica_that_stands_by_takes_over_within_seconds_and_nobody_who_runs_notices() {
    disturbing("fail-over", async |namespace| {
        product::until_ready(namespace.client(), Component::Operator).await?;
        primitive::mutex(namespace, "db").await?;
        pod("holder")
            .mutex("db")
            .runs("while [ ! -e /tmp/done ]; do sleep 0.1; done")
            .create(namespace)
            .await?;
        let holder = until_pod(namespace, "holder", "running", is_running).await?;
        pod("next").mutex("db").runs("sleep 3600").create(namespace).await?;
        until_pod(namespace, "next", "waiting", is_waiting).await?;
        primitive::until_waiting(namespace, "db", 1).await?;
        let assassin = Assassin::hire(namespace).await?;
        let leader = product::leader(namespace.client()).await?;

        // The end of the holder is seen by nobody but the one who stands by.
        kubectl_with(namespace.name(), &["exec", "holder", "--", "touch", "/tmp/done"], "").await?;
        assassin.kills_the_process_of(&leader).await?;
        let killed = tokio::time::Instant::now();
        let kept = namespace.api::<Pod>().get("holder").await?;
        anyhow::ensure!(kept.uid() == holder.uid(), "the holder was disturbed");
        until_pod(namespace, "next", "running", is_running).await?;
        let took = killed.elapsed();
        // Its containers start within two looks of the kubelet after the grant.
        let most = FAIL_OVER + Duration::from_secs(3);
        anyhow::ensure!(took <= most, "it took {took:?} until the next one ran");
        let next = product::leader(namespace.client()).await?;
        anyhow::ensure!(next.uid() != leader.uid(), "{} leads on", next.name_any());
        Ok(())
    })
    .await;
}

/// No pod that has ended keeps our finalizer.
async fn until_no_finalizers(namespace: &Namespace) -> Result<()> {
    wait::until_true("no pod keeps our finalizer", async || {
        let pods = namespace.api::<Pod>().list(&ListParams::default()).await?;
        Ok(pods.items.iter().all(|pod| pod.finalizers().is_empty()))
    })
    .await
}

/// A pod on the operator's node that sees the processes of all.
struct Assassin<'a> {
    namespace: &'a Namespace,
}

impl<'a> Assassin<'a> {
    async fn hire(namespace: &'a Namespace) -> Result<Self> {
        let operators = product::pods(namespace.client(), Component::Operator).await?;
        let operator = operators.first().context("there is no operator to kill")?;
        let node = operator.spec.as_ref().and_then(|spec| spec.node_name.clone());
        pod("assassin")
            .runs("sleep 3600")
            .pod("nodeName", json!(node))
            .pod("hostPID", json!(true))
            .pod("securityContext", json!({"runAsUser": 0}))
            .container("securityContext", json!({"privileged": true}))
            .create(namespace)
            .await?;
        until_pod(namespace, "assassin", "running", is_running).await?;
        Ok(Self { namespace })
    }

    /// SIGKILL to every operator that runs just now.
    async fn kills_the_process(&self) -> Result<()> {
        self.kills("true").await
    }

    /// SIGKILL to the one in that pod.
    async fn kills_the_process_of(&self, pod: &Pod) -> Result<()> {
        let uid = pod.uid().unwrap_or_default();
        // Where systemd makes the groups, dashes have another meaning.
        self.kills(&format!("grep -q -e {uid} -e {} $process/cgroup", uid.replace('-', "_"))).await
    }

    async fn kills(&self, whom: &str) -> Result<()> {
        let script = format!(
            "for process in /proc/[0-9]*; do if [ \"$(readlink $process/exe)\" = /konductor-operator ] && {whom}; \
             then kill -9 ${{process#/proc/}}; fi; done; true"
        );
        let said =
            kubectl_with(self.namespace.name(), &["exec", "assassin", "--", "sh", "-c", &script], "").await?;
        anyhow::ensure!(said.success, "the assassin failed: {}", said.err);
        Ok(())
    }
}
