//! Reading raw JSON objects: fields by path, annotations, and "is this contained in that".
//!
//! Pure. What must stay true: `null` counts as absent everywhere, as it does for the API server.

use std::collections::BTreeMap;

use konductor_api::grammar::Problem;
use serde_json::Value;

/// The field at that path.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(key)).filter(|value| !value.is_null())
}

/// The text at that path.
pub(crate) fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(value, path)?.as_str()
}

/// The list at that path; nothing there is an empty one.
pub(crate) fn list<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The name of a container, volume or variable.
pub(crate) fn name(value: &Value) -> &str {
    text(value, &["name"]).unwrap_or_default()
}

/// The annotations in the metadata at that path, e.g. `["spec", "template"]`; and their own path, for people.
pub(crate) fn annotations(object: &Value, owner: &[&str]) -> Result<BTreeMap<String, String>, Problem> {
    let path = [owner, &["metadata", "annotations"]].concat();
    let wrong = |found: &str| Problem {
        path: path.join("."),
        reason: format!("it must be a map from text to text, and {found}"),
        example: "konductor.io/mutex: database-migration".to_owned(),
    };
    let Some(found) = at(object, &path) else { return Ok(BTreeMap::new()) };
    let map = found.as_object().ok_or_else(|| wrong("it is none"))?;
    map.iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| match value.as_str() {
            Some(text) => Ok((key.clone(), text.to_owned())),
            None => Err(wrong("one of its values is no text")),
        })
        .collect()
}

/// Does `actual` have every field of `expected` with the same value? It may have more: defaults, and fields that we
/// do not know. Lists must agree in length.
pub(crate) fn includes(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => expected
            .iter()
            .all(|(key, expected)| actual.get(key).is_some_and(|actual| includes(actual, expected))),
        (Value::Array(actual), Value::Array(expected)) => {
            actual.len() == expected.len() && actual.iter().zip(expected).all(|(a, e)| includes(a, e))
        }
        (actual, expected) => actual == expected,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_counts_as_absent() {
        let object = json!({"metadata": {"annotations": null, "labels": {"a": "b"}}});
        assert_eq!(at(&object, &["metadata", "annotations"]), None);
        assert_eq!(annotations(&object, &[]), Ok(BTreeMap::new()));
        assert_eq!(text(&object, &["metadata", "labels", "a"]), Some("b"));
        assert!(list(&object, &["spec", "containers"]).is_empty());
    }

    #[test]
    fn annotations_that_are_no_map_of_text_are_refused_with_their_path() {
        for wrong in [json!([]), json!("x"), json!({"a": 1})] {
            let object = json!({"spec": {"template": {"metadata": {"annotations": wrong}}}});
            let problem = annotations(&object, &["spec", "template"]).unwrap_err().to_string();
            assert!(problem.starts_with("spec.template.metadata.annotations: it must be a map"), "{problem}");
        }
    }

    #[test]
    fn more_fields_are_included_and_other_values_are_not() {
        let expected = json!({"a": {"b": [1, {"c": true}]}});
        assert!(includes(&json!({"a": {"b": [1, {"c": true, "x": 1}], "y": 2}, "z": 3}), &expected));
        assert!(!includes(&json!({"a": {"b": [1, {"c": false}]}}), &expected));
        assert!(!includes(&json!({"a": {"b": [1, {"c": true}, 2]}}), &expected));
        assert!(!includes(&json!({"a": {}}), &expected));
    }
}
