//! Admission reviews as the API server sends them, and our answers to them.
//!
//! A review is a file in `tests/reviews`, named after what it shows; the answer beside it in `tests/snapshots` is
//! written by `INSTA_UPDATE=always cargo test -p konductor-webhook --test golden`, and read by a person before it goes in.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "clippy.toml permits unwrap in tests, but not in their helpers; a case reads best with its values inline"
)]

mod support;

use std::collections::BTreeSet;

use json_patch::{Patch, PatchOperation};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use konductor_webhook::review::Verdict;
use serde_json::{Value, json};
use support::between_two_passes;
use support::corpus::{injected, reviews};
use support::shown::{shown, usual_sidecar, usual_volumes, usual_waiter};

#[test]
fn each_review_gets_the_answer_that_is_written_down() {
    let reviews = reviews();
    assert!(reviews.len() >= 80, "the reviews are there");
    for review in &reviews {
        insta::assert_snapshot!(review.name.as_str(), shown(&review.answer()));
    }
    let snapshots = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots")).unwrap();
    let snapshots: BTreeSet<_> = snapshots
        .filter_map(|file| {
            let name = file.unwrap().file_name().into_string().unwrap();
            Some(name.strip_prefix("golden__")?.strip_suffix(".snap")?.to_owned())
        })
        .filter(|name| name != "the-usual")
        .collect();
    let names: BTreeSet<_> = reviews.into_iter().map(|review| review.name).collect();
    assert_eq!(snapshots, names, "no answer is left over from a review that is gone");
}

#[test]
fn the_usual_containers_and_their_volumes_are_written_down_in_full() {
    insta::assert_json_snapshot!(
        "the-usual",
        json!({"container": usual_waiter(), "sidecar": usual_sidecar(), "volumes": usual_volumes()})
    );
}

#[test]
fn applied_twice_is_applied_once() {
    for (review, patch) in injected() {
        let mut object = review.object().clone();
        json_patch::patch(&mut object, &patch).unwrap();
        assert_eq!(review.answer_about(&object).verdict, Verdict::Unchanged, "{}", review.name);
        if review.name.starts_with("pod") {
            between_two_passes(&mut object);
            let again = review.answer_about(&object).verdict;
            assert_eq!(again, Verdict::Unchanged, "{}, after the API server had it", review.name);
        }
    }
}

#[test]
fn everything_but_what_the_patch_adds_is_as_it_was() {
    for (review, patch) in injected() {
        let before = review.object();
        let mut after = before.clone();
        json_patch::patch(&mut after, &patch).unwrap();
        assert_ne!(after, *before, "{}", review.name);
        assert_eq!(undone(before, &patch).to_string(), before.to_string(), "{}", review.name);
    }
}

/// The patch applied and taken back, operation by operation: what stood where something was set comes back, what was
/// inserted goes.
fn undone(before: &Value, patch: &Patch) -> Value {
    let mut object = before.clone();
    let mut replaced = Vec::new();
    for operation in &patch.0 {
        let pointer = operation.path().to_string();
        let (parent, _) = pointer.rsplit_once('/').unwrap();
        let there = object.pointer(parent).is_some_and(Value::is_object);
        let old = object.pointer(&pointer).filter(|_| there).cloned();
        let ours = pointer.contains("/konductor.io~1") || pointer == "/spec/suspend";
        assert!(old.as_ref().is_none_or(|old| old.is_null() || ours), "{pointer}");
        replaced.push(old);
        json_patch::patch(&mut object, std::slice::from_ref(operation)).unwrap();
    }
    for (operation, old) in patch.0.iter().zip(replaced).rev() {
        assert!(matches!(operation, PatchOperation::Add(_)), "{operation}");
        let pointer = operation.path().to_string();
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        let key = last.replace("~1", "/").replace("~0", "~");
        match (object.pointer_mut(parent).unwrap(), old) {
            (Value::Object(map), Some(old)) => {
                map.insert(key, old);
            }
            (Value::Object(map), None) => {
                map.remove(&key);
            }
            (Value::Array(items), _) if last == "-" => {
                items.pop();
            }
            (Value::Array(items), _) => {
                items.remove(last.parse().unwrap());
            }
            (other, _) => unreachable!("{pointer} is in {other}"),
        }
    }
    object
}

#[test]
fn the_uid_of_the_question_is_in_the_answer() {
    for review in reviews() {
        let asked = review.json.pointer("/request/uid").and_then(Value::as_str).unwrap_or_default();
        assert_eq!(review.answer().uid, asked, "{}", review.name);
    }
}

#[test]
fn what_is_not_for_us_passes_and_what_is_broken_does_not() {
    for review in reviews() {
        let verdict = review.answer().verdict;
        match review.name.split('-').next().unwrap() {
            "pod" | "job" | "deployment" | "statefulset" | "daemonset" | "replicaset" | "cronjob"
            | "claim" => {
                assert_ne!(verdict.as_str(), "malformed", "{}", review.name);
            }
            "other" => assert_eq!(verdict.as_str(), "unchanged", "{}", review.name),
            "broken" => assert_eq!(verdict.as_str(), "malformed", "{}", review.name),
            other => unreachable!("{other}-… is none of the names that reviews have"),
        }
    }
}

#[test]
fn no_warning_is_longer_than_a_terminal_line_or_two() {
    for review in reviews() {
        for warning in review.answer().warnings {
            assert!(warning.len() <= 120, "{}: {warning}", review.name);
        }
    }
}

/// `on-a-cluster.json` is for `tests/e2e/tests/together/corpus.rs`, which shows the same reviews to a real API server.
#[test]
fn each_review_that_is_injected_is_shown_to_an_api_server_or_says_why_not() {
    let table: Value = serde_json::from_str(include_str!("on-a-cluster.json")).unwrap();
    let names: Vec<_> = ["restricted", "privileged"]
        .iter()
        .flat_map(|place| table[place].as_array().unwrap())
        .map(|name| name.as_str().unwrap().to_owned())
        .chain(table["nowhere"].as_object().unwrap().keys().cloned())
        .collect();
    let once: BTreeSet<_> = names.iter().cloned().collect();
    assert_eq!(once.len(), names.len(), "each has one place");
    // Claims are looked at by `tests/e2e/tests/together/claims.rs`.
    let shown = injected().map(|(review, _)| review.name).filter(|name| !name.starts_with("claim-"));
    assert_eq!(once, shown.collect());
}

#[test]
fn what_is_shown_to_an_api_server_is_a_pod_or_a_job() {
    let table: Value = serde_json::from_str(include_str!("on-a-cluster.json")).unwrap();
    let shown = |name: &str| table["nowhere"].get(name).is_none() && !name.starts_with("claim-");
    for (review, patch) in injected().filter(|(review, _)| shown(&review.name)) {
        let mut object = review.object().clone();
        json_patch::patch(&mut object, &patch).unwrap();
        let read = match object["kind"].as_str() {
            Some("Pod") => serde_json::from_value::<Pod>(object).map(|_| ()),
            _ => serde_json::from_value::<Job>(object).map(|_| ()),
        };
        assert!(read.is_ok(), "{}: {read:?}", review.name);
    }
}
