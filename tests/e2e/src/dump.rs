//! What lies in a namespace when a test has failed: pods, Jobs, primitives, events, the operator's last words.
//!
//! Reads only, and prints what it can: a dump that fails must not hide the failure it was made for.

use std::fmt::Write;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use konductor_api::gate::Gate;
use konductor_api::mutex::Mutex;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use serde_json::Value;

use crate::namespace::{Namespace, Object};
use crate::product::{self, Component};

/// Prints everything that tells why a test failed.
#[expect(clippy::print_stderr, reason = "the test harness shows it with the failure")]
pub(crate) async fn print(namespace: &Namespace) {
    let name = namespace.name();
    eprintln!("---- namespace {name} ----");
    for text in [
        objects::<Gate>(namespace, &["spec", "status"]).await,
        objects::<Mutex>(namespace, &["spec", "status"]).await,
        objects::<Job>(namespace, &["status"]).await,
        objects::<Pod>(namespace, &["status"]).await,
        events(namespace).await,
        operator(namespace, name).await,
    ] {
        eprintln!("{text}");
    }
    eprintln!("---- end of namespace {name} ----");
}

async fn objects<K: Object>(namespace: &Namespace, parts: &[&str]) -> String {
    let list = match namespace.api::<K>().list(&ListParams::default()).await {
        Ok(list) => list,
        Err(error) => return format!("{error}"),
    };
    let shown = list.items.into_iter().map(|object| {
        let meta = object.meta();
        let head = format!(
            "{}/{} created {} deleting {} finalizers {:?}\n  annotations {:?}\n",
            K::kind(&()),
            object.name_any(),
            meta.creation_timestamp.as_ref().map_or_else(String::new, |time| time.0.to_string()),
            meta.deletion_timestamp.as_ref().map_or_else(|| "no".to_owned(), |time| time.0.to_string()),
            object.finalizers(),
            object.annotations(),
        );
        let value = serde_json::to_value(&object).unwrap_or_default();
        let body = parts.iter().map(|part| format!("  {part}: {}\n", brief(&value[*part])));
        head + &body.collect::<String>()
    });
    shown.collect()
}

/// A status without what tells nothing here.
fn brief(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(map) = value.as_object_mut() {
        map.retain(|key, _| !["hostIP", "hostIPs", "podIP", "podIPs", "qosClass"].contains(&key.as_str()));
    }
    value
}

async fn events(namespace: &Namespace) -> String {
    let Ok(list) = namespace.api::<Event>().list(&ListParams::default()).await else { return String::new() };
    let mut lines: Vec<_> = list
        .items
        .into_iter()
        .map(|event| {
            let object = event.involved_object;
            let time = event.event_time.map(|time| time.0.to_string());
            let time = time.or_else(|| event.last_timestamp.map(|time| time.0.to_string()));
            format!(
                "{} {} {}/{} {}: {}",
                time.unwrap_or_default(),
                event.type_.unwrap_or_default(),
                object.kind.unwrap_or_default(),
                object.name.unwrap_or_default(),
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default()
            )
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

/// The operator's last lines about this namespace.
async fn operator(namespace: &Namespace, about: &str) -> String {
    let Ok(pods) = product::pods(namespace.client(), Component::Operator).await else { return String::new() };
    let api: Api<Pod> = Api::namespaced(namespace.client().clone(), product::NAMESPACE);
    let mut text = String::new();
    for pod in pods {
        let parameters = LogParams { tail_lines: Some(2000), ..LogParams::default() };
        let log = api.logs(&pod.name_any(), &parameters).await.unwrap_or_default();
        let lines: Vec<_> = log.lines().filter(|line| line.contains(about)).collect();
        let last = lines.len().saturating_sub(40);
        let _ = write!(
            text,
            "operator {}:\n{}\n",
            pod.name_any(),
            lines.get(last..).unwrap_or_default().join("\n")
        );
    }
    text
}
