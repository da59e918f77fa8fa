//! Fencing tokens as environment variables of the containers that do the work.
//!
//! Pure. A variable is a view of the annotation that the operator writes with the grant; the kubelet resolves it when
//! the container starts, which is after the grant. What must stay true: one name never means two tokens, and what the
//! user has set is never overridden.

use std::collections::BTreeMap;

use konductor_api::annotations;
use konductor_api::grammar::Problem;
use konductor_api::participation::{Entry, Part, PodPlan};
use serde_json::Value;

use crate::object::{includes, list, name};

/// The variable where exactly one thing is held.
pub const ONLY_TOKEN: &str = "KONDUCTOR_TOKEN";

/// The variables that each app container should have; `path` is where the annotations stand that ask for them.
pub fn variables(plan: &PodPlan, path: &str) -> Result<Vec<Value>, Vec<Problem>> {
    let held: Vec<_> = plan.entries().filter(|entry| entry.role.is_held()).collect();
    let mut named: BTreeMap<String, &Entry<'_>> = BTreeMap::new();
    let mut problems = Vec::new();
    for entry in &held {
        // One lock named twice is refused where the names are compared.
        let other = named.insert(variable_name(entry), entry);
        if let Some(other) = other.filter(|other| other.primitive != entry.primitive) {
            problems.push(Problem {
                path: format!("{path}[{}]", annotation(entry)),
                reason: format!(
                    "the tokens of {} and {} would both be in the variable {}, because '-' and '.' become '_'",
                    other.primitive,
                    entry.primitive,
                    variable_name(entry)
                ),
                example: "give one of the two another name".to_owned(),
            });
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut variables: Vec<_> =
        held.iter().map(|entry| variable(&variable_name(entry), entry.place)).collect();
    if let [only] = held.as_slice() {
        variables.push(variable(ONLY_TOKEN, only.place));
    }
    Ok(variables)
}

fn annotation(entry: &Entry<'_>) -> &'static str {
    Part { primitive: entry.primitive.clone(), role: entry.role }.annotation()
}

/// Which of the variables this container lacks. A variable of the user's own under one of the names is a problem.
pub(crate) fn missing(
    container: &Value,
    variables: &[Value],
    path: &str,
) -> Result<Vec<Value>, Vec<Problem>> {
    let mut missing = Vec::new();
    let mut problems = Vec::new();
    for expected in variables {
        let mut found =
            list(container, &["env"]).iter().enumerate().filter(|(_, found)| name(found) == name(expected));
        match found.clone().find(|(_, found)| !is_ours(found, expected)) {
            Some((index, _)) => problems.push(Problem {
                path: format!("{path}.env[{index}]"),
                reason: format!(
                    "Konductor sets the variable {} to the token of the lock, and it is set here already",
                    name(expected)
                ),
                example: "give your variable another name".to_owned(),
            }),
            None if found.next().is_none() => missing.push(expected.clone()),
            None => {}
        }
    }
    if problems.is_empty() { Ok(missing) } else { Err(problems) }
}

fn is_ours(found: &Value, expected: &Value) -> bool {
    includes(found, expected) && found.get("value").is_none_or(|value| value.is_null() || value == "")
}

fn variable_name(entry: &Entry<'_>) -> String {
    let upper = |text: &str| text.to_ascii_uppercase().replace(['-', '.'], "_");
    format!("{ONLY_TOKEN}_{}_{}", upper(entry.primitive.kind.lower()), upper(&entry.primitive.name))
}

fn variable(name: &str, place: usize) -> Value {
    crate::waiter::from_field(name, &format!("metadata.annotations['{}']", annotations::token(place)))
}

#[cfg(test)]
mod tests {
    use konductor_api::participation::PrimitiveSet;
    use serde_json::json;

    use super::*;

    fn plan(job: &str, pod: &str) -> PodPlan {
        let set = |text: &str| -> PrimitiveSet { text.parse().unwrap() };
        PodPlan { job: set(job), pod: set(pod), ..PodPlan::default() }
    }

    fn told(plan: &PodPlan) -> Vec<(String, String)> {
        let field =
            |variable: &Value| variable["valueFrom"]["fieldRef"]["fieldPath"].as_str().unwrap().to_owned();
        variables(plan, "p").unwrap().iter().map(|v| (name(v).to_owned(), field(v))).collect()
    }

    #[test]
    fn places_count_gates_too_and_one_lock_is_told_twice() {
        let pair = |name: &str, place: u8| {
            (name.to_owned(), format!("metadata.annotations['konductor.io/token-{place}']"))
        };
        assert_eq!(
            told(&plan("v1 gate=a", "v1 mutex=db-a.1")),
            [pair("KONDUCTOR_TOKEN_MUTEX_DB_A_1", 2), pair("KONDUCTOR_TOKEN", 2)]
        );
        assert_eq!(
            told(&plan("v1 mutex=a", "v1 mutex=b")),
            [pair("KONDUCTOR_TOKEN_MUTEX_A", 1), pair("KONDUCTOR_TOKEN_MUTEX_B", 2)]
        );
        assert!(told(&plan("v1 gate=a", "v1 gate=b")).is_empty());
    }

    #[test]
    fn two_locks_of_one_variable_are_refused() {
        let problems = variables(&plan("v1", "v1 mutex=a-b,a.b"), "metadata.annotations").unwrap_err();
        assert_eq!(problems.len(), 1);
        let text = problems[0].to_string();
        assert!(
            text.starts_with("metadata.annotations[konductor.io/mutex]: the tokens of mutex/a-b and"),
            "{text}"
        );
        assert!(text.contains("KONDUCTOR_TOKEN_MUTEX_A_B"), "{text}");
    }

    #[test]
    fn what_is_there_is_not_added_again_and_the_users_own_is_refused() {
        let variables = variables(&plan("v1", "v1 mutex=db"), "p").unwrap();
        let bare = json!({"name": "main"});
        assert_eq!(missing(&bare, &variables, "spec.containers[0]").unwrap(), variables);
        // As it comes back from the API server.
        let mut ours = variables.clone();
        ours[0]["valueFrom"]["fieldRef"]["apiVersion"] = json!("v1");
        let done = json!({"name": "main", "env": ours});
        assert!(missing(&done, &variables, "spec.containers[0]").unwrap().is_empty());
        let taken =
            json!({"name": "main", "env": [{"name": "A"}, {"name": "KONDUCTOR_TOKEN", "value": "1"}]});
        let problems = missing(&taken, &variables, "spec.containers[0]").unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].to_string().starts_with("spec.containers[0].env[1]: Konductor sets"),
            "{problems:?}"
        );
    }
}
