//! Whether a pod's required node affinity leaves only Windows nodes.
//!
//! Pure. What must stay true: a pod that could run on Linux too is never taken for a Windows pod.

use serde_json::Value;

use crate::object::{list, text};

const OS_LABEL: &str = "kubernetes.io/os";

const REQUIRED: [&str; 5] = [
    "affinity",
    "nodeAffinity",
    "requiredDuringSchedulingIgnoredDuringExecution",
    "nodeSelectorTerms",
    "matchExpressions",
];

/// The path of the terms, below the spec, if each of them asks for Windows: one of them is enough for the scheduler.
pub(crate) fn only_windows(spec: &Value) -> Option<String> {
    let (expressions, terms) = REQUIRED.split_last()?;
    let found = list(spec, terms);
    let windows = |term: &Value| list(term, &[expressions]).iter().any(asks_for_windows);
    (!found.is_empty() && found.iter().all(windows)).then(|| terms.join("."))
}

/// All expressions of a term must hold, so that one is enough.
fn asks_for_windows(expression: &Value) -> bool {
    let values = list(expression, &["values"]);
    text(expression, &["key"]) == Some(OS_LABEL)
        && text(expression, &["operator"]) == Some("In")
        && !values.is_empty()
        && values.iter().all(|value| value == "windows")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn expression(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({"key": key, "operator": operator, "values": values})
    }

    #[rstest]
    #[case::the_only_system(true, json!([{"matchExpressions": [expression(OS_LABEL, "In", &["windows"])]}]))]
    #[case::among_other_needs(true, json!([{"matchExpressions": [
        expression("zone", "In", &["a"]), expression(OS_LABEL, "In", &["windows"]),
    ]}]))]
    #[case::one_of_two_systems(false, json!([{"matchExpressions": [expression(OS_LABEL, "In", &["windows", "linux"])]}]))]
    #[case::one_of_two_terms(false, json!([
        {"matchExpressions": [expression(OS_LABEL, "In", &["windows"])]},
        {"matchExpressions": [expression("zone", "In", &["a"])]},
    ]))]
    #[case::anything_but_windows(false, json!([{"matchExpressions": [expression(OS_LABEL, "NotIn", &["windows"])]}]))]
    #[case::nothing_required(false, json!([]))]
    #[case::no_list(false, json!({"matchExpressions": 1}))]
    fn only_what_leaves_no_linux_node_is_windows(#[case] is: bool, #[case] terms: Value) {
        let spec = json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
        assert_eq!(only_windows(&spec).is_some(), is);
    }
}
