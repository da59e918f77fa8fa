//! An answer as text that a person can review: one line for each operation.
//!
//! Waiter and sidecar and their volumes look nearly the same in each answer. So a snapshot has them in full once, and elsewhere
//! only in what they differ from the usual. Nothing is left out: two answers that differ are shown differently.

use std::fmt::Write as _;

use json_patch::{Patch, PatchOperation};
use konductor_api::participation::PodPlan;
use konductor_webhook::review::{Answer, Verdict};
use konductor_webhook::{sidecar, waiter};
use serde_json::{Value, json};

use super::settings;

/// The waiter of a pod that takes one mutex and has nothing special.
pub(crate) fn usual_waiter() -> Value {
    let plan = PodPlan { pod: "v1 mutex=database-migration".parse().unwrap(), ..PodPlan::default() };
    waiter::container(&settings(), &plan, &json!({}))
}

/// The sidecar of the same pod.
pub(crate) fn usual_sidecar() -> Value {
    let settings = settings();
    sidecar::container(&settings, settings.sessions.as_ref().unwrap(), &json!({}))
}

/// The answer.
pub(crate) fn shown(answer: &Answer) -> String {
    let mut text = String::new();
    let mut response = answer.to_review()["response"].take();
    let fields = response.as_object_mut().unwrap();
    // Shown below, decoded.
    fields.remove("patch");
    for warning in fields.remove("warnings").iter().flat_map(|list| list.as_array().unwrap().clone()) {
        writeln!(text, "warning: {}", warning.as_str().unwrap()).unwrap();
    }
    if let Some(mut status) = fields.remove("status") {
        let message = status.as_object_mut().unwrap().remove("message").unwrap();
        let message =
            message.as_str().unwrap().replace("; (", "\n  (").replace("; example: ", "\n    example: ");
        writeln!(text, "status: {status}\n  {message}").unwrap();
    }
    for (name, value) in fields {
        writeln!(text, "{name}: {value}").unwrap();
    }
    if let Verdict::Injected(patch) = &answer.verdict {
        text.push_str(&operations(patch));
    }
    text
}

fn operations(patch: &Patch) -> String {
    let mut text = String::from("patch:\n");
    for operation in &patch.0 {
        let PatchOperation::Add(add) = operation else {
            unreachable!("only additions are made: {operation}")
        };
        writeln!(text, "  add {} {}", add.path, value(&add.value)).unwrap();
    }
    text
}

/// On one line, or in what it differs from the usual.
fn value(value: &Value) -> String {
    for (usual, what) in [(usual_waiter(), "waiter"), (usual_sidecar(), "sidecar")] {
        if value["name"] == usual["name"] {
            let mut differences = Vec::new();
            compare(&usual, value, "", &mut differences);
            return format!("the usual {what}{}", differences.concat());
        }
    }
    if usual_volumes().contains(value) {
        return format!("the usual volume {}", value["name"]);
    }
    value.to_string()
}

/// Those of the waiter, and that of the sidecar.
pub(crate) fn usual_volumes() -> Vec<Value> {
    waiter::volumes(&PodPlan::default()).into_iter().chain([sidecar::volume()]).collect()
}

fn compare(usual: &Value, found: &Value, path: &str, differences: &mut Vec<String>) {
    match (usual, found) {
        (Value::Object(usual), Value::Object(found)) => {
            let added = found.keys().filter(|key| !usual.contains_key(*key));
            for key in usual.keys().chain(added) {
                let path = format!("{path}/{key}");
                match (usual.get(key), found.get(key)) {
                    (Some(usual), Some(found)) => compare(usual, found, &path, differences),
                    (Some(_), None) => differences.push(format!("\n    without {path}")),
                    (_, found) => differences.push(format!("\n    with {path} {}", found.unwrap())),
                }
            }
        }
        (Value::Array(usual), Value::Array(found)) => {
            for (index, usual) in usual.iter().enumerate() {
                let path = format!("{path}/{index}");
                match found.get(index) {
                    Some(found) => compare(usual, found, &path, differences),
                    None => differences.push(format!("\n    without {path} {usual}")),
                }
            }
            for (index, found) in found.iter().enumerate().skip(usual.len()) {
                differences.push(format!("\n    with {path}/{index} {found}"));
            }
        }
        _ if usual == found => {}
        _ => differences.push(format!("\n    with {path} {found}")),
    }
}
