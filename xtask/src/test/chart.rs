//! The chart, rendered with many values.
//!
//! May touch: nothing; helm renders to standard output. What must stay true: every combination that is documented
//! renders to objects with a kind and a name, and every misspelt value is refused.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::images::root;

/// Combinations that must render.
const GOOD: [&[&str]; 19] = [
    &[],
    &["crds.install=false"],
    &["crds.keep=false"],
    &["controller.holds.schedulingGate=false"],
    &["controller.holds.suspend=false"],
    &["controller.holds.ttl=false"],
    &["controller.sessions.enabled=false"],
    &["controller.sessions.enabled=false", "webhook.certManager.enabled=true"],
    &["controller.sessions.bindAddress=:10444", "controller.sessions.fence=never"],
    &[
        "controller.replicas=1",
        "controller.podDisruptionBudget.enabled=false",
        "controller.affinity.nodeAffinity.a=b",
    ],
    &["webhook.checkTemplates=false"],
    &["webhook.certManager.enabled=true"],
    &["webhook.certManager.enabled=true", "webhook.certManager.issuerRef.name=ca"],
    &["webhook.replicas=1", "webhook.hostNetwork=true", "webhook.port=10250"],
    &["global.registry=registry.example.com/mirror", "image.pullSecrets[0].name=mirror"],
    &["serviceAccount.enabled=false", "serviceAccount.name=mine"],
    &["fullnameOverride=k", "controller.args.logLevel=debug", "controller.args.logFormat=text"],
    &[
        "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "waiter.image.tag=v1",
        "webhook.podDisruptionBudget.enabled=false",
    ],
    &[
        "controller.nodeSelector.a=b",
        "controller.priorityClassName=system-cluster-critical",
        "controller.tolerations[0].operator=Exists",
        "controller.args.additionalArgs[0]=--help",
        "webhook.affinity.nodeAffinity.a=b",
    ],
];

/// Values that must be refused.
const BAD: [&str; 12] = [
    "webhok.replicas=1",
    "webhook.replicas=-1",
    "webhook.port=0",
    "image.digest=sha256:beef",
    "image.pullPolicy=Sometimes",
    "controller.args.logLevel=loud",
    "controller.holds.schedulingGate=perhaps",
    "controller.holds.suspend=now",
    "controller.holds.ttl=5m",
    "controller.sessions.fence=perhaps",
    "controller.sessions.bindAddress=here",
    "webhook.certManager.duration=soon",
];

/// Lints and renders.
pub(super) fn check(helm: &Path) -> Result<()> {
    render(helm, &["lint", "--strict"], &[]).context("helm lint")?;
    for values in GOOD {
        let text = render(helm, &["template", "konductor"], values)
            .with_context(|| format!("the chart with {values:?}"))?;
        let kinds = objects(&text).with_context(|| format!("the chart with {values:?}"))?;
        for wanted in ["Deployment", "MutatingWebhookConfiguration", "ValidatingAdmissionPolicy"] {
            ensure!(kinds.iter().any(|kind| kind == wanted), "the chart with {values:?} has no {wanted}");
        }
        sessions(&text, values).with_context(|| format!("the chart with {values:?}"))?;
        let definitions = kinds.iter().any(|kind| kind == "CustomResourceDefinition");
        ensure!(
            definitions != values.contains(&"crds.install=false"),
            "the chart with {values:?} has {} definitions",
            if definitions { "custom resource" } else { "no" }
        );
        ensure!(
            text.contains("helm.sh/resource-policy: keep")
                == (definitions && !values.contains(&"crds.keep=false")),
            "the chart with {values:?} mistakes what is to be kept"
        );
    }
    for value in BAD {
        ensure!(
            render(helm, &["template", "konductor"], &[value]).is_err(),
            "the chart takes {value}, which values.schema.json should refuse"
        );
    }
    Ok(())
}

/// Who is to be told where to renew, and who listens there, are told the same.
fn sessions(text: &str, values: &[&str]) -> Result<()> {
    let enabled = !values.contains(&"controller.sessions.enabled=false");
    let fullname = if values.contains(&"fullnameOverride=k") { "k" } else { "konductor" };
    for wanted in [
        format!("--sessions={fullname}-sessions.konductor-system.svc:443"),
        format!("--sessions-service={fullname}-sessions"),
        "- --sessions-bind-address=:".to_owned(),
        "targetPort: sessions".to_owned(),
        "resources: [tokenreviews]".to_owned(),
    ] {
        ensure!(
            text.contains(&wanted) == enabled,
            "{wanted} is there although it should not be, or is missing"
        );
    }
    let mounted = enabled && values.contains(&"webhook.certManager.enabled=true");
    ensure!(
        text.contains("--sessions-tls-directory=/sessions-tls") == mounted,
        "whose certificates are they?"
    );
    Ok(())
}

fn render(helm: &Path, arguments: &[&str], values: &[&str]) -> Result<String> {
    let mut command = Command::new(helm);
    command.args(arguments).arg(root().join("charts/konductor")).args(["--namespace", "konductor-system"]);
    command.env_remove("KUBECONFIG");
    for value in values {
        command.args(["--set", value]);
    }
    let output = command.output().with_context(|| format!("running {}", helm.display()))?;
    ensure!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// The kinds of all objects in a stream of YAML.
fn objects(text: &str) -> Result<Vec<String>> {
    let mut kinds = Vec::new();
    for document in format!("\n{text}").split("\n---") {
        // What a template with a false condition leaves: comments and blanks.
        if document.lines().all(|line| line.trim().is_empty() || line.starts_with('#')) {
            continue;
        }
        let object: Value =
            serde_saphyr::from_str(document).with_context(|| format!("reading {document}"))?;
        let kind =
            object["kind"].as_str().with_context(|| format!("an object without a kind: {document}"))?;
        ensure!(object["metadata"]["name"].is_string(), "a {kind} without a name: {document}");
        kinds.push(kind.to_owned());
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_needs_a_kind_and_a_name() {
        let good = "---\n# Source: a\nkind: A\nmetadata:\n  name: a\n---\n# nothing\n\n---\nkind: B\nmetadata: {name: b}\n";
        assert_eq!(objects(good).unwrap(), ["A", "B"]);
        assert!(objects("kind: A\n").is_err());
        assert!(objects("metadata: {name: a}\n").is_err());
    }
}
