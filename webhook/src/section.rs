//! The critical section in a spec: where the containers stand that `konductor.io/containers` names.
//!
//! Pure, on raw JSON. What must stay true: every name is found, or the pod is refused, so that no end of something else
//! is taken for the end of what is protected; one init container, or app containers, never both; what only a whole pod
//! can say is not asked of a part of it.

use konductor_api::annotations::{CONTAINERS, HOLD_CONTAINER, WAITER_CONTAINER};
use konductor_api::grammar::Problem;
use konductor_api::participation::{Entry, PodPlan, PrimitiveRef, Role};
use serde_json::Value;

use crate::containers::Paths;
use crate::object::{list, name, text};

/// The two lists of containers that a section can be in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// `initContainers`.
    Init,
    /// `containers`.
    #[default]
    Apps,
}

/// The containers that are the critical section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// In which list.
    pub field: Field,
    /// Their places in it; of an init container there is one.
    pub places: Vec<usize>,
}

impl Field {
    /// As in a spec.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Init => "initContainers",
            Self::Apps => "containers",
        }
    }
}

impl Found {
    /// The init container before which the waiter belongs.
    pub fn init(&self) -> Option<usize> {
        self.places.first().copied().filter(|_| self.field == Field::Init)
    }
}

/// Finds them.
pub fn find(spec: &Value, plan: &PodPlan, paths: Paths<'_>) -> Result<Found, Problem> {
    let apps = list(spec, &[Field::Apps.as_str()]);
    let inits = list(spec, &[Field::Init.as_str()]);
    if plan.section.is_everything() {
        return Ok(Found { field: Field::Apps, places: (0..apps.len()).collect() });
    }
    let place = |all: &[Value], wanted: &str| all.iter().position(|container| name(container) == wanted);
    let refused = |(reason, example): (String, String)| Problem {
        path: format!("{}[{CONTAINERS}]", paths.annotations),
        reason,
        example,
    };
    let mut found = Found::default();
    for wanted in plan.section.names() {
        let (field, at) = match (place(apps, wanted), place(inits, wanted)) {
            _ if is_our_own(wanted) => return Err(refused(our_own(wanted))),
            (Some(at), _) => (Field::Apps, at),
            (None, Some(at)) => (Field::Init, at),
            (None, None) => return Err(refused(missing(wanted, apps.iter().chain(inits)))),
        };
        if !found.places.is_empty() && (field != found.field || field == Field::Init) {
            return Err(refused(too_much(wanted)));
        }
        found.field = field;
        found.places.push(at);
    }
    match found.init().and_then(|at| inits.get(at)).and_then(|container| no_section(container, plan)) {
        Some(refusal) => Err(refused(refusal)),
        None => Ok(found),
    }
}

/// A reason and an example.
type Refusal = (String, String);

fn like(container: &str) -> String {
    format!("{CONTAINERS}: {container}")
}

fn is_our_own(name: &str) -> bool {
    [WAITER_CONTAINER, HOLD_CONTAINER].contains(&name)
}

fn our_own(wanted: &str) -> Refusal {
    let what =
        if wanted == WAITER_CONTAINER { "it waits" } else { "it gives signs of life for what is held" };
    (format!("{wanted} is a container that Konductor adds: {what} and does nothing else"), like("main"))
}

fn missing<'a>(wanted: &str, all: impl Iterator<Item = &'a Value>) -> Refusal {
    let known: Vec<_> = all.map(name).filter(|name| !name.is_empty() && !is_our_own(name)).collect();
    let shown: Vec<_> = known.iter().take(8).copied().collect();
    let more = if known.len() > shown.len() { ", …" } else { "" };
    (
        format!("no container is called {wanted:?}; there are {}{more}", shown.join(", ")),
        like(known.first().copied().unwrap_or("main")),
    )
}

fn too_much(wanted: &str) -> Refusal {
    (
        format!(
            "{wanted:?} does not go with the others: a critical section is one init container, which the pod goes on \
             without, or it is app containers"
        ),
        like(wanted),
    )
}

/// Why this init container cannot be a critical section.
fn no_section(container: &Value, plan: &PodPlan) -> Option<Refusal> {
    let name = name(container);
    if text(container, &["restartPolicy"]) == Some("Always") {
        return Some((
            format!("{name:?} is a sidecar (restartPolicy: Always): it has no end of its own"),
            "name a container that ends".to_owned(),
        ));
    }
    if let Some(Entry { primitive, .. }) = plan.entries().find(|entry| entry.by_job) {
        return Some((
            format!(
                "{name:?} is an init container, which ends long before the Job that takes {primitive}; a Job holds until \
                 it is through"
            ),
            "put the annotations on the Job's pod template: spec.template.metadata.annotations".to_owned(),
        ));
    }
    let whole = plan.entries().find(|entry| matches!(entry.role, Role::Join | Role::Arrive));
    whole.map(|entry| (of_the_whole_pod(name, entry.primitive), like("main")))
}

fn of_the_whole_pod(name: &str, primitive: &PrimitiveRef) -> String {
    format!("{name:?} is an init container, and for {primitive} it is the end of the pod that counts")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const PATHS: Paths<'static> = Paths { spec: "spec", annotations: "metadata.annotations" };

    fn spec() -> Value {
        json!({
            "initContainers": [
                {"name": "proxy", "restartPolicy": "Always"}, {"name": "migrate"}, {"name": "seed"},
            ],
            "containers": [{"name": "main"}, {"name": "logs"}],
        })
    }

    fn found(section: &str, job: &str, pod: &str) -> Result<Found, String> {
        let plan = PodPlan {
            section: section.parse().unwrap_or_default(),
            job: job.parse().unwrap(),
            pod: pod.parse().unwrap(),
            ..PodPlan::default()
        };
        find(&spec(), &plan, PATHS).map_err(|problem| problem.to_string())
    }

    #[rstest]
    #[case("", Field::Apps, &[0, 1])]
    #[case("main", Field::Apps, &[0])]
    #[case("main,logs", Field::Apps, &[1, 0])]
    #[case("migrate", Field::Init, &[1])]
    fn it_is_where_the_names_say(#[case] section: &str, #[case] field: Field, #[case] places: &[usize]) {
        assert_eq!(found(section, "v1", "v1 mutex=db"), Ok(Found { field, places: places.to_vec() }));
    }

    #[rstest]
    #[case(
        "mian",
        "v1",
        "v1 mutex=db",
        "no container is called \"mian\"; there are main, logs, proxy, migrate, seed"
    )]
    #[case("main,migrate", "v1", "v1 mutex=db", "does not go with the others")]
    #[case("migrate,seed", "v1", "v1 mutex=db", "does not go with the others")]
    #[case("proxy", "v1", "v1 mutex=db", "is a sidecar")]
    #[case("konductor-wait", "v1", "v1 mutex=db", "waits and does nothing else")]
    #[case("konductor-hold", "v1", "v1 mutex=db", "gives signs of life for what is held")]
    #[case("migrate", "v1 mutex=db", "v1", "ends long before the Job that takes mutex/db")]
    #[case("migrate", "v1", "v1 waitgroup=g", "for waitgroup/g it is the end of the pod that counts")]
    #[case("migrate", "v1", "v1 barrier-arrive=b", "for barrier/b it is the end of the pod that counts")]
    fn what_cannot_be_one_is_refused(
        #[case] section: &str,
        #[case] job: &str,
        #[case] pod: &str,
        #[case] reason: &str,
    ) {
        let problem = found(section, job, pod).unwrap_err();
        assert!(problem.starts_with("metadata.annotations[konductor.io/containers]: "), "{problem}");
        assert!(problem.contains(reason) && problem.contains("; example: "), "{problem}");
    }
}
