//! Patches: what the API server makes of those that the operator sends.
//!
//! Pure, on JSON. Merge patches (RFC 7386), and strategic ones as far as pods and Jobs need them: lists that are merged by
//! a key, a list of words, and the two directives that delete from them. What must stay true: a list of which nothing is
//! said here is replaced, as the API server does.

use serde_json::{Map, Value};

/// Lists that strategic patches merge, by the key of their entries; without a key, lists of words.
const MERGED: [(&str, Option<&str>); 3] =
    [("finalizers", None), ("conditions", Some("type")), ("schedulingGates", Some("name"))];

/// RFC 7386.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    let target = object(target);
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// A strategic merge patch.
pub(crate) fn strategic(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    let target = object(target);
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().cloned().unwrap_or_default();
            if let Some(Value::Array(words)) = target.get_mut(list) {
                words.retain(|word| !gone.contains(word));
                if words.is_empty() {
                    target.remove(list);
                }
            }
        } else if value.is_null() {
            target.remove(key);
        } else if let (Some((_, by)), Value::Array(entries)) =
            (MERGED.iter().find(|(list, _)| list == key), value)
        {
            let list = target.entry(key).or_insert_with(|| Value::Array(Vec::new()));
            merge_list(list, entries, *by);
            if list.as_array().is_some_and(Vec::is_empty) {
                target.remove(key);
            }
        } else {
            strategic(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

fn merge_list(list: &mut Value, entries: &[Value], by: Option<&str>) {
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    let Value::Array(list) = list else { return };
    for entry in entries.iter().filter(|entry| !entry.is_null()) {
        let same = |known: &Value| by.map_or_else(|| known == entry, |key| known[key] == entry[key]);
        if entry["$patch"] == "delete" {
            list.retain(|known| !same(known));
        } else {
            match list.iter_mut().find(|known| same(known)) {
                Some(known) => strategic(known, entry),
                None => list.push(entry.clone()),
            }
        }
    }
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(map) = value else { unreachable!("it was made one") };
    map
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_merged_by_their_key() {
        let mut pod = json!({
            "metadata": {"finalizers": ["a"], "annotations": {"x": "1", "y": "2"}},
            "spec": {"schedulingGates": [{"name": "ours"}, {"name": "theirs"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        strategic(
            &mut pod,
            &json!({
                "metadata": {"finalizers": ["b"], "annotations": {"x": null, "z": "3"}},
                "spec": {"schedulingGates": [{"$patch": "delete", "name": "ours"}]},
                "status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "New", "status": "True"}]},
            }),
        );
        let expected = json!({
            "metadata": {"finalizers": ["a", "b"], "annotations": {"y": "2", "z": "3"}},
            "spec": {"schedulingGates": [{"name": "theirs"}]},
            "status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "New", "status": "True"}]},
        });
        assert_eq!(pod, expected);
        strategic(&mut pod, &json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "b"]}}));
        assert!(pod["metadata"].get("finalizers").is_none());
    }

    #[test]
    fn a_merge_patch_replaces_lists() {
        let mut object = json!({"a": [1, 2], "b": {"c": 1, "d": 2}});
        merge(&mut object, &json!({"a": [3], "b": {"c": null}}));
        assert_eq!(object, json!({"a": [3], "b": {"d": 2}}));
    }
}
