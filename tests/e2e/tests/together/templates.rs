//! What makes pods is checked where a person sees it, and what is stored can always be changed.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use konductor_api::annotations::{LEASE, MUTEX};
use konductor_e2e::namespace::{Namespace, in_namespace, refusal};
use konductor_e2e::tools::{kubectl, kubectl_with};
use konductor_e2e::wait;
use konductor_e2e::workload::{job, pod};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// Something of apps/v1 whose pods carry that annotation.
fn of_apps(kind: &str, key: &str) -> Value {
    let mut spec = pod("x").runs("sleep 3600").manifest()["spec"].take();
    spec["restartPolicy"] = json!("Always");
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}, "annotations": {key: "db"}}, "spec": spec},
        },
    });
    if kind == "StatefulSet" {
        object["spec"]["serviceName"] = json!("web");
    }
    object
}

fn cron_job(key: &str) -> Value {
    let job = job("x").annotated(key, "db").manifest();
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
        "spec": {
            "schedule": "0 3 * * *", "suspend": true, "concurrencyPolicy": "Forbid",
            "jobTemplate": {"metadata": {"annotations": {key: "db"}}, "spec": job["spec"]},
        },
    })
}

async fn applied(namespace: &Namespace, object: &Value) -> Result<String> {
    let said = kubectl_with(namespace.name(), &["apply", "-f", "-"], &object.to_string()).await?;
    ensure!(said.success, "{}", said.err);
    Ok(said.err)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_misspelt_key_in_a_template_is_refused_before_anything_is_made_of_it() {
    in_namespace("templates", async |namespace| {
        let typo = "konductor.io/mutx";
        let mut said = vec![
            namespace.refuses::<Deployment>(of_apps("Deployment", typo)).await?,
            namespace.refuses::<StatefulSet>(of_apps("StatefulSet", typo)).await?,
            namespace.refuses::<DaemonSet>(of_apps("DaemonSet", typo)).await?,
            namespace.refuses::<ReplicaSet>(of_apps("ReplicaSet", typo)).await?,
        ];
        for refused in said.drain(..) {
            ensure!(refused.contains("spec.template.metadata.annotations[konductor.io/mutx]"), "{refused}");
            ensure!(refused.contains("did you mean konductor.io/mutex?"), "{refused}");
        }
        let refused = namespace.refuses::<CronJob>(cron_job(typo)).await?;
        ensure!(refused.contains("spec.jobTemplate.metadata.annotations[konductor.io/mutx]"), "{refused}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn who_applies_what_cannot_end_well_is_warned() {
    in_namespace("traps", async |namespace| {
        let said = applied(namespace, &of_apps("Deployment", MUTEX)).await?;
        for words in ["a rollout may never end", "Mutex db does not exist yet"] {
            ensure!(said.contains(words), "{words:?} is not in {said:?}");
        }
        let said = applied(namespace, &cron_job(LEASE)).await?;
        ensure!(said.contains("Forbid leaves runs out while a Job waits"), "{said}");
        let mut elsewhere = of_apps("Deployment", "example.com/x");
        elsewhere["metadata"] = json!({"name": "elsewhere", "annotations": {MUTEX: "db"}});
        let said = applied(namespace, &elsewhere).await?;
        ensure!(said.contains("on the object itself does nothing"), "{said}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_was_stored_unseen_can_be_scaled_mended_and_deleted_and_not_made_worse() {
    in_namespace("stored", async |namespace| {
        let label = async |value: &str| {
            let change = format!("konductor.io/break-glass{value}");
            kubectl("default", &["label", "namespace", namespace.name(), &change]).await
        };
        label("=test").await?;
        let bad = of_apps("Deployment", "konductor.io/mutx");
        wait::until_true("it is stored unseen", async || {
            Ok(namespace.create::<Deployment>(bad.clone()).await.is_ok())
        })
        .await?;
        label("-").await?;
        wait::until_true("others are checked again", async || {
            let mut another = bad.clone();
            another["metadata"]["name"] = json!(format!("seen-{}", Timestamp::now().as_millisecond()));
            Ok(namespace.create::<Deployment>(another).await.is_err())
        })
        .await?;
        let change = async |body: Value| {
            let change = Patch::Merge(body);
            namespace.api::<Deployment>().patch("web", &PatchParams::default(), &change).await
        };
        change(json!({"spec": {"replicas": 2}})).await?;
        let annotate = |key: &str, value: Value| {
            json!({"spec": {"template": {"metadata": {"annotations": {key: value}}}}})
        };
        let worse = refusal(change(annotate("konductor.io/gate", json!("A B"))).await).context("it got worse")?;
        ensure!(worse.contains("spec.template.metadata.annotations[konductor.io/gate]"), "{worse}");
        change(annotate("konductor.io/mutx", Value::Null)).await?;
        kubectl(namespace.name(), &["delete", "deployment", "web"]).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_template_of_a_suspended_job_is_checked_when_it_is_changed() {
    in_namespace("suspended", async |namespace| {
        job("later").mutex("db").spec("suspend", json!(true)).create(namespace).await?;
        let select = |os: &str| {
            let term =
                json!({"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": [os]}]});
            let required =
                json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}});
            Patch::Merge(json!({"spec": {"template": {"spec": {"affinity": {"nodeAffinity": required}}}}}))
        };
        let jobs = namespace.api::<Job>();
        jobs.patch("later", &PatchParams::default(), &select("linux")).await?;
        let answer = jobs.patch("later", &PatchParams::default(), &select("windows")).await;
        let refused = refusal(answer).context("a waiter cannot run there, and policies cannot see it")?;
        ensure!(refused.contains("spec.template.spec.affinity"), "{refused}");
        Ok(())
    })
    .await;
}
