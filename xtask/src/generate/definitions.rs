//! The custom resource definitions as YAML.
//!
//! Pure. What must stay true: the text can be applied as it is, and the chart finds in it the lines that it cuts out
//! where the definitions are not to be kept.

use anyhow::Result;
use serde_json::{Value, json};

const HEADER: &str = "# Generated from the Rust types by `cargo xtask generate`; change those instead.\n";

/// The plural of a definition's kind, which names its files.
pub(super) fn plural(definition: &Value) -> &str {
    definition["spec"]["names"]["plural"].as_str().unwrap_or_default()
}

/// One definition as the chart installs it: kept when the release is uninstalled, because everybody's objects would
/// go with it.
pub(super) fn yaml(mut definition: Value) -> Result<String> {
    definition["metadata"]["annotations"] = json!({"helm.sh/resource-policy": "keep"});
    definition["metadata"]["labels"] = json!({"app.kubernetes.io/name": "konductor"});
    // The type has a status; the file of a definition has none.
    if let Some(fields) = definition.as_object_mut() {
        fields.remove("status");
    }
    Ok(format!("{HEADER}{}", serde_saphyr::to_string(&definition)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All subschemas, each with its path.
    fn schemas(path: &str, schema: &Value, found: &mut Vec<(String, Value)>) {
        found.push((path.to_owned(), schema.clone()));
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            schemas(&format!("{path}.{name}"), property, found);
        }
        for key in ["items", "additionalProperties"] {
            if schema[key].is_object() {
                schemas(&format!("{path}[]"), &schema[key], found);
            }
        }
    }

    fn all_schemas() -> Vec<(String, Value)> {
        let mut found = Vec::new();
        for definition in konductor_api::crds() {
            let definition = serde_json::to_value(definition).unwrap();
            for version in definition["spec"]["versions"].as_array().unwrap() {
                let schema = &version["schema"]["openAPIV3Schema"];
                schemas(plural(&definition), schema, &mut found);
            }
        }
        assert!(found.len() > 30, "{found:?}");
        found
    }

    #[test]
    fn the_text_reads_back_as_what_it_was_written_from_and_the_chart_finds_its_marks() {
        for definition in konductor_api::crds() {
            let mut value = serde_json::to_value(&definition).unwrap();
            let text = yaml(value.clone()).unwrap();
            // The chart cuts exactly this out where crds.keep is false.
            assert!(
                text.contains("\nmetadata:\n  annotations:\n    helm.sh/resource-policy: keep\n"),
                "{text}"
            );
            let mut read: Value = serde_saphyr::from_str(&text).unwrap();
            for side in [&mut read, &mut value] {
                side["metadata"].as_object_mut().unwrap().remove("annotations");
                side["metadata"].as_object_mut().unwrap().remove("labels");
                side.as_object_mut().unwrap().remove("status");
            }
            assert_eq!(read, value);
        }
    }

    #[test]
    fn every_schema_is_structural() {
        for (path, schema) in all_schemas() {
            assert!(schema["type"].is_string(), "{path} has no single type: {schema}");
            for forbidden in ["$ref", "definitions", "oneOf", "anyOf", "allOf", "not", "const"] {
                assert!(schema.get(forbidden).is_none(), "{path} has {forbidden}");
            }
        }
    }

    #[test]
    fn every_field_is_explained_and_every_list_and_text_is_bounded() {
        for (path, schema) in all_schemas() {
            // Kubernetes' own type brings its own bounds, and a list's items are explained by the list.
            if path.contains(".conditions[]") && !path.contains(".spec.") {
                continue;
            }
            assert!(schema["description"].is_string() || path.ends_with("[]"), "{path} is not explained");
            match schema["type"].as_str() {
                Some("array") => assert!(schema["maxItems"].is_number(), "{path} has no bound"),
                Some("string") if !path.ends_with("ranBefore[]") => assert!(
                    ["maxLength", "enum", "format"].iter().any(|key| schema.get(key).is_some()),
                    "{path} has no bound"
                ),
                _ => {}
            }
        }
    }

    #[test]
    fn status_lists_say_how_they_are_merged() {
        for (path, schema) in all_schemas() {
            let depth = path.matches('.').count();
            if !path.contains(".status.") || depth != 2 || schema["type"] != "array" {
                continue;
            }
            let kind = &schema["x-kubernetes-list-type"];
            if path.ends_with(".conditions") {
                assert_eq!(kind, "map", "{path}");
                assert_eq!(schema["x-kubernetes-list-map-keys"], json!(["type"]), "{path}");
            } else {
                assert_eq!(kind, "atomic", "{path}");
            }
        }
    }
}
