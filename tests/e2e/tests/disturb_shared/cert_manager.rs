//! Certificates of cert-manager: to them and back, and a renewal that nobody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use konductor_e2e::cert_manager::CertManager;
use konductor_e2e::disturb::disturbing;
use konductor_e2e::namespace::Namespace;
use konductor_e2e::product::{self, Component, NAMESPACE, RELEASE};
use konductor_e2e::tools::kubectl;
use konductor_e2e::workload::{has_succeeded, pod, until_pod};
use konductor_e2e::{primitive, wait};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn cert_manager_may_issue_and_renew_and_nothing_is_refused_meanwhile() {
    disturbing("issued", async |namespace| {
        let before = product::values().await?;
        let issuer = CertManager::start().await?;
        let outcome = issued(namespace, &before).await;
        // Back to certificates of our own, whatever came of it.
        product::install(&before).await?;
        product::until_admitting(namespace).await?;
        issuer.remove().await?;
        outcome
    })
    .await;
}

async fn issued(namespace: &Namespace, before: &str) -> Result<()> {
    let client = namespace.client();
    let mut values: Value = serde_json::from_str(before).unwrap_or_else(|_| json!({}));
    if !values.is_object() {
        values = json!({});
    }
    values["webhook"]["certManager"]["enabled"] = json!(true);
    product::install(&values.to_string()).await?;
    product::until_admitting(namespace).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let certificate = async || -> Result<Vec<u8>> {
        let data = secrets.get("konductor-webhook-tls").await?.data.context("no data")?;
        Ok(data["tls.crt"].0.clone())
    };
    let authority = secrets.get("konductor-webhook-tls").await?.data.context("no data")?["ca.crt"].clone();
    let configuration = product::webhook_configurations(client).get(RELEASE).await?;
    for entry in configuration.webhooks.context("no webhooks")? {
        ensure!(entry.client_config.ca_bundle == Some(authority.clone()), "{} trusts another CA", entry.name);
    }
    primitive::mutex(namespace, "db").await?;
    pod("first").mutex("db").create(namespace).await?;
    until_pod(namespace, "first", "through", has_succeeded).await?;

    let (first, served) = (certificate().await?, product::certificates(client).await?);
    let admissions = Admissions::start(namespace.clone());
    // As `cmctl renew` asks for it.
    let issuing = r#"{"status":{"conditions":[{"type":"Issuing","status":"True","reason":"ManuallyTriggered","message":"asked for","lastTransitionTime":"2030-01-01T00:00:00Z"}]}}"#;
    kubectl(
        NAMESPACE,
        &[
            "patch",
            "certificates.cert-manager.io",
            "konductor-webhook",
            "--subresource=status",
            "--type=merge",
            "--patch",
            issuing,
        ],
    )
    .await?;
    wait::until_true("another certificate is issued", async || Ok(certificate().await? != first)).await?;
    // The kubelet looks at a Secret once in a minute or so; a pod that changes is looked at at once.
    for webhook in product::pods(client, Component::Webhook).await? {
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let touch = Patch::Merge(json!({"metadata": {"annotations": {"konductor-e2e/touched": "yes"}}}));
        pods.patch(&webhook.name_any(), &PatchParams::default(), &touch).await?;
    }
    wait::until_true("every replica serves it", async || {
        let now = product::certificates(client).await?;
        Ok(now.iter().all(|(replica, until)| served.get(replica).is_some_and(|known| known != until)))
    })
    .await?;
    let (asked, refused) = admissions.stop().await?;
    ensure!(asked > 20 && refused == 0, "{refused} of {asked} admissions were refused");
    Ok(())
}

/// Annotated pods that are created all the time, and kept by nobody.
struct Admissions {
    stop: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<usize>,
}

impl Admissions {
    fn start(namespace: Namespace) -> Self {
        let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&refused));
        let task = tokio::spawn(async move {
            let mut asked = 0;
            while !stopped.load(Ordering::Relaxed) {
                asked += 1;
                if !product::admits(&namespace).await {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
            asked
        });
        Self { stop, refused, task }
    }

    async fn stop(self) -> Result<(usize, usize)> {
        self.stop.store(true, Ordering::Relaxed);
        Ok((self.task.await?, self.refused.load(Ordering::Relaxed)))
    }
}
