//! Admission reviews as the API server sends them, and our answers to them.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "clippy.toml permits unwrap in tests, but not in their helpers; a case reads best with its values inline"
)]

mod support;

use konductor_webhook::admit::admit;
use konductor_webhook::review::Verdict;
use serde_json::{Value, json};
use support::{Existing, between_two_passes, now, settings};

fn reviews() -> Vec<(String, Value)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reviews");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let read = |path: std::path::PathBuf| {
        let review = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), review)
    };
    files.into_iter().map(read).collect()
}

/// The answer as it goes out, with the patch readable.
fn told(review: &Value) -> (Value, Verdict) {
    let names = Existing(&["gate/validation-gate", "mutex/disk"]);
    let answer = admit(review.to_string().as_bytes(), &settings(), &names, now()).answer;
    let mut told = answer.to_review()["response"].take();
    if let Verdict::Injected(patch) = &answer.verdict {
        told["patch"] = json!(patch);
    }
    (told, answer.verdict)
}

#[test]
fn each_review_gets_the_answer_that_is_written_down() {
    let reviews = reviews();
    assert!(reviews.len() >= 12, "the reviews are there");
    for (name, review) in reviews {
        insta::assert_json_snapshot!(name, told(&review).0);
    }
}

#[test]
fn applied_twice_is_applied_once() {
    let mut injected = 0;
    for (name, mut review) in reviews() {
        let (_, Verdict::Injected(patch)) = told(&review) else { continue };
        injected += 1;
        let object = &mut review["request"]["object"];
        json_patch::patch(object, &patch).unwrap();
        assert_eq!(told(&review).1, Verdict::Unchanged, "{name}");
        if name.starts_with("pod") {
            between_two_passes(&mut review["request"]["object"]);
            assert_eq!(told(&review).1, Verdict::Unchanged, "{name}, after the API server had it");
        }
    }
    assert_eq!(injected, 16, "most of the reviews ask for something");
}

#[test]
fn no_warning_is_longer_than_a_terminal_line_or_two() {
    for (name, review) in reviews() {
        for warning in told(&review).0["warnings"].as_array().into_iter().flatten() {
            assert!(warning.as_str().unwrap().len() <= 120, "{name}: {warning}");
        }
    }
}
