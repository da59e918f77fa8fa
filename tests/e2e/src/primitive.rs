//! Primitives, as a user would apply them.

use anyhow::{Context, Result};
use konductor_api::claim::Claim;
use konductor_api::gate::Gate;
use konductor_api::ledger::Evidence;
use konductor_api::mutex::Mutex;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::namespace::{Namespace, Object};
use crate::wait;

/// Creates a primitive of any kind.
pub async fn make<P: Object>(namespace: &Namespace, name: &str, spec: Value) -> Result<P> {
    let object = json!({
        "apiVersion": "konductor.io/v1",
        "kind": P::kind(&()),
        "metadata": {"name": name},
        "spec": spec,
    });
    namespace.create(object).await
}

/// Changes fields of its spec.
pub async fn change<P: Object>(namespace: &Namespace, name: &str, spec: Value) -> Result<P> {
    let patch = Patch::Merge(json!({"spec": spec}));
    Ok(namespace.api::<P>().patch(name, &PatchParams::default(), &patch).await?)
}

/// Creates a gate that opens when all these Jobs have reached their states, e.g. `[("etl", "Complete")]`.
pub async fn gate(namespace: &Namespace, name: &str, jobs: &[(&str, &str)]) -> Result<Gate> {
    let conditions: Vec<_> =
        jobs.iter().map(|(job, state)| json!({"type": "Job", "name": job, "state": state})).collect();
    namespace
        .create(json!({
            "apiVersion": "konductor.io/v1",
            "kind": "Gate",
            "metadata": {"name": name},
            "spec": {"conditions": conditions},
        }))
        .await
}

/// Creates a mutex.
pub async fn mutex(namespace: &Namespace, name: &str) -> Result<Mutex> {
    namespace
        .create(json!({
            "apiVersion": "konductor.io/v1",
            "kind": "Mutex",
            "metadata": {"name": name},
            "spec": {},
        }))
        .await
}

/// Waits until so many are listed as waiting for the mutex.
pub async fn until_waiting(namespace: &Namespace, mutex: &str, count: i64) -> Result<Mutex> {
    let what = format!("awaited by {count}");
    wait::until(&namespace.api(), mutex, &what, |mutex: &Mutex| {
        mutex.status.as_ref().is_some_and(|status| status.common.waiting == count)
    })
    .await
}

/// Waits until the mutex is held by `holder`, e.g. `job/first`.
pub async fn until_held_by(namespace: &Namespace, mutex: &str, holder: &str) -> Result<Mutex> {
    let what = format!("held by {holder}");
    wait::until(&namespace.api(), mutex, &what, |mutex: &Mutex| {
        mutex.status.as_ref().is_some_and(|status| status.holder.as_deref() == Some(holder))
    })
    .await
}

/// Waits until nobody holds the mutex and nobody waits for it.
pub async fn until_free(namespace: &Namespace, mutex: &str) -> Result<Mutex> {
    wait::until(&namespace.api(), mutex, "free", |mutex: &Mutex| {
        mutex
            .status
            .as_ref()
            .is_some_and(|status| status.ledger.holders.is_empty() && status.common.waiting == 0)
    })
    .await
}

/// What the last hold of the mutex ended on.
pub async fn last_evidence(namespace: &Namespace, mutex: &str) -> Result<Option<Evidence>> {
    let mutex: Mutex = namespace.api().get(mutex).await?;
    Ok(mutex.status.and_then(|status| status.ledger.history.first().map(|release| release.evidence)))
}

/// The name of the first claim that there is.
pub async fn claim_name(namespace: &Namespace) -> Result<String> {
    let claims: Vec<Claim> = namespace.api().list(&ListParams::default()).await?.items;
    Ok(claims.first().context("there is no claim")?.name_any())
}
