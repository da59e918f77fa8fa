//! `cargo xtask generate`: files that follow from the Rust types, written or, with `--check`, compared.
//!
//! May touch: the generated files, and nothing beside them. What must stay true: a generated file is a function of
//! the source alone, and one that nothing generates any more is not left lying in a generated folder.

#![expect(clippy::print_stdout, reason = "telling what was written is this command's purpose")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::images::root;

/// Plain YAML, so that it can be applied without Helm too; the chart wraps it.
const CRD_FOLDER: &str = "charts/konductor/files/crds";
const HEADER: &str = "# Generated from the Rust types by `cargo xtask generate`; change those instead.\n";

/// Writes every generated file, or only says which are stale.
pub(crate) fn run(check: bool) -> Result<()> {
    let stale = stale(root(), &wanted()?)?;
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
fn wanted() -> Result<BTreeMap<PathBuf, String>> {
    konductor_api::crds()
        .into_iter()
        .map(|definition| {
            let path = Path::new(CRD_FOLDER).join(format!("{}.yaml", definition.spec.names.plural));
            Ok((path, definition_yaml(serde_json::to_value(definition)?)?))
        })
        .collect()
}

/// What has to change: new text for a file, or `None` where it has to go.
fn stale(top: &Path, wanted: &BTreeMap<PathBuf, String>) -> Result<BTreeMap<PathBuf, Option<String>>> {
    let mut stale: BTreeMap<_, _> = wanted
        .iter()
        .filter(|(path, text)| std::fs::read_to_string(top.join(path)).ok().as_ref() != Some(text))
        .map(|(path, text)| (path.clone(), Some(text.clone())))
        .collect();
    let folder = top.join(CRD_FOLDER);
    if folder.is_dir() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = Path::new(CRD_FOLDER).join(entry?.file_name());
            if !wanted.contains_key(&path) {
                stale.insert(path, None);
            }
        }
    }
    Ok(stale)
}

/// One definition as the chart installs it: kept when the release is uninstalled, because everybody's objects would
/// go with it.
fn definition_yaml(mut definition: Value) -> Result<String> {
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

    #[test]
    fn committed_files_are_what_the_sources_say() {
        let stale = stale(root(), &wanted().unwrap()).unwrap();
        assert!(stale.is_empty(), "run `cargo xtask generate`: {:?}", stale.keys());
    }

    #[test]
    fn yaml_reads_back_as_what_it_was_written_from_and_the_chart_finds_its_marks() {
        for definition in konductor_api::crds() {
            let mut value = serde_json::to_value(&definition).unwrap();
            let text = definition_yaml(value.clone()).unwrap();
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
}
