//! The definitions of our kinds: what the API server refuses by them, and with which sentence.

use anyhow::Result;
use konductor_api::gate::Gate;
use konductor_api::mutex::Mutex;
use konductor_e2e::namespace::in_namespace;
use konductor_e2e::primitive;
use konductor_e2e::tools::kubectl_with;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

fn manifest(kind: &str, spec: &Value) -> String {
    json!({"apiVersion": "konductor.io/v1", "kind": kind, "metadata": {"name": "sample"}, "spec": spec})
        .to_string()
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_makes_no_sense_is_refused_with_a_sentence() {
    in_namespace("crds", async |namespace| {
        let data = |state: &str| json!({"type": "Job", "name": "data", "state": state});
        let many: Vec<_> =
            (0..33).map(|number| json!({"type": "Job", "name": format!("j{number}")})).collect();
        let conditions = |all: Value| ("Gate", json!({"conditions": all}));
        let one = |condition: Value| ("Gate", json!({"conditions": [condition]}));
        let job = |field: &str, value: Value| {
            let mut condition = json!({"type": "Job", "name": "a"});
            condition[field] = value;
            ("Gate", json!({"conditions": [condition]}))
        };
        let time = |field: &str, value: Value| {
            let mut window = json!({"from": "22:00", "to": "06:00"});
            window[field] = value;
            ("Gate", json!({"conditions": [{"type": "Time", "window": window}]}))
        };
        let of = |type_: &str, state: &str| {
            ("Gate", json!({"conditions": [{"type": type_, "name": "a", "state": state}]}))
        };
        let object = json!({"type": "Object", "name": "a", "apiVersion": "a.io/v1", "kind": "A", "conditionType": "Up"});
        let object_with = |field: &str, value: Value| {
            let mut condition = object.clone();
            condition[field] = value;
            ("Gate", json!({"conditions": [condition]}))
        };
        for ((kind, spec), words) in [
            (conditions(json!(many)), "must have at most 32 items"),
            (
                conditions(json!([data("Complete"), data("Complete")])),
                "the same condition stands in the list twice; remove one of the two",
            ),
            (conditions(json!([data("Complete"), data("Failed")])), "a Job cannot both complete and fail"),
            (one(data("Running")), "supported values: \"Complete\", \"Failed\""),
            (one(json!({"type": "CronJob", "name": "data"})), "supported values: \"Job\""),
            (one(json!({"type": "Job", "name": "Data"})), "spec.conditions[0].name"),
            (one(json!({"type": "Job", "name": ""})), "name is missing"),
            (one(json!({"type": "Job"})), "name is missing"),
            (one(json!({"name": "a"})), "spec.conditions[0].type"),
            (of("Job", "Ready"), "a Job is Complete, Failed or Active"),
            (one(json!({"type": "Pod", "name": "a"})), "say which state of the Pod is meant"),
            (of("Pod", "Complete"), "say which state of the Pod is meant"),
            (of("Deployment", "Complete"), "a Deployment or StatefulSet is Ready"),
            (of("StatefulSet", "Open"), "a Deployment or StatefulSet is Ready"),
            (of("Barrier", "Complete"), "a Barrier or Gate is Open or Closed"),
            (of("Gate", "Locked"), "a Barrier or Gate is Open or Closed"),
            (one(json!({"type": "Lease", "name": "a"})), "say which state of the Lease is meant"),
            (of("Mutex", "Acquired"), "say which state of the lock is meant"),
            (one(json!({"type": "RWMutex", "name": "a"})), "say which state of the lock is meant"),
            (of("Once", "Zero"), "say which state of the Once is meant"),
            (one(json!({"type": "WaitGroup", "name": "a"})), "say which state of the WaitGroup is meant"),
            (one(json!({"type": "Semaphore", "name": "a"})), "say how many permits of the Semaphore"),
            (one(json!({"type": "Semaphore", "name": "a", "value": 0})), "greater than or equal to 1"),
            (job("value", json!(1)), "value is how many permits"),
            (one(json!({"type": "Object", "name": "a"})), "an Object is given by apiVersion, kind and name"),
            (job("kind", json!("Thing")), "belong to type: Object"),
            (object_with("apiVersion", json!("konductor.io/v1")), "have types of their own"),
            (object_with("state", json!("Ready")), "the condition of an Object is True or False"),
            (object_with("apiVersion", json!("a/b/c")), "spec.conditions[0].apiVersion"),
            (one(json!({"type": "Time"})), "takes notBefore, or window, or both"),
            (job("notBefore", json!("2030-01-01T00:00:00Z")), "takes notBefore, or window, or both"),
            (one(json!({"type": "Time", "notBefore": "tomorrow"})), "spec.conditions[0].notBefore"),
            (time("from", json!("25:00")), "window.from"),
            (time("to", json!("22:00")), "the same time"),
            (time("days", json!(["Someday"])), "window.days[0]"),
            (time("timeZone", json!("../etc")), "window.timeZone"),
            (one(json!({"type": "Manual", "name": "qa", "state": "Open"})), "Time and Manual have no state"),
            (job("approved", json!(true)), "approved: true belongs to type: Manual"),
            (one(json!({"type": "Manual", "name": "qa", "newer": true})), "look at no object"),
            (one(json!({"type": "Job", "name": "a", "namespace": "A"})), "spec.conditions[0].namespace"),
            (("Gate", json!({"timeout": "0s"})), "timeout must be longer than 0s"),
            (("Gate", json!({"override": "Ajar"})), "spec.override"),
            (("Gate", json!({"logic": "Most"})), "spec.logic"),
            (("Barrier", json!({})), "spec.expected"),
            (("Barrier", json!({"expected": 0})), "greater than or equal to 1"),
            (("Barrier", json!({"expected": -3})), "greater than or equal to 1"),
            (("Barrier", json!({"expected": 10_001})), "less than or equal to 10000"),
            (("Barrier", json!({"expected": 2, "quorum": 3})), "quorum must not be larger than expected"),
            (("Barrier", json!({"expected": 2, "quorum": 0})), "greater than or equal to 1"),
            (("Barrier", json!({"expected": 2, "quorum": 1, "cyclic": true})), "exclude each other"),
            (("Barrier", json!({"expected": 2, "timeout": "0s"})), "timeout must be longer than 0s"),
            (("Barrier", json!({"expected": 2, "arrivals": "Maybe"})), "spec.arrivals"),
            (("Semaphore", json!({})), "spec.permits"),
            (("Semaphore", json!({"permits": 0})), "greater than or equal to 1"),
            (("Semaphore", json!({"permits": -1})), "greater than or equal to 1"),
            (("Semaphore", json!({"permits": 1, "ttl": "0s"})), "ttl must be longer than 0s"),
            (("RWMutex", json!({"policy": "Rude"})), "spec.policy"),
            (("RWMutex", json!({"ttl": "0s"})), "ttl must be longer than 0s"),
            (("Lease", json!({"ttl": "0s"})), "ttl must be longer than 0s"),
            (("Lease", json!({"priority": -1})), "greater than or equal to 0"),
            (("Once", json!({"maxAttempts": 0})), "greater than or equal to 1"),
            (("Once", json!({"key": ""})), "spec.key"),
            (("Once", json!({"ttl": "0s"})), "ttl must be longer than 0s"),
            (("WaitGroup", json!({"expectAtLeast": 0})), "greater than or equal to 1"),
            (("WaitGroup", json!({"ttl": "0s"})), "ttl must be longer than 0s"),
            (("Mutex", json!({"ttl": "0s"})), "ttl must be longer than 0s, e.g. 30m"),
            (("Mutex", json!({"ttl": "-5m"})), "spec.ttl"),
            (("Mutex", json!({"ttl": "30"})), "spec.ttl"),
            (("Mutex", json!({"ttl": "half an hour"})), "spec.ttl"),
            (("Mutex", json!({"ttl": ""})), "spec.ttl"),
            (("Mutex", json!({"ttl": 30})), "spec.ttl"),
            (("Mutex", json!({"ttl": "9999999999999999h"})), "spec.ttl"),
            (("Mutex", json!({"tttl": "30m"})), "unknown field \"spec.tttl\""),
        ] {
            let said = create(namespace.name(), kind, &spec).await?;
            assert!(!said.0, "{kind} {spec} was accepted");
            assert!(said.1.to_lowercase().contains(&words.to_lowercase()), "{kind} {spec}: {}", said.1);
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_makes_sense_is_accepted_and_read_back_as_it_was() {
    in_namespace("crds-good", async |namespace| {
        for ttl in ["30m", "1h30m", "90s", "1.5h", "250ms", "1h0m0.5s"] {
            let said = create(namespace.name(), "Mutex", &json!({"ttl": ttl})).await?;
            assert!(said.0, "{ttl}: {}", said.1);
        }
        for (kind, spec) in [
            ("Mutex", json!({})),
            ("RWMutex", json!({"policy": "PhaseFair"})),
            ("Lease", json!({"ttl": "1h", "priority": 5})),
            ("Once", json!({"key": "v1.2.3", "maxAttempts": 3})),
            ("WaitGroup", json!({"expectAtLeast": 3})),
            ("Semaphore", json!({"permits": 1_000_000})),
            ("Barrier", json!({"expected": 10_000, "quorum": 9_999, "timeout": "30m"})),
            ("Barrier", json!({"expected": 1, "cyclic": true, "arrivals": "Live"})),
            ("Gate", json!({})),
            ("Gate", json!({"logic": "Any", "conditions": [
                {"type": "Job", "name": "a", "state": "Complete"},
                {"type": "Job", "name": "a", "state": "Failed"},
                {"type": "Semaphore", "name": "s", "value": 2},
                {"type": "Manual", "name": "qa"},
                {"type": "Time", "notBefore": "2030-01-01T00:00:00Z",
                 "window": {"from": "22:00", "to": "06:00", "days": ["Sat", "Sun"], "timeZone": "Europe/Berlin"}},
                {"type": "Object", "apiVersion": "a.io/v1", "kind": "A", "name": "x", "conditionType": "Up"},
            ]})),
        ] {
            let said = create(namespace.name(), kind, &spec).await?;
            assert!(said.0, "{kind} {spec}: {}", said.1);
        }
        for state in ["Complete", "Failed"] {
            let conditions = json!({"conditions": [{"type": "Job", "name": "a.b-c", "state": state}]});
            let said = create(namespace.name(), "Gate", &conditions).await?;
            assert!(said.0, "{state}: {}", said.1);
        }
        // A state that is left out is Complete.
        let gate: Gate = namespace
            .create(json!({"metadata": {"name": "short"}, "spec": {"conditions": [{"type": "Job", "name": "a"}]}}))
            .await?;
        assert_eq!(gate.spec.conditions[0].about(), "Job a Complete");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_status_cannot_come_in_with_the_spec() {
    in_namespace("crds-status", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        let forged = Patch::Merge(json!({
            "spec": {"ttl": "5m"},
            "status": {"holder": "pod/me"},
        }));
        let mutex = namespace.api::<Mutex>().patch("db", &PatchParams::default(), &forged).await?;
        assert_eq!(mutex.name_any(), "db");
        assert!(mutex.spec.ttl.is_some());
        assert_ne!(mutex.status.and_then(|status| status.holder).as_deref(), Some("pod/me"));
        Ok(())
    })
    .await;
}

/// Tries to create it, as a user would, with unknown fields refused; nothing is kept.
async fn create(namespace: &str, kind: &str, spec: &Value) -> Result<(bool, String)> {
    let arguments = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
    let said = kubectl_with(namespace, &arguments, &manifest(kind, spec)).await?;
    Ok((said.success, said.err))
}
