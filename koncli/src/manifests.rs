//! Manifests: documents of files, folders and standard input.
//!
//! May touch: reads files. What must stay true: nothing is skipped silently; a document knows where it came from; no address of
//! a network is ever followed.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Where a document stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    file: String,
    /// Its number in the file, if there are several.
    number: Option<usize>,
}

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Where it stands.
    pub origin: Origin,
    /// What it says.
    pub object: Value,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is neither YAML nor JSON, or no object.
    #[error("{origin}: {problem}; a manifest is a YAML or JSON object with apiVersion and kind")]
    Parse {
        /// Which.
        origin: Origin,
        /// Why.
        problem: String,
    },
    /// A folder without manifests.
    #[error("{}: no file in it ends with .yaml, .yml or .json", .0.display())]
    Empty(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.file)?;
        self.number.map_or(Ok(()), |number| write!(formatter, "#{number}"))
    }
}

impl Manifest {
    /// `Job/etl`, or `Job` of one without a name.
    pub fn display(&self) -> String {
        let kind = self.object["kind"].as_str().unwrap_or("?");
        let metadata = &self.object["metadata"];
        match metadata["name"].as_str().or_else(|| metadata["generateName"].as_str()) {
            Some(name) => format!("{kind}/{name}"),
            None => kind.to_owned(),
        }
    }
}

/// Every object of all of them, in the order in which they are given; those of a folder, and of the folders in it, by name.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>, ManifestError> {
    let mut manifests = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|source| ManifestError::Read { path: path.clone(), source })?;
            manifests.extend(parse("standard input", &text)?);
            continue;
        }
        for file in files(path)? {
            let text = std::fs::read_to_string(&file)
                .map_err(|source| ManifestError::Read { path: file.clone(), source })?;
            manifests.extend(parse(&file.display().to_string(), &text)?);
        }
    }
    Ok(manifests)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    let mut found = Vec::new();
    collect(path, &mut found)?;
    found.sort();
    if found.is_empty() { Err(ManifestError::Empty(path.to_owned())) } else { Ok(found) }
}

fn collect(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), ManifestError> {
    let failed = |source| ManifestError::Read { path: path.to_owned(), source };
    if !path.is_dir() {
        found.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let is_manifest = file.extension().and_then(|ending| ending.to_str());
        // A link may lead back here.
        let is_folder = file.is_dir() && !file.is_symlink();
        if is_folder
            || is_manifest.is_some_and(|ending| ["yaml", "yml", "json"].contains(&ending)) && file.is_file()
        {
            collect(&file, found)?;
        }
    }
    Ok(())
}

/// The objects of a text; a List is its items.
pub fn parse(file: &str, text: &str) -> Result<Vec<Manifest>, ManifestError> {
    let documents: Vec<_> = documents(text);
    let several = documents.len() > 1;
    let mut manifests = Vec::new();
    for (number, document) in (1..).zip(documents) {
        let origin = Origin { file: file.to_owned(), number: several.then_some(number) };
        let parsed: Result<Value, _> = serde_saphyr::from_str(document);
        match parsed {
            Ok(Value::Null) => {}
            Ok(Value::Object(map)) => match map.get("items") {
                Some(Value::Array(items)) if map.get("kind").is_some_and(|kind| kind == "List") => {
                    manifests.extend(
                        items.iter().map(|item| Manifest { origin: origin.clone(), object: item.clone() }),
                    );
                }
                _ => manifests.push(Manifest { origin, object: Value::Object(map) }),
            },
            Ok(_) => return Err(ManifestError::Parse { origin, problem: "it is no object".to_owned() }),
            Err(error) => {
                let problem = error.to_string().lines().next().unwrap_or_default().to_owned();
                return Err(ManifestError::Parse { origin, problem });
            }
        }
    }
    Ok(manifests)
}

/// The parts between lines of three dashes that have more than comments.
fn documents(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "---" || line.starts_with("--- ") {
            parts.push(&text[start..at]);
            start = at + line.len();
        }
        at += line.len();
    }
    parts.push(&text[start..]);
    let says_something =
        |part: &&str| part.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    parts.into_iter().filter(says_something).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let found = parse("f", text).unwrap();
        found.iter().map(|manifest| format!("{} {}", manifest.origin, manifest.display())).collect()
    }

    #[test]
    fn documents_are_told_apart_and_lists_are_their_items() {
        let text = "# a comment\n---\nkind: Job\nmetadata: {name: a}\n---\n# nothing\n---\nkind: List\nitems:\n- kind: Pod\n  metadata: {generateName: b-}\n";
        assert_eq!(names(text), ["f#1 Job/a", "f#2 Pod/b-"]);
        assert_eq!(names("{\"kind\": \"Gate\"}"), ["f Gate"]);
        assert!(names("").is_empty());
    }

    #[test]
    fn what_is_no_manifest_is_told_with_its_place() {
        let said = |text: &str| parse("f", text).unwrap_err().to_string();
        assert!(said("- a\n").starts_with("f: it is no object; a manifest is"), "{}", said("- a\n"));
        assert!(said("kind: Job\n---\na: [\n").starts_with("f#2: "), "{}", said("kind: Job\n---\na: [\n"));
    }
}
