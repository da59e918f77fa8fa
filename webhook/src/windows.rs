//! Windows: a pod that our waiter, a Linux program, cannot hold.
//!
//! Pure. Its scheduling gate is all that holds it, so it has to have one, and nothing that needs a waiter can be asked for.
//! What must stay true: the policies see it as we do, by the two fields that say it; and what could start without its gate is
//! refused.

use konductor_api::annotations::{CONTAINERS, HOLD, HOLD_CONTAINER, ONCE, WAITER_CONTAINER};
use konductor_api::grammar::Problem;
use konductor_api::options::Hold;
use konductor_api::participation::{Kind, PodPlan};
use serde_json::Value;

use crate::affinity;
use crate::containers::Paths;
use crate::object::{list, name, text};
use crate::section::{Field, Found};
use crate::waiter::Settings;

const FIELDS: [&[&str]; 2] = [&["os", "name"], &["nodeSelector", "kubernetes.io/os"]];
const LINUX: &str = "run on Linux: nodeSelector kubernetes.io/os: linux";

/// Does that spec say that it is for Windows?
pub fn is_for(spec: &Value) -> bool {
    FIELDS.iter().any(|field| text(spec, field) == Some("windows"))
}

/// It can run on Windows only, and says so where nobody else looks.
pub fn said_elsewhere(spec: &Value, paths: Paths<'_>) -> Option<Problem> {
    let terms = affinity::only_windows(spec).filter(|_| !is_for(spec))?;
    Some(Problem {
        path: format!("{}.{terms}", paths.spec),
        reason: "it leaves Windows nodes only, where Konductor holds a pod by its scheduling gate; that has to be said where \
                 admission policies can see it"
            .to_owned(),
        example: "spec.os.name: windows, or nodeSelector kubernetes.io/os: windows".to_owned(),
    })
}

/// What such a spec cannot have.
pub fn problems(
    spec: &Value,
    plan: &PodPlan,
    section: &Found,
    settings: &Settings,
    paths: Paths<'_>,
) -> Vec<Problem> {
    let path = |field: &str| format!("{}.{field}", paths.spec);
    let annotation = |key: &str| format!("{}[{key}]", paths.annotations);
    let mut problems = Vec::new();
    let mut refuse = |path: String, reason: &str, example: &str| {
        problems.push(Problem { path, reason: reason.to_owned(), example: example.to_owned() });
    };
    if !settings.scheduling_gates {
        refuse(
            FIELDS
                .iter()
                .find(|field| text(spec, field).is_some())
                .map_or_else(String::new, |field| path(&field.join("."))),
            "on Windows a pod can be held by its scheduling gate only, and in this installation Konductor has no right to \
             lift one (chart value controller.holds.schedulingGate)",
            LINUX,
        );
    }
    if text(spec, &["nodeName"]).is_some_and(|node| !node.is_empty()) {
        refuse(
            path("nodeName"),
            "on Windows a pod can be held by its scheduling gate only, which a pod that is placed already may not have",
            "leave it out, and let the scheduler find a node",
        );
    }
    if section.init().is_some() {
        refuse(
            annotation(CONTAINERS),
            "on Windows nothing can wait before an init container: the whole pod is held",
            "leave it out",
        );
    }
    if plan.pod.entries().iter().any(|part| part.primitive.kind == Kind::Once) {
        refuse(
            annotation(ONCE),
            "on Windows no command can be made to run once; a Job can",
            "the same on a Job",
        );
    }
    for field in [Field::Init, Field::Apps].map(Field::as_str) {
        for (index, container) in list(spec, &[field]).iter().enumerate() {
            if [WAITER_CONTAINER, HOLD_CONTAINER].contains(&name(container)) {
                refuse(
                    path(&format!("{field}[{index}]")),
                    &format!(
                        "the name {} is reserved, and a Windows pod has no such container",
                        name(container)
                    ),
                    "remove it, or give it another name",
                );
            }
        }
    }
    problems
}

/// Said to who asks for another mode.
pub fn warning(spec: &Value, plan: &PodPlan) -> Option<String> {
    let asked = plan.hold == Hold::SchedulingGate;
    (is_for(spec) && !asked)
        .then(|| format!("{HOLD}: the waiter is a Linux program; a Windows pod waits at a scheduling gate"))
}
