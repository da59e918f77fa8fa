//! The definitions of our kinds: what the API server refuses by them, and with which sentence.

use anyhow::{Result, ensure};
use konductor_api::gate::Gate;
use konductor_api::mutex::Mutex;
use konductor_e2e::namespace::in_namespace;
use konductor_e2e::primitive;
use konductor_e2e::tools::kubectl_with;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde::Deserialize;
use serde_json::{Value, json};

/// What the rules (CEL) of the definitions are about: one table for this test and for the one that needs no cluster.
#[derive(Deserialize)]
struct Cases {
    refused: Vec<Refused>,
    accepted: Vec<Accepted>,
}

#[derive(Deserialize)]
struct Refused {
    kind: String,
    spec: Value,
    words: String,
    /// What it is to replace: then it is about a change.
    was: Option<Value>,
}

#[derive(Deserialize)]
struct Accepted {
    kind: String,
    spec: Value,
}

#[expect(clippy::unwrap_used, reason = "clippy.toml permits it in tests, but not in their helpers")]
fn cases() -> Cases {
    serde_saphyr::from_str(include_str!("../../../../api/tests/rules.yaml")).unwrap()
}

fn manifest(kind: &str, spec: &Value) -> String {
    json!({"apiVersion": "konductor.io/v1", "kind": kind, "metadata": {"name": "sample"}, "spec": spec})
        .to_string()
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_makes_no_sense_is_refused_with_a_sentence() {
    in_namespace("crds", async |namespace| {
        let many: Vec<_> =
            (0..33).map(|number| json!({"type": "Job", "name": format!("j{number}")})).collect();
        let one = |condition: Value| ("Gate", json!({"conditions": [condition]}));
        let time = |field: &str, value: Value| {
            let mut window = json!({"from": "22:00", "to": "06:00"});
            window[field] = value;
            ("Gate", json!({"conditions": [{"type": "Time", "window": window}]}))
        };
        let object =
            json!({"type": "Object", "name": "a", "apiVersion": "a/b/c", "kind": "A", "conditionType": "Up"});
        for ((kind, spec), words) in [
            (("Gate", json!({"conditions": many})), "must have at most 32 items"),
            (
                one(json!({"type": "Job", "name": "a", "state": "Running"})),
                "supported values: \"Complete\", \"Failed\"",
            ),
            (one(json!({"type": "CronJob", "name": "data"})), "supported values: \"Job\""),
            (one(json!({"type": "Job", "name": "Data"})), "spec.conditions[0].name"),
            (one(json!({"name": "a"})), "spec.conditions[0].type"),
            (one(json!({"type": "Semaphore", "name": "a", "value": 0})), "greater than or equal to 1"),
            (one(object), "spec.conditions[0].apiVersion"),
            (one(json!({"type": "Time", "notBefore": "tomorrow"})), "spec.conditions[0].notBefore"),
            (time("from", json!("25:00")), "window.from"),
            (time("days", json!(["Someday"])), "window.days[0]"),
            (time("timeZone", json!("../etc")), "window.timeZone"),
            (one(json!({"type": "Job", "name": "a", "namespace": "A"})), "spec.conditions[0].namespace"),
            (("Gate", json!({"override": "Ajar"})), "spec.override"),
            (("Gate", json!({"logic": "Most"})), "spec.logic"),
            (("Barrier", json!({})), "spec.expected"),
            (("Barrier", json!({"expected": 0})), "greater than or equal to 1"),
            (("Barrier", json!({"expected": -3})), "greater than or equal to 1"),
            (("Barrier", json!({"expected": 10_001})), "less than or equal to 10000"),
            (("Barrier", json!({"expected": 2, "quorum": 0})), "greater than or equal to 1"),
            (("Barrier", json!({"expected": 2, "arrivals": "Maybe"})), "spec.arrivals"),
            (("Semaphore", json!({})), "spec.permits"),
            (("Semaphore", json!({"permits": 0})), "greater than or equal to 1"),
            (("Semaphore", json!({"permits": -1})), "greater than or equal to 1"),
            (("RWMutex", json!({"policy": "Rude"})), "spec.policy"),
            (("Lease", json!({"priority": -1})), "greater than or equal to 0"),
            (("Once", json!({"maxAttempts": 0})), "greater than or equal to 1"),
            (("Once", json!({"key": ""})), "spec.key"),
            (("WaitGroup", json!({"expectAtLeast": 0})), "greater than or equal to 1"),
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
        for Refused { kind, spec, words, was } in cases().refused {
            if let Some(was) = was {
                // Said of a claim that was granted: see `claims.rs`.
                if was.get("outcome").is_some() {
                    continue;
                }
                let said = change(namespace.name(), &kind, &was, &spec).await?;
                assert!(!said.0 && said.1.contains(&words), "{kind} {was} to {spec}: {}", said.1);
                continue;
            }
            let said = create(namespace.name(), &kind, &spec).await?;
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
        for Accepted { kind, spec } in cases().accepted {
            let said = create(namespace.name(), &kind, &spec).await?;
            assert!(said.0, "{kind} {spec}: {}", said.1);
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

/// Tries to change it, from what was there before, which goes again.
async fn change(namespace: &str, kind: &str, was: &Value, spec: &Value) -> Result<(bool, String)> {
    let made = kubectl_with(namespace, &["create", "-f", "-"], &manifest(kind, was)).await?;
    ensure!(made.success, "{kind} {was}: {}", made.err);
    let said = kubectl_with(namespace, &["replace", "-f", "-"], &manifest(kind, spec)).await?;
    kubectl_with(namespace, &["delete", "-f", "-"], &manifest(kind, was)).await?;
    Ok((said.success, said.err))
}
