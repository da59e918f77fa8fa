//! Injection without a cluster: what the webhook would make of a manifest.
//!
//! Pure, and the webhook's own code. What must stay true: what is shown is what would be admitted, but for what only the
//! moment of admission can say (the queue stamp) or the cluster (by which CA a sidecar knows whom it speaks to); what is
//! not changed says why.

use jiff::Timestamp;
use konductor_api::annotations::{HOLD_CONTAINER, QUEUED};
use konductor_api::grammar::Problem;
use konductor_webhook::patch::patch;
use konductor_webhook::plan::Becomes;
use konductor_webhook::sidecar::SESSION_VOLUME;
use konductor_webhook::waiter::Settings;
use serde_json::Value;

use crate::workload::Workload;

/// What becomes of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Injected {
    /// It is changed: as it would be, and what it takes part in.
    Changed {
        /// The object.
        object: Value,
        /// In words.
        plan: String,
    },
    /// It stays as it is.
    Skipped(Why),
    /// It would be refused.
    Refused(Vec<Problem>),
}

/// Why an object stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It makes no pods.
    NoWorkload,
    /// It has no annotations of ours.
    NotAnnotated,
    /// It says `konductor.io/inject: "false"`.
    OptedOut,
    /// Everything is there already.
    Already,
}

impl Why {
    /// As a report says it.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::NoWorkload => "it makes no pods",
            Self::NotAnnotated => "it has no konductor.io/ annotations",
            Self::OptedOut => "it says konductor.io/inject: \"false\"",
            Self::Already => "everything is there already",
        }
    }
}

/// What becomes of it.
pub fn inject(object: &Value, settings: &Settings, now: Timestamp) -> Injected {
    let Some(workload) = Workload::of(object) else { return Injected::Skipped(Why::NoWorkload) };
    let mut object = object.clone();
    let Some(part) = object.pointer_mut(&workload.pointer()) else {
        return Injected::Skipped(Why::NotAnnotated);
    };
    let prefixed = |problem: Problem| {
        let prefix: String = workload.at.iter().flat_map(|field| [field, "."]).collect();
        Problem { path: format!("{prefix}{}", problem.path), ..problem }
    };
    let mut plan = match workload.plan(part, settings, now) {
        Ok(plan) => plan,
        Err(problems) => return Injected::Refused(problems.into_iter().map(prefixed).collect()),
    };
    match plan.becomes {
        Becomes::Unchanged => return Injected::Skipped(Why::NotAnnotated),
        Becomes::OptedOut => return Injected::Skipped(Why::OptedOut),
        _ => {}
    }
    let left_out = leave_out_the_sidecar(&mut plan.becomes, settings);
    let before = part.clone();
    let applied = patch(part, &plan.becomes).map_err(|error| error.to_string());
    let applied =
        applied.and_then(|patch| json_patch::patch(part, &patch).map_err(|error| error.to_string()));
    if let Err(reason) = applied {
        let path = workload.at.join(".");
        return Injected::Refused(vec![Problem {
            path,
            reason,
            example: "kubectl explain pod.spec".to_owned(),
        }]);
    }
    // Since when it waits is said when it is admitted.
    if let Some(annotations) = part.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(QUEUED);
    }
    if *part == before {
        return Injected::Skipped(Why::Already);
    }
    let later =
        if left_out { format!("; {HOLD_CONTAINER} is added when it is admitted") } else { String::new() };
    Injected::Changed { plan: format!("{}{later}", plan.participation), object }
}

/// A sidecar that trusts nobody would end its pod. Where it stands already it stays, and the webhook adds it where it is
/// wanted.
fn leave_out_the_sidecar(becomes: &mut Becomes, settings: &Settings) -> bool {
    let Becomes::Pod { injection, .. } = becomes else { return false };
    if settings.sessions.as_ref().is_some_and(|sessions| !sessions.ca.is_empty()) {
        return false;
    }
    injection.volumes.retain(|volume| volume["name"] != SESSION_VOLUME);
    injection.sidecar.take().is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings() -> Settings {
        Settings::of_chart("waiter")
    }

    fn injected(object: &Value) -> Injected {
        inject(object, &settings(), Timestamp::UNIX_EPOCH)
    }

    fn deployment(annotations: &Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": {
            "metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "web"}]}}}})
    }

    #[test]
    fn a_template_gets_what_its_pods_would_get_and_a_second_time_nothing() {
        let Injected::Changed { object, plan } = injected(&deployment(&json!({"konductor.io/mutex": "db"})))
        else {
            panic!("it should be changed")
        };
        assert_eq!(plan, "mutex/db");
        let template = &object["spec"]["template"];
        assert_eq!(template["spec"]["initContainers"][0]["name"], "konductor-wait");
        assert!(template["metadata"]["annotations"].get(QUEUED).is_none());
        assert_eq!(injected(&object), Injected::Skipped(Why::Already));
    }

    #[test]
    fn a_sidecar_that_would_trust_nobody_is_left_to_the_webhook() {
        let lease = deployment(&json!({"konductor.io/lease": "daily"}));
        let Injected::Changed { object, plan } = injected(&lease) else { panic!("it should be changed") };
        assert_eq!(plan, "lease/daily; konductor-hold is added when it is admitted");
        let spec = &object["spec"]["template"]["spec"];
        assert_eq!(spec["initContainers"].as_array().unwrap().len(), 1);
        assert!(!spec.to_string().contains("konductor-session"));
        assert_eq!(injected(&object), Injected::Skipped(Why::Already));
    }

    #[test]
    fn what_stays_says_why() {
        let skipped = |object: &Value| match injected(object) {
            Injected::Skipped(why) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(skipped(&json!({"apiVersion": "v1", "kind": "Service"})), Why::NoWorkload);
        assert_eq!(skipped(&json!({"kind": "Pod"})), Why::NoWorkload);
        assert_eq!(skipped(&deployment(&json!({}))), Why::NotAnnotated);
        assert_eq!(skipped(&json!({"apiVersion": "apps/v1", "kind": "Deployment"})), Why::NotAnnotated);
        assert_eq!(skipped(&deployment(&json!({"konductor.io/inject": "false"}))), Why::OptedOut);
    }

    #[test]
    fn a_refusal_names_the_place_in_the_file() {
        let Injected::Refused(problems) = injected(&deployment(&json!({"konductor.io/mutx": "db"}))) else {
            panic!("it should be refused")
        };
        assert_eq!(problems[0].path, "spec.template.metadata.annotations[konductor.io/mutx]");
    }
}
