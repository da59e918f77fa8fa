//! The webhook away, or its configuration: nothing annotated starts unguarded, and nobody else notices.

use anyhow::{Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Event;
use konductor_e2e::disturb::disturbing;
use konductor_e2e::namespace::Namespace;
use konductor_e2e::product::{self, Component};
use konductor_e2e::workload::{has_succeeded, job, pod, pods_of, until_complete, until_pod};
use konductor_e2e::{primitive, wait};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn pods_without_annotations_never_reach_the_webhook() {
    disturbing("unasked", async |namespace| {
        let client = namespace.client();
        let before = product::requests(client).await?;
        pod("plain").create(namespace).await?;
        pod("foreign").annotated("example.com/mutex", "db").create(namespace).await?;
        job("plain").create(namespace).await?;
        until_pod(namespace, "plain", "through", has_succeeded).await?;
        until_pod(namespace, "foreign", "through", has_succeeded).await?;
        until_complete(namespace, "plain").await?;
        let after = product::requests(client).await?;
        ensure!((after - before).abs() < f64::EPSILON, "{before} requests before and {after} after");

        // It is the right counter.
        primitive::mutex(namespace, "db").await?;
        pod("annotated").mutex("db").create(namespace).await?;
        ensure!(product::requests(client).await? > after, "an annotated pod was not counted");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn while_the_webhook_is_down_annotated_pods_are_refused_and_their_jobs_recover_and_others_start() {
    disturbing("down", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        // Created before, and without a pod yet.
        job("whole").mutex("db").spec("suspend", json!(true)).create(namespace).await?;
        job("each").each_pod_mutex("db").spec("suspend", json!(true)).create(namespace).await?;
        product::scale(namespace.client(), Component::Webhook, 0).await?;

        for name in ["whole", "each"] {
            let resumed = Patch::Merge(json!({"spec": {"suspend": false}}));
            namespace.api::<Job>().patch(name, &PatchParams::default(), &resumed).await?;
        }
        for name in ["whole", "each"] {
            let message = until_failed_create(namespace, name).await?;
            assert!(message.contains("konductor"), "{message}");
        }
        let refused = job("new").mutex("db").is_refused(namespace).await?;
        assert!(refused.contains("jobs.konductor.io"), "{refused}");
        let refused = pod("new").mutex("db").is_refused(namespace).await?;
        assert!(refused.contains("pods.konductor.io"), "{refused}");
        others_start(namespace).await?;
        for name in ["whole", "each"] {
            assert!(pods_of(namespace, name).await?.is_empty(), "{name} has pods");
        }

        product::scale(namespace.client(), Component::Webhook, 1).await?;
        for name in ["whole", "each"] {
            until_complete(namespace, name).await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn without_the_webhooks_configuration_annotated_workloads_are_refused_with_the_way_out() {
    disturbing("gone", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        job("early").each_pod_mutex("db").spec("suspend", json!(true)).create(namespace).await?;
        let values = product::values().await?;
        let configurations = product::webhook_configurations(namespace.client());
        configurations.delete(product::RELEASE, &DeleteParams::default()).await?;

        // The API server forgets a configuration within a second or two.
        wait::until_true("a Job meets the policy", async || {
            Ok(job("new").mutex("db").is_refused(namespace).await?.contains("ValidatingAdmissionPolicy"))
        })
        .await?;
        for refused in [
            job("new").mutex("db").is_refused(namespace).await?,
            pod("new").mutex("db").is_refused(namespace).await?,
            pod("new").gate("ready").is_refused(namespace).await?,
        ] {
            for words in
                ["the webhook did not see it", "MutatingWebhookConfiguration konductor", "helm upgrade"]
            {
                let refused = refused.replace("Konductor's webhook did not", "the webhook did not");
                assert!(refused.contains(words), "{words:?} is not in {refused:?}");
            }
        }
        let resumed = Patch::Merge(json!({"spec": {"suspend": false}}));
        namespace.api::<Job>().patch("early", &PatchParams::default(), &resumed).await?;
        let message = until_failed_create(namespace, "early").await?;
        assert!(message.contains("webhook did not see it"), "{message}");
        others_start(namespace).await?;

        // The way out that the sentence names.
        product::install(&values).await?;
        product::until_admitting(namespace).await?;
        until_complete(namespace, "early").await?;
        job("late").mutex("db").create(namespace).await?;
        until_complete(namespace, "late").await?;
        Ok(())
    })
    .await;
}

async fn others_start(namespace: &Namespace) -> Result<()> {
    pod("plain").create(namespace).await?;
    job("plain").create(namespace).await?;
    until_pod(namespace, "plain", "through", has_succeeded).await?;
    until_complete(namespace, "plain").await?;
    Ok(())
}

/// Waits until the Job controller has told that it cannot create a pod, and returns what it said.
async fn until_failed_create(namespace: &Namespace, job: &str) -> Result<String> {
    wait::until_some(&format!("FailedCreate of {job}"), async || {
        let events = namespace.api::<Event>().list(&ListParams::default()).await?;
        let event = events.items.into_iter().find(|event| {
            event.reason.as_deref() == Some("FailedCreate")
                && event.involved_object.name.as_deref() == Some(job)
        });
        Ok(event.map(|event| event.message.unwrap_or_default()))
    })
    .await
}
