//! Uninstall: before the release goes, leave nothing behind that nobody would clear.
//!
//! Stops the operator first, so that nobody grants while this goes on. Then lifts our finalizer from every pod; a pod
//! that holds goes on undisturbed, but its end will not be recorded. Then lets go the Jobs that we suspended, and lifts our
//! scheduling gates: those pods take a node and wait there, as all others do; the webhook, which goes last, has given each a
//! waiter. Windows pods have none: they stay at their gates. Pods that still wait are named and left waiting: nothing is ever told to start by
//! this.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use konductor_api::annotations::{PARTICIPANT_LABEL, SCHEDULING_GATE};
use konductor_primitives::facts::{JobFacts, PodFacts, Suspended};
use konductor_primitives::record::PodRecord;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use crate::args::Uninstall;
use crate::client::call;
use crate::finalizers::without_finalizer;
use crate::gates::without_gate;
use crate::index;
use crate::jobs::without_suspension;

const DEADLINE: Duration = Duration::from_secs(120);
const PERIOD: Duration = Duration::from_millis(500);
/// In which the Job controller makes the pods of a Job that goes on.
const PODS_COME: Duration = Duration::from_secs(20);
const PAGE: u32 = 500;

/// Does all of it.
pub(crate) async fn run(client: &Client, arguments: &Uninstall) -> anyhow::Result<()> {
    stop_operator(client, arguments).await?;
    let pods = participants(client).await?;
    let mut lifted = 0;
    for pod in &pods {
        if lift(client, pod).await? {
            lifted += 1;
        }
    }
    tracing::info!("lifted the finalizer of {lifted} pods; it is on no pod any more");
    let resumed = resume_jobs(client).await?;
    lift_gates(client, &pods).await?;
    let pods = if resumed { participants(client).await? } else { pods };
    let waiting: Vec<_> = pods.iter().filter(|pod| pod.can_be_told().is_some() || is_pending(pod)).collect();
    if waiting.is_empty() {
        tracing::info!("no pod waits");
        return Ok(());
    }
    for pod in &waiting {
        let namespace = pod.object().metadata.namespace.as_deref().unwrap_or_default();
        tracing::warn!(
            "still waits, until Konductor is installed again or it is deleted: pod {namespace}/{}",
            pod.name
        );
    }
    tracing::warn!("{} pods still wait; none of them was told to start", waiting.len());
    Ok(())
}

async fn stop_operator(client: &Client, arguments: &Uninstall) -> anyhow::Result<()> {
    let name = format!("Deployment {}/{}", arguments.namespace, arguments.deployment);
    let api: Api<Deployment> = Api::namespaced(client.clone(), &arguments.namespace);
    let scale = json!({"spec": {"replicas": 0}});
    let patched =
        call(api.patch_scale(&arguments.deployment, &PatchParams::default(), &Patch::Merge(&scale))).await;
    match patched {
        Ok(_) => {}
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => bail!("{name} could not be scaled to 0: {error}"),
    }
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found =
            call(api.get_opt(&arguments.deployment)).await.with_context(|| format!("reading {name}"))?;
        let Some(deployment) = found else { return Ok(()) };
        let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
        let replicas = deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
        let terminating =
            deployment.status.as_ref().and_then(|status| status.terminating_replicas).unwrap_or(0);
        if observed >= deployment.metadata.generation && replicas == 0 && terminating == 0 {
            tracing::info!("{name} is stopped");
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{name} still has {replicas} replicas; see why its pods do not end"
        );
        tokio::time::sleep(PERIOD).await;
    }
}

async fn participants(client: &Client) -> anyhow::Result<Vec<PodFacts>> {
    let api: Api<PodRecord> = Api::all(client.clone());
    let mut parameters = ListParams::default().labels(PARTICIPANT_LABEL).limit(PAGE);
    let mut pods = Vec::new();
    loop {
        let page = call(api.list(&parameters)).await.context("listing the pods that take part")?;
        pods.extend(page.items.into_iter().map(|pod| PodFacts::shared(&Arc::new(pod), true)));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(pods),
        }
    }
}

/// Whatever its version: the operator that could tell it anything is stopped. The UID stays the condition.
async fn lift(client: &Client, pod: &PodFacts) -> anyhow::Result<bool> {
    if !pod.finalizer {
        return Ok(false);
    }
    let namespace = pod.object().metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<PodRecord> = Api::namespaced(client.clone(), namespace);
    let mut body = without_finalizer(pod);
    body["metadata"]["resourceVersion"] = serde_json::Value::Null;
    match call(api.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(&body))).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() || error.is_invalid() => Ok(false),
        Err(error) => bail!("the finalizer of pod {namespace}/{} could not be lifted: {error}", pod.name),
    }
}

/// Nobody else would let them go on any more. Their pods have to be there before the webhook goes, or nothing would hold
/// them. Says whether there were any.
async fn resume_jobs(client: &Client) -> anyhow::Result<bool> {
    let api: Api<Job> = Api::all(client.clone());
    let labelled = ListParams::default().labels(PARTICIPANT_LABEL);
    let jobs = call(api.list(&labelled)).await.context("listing the Jobs that take part")?;
    let mut resumed = Vec::new();
    for job in jobs.items.iter().filter(|job| JobFacts::of(job).suspended == Suspended::ByUs) {
        let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
        let api: Api<Job> = Api::namespaced(client.clone(), &namespace);
        let body = without_suspension(json!({"uid": job.metadata.uid}));
        match call(api.patch(&name, &PatchParams::default(), &Patch::Strategic(&body))).await {
            Ok(_) => resumed.push((api, namespace, name)),
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            // The right to do so is a switch of the chart.
            Err(error) => tracing::warn!("Job {namespace}/{name} stays suspended, delete it: {error}"),
        }
    }
    let deadline = Instant::now() + PODS_COME;
    for (api, namespace, name) in &resumed {
        loop {
            let found =
                call(api.get_opt(name)).await.with_context(|| format!("reading Job {namespace}/{name}"))?;
            if found.is_none_or(|job| JobFacts::of(&job).active) {
                break;
            }
            if Instant::now() >= deadline {
                tracing::warn!(
                    "Job {namespace}/{name} goes on and has no pod yet: one made later would not wait"
                );
                break;
            }
            tokio::time::sleep(PERIOD).await;
        }
    }
    tracing::info!("let {} Jobs go on that were suspended; their pods wait", resumed.len());
    Ok(!resumed.is_empty())
}

/// Nobody else would lift them any more, and a pod whose gate stays is stuck where nothing explains it.
async fn lift_gates(client: &Client, pods: &[PodFacts]) -> anyhow::Result<()> {
    let mut lifted = 0;
    for pod in pods.iter().filter(|pod| pod.gated.by_us() && !pod.deleting) {
        let namespace = pod.object().metadata.namespace.as_deref().unwrap_or_default();
        if pod.by_gate_alone {
            tracing::warn!(
                "the scheduling gate of Windows pod {namespace}/{} stays, because nothing else holds it: delete the pod, or \
                 remove the gate {SCHEDULING_GATE} to let it start",
                pod.name
            );
            continue;
        }
        let api: Api<PodRecord> = Api::namespaced(client.clone(), namespace);
        let body = without_gate(&json!({"uid": pod.uid}));
        match call(api.patch(&pod.name, &PatchParams::default(), &Patch::Strategic(&body))).await {
            Ok(_) => lifted += 1,
            Err(error) if error.is_not_found() || error.is_invalid() => {}
            // The right to do so is a switch of the chart.
            Err(error) => tracing::warn!(
                "the scheduling gate of pod {namespace}/{} stays, remove it or delete the pod: {error}",
                pod.name
            ),
        }
    }
    tracing::info!("lifted the scheduling gate of {lifted} pods");
    Ok(())
}

fn is_pending(pod: &PodFacts) -> bool {
    use konductor_primitives::evidence::WaiterRun;
    // A pod in which somebody claims something waits for nothing itself.
    let takes_part = !index::named_by(&pod.object().metadata).is_empty();
    takes_part && pod.terminal.is_none() && !pod.deleting && pod.waiter == WaiterRun::None
}
