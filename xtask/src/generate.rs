//! `cargo xtask generate`: files that follow from the sources, written or, with `--check`, compared.
//!
//! May touch: the generated files, and nothing beside them. What must stay true: a generated file is a function of
//! the source alone, and one that nothing generates any more is not left lying in a generated folder.

#![expect(clippy::print_stdout, reason = "telling what was written is this command's purpose")]

mod constants;
mod definitions;
mod fields;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::images::root;

/// Plain YAML, so that it can be applied without Helm too; the chart wraps it.
const CRD_FOLDER: &str = "charts/konductor/files/crds";
/// Tables that the pages of the reference include.
const TABLE_FOLDER: &str = "docs/src/reference/generated";

/// Writes every generated file, or only says which are stale.
pub(crate) fn run(check: bool) -> Result<()> {
    let stale = stale(root(), &wanted(root())?)?;
    if check {
        if stale.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = stale.keys().map(|path| path.display().to_string()).collect();
        bail!(
            "not what the sources say: {}; run `cargo xtask generate` and commit the result",
            names.join(", ")
        );
    }
    for (path, text) in stale {
        let full = root().join(&path);
        if let Some(text) = text {
            let folder = full.parent().context("a generated file lies in a folder")?;
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
            std::fs::write(&full, text).with_context(|| format!("writing {}", full.display()))?;
            println!("wrote {}", path.display());
        } else {
            std::fs::remove_file(&full).with_context(|| format!("removing {}", full.display()))?;
            println!("removed {}", path.display());
        }
    }
    Ok(())
}

/// Every generated file, by its path from the top of the tree.
fn wanted(top: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let read = |path: &str| {
        std::fs::read_to_string(top.join(path)).with_context(|| format!("reading the source {path}"))
    };
    let mut files = BTreeMap::new();
    for definition in konductor_api::crds() {
        let path = Path::new(CRD_FOLDER).join(format!("{}.yaml", definition.spec.names.plural));
        let definition = serde_json::to_value(definition)?;
        let table = Path::new(TABLE_FOLDER).join(format!("{}.md", definitions::plural(&definition)));
        files.insert(table, fields::table(&definition)?);
        files.insert(path, definitions::yaml(definition)?);
    }
    for (name, text) in [
        ("annotations.md", constants::annotations(&read("api/src/annotations.rs")?)?),
        ("conditions.md", constants::conditions(&read("api/src/conditions.rs")?)?),
        ("values.md", values::table(&read("charts/konductor/values.yaml")?)?),
    ] {
        files.insert(Path::new(TABLE_FOLDER).join(name), text);
    }
    Ok(files)
}

/// What has to change: new text for a file, or `None` where it has to go.
fn stale(top: &Path, wanted: &BTreeMap<PathBuf, String>) -> Result<BTreeMap<PathBuf, Option<String>>> {
    let mut stale: BTreeMap<_, _> = wanted
        .iter()
        .filter(|(path, text)| std::fs::read_to_string(top.join(path)).ok().as_ref() != Some(text))
        .map(|(path, text)| (path.clone(), Some(text.clone())))
        .collect();
    for folder in [CRD_FOLDER, TABLE_FOLDER] {
        let full = top.join(folder);
        if !full.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&full).with_context(|| format!("reading {}", full.display()))? {
            let path = Path::new(folder).join(entry?.file_name());
            if !wanted.contains_key(&path) {
                stale.insert(path, None);
            }
        }
    }
    Ok(stale)
}

/// Text for one cell of a Markdown table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_files_are_what_the_sources_say() {
        let stale = stale(root(), &wanted(root()).unwrap()).unwrap();
        assert!(stale.is_empty(), "run `cargo xtask generate`: {:?}", stale.keys());
    }

    #[test]
    fn a_cell_stays_one_cell() {
        assert_eq!(cell("a | b\n  c <d>"), "a \\| b c &lt;d>");
    }
}
