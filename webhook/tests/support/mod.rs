//! What the tests share: settings, reviews, and an API server between two passes.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "clippy.toml permits it in tests, but not in their helpers")]

pub(crate) mod corpus;
pub(crate) mod shown;

use jiff::Timestamp;
use konductor_api::participation::PrimitiveRef;
use konductor_webhook::admit::{Admission, admit};
use konductor_webhook::names::Names;
pub(crate) use konductor_webhook::names::Unknown;
use konductor_webhook::review::Verdict;
use konductor_webhook::sidecar::Sessions;
use konductor_webhook::waiter::Settings;
use serde_json::{Value, json};

pub(crate) const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Knows only what it is told. What is called `timed` has a ttl.
pub(crate) struct Existing(pub(crate) &'static [&'static str]);

impl Names for Existing {
    fn is_missing(&self, _: &str, primitive: &PrimitiveRef) -> bool {
        !self.0.contains(&primitive.to_string().as_str())
    }

    fn has_ttl(&self, namespace: &str, primitive: &PrimitiveRef) -> bool {
        primitive.name == "timed" && !self.is_missing(namespace, primitive)
    }
}

/// As a webhook knows its own.
pub(crate) const CA: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

pub(crate) fn settings() -> Settings {
    let chart = Settings::of_chart("localhost/konductor-waiter:0.1.0");
    let sessions = chart.sessions.clone().map(|sessions| Sessions { ca: CA.to_owned(), ..sessions });
    Settings { sessions, ..chart }
}

pub(crate) fn now() -> Timestamp {
    "2030-06-01T12:00:00.123456Z".parse().unwrap()
}

/// A review as the API server sends it.
pub(crate) fn review(resource: &str, object: &Value) -> Value {
    let group = if resource == "jobs" { "batch" } else { "" };
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "0df28fbd-5f5f-11e8-bc74-36e6bb280816",
            "resource": {"group": group, "version": "v1", "resource": resource},
            "namespace": "shop",
            "operation": "CREATE",
            "dryRun": false,
            "object": object,
        },
    })
}

pub(crate) fn admitted(resource: &str, object: &Value) -> Admission {
    admit(review(resource, object).to_string().as_bytes(), &settings(), &Unknown, now())
}

/// The object after our patch. What we refuse fails the test.
pub(crate) fn patched(resource: &str, object: &Value) -> Value {
    match admitted(resource, object).answer.verdict {
        Verdict::Injected(patch) => {
            let mut patched = object.clone();
            json_patch::patch(&mut patched, &patch).unwrap();
            patched
        }
        Verdict::Unchanged | Verdict::OptedOut => object.clone(),
        refused => unreachable!("{}", refused.message()),
    }
}

pub(crate) fn refusal(resource: &str, object: &Value) -> String {
    match admitted(resource, object).answer.verdict {
        refused @ Verdict::Refused(_) => refused.message(),
        other => unreachable!("it should have been refused and was {}", other.as_str()),
    }
}

/// What the API server does to a pod between two passes: it decodes and defaults, and its own admission runs again
/// (`ServiceAccount`, `AlwaysPullImages`, a `LimitRange` with another resource).
pub(crate) fn between_two_passes(pod: &mut Value) {
    let spec = &mut pod["spec"];
    let volumes = spec["volumes"].as_array_mut();
    for volume in volumes.into_iter().flatten() {
        if let Some(items) = volume.pointer_mut("/downwardAPI/items") {
            for item in items.as_array_mut().unwrap() {
                item["fieldRef"]["apiVersion"] = json!("v1");
            }
            volume["downwardAPI"]["defaultMode"] = json!(420);
        }
        if let Some(projected) = volume.get_mut("projected").and_then(Value::as_object_mut) {
            projected.insert("defaultMode".to_owned(), json!(420));
        }
    }
    for field in ["initContainers", "containers"] {
        for container in spec[field].as_array_mut().into_iter().flatten() {
            container["terminationMessagePath"] = json!("/dev/termination-log");
            container["terminationMessagePolicy"] = json!("File");
            container["imagePullPolicy"] = json!("Always");
            for variable in container["env"].as_array_mut().into_iter().flatten() {
                if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef") {
                    field["apiVersion"] = json!("v1");
                }
            }
            if let Some(limits) = container.pointer_mut("/resources/limits") {
                limits["ephemeral-storage"] = json!("1Gi");
            }
            let mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
            if !mounts.iter().any(|mount| mount["mountPath"] == TOKEN_PATH) {
                let token = json!({"name": "kube-api-access-x", "mountPath": TOKEN_PATH, "readOnly": true});
                container["volumeMounts"] = mounts.into_iter().chain([token]).collect();
            }
            // Indexing has left nulls where nothing was.
            container.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        }
    }
    spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
}

pub(crate) fn waiter(pod: &Value) -> &Value {
    init_container(pod, "konductor-wait").unwrap()
}

pub(crate) fn init_container<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let init = pod["spec"]["initContainers"].as_array().unwrap();
    init.iter().find(|container| container["name"] == name)
}
