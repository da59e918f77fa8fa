//! Stories that `koncli simulate` tells: each scenario in `tests/stories` with what is written down beside it.
//!
//! `KONCLI_STORIES=write cargo test -p koncli --test simulate` writes them anew; a person reads them before they go in.

#![expect(clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::{Path, PathBuf};

use koncli::manifests::read;
use koncli::simulate::{Scenario, run};

fn told(files: &[PathBuf]) -> Result<String, String> {
    Scenario::of(&read(files).unwrap()).and_then(|scenario| run(&scenario))
}

#[test]
fn each_scenario_is_the_story_that_is_written_down() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
    for name in ["pipeline", "failures"] {
        let story = told(&[folder.join(format!("{name}.yaml"))]).unwrap();
        let file = folder.join(format!("{name}.txt"));
        if std::env::var_os("KONCLI_STORIES").is_some() {
            std::fs::write(&file, &story).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), story, "{name}");
    }
}

#[test]
fn every_example_ends_well_and_the_same_each_time() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut stories = 0;
    for folder in std::fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path()) {
        let story = told(std::slice::from_ref(&folder)).unwrap();
        assert_eq!(story, told(std::slice::from_ref(&folder)).unwrap(), "{}", folder.display());
        stories += usize::from(story.contains("succeeds"));
    }
    assert!(stories >= 8, "{stories}");
}

#[test]
fn what_a_scenario_names_has_to_be_there() {
    let said = |text: &str| {
        let manifests = koncli::manifests::parse("f", text).unwrap();
        Scenario::of(&manifests).unwrap_err()
    };
    assert!(said("scenario: {workloads: {etl: {runs: 1m}}}").contains("there is no Job or Pod of that name"));
    assert!(said("scenario: {open: {g: 1m}}").contains("there is no Gate of that name"));
    assert!(said("scenario: {workload: {}}").contains("it may have until, workloads and open"));
    assert!(said("scenario: {until: soon}").contains("soon"));
}
