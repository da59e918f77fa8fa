//! Pods of any shape, made from bytes: well-formed in the way that the API server guarantees, and odd in all others.

#![allow(unreachable_pub, reason = "this file is a part of two crates, and only public in one of them")]

use arbitrary::{Result, Unstructured};
use serde_json::{Map, Value, json};

/// What is usual, and what is odd: mostly the usual is taken, or hardly a pod would be accepted.
type Choices = (&'static [&'static str], &'static [&'static str]);

const WAYS: [&str; 11] = [
    "gate",
    "waitgroup",
    "waitgroup-wait",
    "barrier",
    "barrier-wait",
    "barrier-arrive",
    "semaphore",
    "rwmutex-read",
    "rwmutex-write",
    "mutex",
    "lease",
];
const OPTIONS: [&str; 10] = [
    "timeout",
    "on-timeout",
    "on-busy",
    "priority",
    "inject",
    "queued",
    "job-plan",
    "once",
    "hold",
    "sidecar",
];
const PARTS: Choices = (&["a", "b", "x.y-1"], &["a,b", "c, a.b-1", "a=2", "", "A"]);
const VALUES: Choices = (
    &["30m", "fail", "7", "true", "2030-06-01T12:00:00.000000Z", "v1 mutex=z"],
    &["skip", "proceed", "wait", "false", "v1 gate=a,b lease=l", "v2", "always", "never"],
);
const NAMES: Choices = (
    &["main", "helper", "istio-proxy", "linkerd-proxy", "istio-init", "logs"],
    &["konductor-wait", "konductor-hold", ""],
);
const VOLUMES: Choices = (
    &["data", "konductor-other", "kube-api-access-x"],
    &["konductor-grant", "konductor-state", "konductor-session"],
);
const PATHS: [&str; 6] = [
    "/data",
    "/konductor",
    "/konductor-state",
    "/",
    "/var/run/secrets/kubernetes.io/serviceaccount",
    "/a/../b",
];
const VARIABLES: Choices =
    (&["A", "B"], &["KONDUCTOR_TOKEN", "KONDUCTOR_TOKEN_MUTEX_A", "KONDUCTOR_POD_UID"]);
const SYSTEMS: Choices = (&["linux"], &["windows"]);
const FINALIZERS: Choices = (&["example.com/a"], &["konductor.io/hold"]);

/// A pod.
pub fn pod(input: &mut Unstructured<'_>) -> Result<Value> {
    let mut metadata = Map::new();
    optional(input, &mut metadata, "name", |input| mostly(input, NAMES))?;
    optional(input, &mut metadata, "generateName", |input| mostly(input, NAMES))?;
    let annotations = annotations(input)?;
    metadata.insert("annotations".to_owned(), annotations);
    optional(input, &mut metadata, "labels", |input| {
        let value = text(input, &["true", "no", ""])?;
        Ok(if input.arbitrary()? {
            json!({"konductor.io/participant": value})
        } else {
            json!({"app": value})
        })
    })?;
    optional(input, &mut metadata, "finalizers", |input| list(input, 2, |input| mostly(input, FINALIZERS)))?;
    optional(input, &mut metadata, "ownerReferences", |input| {
        list(input, 2, |input| {
            let (kind, version) =
                (text(input, &["Job", "ReplicaSet"])?, text(input, &["batch/v1", "apps/v1"])?);
            let controller: Option<bool> = input.arbitrary()?;
            Ok(
                json!({"kind": kind, "apiVersion": version, "controller": controller, "name": "a", "uid": "u"}),
            )
        })
    })?;
    Ok(json!({"metadata": metadata, "spec": spec(input)?}))
}

fn spec(input: &mut Unstructured<'_>) -> Result<Value> {
    let mut spec = Map::new();
    optional(input, &mut spec, "initContainers", |input| list(input, 5, container))?;
    spec.insert("containers".to_owned(), list(input, 4, container)?);
    optional(input, &mut spec, "volumes", |input| {
        list(input, 4, |input| {
            let name = mostly(input, VOLUMES)?;
            Ok(if input.arbitrary()? {
                json!({"name": name, "emptyDir": {"medium": text(input, &["", "Memory"])?}})
            } else {
                json!({"name": name, "configMap": {"name": "a"}})
            })
        })
    })?;
    optional(input, &mut spec, "securityContext", |input| {
        Ok(json!({"runAsUser": input.int_in_range(0..=2)?}))
    })?;
    optional(input, &mut spec, "resources", resources)?;
    optional(input, &mut spec, "os", |input| Ok(json!({"name": mostly(input, SYSTEMS)?})))?;
    optional(input, &mut spec, "nodeSelector", |input| {
        Ok(json!({"kubernetes.io/os": mostly(input, SYSTEMS)?}))
    })?;
    optional(input, &mut spec, "futureField", |input| {
        Ok(json!({"deep": [null, input.arbitrary::<i64>()?]}))
    })?;
    Ok(Value::Object(spec))
}

fn container(input: &mut Unstructured<'_>) -> Result<Value> {
    let mut container = Map::from_iter([("name".to_owned(), mostly(input, NAMES)?)]);
    optional(input, &mut container, "image", |input| {
        text(input, &["konductor-waiter", "x:5/konductor-waiter@d", "app"])
    })?;
    optional(input, &mut container, "command", |input| {
        Ok(json!([text(input, &["/konductor-wait", "sh"])?]))
    })?;
    optional(input, &mut container, "restartPolicy", |input| text(input, &["Always", "Never"]))?;
    optional(input, &mut container, "resources", resources)?;
    optional(input, &mut container, "env", |input| {
        list(input, 3, |input| {
            let name = mostly(input, VARIABLES)?;
            let field = json!({"fieldRef": {"fieldPath": "metadata.annotations['konductor.io/token-1']"}});
            Ok(match input.int_in_range(0..=2)? {
                0 => json!({"name": name, "value": "1"}),
                1 => json!({"name": name, "valueFrom": field}),
                _ => json!({"name": name}),
            })
        })
    })?;
    optional(input, &mut container, "volumeMounts", |input| {
        list(input, 3, |input| {
            Ok(json!({"name": mostly(input, VOLUMES)?, "mountPath": text(input, &PATHS)?}))
        })
    })?;
    Ok(Value::Object(container))
}

fn resources(input: &mut Unstructured<'_>) -> Result<Value> {
    let amount = json!({"cpu": "1", "memory": "1Gi"});
    Ok(match input.int_in_range(0..=2)? {
        0 => json!({}),
        1 => json!({"requests": amount}),
        _ => json!({"requests": amount, "limits": amount}),
    })
}

/// At least one that takes part, mostly in the way that it could be meant, and now and then anything.
fn annotations(input: &mut Unstructured<'_>) -> Result<Value> {
    let mut map = Map::new();
    for _ in 0..input.int_in_range(1..=4)? {
        let way = input.choose(&WAYS)?;
        map.insert(format!("konductor.io/{way}"), mostly(input, PARTS)?);
    }
    for _ in 0..input.int_in_range(0..=2)? {
        let option = input.choose(&OPTIONS)?;
        let value =
            if input.ratio(7, 8)? { mostly(input, VALUES)? } else { json!(input.arbitrary::<&str>()?) };
        map.insert(format!("konductor.io/{option}"), value);
    }
    Ok(Value::Object(map))
}

/// Something odd once in sixteen times. The usual, where no bytes are left.
fn mostly(input: &mut Unstructured<'_>, (usual, odd): Choices) -> Result<Value> {
    let choices = if input.ratio(15, 16)? { usual } else { odd };
    text(input, choices)
}

fn text(input: &mut Unstructured<'_>, choices: &[&str]) -> Result<Value> {
    Ok(json!(input.choose(choices)?))
}

fn list(
    input: &mut Unstructured<'_>,
    most: usize,
    mut item: impl FnMut(&mut Unstructured<'_>) -> Result<Value>,
) -> Result<Value> {
    let length = input.int_in_range(0..=most)?;
    (0..length).map(|_| item(input)).collect::<Result<Vec<_>>>().map(Value::Array)
}

/// The field, or null, or no such field.
fn optional(
    input: &mut Unstructured<'_>,
    map: &mut Map<String, Value>,
    field: &str,
    value: impl FnOnce(&mut Unstructured<'_>) -> Result<Value>,
) -> Result<()> {
    let found = match input.int_in_range(0..=4)? {
        0 | 1 => return Ok(()),
        2 => Value::Null,
        _ => value(input)?,
    };
    map.insert(field.to_owned(), found);
    Ok(())
}
