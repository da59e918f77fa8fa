//! The way back: a manifest without what the webhook, or `koncli inject`, has put into it.
//!
//! Pure. What must stay true: only what Konductor writes goes; what its user wrote, annotations by which a workload takes part
//! among them, stays.

use konductor_api::annotations::{
    FINALIZER, HOLD_CONTAINER, JOB_PLAN, PARTICIPANT_LABEL, QUEUED, SCHEDULING_GATE, SUSPENDED, TOKEN_PREFIX,
    WAITER_CONTAINER, is_operators,
};
use konductor_webhook::once;
use konductor_webhook::waiter::is_reserved_volume;
use serde_json::{Map, Value};

/// The object without it; `None` if nothing of it is there.
pub fn uninject(object: &Value) -> Option<Value> {
    let mut rest = object.clone();
    for owner in ["", "/spec/jobTemplate", "/spec/template", "/spec/jobTemplate/spec/template"] {
        if let Some(part) = rest.pointer_mut(owner) {
            resume(part);
            clean_metadata(part);
            clean_pods(part);
        }
    }
    (rest != *object).then_some(rest)
}

/// A Job that was suspended by us, and by nobody else.
fn resume(part: &mut Value) {
    let ours = part.pointer("/metadata/annotations").is_some_and(|all| all.get(SUSPENDED).is_some());
    if let Some(spec) = part.get_mut("spec").and_then(Value::as_object_mut).filter(|_| ours) {
        spec.remove("suspend");
    }
}

fn clean_metadata(part: &mut Value) {
    let Some(metadata) = part.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let written = |key: &str| [QUEUED, JOB_PLAN, SUSPENDED].contains(&key) || is_operators(key);
    retain_keys(metadata, "annotations", |key| !written(key));
    retain_keys(metadata, "labels", |key| key != PARTICIPANT_LABEL);
    retain_items(metadata, "finalizers", |item| item != FINALIZER);
    if metadata.is_empty()
        && let Some(part) = part.as_object_mut()
    {
        part.remove("metadata");
    }
}

fn clean_pods(part: &mut Value) {
    let Some(spec) = part.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let name = |item: &Value| item["name"].as_str().unwrap_or_default().to_owned();
    retain_items(spec, "initContainers", |item| {
        ![WAITER_CONTAINER, HOLD_CONTAINER].contains(&name(item).as_str())
    });
    retain_items(spec, "volumes", |item| !is_reserved_volume(&name(item)));
    retain_items(spec, "schedulingGates", |item| name(item) != SCHEDULING_GATE);
    for field in ["initContainers", "containers"] {
        for container in spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(container) = container.as_object_mut() else { continue };
            retain_items(container, "env", |variable| !is_token(variable));
            retain_items(container, "volumeMounts", |mount| !is_reserved_volume(&name(mount)));
            if let Some(command) = container.get_mut("command").and_then(Value::as_array_mut)
                && once::is_wrapped(command)
            {
                command.drain(..once::WRAPPER.len());
            }
        }
    }
}

/// A variable that shows one of our tokens.
fn is_token(variable: &Value) -> bool {
    let path = variable.pointer("/valueFrom/fieldRef/fieldPath").and_then(Value::as_str);
    path.is_some_and(|path| path.contains(TOKEN_PREFIX))
}

/// A map that becomes empty goes, as one that was made to be filled.
fn retain_keys(owner: &mut Map<String, Value>, field: &str, keep: impl Fn(&str) -> bool) {
    let Some(map) = owner.get_mut(field).and_then(Value::as_object_mut) else { return };
    let before = map.len();
    map.retain(|key, _| keep(key));
    if map.is_empty() && before > 0 {
        owner.remove(field);
    }
}

fn retain_items(owner: &mut Map<String, Value>, field: &str, keep: impl Fn(&Value) -> bool) {
    let Some(list) = owner.get_mut(field).and_then(Value::as_array_mut) else { return };
    let before = list.len();
    list.retain(keep);
    if list.is_empty() && before > 0 {
        owner.remove(field);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use konductor_webhook::waiter::Settings;
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::inject::{Injected, inject};

    fn there_and_back(object: &Value) -> Value {
        let mut settings = Settings::of_chart("waiter");
        if let Some(sessions) = &mut settings.sessions {
            sessions.ca = "-----BEGIN CERTIFICATE-----".to_owned();
        }
        let Injected::Changed { object, .. } = inject(object, &settings, Timestamp::UNIX_EPOCH) else {
            panic!("it should be changed")
        };
        uninject(&object).unwrap()
    }

    #[rstest]
    #[case::a_pod(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "annotations": {"konductor.io/mutex": "db", "konductor.io/hold": "scheduling-gate"}},
        "spec": {"containers": [{"name": "main", "env": [{"name": "A", "value": "1"}]}], "volumes": [{"name": "data"}]}}))]
    #[case::a_pod_that_runs_once(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "annotations": {"konductor.io/once": "seed"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "command": ["./seed", "-v"]}]}}))]
    #[case::a_pod_with_a_sidecar(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "annotations": {"konductor.io/lease": "daily"}},
        "spec": {"containers": [{"name": "main"}], "volumes": [{"name": "data"}]}}))]
    #[case::a_job_that_waits_suspended(json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "j", "annotations": {"konductor.io/mutex": "db", "konductor.io/hold": "suspend"}},
        "spec": {"template": {"spec": {"containers": [{"name": "main"}]}}}}))]
    #[case::a_cronjob(json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"},
        "spec": {"jobTemplate": {"metadata": {"annotations": {"konductor.io/lease": "l"}},
        "spec": {"template": {"spec": {"containers": [{"name": "main"}]}}}}}}))]
    #[case::a_deployment(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"template": {"metadata": {"labels": {"app": "d"}, "annotations": {"konductor.io/gate": "g"}},
        "spec": {"containers": [{"name": "main"}], "initContainers": [{"name": "setup"}]}}}}))]
    fn what_was_injected_goes_and_nothing_else(#[case] object: Value) {
        assert_eq!(there_and_back(&object), object);
        assert_eq!(uninject(&object), None, "nothing of ours is in it");
    }

    #[test]
    fn what_the_operator_wrote_goes_too() {
        let live = json!({"metadata": {"finalizers": ["konductor.io/hold"], "annotations": {
            "konductor.io/mutex": "db", "konductor.io/grant": "v1 u 1 0 go", "konductor.io/token-1": "5"}}});
        let expected = json!({"metadata": {"annotations": {"konductor.io/mutex": "db"}}});
        assert_eq!(uninject(&live), Some(expected));
    }

    #[test]
    fn a_job_that_its_owner_suspended_stays_so() {
        let job = json!({"kind": "Job", "spec": {"suspend": true}});
        assert_eq!(uninject(&job), None);
    }
}
