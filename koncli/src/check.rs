//! Check: is everything there that Konductor needs, and does it do its work?
//!
//! May touch: one cluster, reading, asking for rights, and one Job that is created as a dry run. What must stay true: each check
//! says what it looked at; what failed says what can be done; what may not be looked at is said to be unknown, never fine.

use std::fmt::Write;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use konductor_api::annotations::{GATE, JOB_PLAN};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde_json::json;

use crate::args::{Check, Connection, Listing};
use crate::cluster::{Cluster, connect};
use crate::exit::Exit;
use crate::live::{LiveError, Told, refused};

/// The first that has everything we need.
const OLDEST: (u32, u32) = (1, 30);
const OURS: &str = "app.kubernetes.io/name=konductor";
/// The operator, by its component label.
const OPERATOR: &str = "controller-manager";

/// How one check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Odd, or not to be looked at.
    Warning,
    /// Not as it should be.
    Failed,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of check.
    pub category: &'static str,
    /// What was looked at.
    pub about: String,
    /// How it went.
    pub outcome: Outcome,
    /// What was seen.
    pub seen: String,
    /// What can be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

/// Findings, as they come.
#[derive(Default)]
struct Report(Vec<Finding>);

impl Report {
    fn say(
        &mut self,
        category: &'static str,
        about: &str,
        outcome: Outcome,
        seen: impl Into<String>,
        hint: &str,
    ) {
        let hint = if outcome == Outcome::Ok { String::new() } else { hint.to_owned() };
        self.0.push(Finding { category, about: about.to_owned(), outcome, seen: seen.into(), hint });
    }

    /// What may not be looked at is unknown.
    fn unknown(&mut self, category: &'static str, about: &str, error: &kube::Error) {
        let seen = match error {
            kube::Error::Api(status) => status.message.clone(),
            other => other.to_string(),
        };
        self.say(category, about, Outcome::Warning, format!("unknown: {seen}"), "look with more rights");
    }
}

/// Checks all of it.
pub async fn check(to: &Connection, flags: &Check) -> Told {
    let cluster = connect(to).await?;
    let mut report = Report::default();
    if kubernetes(&cluster.client, &mut report).await {
        if flags.pre {
            rights_to_install(&cluster.client, &mut report).await;
        } else {
            definitions(&cluster.client, &mut report).await;
            deployments(&cluster.client, &mut report).await;
            admission(&cluster, &mut report).await;
            rights_to_use(&cluster, &mut report).await;
        }
    }
    let failed = report.0.iter().any(|finding| finding.outcome == Outcome::Failed);
    let text = match flags.output {
        Listing::Json => report
            .0
            .iter()
            .filter_map(|finding| serde_json::to_string(finding).ok())
            .map(|line| line + "\n")
            .collect(),
        Listing::Text => shown(&report.0),
    };
    Ok((text, if failed { Exit::Error } else { Exit::Done }))
}

/// Where the operator runs, in the words of the Go project.
pub async fn operator(to: &Connection) -> Told {
    let cluster = connect(to).await?;
    let all = programs(&cluster.client).await.map_err(|error| refused("deployments", &error))?;
    let Some(found) = component(&all, OPERATOR) else {
        let said = "Konductor's operator is nowhere in this cluster; install the chart";
        return Err(LiveError::Other(said.to_owned(), Exit::Error));
    };
    let ((ready, wanted), version) = (readiness(found), version(found));
    let well = ready > 0;
    let text = format!(
        "Operator Service:  {}\nNamespace:         {}\nVersion:           {version}\nHealth:            {}\nReady:             {ready}/{wanted}\n",
        found.name_any(),
        found.namespace().unwrap_or_default(),
        if well { "healthy" } else { "not ready" },
    );
    Ok((text, if well { Exit::Done } else { Exit::Error }))
}

/// For people.
pub fn shown(findings: &[Finding]) -> String {
    let (mut text, mut category) = (String::new(), "");
    for finding in findings {
        if finding.category != category {
            let _ = writeln!(text, "{}{}", if category.is_empty() { "" } else { "\n" }, finding.category);
            category = finding.category;
        }
        let mark = match finding.outcome {
            Outcome::Ok => "ok     ",
            Outcome::Warning => "warning",
            Outcome::Failed => "FAILED ",
        };
        let _ = writeln!(text, "  {mark}  {}: {}", finding.about, finding.seen);
        if !finding.hint.is_empty() {
            let _ = writeln!(text, "           {}", finding.hint);
        }
    }
    let count = |outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
    let (failed, warnings) = (count(Outcome::Failed), count(Outcome::Warning));
    let verdict = if failed > 0 { "not well" } else { "all is well" };
    let _ = writeln!(text, "\n{} checks, {failed} failed, {warnings} warnings: {verdict}", findings.len());
    text
}

async fn kubernetes(client: &Client, report: &mut Report) -> bool {
    const CATEGORY: &str = "Kubernetes";
    match client.apiserver_version().await {
        Ok(version) => {
            let number = |text: &str| {
                text.trim_end_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap_or(0)
            };
            let known = (number(&version.major), number(&version.minor));
            let outcome = if known >= OLDEST { Outcome::Ok } else { Outcome::Failed };
            report.say(
                CATEGORY,
                "API server",
                outcome,
                version.git_version,
                "Konductor needs Kubernetes 1.30 or later",
            );
            true
        }
        Err(error) => {
            report.say(
                CATEGORY,
                "API server",
                Outcome::Failed,
                error.to_string(),
                "is the cluster up, and the kubeconfig right?",
            );
            false
        }
    }
}

async fn definitions(client: &Client, report: &mut Report) {
    const CATEGORY: &str = "Definitions";
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for wanted in konductor_api::crds() {
        let name = wanted.name_any();
        match api.get_opt(&name).await {
            Ok(Some(found)) => {
                let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
                let served = conditions.iter().any(|known| known.type_ == "Established" && known.status == "True");
                let outcome = if served { Outcome::Ok } else { Outcome::Failed };
                let seen = if served { "served" } else { "not established" };
                report.say(CATEGORY, &name, outcome, seen, "kubectl describe crd says why");
            }
            Ok(None) => report.say(
                CATEGORY,
                &name,
                Outcome::Failed,
                "not there",
                "install the chart: helm upgrade --install konductor charts/konductor --namespace konductor-system --create-namespace",
            ),
            Err(error) => report.unknown(CATEGORY, &name, &error),
        }
    }
}

/// What the chart runs.
async fn programs(client: &Client) -> kube::Result<Vec<Deployment>> {
    let api: Api<Deployment> = Api::all(client.clone());
    Ok(api.list(&ListParams::default().labels(OURS)).await?.items)
}

fn component<'a>(all: &'a [Deployment], name: &str) -> Option<&'a Deployment> {
    all.iter().find(|one| one.labels().get("app.kubernetes.io/component").is_some_and(|is| is == name))
}

/// How many are ready, of how many.
fn readiness(of: &Deployment) -> (i32, i32) {
    let ready = of.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    (ready, of.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1))
}

fn version(of: &Deployment) -> &str {
    of.labels().get("app.kubernetes.io/version").map_or("", String::as_str)
}

async fn deployments(client: &Client, report: &mut Report) {
    const CATEGORY: &str = "Programs";
    let all = match programs(client).await {
        Ok(all) => all,
        Err(error) => return report.unknown(CATEGORY, "deployments", &error),
    };
    for (name, what) in [(OPERATOR, "operator"), ("webhook", "webhook")] {
        let Some(found) = component(&all, name) else {
            report.say(CATEGORY, what, Outcome::Failed, "there is no Deployment of it", "install the chart");
            continue;
        };
        let place =
            format!("deployment/{} in namespace {}", found.name_any(), found.namespace().unwrap_or_default());
        let (ready, wanted) = readiness(found);
        let outcome = match ready {
            0 => Outcome::Failed,
            some if some < wanted => Outcome::Warning,
            _ => Outcome::Ok,
        };
        report.say(
            CATEGORY,
            what,
            outcome,
            format!("{ready} of {wanted} ready, {place}"),
            "kubectl describe and kubectl logs of its pods say why",
        );
        let version = version(found);
        if !version.is_empty() && minor(version) != minor(env!("CARGO_PKG_VERSION")) {
            let seen = format!("it is {version}, and koncli is {}", env!("CARGO_PKG_VERSION"));
            report.say(
                CATEGORY,
                &format!("version of the {what}"),
                Outcome::Warning,
                seen,
                "use koncli of the same minor version",
            );
        }
    }
}

fn minor(version: &str) -> Option<(&str, &str)> {
    let mut parts = version.trim_start_matches('v').split('.');
    parts.next().zip(parts.next())
}

/// The configuration through which pods are seen.
pub(crate) async fn webhook(client: &Client) -> kube::Result<Option<MutatingWebhookConfiguration>> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let all = api.list(&ListParams::default()).await?.items;
    let sees_pods = |one: &MutatingWebhookConfiguration| {
        one.webhooks.iter().flatten().any(|hook| hook.name == "pods.konductor.io")
    };
    Ok(all.into_iter().find(sees_pods))
}

async fn admission(cluster: &Cluster, report: &mut Report) {
    const CATEGORY: &str = "Admission";
    match webhook(&cluster.client).await {
        Ok(ours) => {
            let bundle = |one: &MutatingWebhookConfiguration| {
                one.webhooks.iter().flatten().all(|hook| hook.client_config.ca_bundle.is_some())
            };
            match ours {
                None => report.say(
                    CATEGORY,
                    "webhook configuration",
                    Outcome::Failed,
                    "not there",
                    "helm upgrade restores it",
                ),
                Some(found) if !bundle(&found) => report.say(
                    CATEGORY,
                    "webhook configuration",
                    Outcome::Failed,
                    "without a CA bundle",
                    "the webhook's log says why",
                ),
                Some(found) => {
                    report.say(CATEGORY, "webhook configuration", Outcome::Ok, found.name_any(), "");
                }
            }
        }
        Err(error) => report.unknown(CATEGORY, "webhook configuration", &error),
    }
    policies(&cluster.client, report).await;
    let job = json!({
        "metadata": {"generateName": "konductor-check-", "annotations": {GATE: "konductor-check"}},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}}},
    });
    let api: Api<Job> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let Ok(job) = serde_json::from_value::<Job>(job) else { return };
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let about = "an annotated Job, as a dry run";
    match api.create(&dry, &job).await {
        Ok(made) => {
            let template =
                made.spec.and_then(|spec| spec.template.metadata).and_then(|metadata| metadata.annotations);
            let guarded = template.is_some_and(|all| all.contains_key(JOB_PLAN));
            let (outcome, seen) = if guarded {
                (Outcome::Ok, "would wait")
            } else {
                (Outcome::Failed, "would start without waiting")
            };
            report.say(
                CATEGORY,
                about,
                outcome,
                seen,
                "the webhook does not see it: is the namespace left out?",
            );
        }
        Err(kube::Error::Api(status))
            if matches!(status.code, 401 | 403) && !status.message.contains("konductor.io") =>
        {
            report.say(
                CATEGORY,
                about,
                Outcome::Warning,
                format!("unknown: {}", status.message),
                "look with more rights",
            );
        }
        Err(error) => report.say(
            CATEGORY,
            about,
            Outcome::Failed,
            error.to_string(),
            "does the webhook run, and can the API server reach it?",
        ),
    }
}

async fn policies(client: &Client, report: &mut Report) {
    const CATEGORY: &str = "Admission";
    let api: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let ours = ListParams::default().labels(OURS);
    match (api.list(&ours).await, bindings.list(&ours).await) {
        (Ok(policies), Ok(bindings)) => {
            let bound = |policy: &ValidatingAdmissionPolicy| {
                let name = Some(policy.name_any());
                bindings.items.iter().any(|binding| Some(&binding.spec.policy_name) == name.as_ref())
            };
            let loose: Vec<_> =
                policies.items.iter().filter(|policy| !bound(policy)).map(ResourceExt::name_any).collect();
            let (outcome, seen) = match (policies.items.len(), loose.as_slice()) {
                (0, _) => (Outcome::Failed, "there is none".to_owned()),
                (count, []) => (Outcome::Ok, format!("{count}, each in force")),
                (_, loose) => (Outcome::Failed, format!("not in force: {}", loose.join(", "))),
            };
            report.say(CATEGORY, "policies", outcome, seen, "helm upgrade restores them");
        }
        (Err(error), _) | (_, Err(error)) => report.unknown(CATEGORY, "policies", &error),
    }
}

async fn may(
    client: &Client,
    verb: &str,
    group: &str,
    resource: &str,
    namespace: Option<&str>,
) -> kube::Result<bool> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": verb, "group": group, "resource": resource, "namespace": namespace}},
    });
    let review: SelfSubjectAccessReview = serde_json::from_value(review).map_err(kube::Error::SerdeError)?;
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    Ok(api.create(&PostParams::default(), &review).await?.status.is_some_and(|status| status.allowed))
}

async fn rights_to_install(client: &Client, report: &mut Report) {
    const CATEGORY: &str = "Rights to install";
    for (group, resource) in [
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("rbac.authorization.k8s.io", "clusterrolebindings"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("", "namespaces"),
    ] {
        rule(client, report, CATEGORY, ("create", group, resource), None, Outcome::Failed).await;
    }
}

async fn rights_to_use(cluster: &Cluster, report: &mut Report) {
    const CATEGORY: &str = "Your rights";
    for (verb, resource) in [
        ("create", "claims"),
        ("watch", "claims"),
        ("patch", "claims"),
        ("delete", "claims"),
        ("get", "mutexes"),
    ] {
        let what = (verb, "konductor.io", resource);
        rule(&cluster.client, report, CATEGORY, what, Some(&cluster.namespace), Outcome::Warning).await;
    }
}

async fn rule(
    client: &Client,
    report: &mut Report,
    category: &'static str,
    (verb, group, resource): (&str, &str, &str),
    namespace: Option<&str>,
    without: Outcome,
) {
    let place = namespace.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
    let about = format!("{verb} {resource}{place}");
    match may(client, verb, group, resource, namespace).await {
        Ok(true) => report.say(category, &about, Outcome::Ok, "yes", ""),
        Ok(false) => report.say(category, &about, without, "no", "whoever administers the cluster can bind ClusterRole konductor-user, or cluster-admin to install"),
        Err(error) => report.unknown(category, &about, &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_says_what_can_be_done() {
        let finding = |outcome, hint: &str| Finding {
            category: "Programs",
            about: "operator".to_owned(),
            outcome,
            seen: "0 of 1 ready".to_owned(),
            hint: hint.to_owned(),
        };
        let text = shown(&[finding(Outcome::Ok, ""), finding(Outcome::Failed, "look")]);
        let expected = "\
Programs
  ok       operator: 0 of 1 ready
  FAILED   operator: 0 of 1 ready
           look

2 checks, 1 failed, 0 warnings: not well
";
        assert_eq!(text, expected);
    }

    #[test]
    fn versions_differ_by_their_minor() {
        assert_eq!(minor("v0.1.7"), minor("0.1.0"));
        assert_ne!(minor("0.2.0"), minor("0.1.0"));
    }
}
