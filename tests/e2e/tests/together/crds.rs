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
        for (kind, spec, words) in [
            ("Gate", json!({}), "conditions"),
            ("Gate", json!({"conditions": []}), "should have at least 1 items"),
            ("Gate", json!({"conditions": many}), "must have at most 32 items"),
            (
                "Gate",
                json!({"conditions": [data("Complete"), data("Complete")]}),
                "the same condition stands in the list twice; remove one of the two",
            ),
            (
                "Gate",
                json!({"conditions": [data("Complete"), data("Failed")]}),
                "a Job cannot both complete and fail, so this gate could never open",
            ),
            ("Gate", json!({"conditions": [data("Running")]}), "supported values: \"Complete\", \"Failed\""),
            (
                "Gate",
                json!({"conditions": [{"type": "CronJob", "name": "data"}]}),
                "supported values: \"Job\"",
            ),
            ("Gate", json!({"conditions": [{"type": "Job", "name": "Data"}]}), "spec.conditions[0].name"),
            ("Gate", json!({"conditions": [{"type": "Job", "name": ""}]}), "spec.conditions[0].name"),
            ("Gate", json!({"conditions": [{"type": "Job"}]}), "spec.conditions[0].name"),
            (
                "Gate",
                json!({"conditions": [data("Complete")], "timeout": "1m"}),
                "unknown field \"spec.timeout\"",
            ),
            ("Mutex", json!({"ttl": "0s"}), "ttl must be longer than 0s, e.g. 30m"),
            ("Mutex", json!({"ttl": "-5m"}), "spec.ttl"),
            ("Mutex", json!({"ttl": "30"}), "spec.ttl"),
            ("Mutex", json!({"ttl": "half an hour"}), "spec.ttl"),
            ("Mutex", json!({"ttl": ""}), "spec.ttl"),
            ("Mutex", json!({"ttl": 30}), "spec.ttl"),
            ("Mutex", json!({"ttl": "9999999999999999h"}), "spec.ttl"),
            ("Mutex", json!({"tttl": "30m"}), "unknown field \"spec.tttl\""),
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
        let said = create(namespace.name(), "Mutex", &json!({})).await?;
        assert!(said.0, "{}", said.1);
        for state in ["Complete", "Failed"] {
            let conditions = json!({"conditions": [{"type": "Job", "name": "a.b-c", "state": state}]});
            let said = create(namespace.name(), "Gate", &conditions).await?;
            assert!(said.0, "{state}: {}", said.1);
        }
        // A state that is left out is Complete.
        let gate: Gate = namespace
            .create(json!({"metadata": {"name": "short"}, "spec": {"conditions": [{"type": "Job", "name": "a"}]}}))
            .await?;
        assert_eq!(gate.spec.conditions[0].display(), "job/a Complete");
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
