//! Templates: the same checks where a person sees them, on what makes pods and Jobs.
//!
//! Pure. A Deployment's refusal reaches the terminal, that of its pods a controller. What must stay true: nothing is
//! changed here; what is stored already can always be changed, scaled and deleted, so an update is refused for new
//! problems only; a template is judged as the pod or Job that is made of it.

use konductor_api::annotations::PREFIX;
use konductor_api::grammar::Problem;
use serde_json::Value;

use crate::names::Around;
use crate::object::{self, at};
use crate::plan::{self, Plan};
use crate::review::Resource;
use crate::traps;
use crate::warnings::warnings;

/// Problems of a stored object that are told again.
const MAX_OLD_PROBLEMS: usize = 4;

/// What is made of an object: a pod or a Job, and where its template stands.
struct Made {
    what: Resource,
    at: &'static [&'static str],
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// What it is refused for.
    pub problems: Vec<Problem>,
    /// In what it would take part, for the audit log.
    pub plan: String,
    /// For the person who asked.
    pub warnings: Vec<String>,
}

/// Checks an object that makes pods or Jobs, or a Job that is changed. `old` is what it is to replace.
pub fn check(resource: Resource, object: &Value, old: Option<&Value>, around: &Around<'_>) -> Checked {
    let mut checked =
        Checked { problems: Vec::new(), plan: String::new(), warnings: misplaced(resource, object) };
    // Whatever is on its way out goes.
    let Some(made) =
        made(resource, object).filter(|_| at(object, &["metadata", "deletionTimestamp"]).is_none())
    else {
        return checked;
    };
    match judge(&made, object, around) {
        Ok(plan) => {
            let inner = at(object, made.at).unwrap_or(object);
            checked.plan = plan.participation.to_string();
            checked.warnings.extend(
                warnings(made.what, inner, &plan, around)
                    .into_iter()
                    .map(|warning| elsewhere(&warning, &made)),
            );
            checked.warnings.extend(traps::found(resource, object, &plan));
        }
        Err(problems) => {
            let known = old.and_then(|old| judge(&made, old, around).err()).unwrap_or_default();
            let (old, new): (Vec<_>, Vec<_>) =
                problems.into_iter().partition(|problem| known.contains(problem));
            checked.problems = new;
            let told = |problem: &Problem| format!("its pods are refused, as before, for {}", problem.path);
            let still = old.iter().take(MAX_OLD_PROBLEMS).map(told);
            checked.warnings.extend(still);
        }
    }
    checked
}

fn made(resource: Resource, object: &Value) -> Option<Made> {
    const TEMPLATE: &[&str] = &["spec", "template"];
    match resource {
        Resource::Deployments | Resource::StatefulSets | Resource::DaemonSets | Resource::ReplicaSets => {
            Some(Made { what: Resource::Pods, at: TEMPLATE })
        }
        Resource::CronJobs => Some(Made { what: Resource::Jobs, at: &["spec", "jobTemplate"] }),
        // Of a Job only a suspended one has a template that can still change.
        Resource::Jobs if at(object, &["spec", "suspend"]) == Some(&Value::Bool(true)) => {
            Some(Made { what: Resource::Jobs, at: &[] })
        }
        Resource::Jobs | Resource::Pods | Resource::Claims | Resource::Other => None,
    }
}

fn judge(made: &Made, object: &Value, around: &Around<'_>) -> Result<Plan, Vec<Problem>> {
    let inner = at(object, made.at).unwrap_or(&Value::Null);
    let plan = match made.what {
        Resource::Jobs => plan::job(inner, around),
        _ => plan::pod(inner, around),
    };
    plan.map_err(|problems| {
        let prefix: String = made.at.iter().flat_map(|field| [field, "."]).collect();
        problems
            .into_iter()
            .map(|problem| Problem { path: format!("{prefix}{}", problem.path), ..problem })
            .collect()
    })
}

/// The path in a warning about a pod or Job is one in the object now.
fn elsewhere(warning: &str, made: &Made) -> String {
    let prefix: String = made.at.iter().flat_map(|field| [field, "."]).collect();
    let start = if warning.starts_with("spec.") { Some(0) } else { warning.find(": spec.").map(|at| at + 2) };
    match start {
        Some(start) => format!("{}{prefix}{}", &warning[..start], &warning[start..]),
        None => warning.to_owned(),
    }
}

/// Annotations on the object itself, where nobody reads them.
fn misplaced(resource: Resource, object: &Value) -> Vec<String> {
    let place = match resource {
        Resource::Deployments | Resource::StatefulSets | Resource::DaemonSets | Resource::ReplicaSets => {
            "spec.template.metadata.annotations"
        }
        Resource::CronJobs => "spec.jobTemplate.metadata.annotations",
        Resource::Jobs | Resource::Pods | Resource::Claims | Resource::Other => return Vec::new(),
    };
    let annotations = object::annotations(object, &[]).unwrap_or_default();
    let ours: Vec<_> = annotations.keys().filter(|key| key.starts_with(PREFIX)).map(String::as_str).collect();
    if ours.is_empty() {
        return Vec::new();
    }
    vec![format!("{} on the object itself does nothing; it belongs into {place}", ours.join(", "))]
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::names::KnownNames;
    use crate::waiter::Settings;

    fn checked(resource: Resource, object: &Value, old: Option<&Value>) -> Checked {
        let (settings, names) = (Settings::usual(), KnownNames::default());
        let now = Timestamp::UNIX_EPOCH;
        check(resource, object, old, &Around { settings: &settings, names: &names, namespace: "shop", now })
    }

    fn deployment(annotations: &Value) -> Value {
        json!({"metadata": {"name": "web"}, "spec": {"replicas": 1, "template": {
            "metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "web"}]}}}})
    }

    fn paths(checked: &Checked) -> Vec<&str> {
        checked.problems.iter().map(|problem| problem.path.as_str()).collect()
    }

    #[rstest]
    #[case(Resource::Deployments)]
    #[case(Resource::StatefulSets)]
    #[case(Resource::DaemonSets)]
    #[case(Resource::ReplicaSets)]
    fn a_template_is_refused_for_what_its_pods_would_be(#[case] resource: Resource) {
        let found = checked(resource, &deployment(&json!({"konductor.io/mutx": "db"})), None);
        assert_eq!(paths(&found), ["spec.template.metadata.annotations[konductor.io/mutx]"]);
        let marker = deployment(&json!({"konductor.io/job-plan": "v1 mutex=db"}));
        assert_eq!(
            paths(&checked(resource, &marker, None)),
            ["spec.template.metadata.annotations[konductor.io/job-plan]"]
        );
    }

    #[test]
    fn a_cronjob_is_refused_for_what_its_jobs_and_their_pods_would_be() {
        let cron_job = |job: Value, pods: Value| {
            json!({"spec": {"jobTemplate": {"metadata": {"annotations": job}, "spec": {"template": {
                "metadata": {"annotations": pods}, "spec": {"containers": [{"name": "main"}]}}}}}})
        };
        let found = |job, pods| checked(Resource::CronJobs, &cron_job(job, pods), None);
        let typo = || json!({"konductor.io/lese": "db"});
        assert_eq!(
            paths(&found(typo(), json!({}))),
            ["spec.jobTemplate.metadata.annotations[konductor.io/lese]"]
        );
        assert_eq!(
            paths(&found(json!({}), typo())),
            ["spec.jobTemplate.spec.template.metadata.annotations[konductor.io/lese]"]
        );
        assert_eq!(found(json!({"konductor.io/lease": "db"}), json!({})).plan, "lease/db");
    }

    #[test]
    fn what_is_stored_can_always_be_changed() {
        let bad = deployment(&json!({"konductor.io/mutx": "db"}));
        let mut scaled = bad.clone();
        scaled["spec"]["replicas"] = json!(9);
        let same = checked(Resource::Deployments, &scaled, Some(&bad));
        assert_eq!(same.problems, []);
        assert!(
            same.warnings[0].starts_with("its pods are refused, as before, for spec.template."),
            "{same:?}"
        );
        let worse = deployment(&json!({"konductor.io/mutx": "db", "konductor.io/gate": ""}));
        let worse = checked(Resource::Deployments, &worse, Some(&bad));
        assert_eq!(paths(&worse), ["spec.template.metadata.annotations[konductor.io/gate]"]);
        let mut going = bad;
        going["metadata"]["deletionTimestamp"] = json!("2030-06-01T12:00:00Z");
        assert_eq!(checked(Resource::Deployments, &going, None).problems, []);
    }

    #[test]
    fn only_the_template_of_a_suspended_job_is_looked_at() {
        let job = |suspend: bool, os: &str| {
            json!({"metadata": {"annotations": {"konductor.io/mutex": "db"}}, "spec": {"suspend": suspend, "template": {
                "spec": {"nodeSelector": {"kubernetes.io/os": os}, "nodeName": "n1", "containers": [{"name": "main"}]}}}})
        };
        let found = checked(Resource::Jobs, &job(true, "windows"), Some(&job(true, "linux")));
        assert_eq!(paths(&found), ["spec.template.spec.nodeName"]);
        assert_eq!(checked(Resource::Jobs, &job(false, "windows"), Some(&job(true, "windows"))).problems, []);
    }

    #[test]
    fn annotations_where_nobody_reads_them_are_warned_about() {
        let object = json!({"metadata": {"annotations": {"konductor.io/mutex": "db", "a": "b"}}, "spec": {}});
        let said = checked(Resource::CronJobs, &object, None).warnings;
        assert_eq!(
            said,
            [
                "konductor.io/mutex on the object itself does nothing; it belongs into spec.jobTemplate.metadata.annotations"
            ]
        );
    }
}
