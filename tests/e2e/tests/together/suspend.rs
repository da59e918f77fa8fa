//! Jobs that wait suspended: they use nothing, nobody else resumes them, and nobody is kept from a lock by a Job whose pods
//! find no node.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use konductor_api::annotations::{HOLD, ON_BUSY, ONCE, SUSPENDED, TIMEOUT};
use konductor_api::conditions::GRANTED;
use konductor_api::gate::Gate;
use konductor_api::ledger::Evidence;
use konductor_api::mutex::Mutex;
use konductor_api::once::Once;
use konductor_e2e::history::{History, one_at_a_time};
use konductor_e2e::namespace::{Namespace, in_namespace, refusal};
use konductor_e2e::tools::kubectl_with;
use konductor_e2e::workload::{
    Workload, has_succeeded, is_running, is_waiting, job, pod, until_a_pod, until_complete, until_failed,
    until_pod,
};
use konductor_e2e::{primitive, wait};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

const OPERATOR: &str = "--as=system:serviceaccount:konductor-system:konductor-controller-manager";

fn suspended(name: &str) -> Workload<Job> {
    job(name).annotated(HOLD, "suspend")
}

fn is_suspended(job: &Job) -> bool {
    let marked = job.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(SUSPENDED));
    job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true)) && marked
}

fn goes_on(job: &Job) -> bool {
    let marked = job.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(SUSPENDED));
    job.spec.as_ref().is_some_and(|spec| spec.suspend != Some(true)) && !marked
}

/// Status and message of the condition that says what a Job waits for.
fn granted(job: &Job) -> Option<(String, String)> {
    let conditions = job.status.as_ref()?.conditions.iter().flatten();
    let known = conditions.into_iter().find(|known| known.type_ == GRANTED)?;
    Some((known.status.clone(), known.message.clone().unwrap_or_default()))
}

fn is_told_why(job: &Job) -> bool {
    granted(job).is_some_and(|(status, message)| status == "False" && message.contains("held by pod/holder"))
}

/// A pod that holds `db`, and the Job `waits`, which waits for it suspended.
async fn a_holder_and_a_suspended(namespace: &Namespace) -> Result<Job> {
    primitive::mutex(namespace, "db").await?;
    pod("holder").mutex("db").runs("sleep 3600").create(namespace).await?;
    until_pod(namespace, "holder", "running", is_running).await?;
    suspended("waits").mutex("db").runs("sleep 2").create(namespace).await?;
    wait::until(&namespace.api::<Job>(), "waits", "told what it waits for", is_told_why).await
}

async fn pods_of(namespace: &Namespace, job: &str) -> Result<usize> {
    let pods = namespace.api::<Pod>();
    Ok(pods.list(&ListParams::default().labels(&format!("job-name={job}"))).await?.items.len())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_suspended_job_has_no_pod_until_it_is_its_turn() {
    in_namespace("suspended", async |namespace| {
        let job = a_holder_and_a_suspended(namespace).await?;
        assert!(is_suspended(&job));
        wait::stays("without a pod", Duration::from_secs(2), async || {
            Ok(pods_of(namespace, "waits").await? == 0)
        })
        .await?;
        namespace.api::<Pod>().delete("holder", &DeleteParams::default()).await?;
        let done = until_complete(namespace, "waits").await?;
        assert!(goes_on(&done), "{done:?}");
        let (status, message) = granted(&done).context("no condition")?;
        assert_eq!((status.as_str(), message.contains("goes on")), ("True", true), "{message}");
        let mutex = primitive::until_free(namespace, "db").await?;
        let history = mutex.status.context("no status")?.ledger.history;
        assert_eq!(history[0].holder, "job/waits");
        assert!(matches!(history[0].evidence, Evidence::P1 | Evidence::P2), "{:?}", history[0]);
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn jobs_that_wait_suspended_or_not_run_one_at_a_time() {
    in_namespace("susp-mixed", async |namespace| {
        let history = History::record(namespace);
        primitive::mutex(namespace, "db").await?;
        suspended("a").mutex("db").runs("sleep 1").create(namespace).await?;
        job("b").mutex("db").runs("sleep 1").create(namespace).await?;
        suspended("c").mutex("db").pods(2, 2).runs("sleep 1").create(namespace).await?;
        job("d").mutex("db").annotated(HOLD, "scheduling-gate").runs("sleep 1").create(namespace).await?;
        for name in ["a", "b", "c", "d"] {
            until_complete(namespace, name).await?;
        }
        primitive::until_free(namespace, "db").await?;
        let runs = history.runs().await?;
        assert_eq!(runs.len(), 5, "{runs:?}");
        one_at_a_time(&runs, |run| run.owner().to_owned())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn nobody_but_konductor_resumes_it_and_konductor_does_nothing_else() {
    in_namespace("susp-forge", async |namespace| {
        a_holder_and_a_suspended(namespace).await?;
        let jobs = namespace.api::<Job>();
        let patch = async |body: serde_json::Value| {
            refusal(jobs.patch("waits", &PatchParams::default(), &Patch::Merge(body)).await)
        };
        let resumed = patch(json!({"spec": {"suspend": false}})).await.context("it was resumed")?;
        assert!(resumed.contains("suspended until it is its turn"), "{resumed}");
        let unmarked = patch(json!({"metadata": {"annotations": {SUSPENDED: null}}}));
        let unmarked = unmarked.await.context("the mark was taken off")?;
        assert!(unmarked.contains("annotations of a Job are fixed"), "{unmarked}");
        let template = json!({"spec": {"template": {"metadata": {"annotations": {"konductor.io/job-plan": null}}}}});
        let template = patch(template).await.context("the template was changed")?;
        assert!(template.contains("pod template are fixed"), "{template}");
        assert!(is_suspended(&jobs.get("waits").await?));

        let as_operator = async |patch: &str| {
            let arguments = [OPERATOR, "patch", "job", "waits", "--type=merge", "--patch", patch];
            kubectl_with(namespace.name(), &arguments, "").await
        };
        let off = r#""metadata":{"annotations":{"konductor.io/suspended":null}}"#;
        for (patch, words) in [
            (r#"{"spec":{"suspend":false}}"#.to_owned(), "takes its mark off with that"),
            (r#"{"spec":{"parallelism":2}}"#.to_owned(), "may only resume Jobs"),
            (format!(r#"{{{off},"spec":{{"suspend":false,"parallelism":3}}}}"#), "nothing in a Job's spec"),
            (
                format!(
                    r#"{{{off},"spec":{{"suspend":false,"template":{{"spec":{{"nodeSelector":{{"a":"b"}}}}}}}}}}"#
                ),
                "nothing in a Job's spec",
            ),
            (
                r#"{"metadata":{"labels":{"a":"b"},"annotations":{"konductor.io/suspended":null}},"spec":{"suspend":false}}"#
                    .to_owned(),
                "nothing in a Job's metadata",
            ),
        ] {
            let said = as_operator(&patch).await?;
            assert!(!said.success && said.err.contains(words), "{words:?} is not in {:?}", said.err);
        }
        // It may resume it; and that starts nothing.
        let said = as_operator(&format!(r#"{{{off},"spec":{{"suspend":false}}}}"#)).await?;
        assert!(said.success, "{}", said.err);
        let waiting = until_a_pod(namespace, "waits", "waiting on a node", is_waiting).await?;
        let name = waiting.metadata.name.context("no name")?;
        let pods = namespace.api::<Pod>();
        wait::stays("waiting", Duration::from_secs(2), async || Ok(is_waiting(&pods.get(&name).await?))).await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_job_that_finds_no_node_gives_way_to_whoever_could_start() {
    in_namespace("susp-no-room", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        let nowhere = json!({"konductor.io-test/no-such": "node"});
        suspended("nowhere").mutex("db").pod("nodeSelector", nowhere).create(namespace).await?;
        primitive::until_held_by(namespace, "db", "job/nowhere").await?;
        wait::until(&namespace.api::<Job>(), "nowhere", "going on", goes_on).await?;
        pod("next").mutex("db").create(namespace).await?;
        until_pod(namespace, "next", "through", has_succeeded).await?;
        let mutexes = namespace.api::<Mutex>();
        let history = mutexes.get("db").await?.status.context("no status")?.ledger.history;
        let given_back =
            history.iter().find(|release| release.holder == "job/nowhere").context("not given back")?;
        assert_eq!(given_back.evidence, Evidence::P0);
        let waits = |mutex: &Mutex| {
            mutex.status.as_ref().is_some_and(|status| status.holder.is_none() && status.common.waiting == 1)
        };
        wait::until(&mutexes, "db", "free, and waited for", waits).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn its_owner_may_suspend_it_later_and_only_its_owner_resumes_it_then() {
    in_namespace("susp-twice", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        suspended("mine").mutex("db").runs("sleep 3600").create(namespace).await?;
        until_a_pod(namespace, "mine", "running", is_running).await?;
        let jobs = namespace.api::<Job>();
        let suspend = async |so: bool| {
            let body = Patch::Merge(json!({"spec": {"suspend": so}}));
            jobs.patch("mine", &PatchParams::default(), &body).await
        };
        suspend(true).await?;
        primitive::until_free(namespace, "db").await?;
        wait::stays("suspended and waiting for nothing", Duration::from_secs(3), async || {
            let mutex = namespace.api::<Mutex>().get("db").await?;
            let free =
                mutex.status.is_some_and(|status| status.holder.is_none() && status.common.waiting == 0);
            Ok(free && jobs.get("mine").await?.spec.and_then(|spec| spec.suspend) == Some(true))
        })
        .await?;
        suspend(false).await?;
        primitive::until_held_by(namespace, "db", "job/mine").await?;
        until_a_pod(namespace, "mine", "running again", is_running).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_suspended_job_fails_when_its_time_is_up_and_goes_through_a_gate_that_opens() {
    in_namespace("susp-time", async |namespace| {
        let until = |name: &str| json!({"apiVersion": "konductor.io/v1", "kind": "Gate", "metadata": {"name": name}, "spec": {}});
        let gates = namespace.api::<Gate>();
        let gate: Gate = serde_json::from_value(until("ready"))?;
        gates.create(&kube::api::PostParams::default(), &gate).await?;
        suspended("brief").gate("ready").annotated(TIMEOUT, "3s").create(namespace).await?;
        suspended("patient").gate("ready").create(namespace).await?;
        until_failed(namespace, "brief").await?;
        assert_eq!(pods_of(namespace, "brief").await?, 0);
        let open = Patch::Merge(json!({"spec": {"override": "Open"}}));
        gates.patch("ready", &PatchParams::default(), &open).await?;
        until_complete(namespace, "patient").await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_suspended_job_that_is_not_needed_is_completed_without_a_pod() {
    in_namespace("susp-once", async |namespace| {
        primitive::make::<Once>(namespace, "seed", json!({})).await?;
        suspended("first").annotated(ONCE, "seed").create(namespace).await?;
        until_complete(namespace, "first").await?;
        suspended("second").annotated(ONCE, "seed").create(namespace).await?;
        until_complete(namespace, "second").await?;
        assert_eq!(pods_of(namespace, "second").await?, 0);
        // And one that would have to wait, and does not want to.
        primitive::mutex(namespace, "db").await?;
        pod("holder").mutex("db").runs("sleep 3600").create(namespace).await?;
        until_pod(namespace, "holder", "running", is_running).await?;
        suspended("busy").mutex("db").annotated(ON_BUSY, "skip").create(namespace).await?;
        until_complete(namespace, "busy").await?;
        assert_eq!(pods_of(namespace, "busy").await?, 0);
        Ok(())
    })
    .await;
}
