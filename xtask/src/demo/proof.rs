//! Did the story hold?
//!
//! Pure: the objects of a [`Story`] in, what did not hold out. What must stay true: times are the kubelet's and the
//! controllers' own, never ours, and what was not seen does not count as fine.

use super::story::{Story, condition};

/// The Jobs of the pipeline.
pub(super) const JOBS: [&str; 4] = ["data-validation", "model-training", "migrate-users", "migrate-orders"];
const VALIDATION: &str = "data-validation";
const TRAINING: &str = "model-training";
const MIGRATIONS: [&str; 2] = ["migrate-users", "migrate-orders"];
const MUTEX: &str = "database-migration";

/// Has everything happened that can?
pub(super) fn is_over(story: &Story) -> bool {
    let ended = |job: &str, kind| {
        story.object("Job", job).is_some_and(|object| condition(object, kind, "True").is_some())
    };
    JOBS.iter().any(|job| ended(job, "Failed"))
        || (JOBS.iter().all(|job| ended(job, "Complete")) && releases(story).len() >= MIGRATIONS.len())
}

/// What did not hold; nothing if all did.
pub(super) fn problems(story: &Story) -> Vec<String> {
    let mut problems = Vec::new();
    for job in JOBS {
        let complete =
            story.object("Job", job).is_some_and(|object| condition(object, "Complete", "True").is_some());
        if !complete {
            problems.push(format!("job/{job} is not complete"));
        }
    }
    problems.extend(training(story));
    problems.extend(migrations(story));
    problems
}

/// What held, for those who like to hear it.
pub(super) const CLAIMS: [&str; 4] = [
    "all four Jobs are complete",
    "model-training was held back, and started after data-validation was Complete",
    "migrate-users and migrate-orders never ran at the same time; the later one was held back",
    "each release is in the ledger with its evidence, and the tokens rise",
];

fn training(story: &Story) -> Vec<String> {
    let mut problems = Vec::new();
    let complete = story
        .object("Job", VALIDATION)
        .and_then(|job| condition(job, "Complete", "True")?["lastTransitionTime"].as_str());
    let start = runs(story, TRAINING).into_iter().map(|(start, _)| start).min();
    match (complete, start) {
        (Some(complete), Some(start)) if start.as_str() < complete => problems
            .push(format!("{TRAINING} started at {start}, before {VALIDATION} was Complete at {complete}")),
        (Some(_), Some(_)) => {}
        _ => problems.push(format!("when {TRAINING} started after {VALIDATION} was not seen")),
    }
    if !story.waited(&format!("job/{TRAINING}")) {
        problems.push(format!("{TRAINING} was never seen waiting"));
    }
    problems
}

fn migrations(story: &Story) -> Vec<String> {
    let mut problems = Vec::new();
    let mut all = Vec::new();
    for job in MIGRATIONS {
        let runs = runs(story, job);
        if runs.is_empty() {
            problems.push(format!("no whole run of {job} was seen"));
        }
        all.extend(runs.into_iter().map(|(start, end)| (start, end, job)));
    }
    all.sort();
    for pair in all.windows(2) {
        if let [(_, end, first), (start, _, second)] = pair
            && first != second
            && start < end
        {
            problems.push(format!("{second} started at {start}, while {first} ran until {end}"));
        }
    }
    if let Some((_, _, last)) = all.last()
        && !story.waited(&format!("job/{last}"))
    {
        problems.push(format!("{last} ran last and was never seen waiting"));
    }
    let releases = releases(story);
    for job in MIGRATIONS {
        if !releases.iter().any(|(holder, _)| *holder == format!("job/{job}")) {
            problems.push(format!("the history of mutex/{MUTEX} lacks the release of job/{job}"));
        }
    }
    if releases.windows(2).any(|pair| matches!(pair, [(_, later), (_, earlier)] if later <= earlier)) {
        problems.push(format!("the tokens of mutex/{MUTEX} do not rise: {releases:?}"));
    }
    problems
}

/// Holder and token of the mutex's past holds, the latest first.
fn releases(story: &Story) -> Vec<(String, u64)> {
    let history = story.object("Mutex", MUTEX).and_then(|mutex| mutex["status"]["history"].as_array());
    let read = |release: &serde_json::Value| {
        Some((release["holder"].as_str()?.to_owned(), release["token"].as_str()?.parse().ok()?))
    };
    history.into_iter().flatten().filter_map(read).collect()
}

/// Start and end of each whole run of a Job's app containers. Kubernetes writes all its times alike (UTC, seconds),
/// so as text they sort as they are.
fn runs(story: &Story, job: &str) -> Vec<(String, String)> {
    let mut runs = Vec::new();
    for pod in story.pods(job) {
        for status in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
            for state in ["state", "lastState"] {
                let ended = &status[state]["terminated"];
                if let (Some(start), Some(end)) = (ended["startedAt"].as_str(), ended["finishedAt"].as_str())
                {
                    runs.push((start.to_owned(), end.to_owned()));
                }
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn time(second: u32) -> String {
        format!("2026-01-01T00:00:{second:02}Z")
    }

    fn pod(job: &str, waited: bool, start: u32, end: u32) -> Vec<Value> {
        let at = |granted: &str| {
            json!({
                "kind": "Pod",
                "metadata": {"name": format!("{job}-1"), "ownerReferences": [{"kind": "Job", "name": job}]},
                "status": {
                    "conditions": [{"type": "konductor.io/Granted", "status": granted, "message": "m"}],
                    "containerStatuses": [{"name": "main", "state": {"terminated": {
                        "exitCode": 0, "startedAt": time(start), "finishedAt": time(end),
                    }}}],
                },
            })
        };
        if waited { vec![at("False"), at("True")] } else { vec![at("True")] }
    }

    fn told(pods: Vec<Vec<Value>>, tokens: [&str; 2]) -> Story {
        let mut story = Story::default();
        for job in JOBS {
            story.hear(json!({"kind": "Job", "metadata": {"name": job}, "status": {"conditions": [
                {"type": "Complete", "status": "True", "lastTransitionTime": time(10)},
            ]}}));
        }
        story.hear(json!({"kind": "Mutex", "metadata": {"name": MUTEX}, "status": {"history": [
            {"holder": "job/migrate-orders", "token": tokens[0]},
            {"holder": "job/migrate-users", "token": tokens[1]},
        ]}}));
        for object in pods.into_iter().flatten() {
            story.hear(object);
        }
        story
    }

    #[test]
    fn a_story_that_held_has_no_problems() {
        let story = told(
            vec![
                pod(TRAINING, true, 10, 12),
                pod("migrate-users", false, 3, 6),
                pod("migrate-orders", true, 6, 9),
            ],
            ["10", "9"],
        );
        assert!(is_over(&story));
        assert_eq!(problems(&story), Vec::<String>::new());
    }

    #[test]
    fn each_thing_that_did_not_hold_is_named() {
        let story = told(
            vec![
                pod(TRAINING, false, 9, 12),
                pod("migrate-users", false, 3, 6),
                pod("migrate-orders", false, 5, 9),
            ],
            ["9", "9"],
        );
        let text = problems(&story).join("\n");
        for part in [
            "model-training started at 2026-01-01T00:00:09Z, before",
            "model-training was never seen waiting",
            "migrate-orders started at 2026-01-01T00:00:05Z, while migrate-users ran",
            "migrate-orders ran last and was never seen waiting",
            "do not rise",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_was_not_seen_is_not_fine() {
        let text = problems(&Story::default()).join("\n");
        for part in ["is not complete", "was not seen", "no whole run", "lacks the release"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!is_over(&Story::default()));
    }
}
