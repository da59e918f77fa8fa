//! The table of the chart's values.
//!
//! Pure: `values.yaml` in, Markdown out. The comments are what matters, and a parser drops them, so the file is read
//! line by line; it is block style, two spaces a level. What must stay true: every value has its row, and the
//! default that stands there is the one that Helm sees.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::cell;

/// The table of all values.
pub(super) fn table(text: &str) -> Result<String> {
    let parsed: Value = serde_saphyr::from_str(text)?;
    let mut table = "| value | default | what it does |\n|---|---|---|\n".to_owned();
    let mut path: Vec<&str> = Vec::new();
    let mut words: Vec<&str> = Vec::new();
    let mut rows = 0;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(comment) = trimmed.strip_prefix('#') {
            words.push(comment.trim());
            continue;
        }
        let Some((key, value)) = trimmed.split_once(':') else {
            words.clear();
            continue;
        };
        let depth = (line.len() - line.trim_start().len()) / 2;
        ensure!(depth <= path.len(), "values.yaml: {line:?} is indented by more than one level");
        path.truncate(depth);
        path.push(key);
        let group = value.trim().is_empty();
        // A group without a comment says nothing; a value always has its row.
        if !group || !words.is_empty() {
            let default = if group { String::new() } else { format!("`{}`", default(&parsed, &path)?) };
            writeln!(table, "| `{}` | {default} | {} |", path.join("."), cell(&words.join(" ")))?;
            rows += 1;
        }
        words.clear();
    }
    ensure!(rows > 10, "values.yaml could not be read");
    Ok(table)
}

fn default(parsed: &Value, path: &[&str]) -> Result<String> {
    let pointer = format!("/{}", path.join("/"));
    let value = parsed
        .pointer(&pointer)
        .with_context(|| format!("values.yaml: {pointer} is no path of plain keys"))?;
    Ok(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_that_helm_sees_has_its_row() {
        fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
            match value.as_object() {
                Some(fields) if !fields.is_empty() => {
                    for (key, value) in fields {
                        leaves(&format!("{path}.{key}"), value, found);
                    }
                }
                _ => found.push(path.trim_start_matches('.').to_owned()),
            }
        }
        let text =
            std::fs::read_to_string(crate::images::root().join("charts/konductor/values.yaml")).unwrap();
        let table = table(&text).unwrap();
        let mut found = Vec::new();
        leaves("", &serde_saphyr::from_str(&text).unwrap(), &mut found);
        for leaf in found {
            let there = table.lines().any(|row| {
                row.split('`').nth(1).is_some_and(|path| {
                    // A value in flow style is one row for all that is in it.
                    leaf == path || leaf.starts_with(&format!("{path}."))
                })
            });
            assert!(there, "{leaf}");
        }
    }

    #[test]
    fn a_comment_belongs_to_the_key_below_it_only() {
        let text: String = std::iter::once("# Top.\na: 1\ng:\n  # In.\n  b: \"\"\n  c: {d: 2}\n".to_owned())
            .chain((0..10).map(|number| format!("k{number}: {number}\n")))
            .collect();
        let table = table(&text).unwrap();
        for row in ["| `a` | `1` | Top. |", "| `g.b` | `\"\"` | In. |", "| `g.c` | `{\"d\":2}` |  |"] {
            assert!(table.contains(row), "{table}");
        }
        assert!(!table.contains("| `g` |"), "{table}");
    }
}
