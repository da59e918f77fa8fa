//! The critical section: an init container of a Deployment, one of two app containers, and what is done once by many.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use konductor_api::annotations::{CONTAINERS, MUTEX, ONCE};
use konductor_api::ledger::Evidence;
use konductor_api::mutex::Mutex;
use konductor_api::once::Once;
use konductor_e2e::namespace::{Namespace, in_namespace};
use konductor_e2e::tools::kubectl;
use konductor_e2e::workload::{is_waiting, job, pod, until_complete, until_pod};
use konductor_e2e::{primitive, wait};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

/// A Deployment whose pods run that script in their init container `migrate`, and serve then.
fn serves(replicas: u32, annotation: (&str, &str), script: &str) -> Value {
    let mut spec = pod("x").runs("sleep 3600").manifest()["spec"].take();
    spec["restartPolicy"] = json!("Always");
    let mut migrate = spec["containers"][0].clone();
    (migrate["name"], migrate["command"]) = (json!("migrate"), json!(["sh", "-c", script]));
    spec["initContainers"] = json!([migrate]);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {
                    "labels": {"app": "web"},
                    "annotations": {annotation.0: annotation.1, CONTAINERS: "migrate"},
                },
                "spec": spec,
            },
        },
    })
}

async fn until_all_serve(namespace: &Namespace) -> Result<Vec<Pod>> {
    wait::until(&namespace.api::<Deployment>(), "web", "served by all replicas", |web: &Deployment| {
        let replicas = web.spec.as_ref().and_then(|spec| spec.replicas);
        web.status.as_ref().is_some_and(|status| status.ready_replicas == replicas)
    })
    .await?;
    replicas(namespace).await
}

async fn replicas(namespace: &Namespace) -> Result<Vec<Pod>> {
    let all = namespace.api::<Pod>().list(&ListParams::default().labels("app=web")).await?.items;
    Ok(all.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
}

fn migrate(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == "migrate")
}

fn is_migrating(pod: &Pod) -> bool {
    migrate(pod).and_then(|status| status.state.as_ref()).is_some_and(|state| state.running.is_some())
}

/// Start and end of its init container, by the kubelet.
fn migrated(pod: &Pod) -> Result<(Timestamp, Timestamp)> {
    let state = migrate(pod).and_then(|status| status.state.as_ref());
    let ended = state.and_then(|state| state.terminated.as_ref()).context("it has not ended")?;
    let started = ended.started_at.as_ref().context("no start")?.0;
    Ok((started, ended.finished_at.as_ref().context("no end")?.0))
}

async fn said(namespace: &Namespace, pod: &Pod) -> Result<String> {
    let name = pod.name_any();
    Ok(kubectl(namespace.name(), &["logs", &name, "-c", "migrate"]).await?.out)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn replicas_migrate_one_after_the_other_and_serve_together() {
    in_namespace("section", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        let script = "echo token=$KONDUCTOR_TOKEN; sleep 2";
        namespace.create::<Deployment>(serves(3, (MUTEX, "db"), script)).await?;
        let pods = until_all_serve(namespace).await?;
        ensure!(pods.len() == 3, "{} replicas", pods.len());
        let mut times = pods.iter().map(migrated).collect::<Result<Vec<_>>>()?;
        times.sort();
        for pair in times.windows(2) {
            let [(_, end), (start, _)] = pair else { continue };
            ensure!(end <= start, "two migrated at once: {times:?}");
        }
        let mut tokens = Vec::new();
        for pod in &pods {
            let log = said(namespace, pod).await?;
            tokens.push(log.trim().strip_prefix("token=").context("no token")?.parse::<u64>()?);
        }
        tokens.sort_unstable();
        tokens.dedup();
        ensure!(tokens.len() == 3, "{tokens:?}");
        // They serve, and hold nothing; a replica that comes later gets in at once.
        let free = primitive::until_free(namespace, "db").await?.status.context("no status")?;
        ensure!(free.ledger.history.iter().all(|release| release.evidence == Evidence::P2), "{free:?}");
        let more = Patch::Merge(json!({"spec": {"replicas": 4}}));
        namespace.api::<Deployment>().patch("web", &PatchParams::default(), &more).await?;
        until_all_serve(namespace).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn of_all_replicas_one_migrates_and_the_others_find_it_done() {
    in_namespace("once-pods", async |namespace| {
        primitive::make::<Once>(namespace, "init", json!({})).await?;
        let script = "echo migrates; sleep 1; echo migrated";
        namespace.create::<Deployment>(serves(3, (ONCE, "init"), script)).await?;
        let pods = until_all_serve(namespace).await?;
        let once = wait::until(&namespace.api::<Once>(), "init", "executed", |once: &Once| {
            once.status.as_ref().is_some_and(|status| status.executed)
        })
        .await?;
        let executor = once.status.and_then(|status| status.executor).context("no executor")?;
        let mut did = Vec::new();
        for pod in &pods {
            let log = said(namespace, pod).await?;
            if log.contains("migrated") {
                did.push(format!("pod/{}", pod.name_any()));
            } else {
                ensure!(
                    log.contains(&format!("nothing to do, once/init was executed by {executor}")),
                    "{log}"
                );
            }
        }
        ensure!(did == [executor.clone()], "{did:?} did it, and {executor} is recorded");

        // A new key is a new once, also for replicas of the same template.
        primitive::change::<Once>(namespace, "init", json!({"key": "v2"})).await?;
        namespace.api::<Pod>().delete(&pods[0].name_any(), &DeleteParams::default()).await?;
        let again = wait::until(&namespace.api::<Once>(), "init", "executed for v2", |once: &Once| {
            once.status.as_ref().is_some_and(|status| status.executed && status.key.as_deref() == Some("v2"))
        })
        .await?;
        ensure!(
            again.status.and_then(|status| status.executor) != Some(executor),
            "the same pod did it again"
        );
        until_all_serve(namespace).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn when_the_replica_that_migrates_is_killed_another_one_does_it() {
    in_namespace("once-kill", async |namespace| {
        primitive::make::<Once>(namespace, "init", json!({})).await?;
        // The first one never comes to an end by itself.
        let script = "echo migrates; while ! test -e /tmp/enough; do sleep 1; done; echo migrated";
        namespace.create::<Deployment>(serves(2, (ONCE, "init"), script)).await?;
        let first = wait::until_some("one migrates", async || {
            Ok(replicas(namespace).await?.into_iter().find(is_migrating))
        })
        .await?;
        wait::stays("only one migrates", Duration::from_secs(2), async || {
            Ok(replicas(namespace).await?.iter().filter(|pod| is_migrating(pod)).count() == 1)
        })
        .await?;
        namespace.api::<Pod>().delete(&first.name_any(), &DeleteParams::default()).await?;
        let second = wait::until_some("another one migrates", async || {
            let other = |pod: &Pod| pod.name_any() != first.name_any() && is_migrating(pod);
            Ok(replicas(namespace).await?.into_iter().find(other))
        })
        .await?;
        let enough = ["exec", &second.name_any(), "-c", "migrate", "--", "touch", "/tmp/enough"];
        kubectl(namespace.name(), &enough).await?;
        until_all_serve(namespace).await?;
        let status = namespace.api::<Once>().get("init").await?.status.context("no status")?;
        ensure!(status.executor == Some(format!("pod/{}", second.name_any())), "{status:?}");
        ensure!(status.attempts == 1, "{status:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn of_the_pods_of_a_job_one_does_it_and_the_others_complete() {
    in_namespace("once-job", async |namespace| {
        primitive::make::<Once>(namespace, "init", json!({})).await?;
        let parallel = job("fill").each_pod_annotated(ONCE, "init").runs("echo filled; sleep 1").pods(3, 3);
        parallel.create(namespace).await?;
        until_complete(namespace, "fill").await?;
        let selector = ["logs", "-l", "batch.kubernetes.io/job-name=fill", "-c", "main"];
        let log = kubectl(namespace.name(), &selector).await?.out;
        ensure!(log.lines().filter(|line| *line == "filled").count() == 1, "{log}");
        ensure!(log.lines().filter(|line| line.contains("nothing to do")).count() == 2, "{log}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_hold_ends_with_the_container_that_is_named_and_a_proxy_runs_on() {
    in_namespace("section-app", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        let mut manifest = pod("first").mutex("db").annotated(CONTAINERS, "main").runs("sleep 2").manifest();
        let mut proxy = manifest["spec"]["containers"][0].clone();
        (proxy["name"], proxy["command"]) = (json!("proxy"), json!(["sleep", "3600"]));
        manifest["spec"]["containers"].as_array_mut().context("no containers")?.push(proxy);
        namespace.create::<Pod>(manifest).await?;
        primitive::until_held_by(namespace, "db", "pod/first").await?;
        pod("second").mutex("db").runs("sleep 3600").create(namespace).await?;
        until_pod(namespace, "second", "waiting", is_waiting).await?;
        let held = primitive::until_held_by(namespace, "db", "pod/second").await?;
        let history = held.status.context("no status")?.ledger.history;
        ensure!(history[0].evidence == Evidence::P2, "{history:?}");
        let first = namespace.api::<Pod>().get("first").await?;
        let phase = first.status.and_then(|status| status.phase);
        ensure!(phase.as_deref() == Some("Running"), "{phase:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_is_no_critical_section_is_refused_with_the_way_out() {
    in_namespace("section-bad", async |namespace| {
        let typo = pod("typo").mutex("db").annotated(CONTAINERS, "mian").is_refused(namespace).await?;
        ensure!(
            typo.contains("metadata.annotations[konductor.io/containers]") && typo.contains("there are main"),
            "{typo}"
        );
        let alone = pod("alone").annotated(CONTAINERS, "main").is_refused(namespace).await?;
        ensure!(alone.contains("nothing here says for what"), "{alone}");
        let endless = pod("endless").annotated(ONCE, "init").pod("restartPolicy", json!("Always"));
        let endless = endless.is_refused(namespace).await?;
        ensure!(endless.contains("is started again whenever it ends"), "{endless}");
        ensure!(namespace.api::<Mutex>().get_opt("db").await?.is_none(), "nothing was made");
        Ok(())
    })
    .await;
}
