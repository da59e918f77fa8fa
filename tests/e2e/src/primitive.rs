//! Gates and mutexes, as a user would apply them.

use anyhow::Result;
use konductor_api::gate::Gate;
use konductor_api::mutex::Mutex;
use serde_json::json;

use crate::namespace::Namespace;
use crate::wait;

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
        mutex.status.as_ref().is_some_and(|status| status.waiting == count)
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
        mutex.status.as_ref().is_some_and(|status| status.holders.is_empty() && status.waiting == 0)
    })
    .await
}
