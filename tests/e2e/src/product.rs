//! The installed Konductor: its deployments, its metrics, its release.
//!
//! The first half only reads and may be used by every test; the second half changes what all tests share and is for
//! those of `tests/disturb_shared/`, through [`crate::disturb`], which repairs it afterwards.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use konductor_api::annotations::MUTEX;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::namespace::Namespace;
use crate::tools::{helm, in_tree};
use crate::wait;
use crate::workload::{Manifest, pod};

/// Where it is installed, as `cargo xtask install` does it.
pub const NAMESPACE: &str = "konductor-system";
/// The name of the release, and of the webhook's configuration.
pub const RELEASE: &str = "konductor";

/// A part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// It keeps the ledgers and tells the waiters.
    Operator,
    /// It injects the waiters.
    Webhook,
}

impl Component {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Operator, Self::Webhook];

    /// The name of its Deployment.
    pub const fn deployment(self) -> &'static str {
        match self {
            Self::Operator => "konductor-controller-manager",
            Self::Webhook => "konductor-webhook",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Operator => "controller-manager",
            Self::Webhook => "webhook",
        }
    }
}

// ---------------------------------------------------------------------------------------------------- looking

/// The Deployments.
pub fn deployments(client: &Client) -> Api<Deployment> {
    Api::namespaced(client.clone(), NAMESPACE)
}

/// The pods of a part.
pub async fn pods(client: &Client, component: Component) -> Result<Vec<Pod>> {
    let labels =
        format!("app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={}", component.label());
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    Ok(api.list(&ListParams::default().labels(&labels)).await?.items)
}

/// The pod of the operator that works while the others stand by.
pub async fn leader(client: &Client) -> Result<Pod> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    wait::until_some("somebody leads", async || {
        let lease = leases.get_opt(Component::Operator.deployment()).await?;
        let identity = lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default();
        let name = identity.split('_').next().unwrap_or_default();
        if name.is_empty() { Ok(None) } else { Ok(pods.get_opt(name).await?) }
    })
    .await
}

/// How many requests the webhook has answered since it started, all replicas together.
pub async fn requests(client: &Client) -> Result<f64> {
    let metrics = webhook_metrics(client).await?;
    Ok(metrics.iter().map(|(_, text)| total(text, "konductor_webhook_requests_total")).sum())
}

/// Until when the certificate of each replica of the webhook is good, as a number.
pub async fn certificates(client: &Client) -> Result<BTreeMap<String, String>> {
    let metrics = webhook_metrics(client).await?;
    let until = |text: &str| total(text, "konductor_certificate_expiry_timestamp_seconds").to_string();
    Ok(metrics.into_iter().map(|(name, text)| (name, until(&text))).collect())
}

async fn webhook_metrics(client: &Client) -> Result<Vec<(String, String)>> {
    let mut metrics = Vec::new();
    for pod in pods(client, Component::Webhook).await? {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}:8081/proxy", pod.name_any());
        let request = Request::new(path).get("metrics", &kube::api::GetParams::default())?;
        let text = client.request_text(request).await.context("reading the webhook's metrics")?;
        metrics.push((pod.name_any(), text));
    }
    Ok(metrics)
}

/// The sum of all samples of a counter.
fn total(metrics: &str, name: &str) -> f64 {
    let samples = metrics.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
    });
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Waits until all replicas that a part should have are ready.
pub async fn until_ready(client: &Client, component: Component) -> Result<()> {
    wait::until(&deployments(client), component.deployment(), "ready", |deployment: &Deployment| {
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        deployment.status.as_ref().is_some_and(|status| {
            status.observed_generation == deployment.metadata.generation
                && status.ready_replicas.unwrap_or(0) == wanted
                && status.replicas.unwrap_or(0) == wanted
        })
    })
    .await?;
    Ok(())
}

/// Waits until an annotated pod would be let in: ready is not yet reachable through the Service.
pub async fn until_admitting(namespace: &Namespace) -> Result<()> {
    wait::until_true("annotated pods are let in", async || Ok(admits(namespace).await)).await
}

/// Would an annotated pod be let in now?
pub async fn admits(namespace: &Namespace) -> bool {
    let manifest = Pod::manifest(&pod("sample").annotated(MUTEX, "sample"));
    let Ok(sample) = serde_json::from_value::<Pod>(manifest) else { return false };
    let try_only = PostParams { dry_run: true, ..PostParams::default() };
    namespace.api::<Pod>().create(&try_only, &sample).await.is_ok()
}

/// The webhook's configuration.
pub fn webhook_configurations(client: &Client) -> Api<MutatingWebhookConfiguration> {
    Api::all(client.clone())
}

// --------------------------------------------------------------------------------------------------- changing

/// Sets the number of replicas and waits until there are so many.
pub async fn scale(client: &Client, component: Component, replicas: i32) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments(client).patch_scale(component.deployment(), &PatchParams::default(), &patch).await?;
    until_ready(client, component).await?;
    // A pod that still stops may still work.
    wait::until_true(&format!("{component:?} has {replicas} pods"), async || {
        Ok(i32::try_from(pods(client, component).await?.len())? == replicas)
    })
    .await
}

/// Deletes the pods of a part without any grace, and returns at once.
pub async fn kill_pods(client: &Client, component: Component) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    for pod in pods(client, component).await? {
        api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
    }
    Ok(())
}

/// What the release was installed with, as helm keeps it.
pub async fn values() -> Result<String> {
    Ok(helm(NAMESPACE, &["get", "values", RELEASE, "--output", "json"]).await?.out)
}

/// Installs or upgrades the release with these values.
pub async fn install(values: &str) -> Result<()> {
    let file = std::env::temp_dir().join(format!("konductor-e2e-{}.json", std::process::id()));
    tokio::fs::write(&file, values).await?;
    let chart = in_tree("charts/konductor");
    let (file, chart) = (file.to_string_lossy(), chart.to_string_lossy());
    let done = helm(
        NAMESPACE,
        &[
            "upgrade",
            "--install",
            RELEASE,
            &chart,
            "--reset-values",
            "--values",
            &file,
            "--wait",
            "--timeout",
            "3m",
        ],
    )
    .await;
    tokio::fs::remove_file(&*file).await?;
    done.map(drop)
}

/// Uninstalls the release.
pub async fn uninstall() -> Result<()> {
    helm(NAMESPACE, &["uninstall", RELEASE, "--wait", "--timeout", "5m"]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_samples_of_one_counter_are_summed() {
        let text = "# TYPE a_total counter\na_total{x=\"1 2\"} 3\na_total 4\na_total_more 100\n";
        assert!((total(text, "a_total") - 7.0).abs() < f64::EPSILON);
    }
}
