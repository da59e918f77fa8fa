//! Warnings: what is legal but odd, in a short sentence for the person who applies the object.
//!
//! Pure. What must stay true: nothing is refused here, and the list is short (the API server cuts long ones).

use konductor_api::participation::{Part, Role};
use serde_json::Value;

use crate::hold::{self, Suspension};
use crate::names::Around;
use crate::object::{at, text};
use crate::plan::{Becomes, Plan};
use crate::review::Resource;
use crate::waiter::Settings;
use crate::windows;

/// How many missing primitives are told by name.
const MAX_MISSING: usize = 5;

const HOOKS: [(&str, &str); 2] = [("helm.sh/hook", "Helm"), ("argocd.argoproj.io/hook", "Argo CD")];

/// What should be said about an object that takes part.
pub fn warnings(resource: Resource, object: &Value, plan: &Plan, around: &Around<'_>) -> Vec<String> {
    let settings = around.settings;
    if plan.participation.is_empty() {
        return Vec::new();
    }
    let mut warnings = missing(plan, around);
    let suspension = match &plan.becomes {
        Becomes::Job { suspension, .. } => suspension,
        _ => &Suspension::None,
    };
    warnings.extend(deadlines(resource, object, suspension));
    warnings.extend(place(resource, object, plan, settings));
    warnings.extend(hold::not_suspended(suspension, settings));
    warnings
        .extend(at(object, spec_of(resource)).and_then(|spec| windows::warning(spec, &plan.participation)));
    for (key, tool) in HOOKS {
        if text(object, &["metadata", "annotations", key]).is_some() {
            warnings.push(format!(
                "{key}: {tool} waits for this hook to finish, and the hook waits for its turn first"
            ));
        }
    }
    if resource == Resource::Jobs {
        warnings.extend(parallel_under_a_lock(object, plan));
    }
    warnings
}

fn missing(plan: &Plan, around: &Around<'_>) -> Vec<String> {
    let Around { names, namespace, .. } = *around;
    let missing: Vec<_> = plan
        .participation
        .entries()
        .map(|entry| entry.primitive)
        .filter(|primitive| names.is_missing(namespace, primitive))
        .collect();
    let mut warnings: Vec<_> = missing
        .iter()
        .take(MAX_MISSING)
        .map(|primitive| {
            format!(
                "{} {} does not exist yet and is waited for; look: kubectl -n {namespace} get {} {}",
                primitive.kind.api_kind(),
                primitive.name,
                primitive.kind.resource(),
                primitive.name
            )
        })
        .collect();
    if missing.len() > MAX_MISSING {
        warnings
            .push(format!("{} more of the primitives named do not exist yet", missing.len() - MAX_MISSING));
    }
    warnings
}

/// The clock of a Job stands while it is suspended, and its pods are not there yet.
fn deadlines(resource: Resource, object: &Value, suspension: &Suspension) -> Vec<String> {
    let fields: &[&[&str]] = match resource {
        _ if matches!(suspension, Suspension::Missing | Suspension::There) => &[],
        Resource::Jobs => {
            &[&["spec", "activeDeadlineSeconds"], &["spec", "template", "spec", "activeDeadlineSeconds"]]
        }
        _ => &[&["spec", "activeDeadlineSeconds"]],
    };
    fields
        .iter()
        .filter(|path| at(object, path).is_some())
        .map(|path| format!("{} runs while it waits, and may end it before its turn", path.join(".")))
        .collect()
}

/// Where it waits, if that is another place than the one it asks for.
fn place(resource: Resource, object: &Value, plan: &Plan, settings: &Settings) -> Option<String> {
    let path = spec_of(resource);
    let gate = hold::gate(at(object, path)?, &plan.participation, settings);
    hold::warning(gate, &path.join("."))
}

const fn spec_of(resource: Resource) -> &'static [&'static str] {
    match resource {
        Resource::Jobs => &["spec", "template", "spec"],
        _ => &["spec"],
    }
}

fn parallel_under_a_lock(job: &Value, plan: &Plan) -> Option<String> {
    let parallelism = at(job, &["spec", "parallelism"]).and_then(Value::as_u64)?;
    let alone = |part: &&Part| matches!(part.role, Role::Hold | Role::Write);
    let lock = plan.participation.pod.entries().iter().find(alone)?;
    (parallelism > 1).then(|| {
        format!(
            "spec.parallelism is {parallelism}, but under {} on the pod template the pods run one after the other",
            lock.primitive
        )
    })
}
