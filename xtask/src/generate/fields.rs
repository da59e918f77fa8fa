//! The table of a kind's fields.
//!
//! Pure: a definition in, Markdown out. What must stay true: every field of spec and status has its row, with the
//! words of `kubectl explain`.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use super::cell;

/// Fields of Kubernetes' own types, which it explains itself.
const FOREIGN: &str = "status.conditions";

/// The table of one kind's newest version.
pub(super) fn table(definition: &Value) -> Result<String> {
    let version = definition["spec"]["versions"]
        .as_array()
        .and_then(|versions| versions.last())
        .context("a definition has a version")?;
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut text = format!("{}\n\n", schema["description"].as_str().unwrap_or_default());
    for part in ["spec", "status"] {
        writeln!(text, "\n| {part} field | type | what it says |\n|---|---|---|")?;
        rows(part, &schema["properties"][part], &mut text)?;
    }
    Ok(text)
}

fn rows(path: &str, schema: &Value, text: &mut String) -> Result<()> {
    let required = schema["required"].as_array();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let list = field["type"] == "array";
        let needed = required.is_some_and(|names| names.iter().any(|known| known == name));
        // In a status "required" says nothing to a reader: nobody writes one.
        let needed = if needed && path.starts_with("spec.") { ", required" } else { "" };
        let (brackets, inside) = if list { ("[]", &field["items"]) } else { ("", field) };
        let words = field["description"].as_str().unwrap_or_default();
        writeln!(text, "| `{path}{brackets}` | {}{needed} | {} |", kind(inside), cell(words))?;
        if path != FOREIGN {
            rows(&format!("{path}{brackets}"), inside, text)?;
        }
    }
    Ok(())
}

fn kind(schema: &Value) -> String {
    if let Some(values) = schema["enum"].as_array() {
        let names: Vec<_> =
            values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        return names.join(", ");
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("string"), Some("date-time")) => "time".to_owned(),
        (kind, _) => kind.unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_inside_lists_have_their_own_rows() {
        for definition in konductor_api::crds() {
            let table = table(&serde_json::to_value(&definition).unwrap()).unwrap();
            let wanted = match definition.spec.names.kind.as_str() {
                "Gate" => "| `spec.conditions[].name` | string | ",
                "Barrier" | "WaitGroup" => "| `status.queue[].name` | string | ",
                "Claim" => "| `spec.pod.name` | string, required | ",
                _ => "| `status.holders[].token` | string | ",
            };
            assert!(table.contains(wanted), "{table}");
            assert!(!table.contains("lastTransitionTime"), "{table}");
        }
    }
}
