//! The targets: what must hold for any input at all, however it came about.
//!
//! Each is a function of bytes that panics if something is wrong, so that a fuzzer, a test and a person with one bad
//! file can call it alike.

#![allow(unreachable_pub, reason = "this file is a part of two crates, and only public in one of them")]
#![allow(clippy::unwrap_used, reason = "this is the code of tests, in no test module")]

use std::collections::BTreeMap;

use arbitrary::Unstructured;
use konductor_api::duration::GoDuration;
use konductor_api::grammar;
use konductor_api::participation::{PodPlan, PrimitiveSet};
use konductor_waiter::grant::{Grant, Verdict as Told};
use konductor_webhook::admit::{Admission, admit};
use konductor_webhook::review::Verdict;
use serde_json::{Value, json};

use crate::pods;
use crate::support::{Existing, between_two_passes, now, review as review_of, settings};

/// A target.
pub type Target = fn(&[u8]);

/// All targets, by name.
pub const ALL: [(&str, Target); 4] =
    [("review", review), ("annotations", annotations), ("pods", pods), ("grant", grant)];

fn asked(body: &[u8]) -> Admission {
    admit(body, &settings(), &Existing(&["gate/validation-gate"]), now())
}

// --------------------------------------------------------------------------------------------------- webhook

/// Any bytes get an answer that the API server can read; what is accepted is accepted once.
pub fn review(data: &[u8]) {
    let admission = asked(data);
    let response = admission.answer.to_review()["response"].take();
    let allowed = response["allowed"].as_bool().unwrap();
    let message = response["status"]["message"].as_str().unwrap_or_default();
    assert_eq!(allowed, message.is_empty(), "a refusal has a reason, and nothing else has");
    assert!(message.chars().count() <= 3001);
    let Verdict::Injected(patch) = &admission.answer.verdict else { return };
    let mut review: Value = serde_json::from_slice(data).unwrap();
    let object = &mut review["request"]["object"];
    json_patch::patch(object, patch).unwrap();
    let again = asked(review.to_string().as_bytes()).answer.verdict;
    assert_eq!(again, Verdict::Unchanged);
}

/// A pod made from the bytes: patched twice is patched once, also after the API server and others had it.
pub fn pods(data: &[u8]) {
    let Ok(pod) = pods::pod(&mut Unstructured::new(data)) else { return };
    let answer = |pod: &Value| asked(review_of("pods", pod).to_string().as_bytes()).answer.verdict;
    let Verdict::Injected(patch) = answer(&pod) else { return };
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(answer(&patched), Verdict::Unchanged);
    // A Windows pod is held by its scheduling gate, any other by the waiter.
    let windows = konductor_webhook::windows::is_for(&patched["spec"]);
    let count = |field: &str, name: &str| {
        let all = patched["spec"][field].as_array().into_iter().flatten();
        all.filter(|item| item["name"] == name).count()
    };
    assert_eq!(count("initContainers", "konductor-wait"), usize::from(!windows));
    assert!(count("initContainers", "konductor-hold") <= usize::from(!windows));
    assert_eq!(count("containers", "konductor-hold"), 0);
    assert!(!windows || count("schedulingGates", "konductor.io/hold") == 1);
    assert_eq!(patched["metadata"]["labels"]["konductor.io/participant"], "true");
    between_two_passes(&mut patched);
    assert_eq!(answer(&patched), Verdict::Unchanged);
}

// --------------------------------------------------------------------------------------------------- grammar

/// Lines of `key: value` as annotations; the whole text, and each value, as a marker and as a duration.
pub fn annotations(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    marker(text);
    duration(text);
    let mut map = BTreeMap::new();
    for (key, value) in text.lines().filter_map(|line| line.split_once(": ")) {
        marker(value);
        duration(value);
        map.insert(key.to_owned(), value.to_owned());
    }
    match grammar::parse(&map, "metadata.annotations") {
        Ok(parsed) => {
            let plan = PodPlan::of(&map, false);
            assert_eq!((&plan.pod, plan.options), (&parsed.set, parsed.options));
            // What is told as an example or kept in a marker means the same.
            marker(&parsed.set.to_string());
            let mut said: BTreeMap<String, String> = BTreeMap::new();
            for part in parsed.set.entries() {
                let value = said.entry(part.annotation().to_owned()).or_default();
                let comma = if value.is_empty() { "" } else { "," };
                value.push_str(comma);
                value.push_str(&part.value());
            }
            assert_eq!(grammar::parse(&said, "p").unwrap().set, parsed.set);
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(problem.path.starts_with("metadata.annotations[") && problem.path.ends_with(']'));
                assert!(!problem.reason.is_empty() && !problem.example.is_empty(), "{problem}");
            }
        }
    }
}

fn marker(text: &str) {
    if let Ok(set) = text.parse::<PrimitiveSet>() {
        assert_eq!(set.to_string(), text, "a marker is written in one way only");
    }
}

fn duration(text: &str) {
    let Ok(length) = text.parse::<GoDuration>() else { return };
    assert!(length.as_nanoseconds() >= 0);
    assert_eq!(length.to_string().parse::<GoDuration>().unwrap(), length);
    assert_eq!(serde_json::from_value::<GoDuration>(json!(length)).unwrap(), length);
    let _ = length.after(now());
}

// ----------------------------------------------------------------------------------------------------- grant

/// A grant that is understood is written again as it was, on one line.
pub fn grant(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(grant) = text.parse::<Grant>() {
        assert_eq!(grant.to_string(), text);
        assert!(!text.contains('\n'));
    }
    // Whatever a reason says, it is told, and told as one denial.
    let reason = text.to_owned();
    let code = data.first().map_or(1, |byte| byte % 63 + 1);
    let denied = Grant {
        pod_uid: "u".to_owned(),
        run: 1,
        waiter_started_at: 1_900_000_000,
        verdict: Told::Deny { code, reason },
    };
    let written = denied.to_string();
    assert_eq!(written.lines().count(), 1, "{written:?}");
    let read: Grant = written.parse().unwrap();
    assert_eq!(read.to_string(), written);
    assert!(matches!(read.verdict, Told::Deny { code: told, .. } if told == code));
}
