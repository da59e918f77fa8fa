//! The story of a pipeline, told from the objects as they change.
//!
//! Pure: objects in, sentences out. What must stay true: every sentence is read off an object and told once, so a
//! watch that starts over tells nothing twice.

use std::collections::{BTreeMap, BTreeSet};

use konductor_api::conditions::{GRANTED, OPEN};
use konductor_api::gate::{Gate, GatePhase};
use konductor_api::mutex::Mutex;
use konductor_api::participation::PrimitiveSet;
use serde_json::Value;

/// Something that became so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    /// Whom it is about, as `job/name`.
    pub(crate) who: String,
    /// What became of it.
    pub(crate) words: String,
}

/// Everything that was seen, as it was last.
#[derive(Default)]
pub(crate) struct Story {
    objects: BTreeMap<(String, String), Value>,
    told: BTreeSet<Line>,
    waited: BTreeSet<String>,
}

impl Story {
    /// Takes a change in and says what is new. What was deleted is remembered: it happened.
    pub(crate) fn hear(&mut self, object: Value) -> Vec<Line> {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let who = format!("{}/{name}", kind.to_lowercase());
        let lines = match kind.as_str() {
            "Job" => job(&object).into_iter().map(|words| Line { who: who.clone(), words }).collect(),
            "Pod" => {
                let who = owner(&object).map_or(who, |job| format!("job/{job}"));
                if condition(&object, GRANTED, "False").is_some() {
                    self.waited.insert(who.clone());
                }
                pod(&object).into_iter().map(|words| Line { who: who.clone(), words }).collect()
            }
            "Gate" => gate(&object).into_iter().map(|words| Line { who: who.clone(), words }).collect(),
            "Mutex" => mutex(&object, &who),
            _ => Vec::new(),
        };
        self.objects.insert((kind, name), object);
        lines.into_iter().filter(|line| self.told.insert(line.clone())).collect()
    }

    /// An object as it was last.
    pub(crate) fn object(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind.to_owned(), name.to_owned()))
    }

    /// The pods of a Job, those included that are gone.
    pub(crate) fn pods<'a>(&'a self, job: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects
            .iter()
            .filter(move |((kind, _), object)| kind == "Pod" && owner(object) == Some(job))
            .map(|(_, object)| object)
    }

    /// Was it seen waiting?
    pub(crate) fn waited(&self, who: &str) -> bool {
        self.waited.contains(who)
    }
}

/// The condition of that type, if it has that status.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str, status: &str) -> Option<&'a Value> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == kind && condition["status"] == status)
}

/// The Job that a pod belongs to.
fn owner(pod: &Value) -> Option<&str> {
    let owners = pod["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["kind"] == "Job").and_then(|owner| owner["name"].as_str())
}

fn message(condition: &Value) -> &str {
    condition["message"].as_str().unwrap_or_default()
}

fn job(job: &Value) -> Vec<String> {
    let annotations = serde_json::from_value(job["metadata"]["annotations"].clone()).unwrap_or_default();
    let named: Vec<_> = PrimitiveSet::of(&annotations).primitives().map(ToString::to_string).collect();
    let mut words = vec![if named.is_empty() {
        "created; an ordinary Job, it waits for nobody".to_owned()
    } else {
        format!("created; annotated with {}", named.join(", "))
    }];
    if condition(job, "Complete", "True").is_some() {
        words.push("complete".to_owned());
    }
    if let Some(failed) = condition(job, "Failed", "True") {
        words.push(format!("failed: {}", message(failed)));
    }
    words
}

fn pod(pod: &Value) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(waits) = condition(pod, GRANTED, "False") {
        words.push(message(waits).to_owned());
    }
    if let Some(granted) = condition(pod, GRANTED, "True") {
        words.push(format!("may start: {}", message(granted)));
    }
    for status in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
        let name = status["name"].as_str().unwrap_or_default();
        if status["state"]["running"].is_object() {
            words.push(format!("its container {name} runs"));
        }
        if let Some(code) = status["state"]["terminated"]["exitCode"].as_i64() {
            words.push(format!("its container {name} has ended, exit code {code}"));
        }
    }
    words
}

fn gate(object: &Value) -> Vec<String> {
    let Ok(gate) = serde_json::from_value::<Gate>(object.clone()) else { return Vec::new() };
    let status = gate.status.unwrap_or_default();
    let why = status.common.conditions.iter().find(|condition| condition.type_ == OPEN);
    let why = why.map(|condition| condition.message.as_str()).unwrap_or_default();
    status
        .phase
        .map(|phase| match phase {
            GatePhase::Waiting => format!("closed: {why}"),
            GatePhase::Open => format!("open, for good: {why}"),
            GatePhase::Failed => format!("failed: {why}"),
        })
        .into_iter()
        .collect()
}

/// Releases before holds: that is the order in which one write of the ledger means them.
fn mutex(object: &Value, who: &str) -> Vec<Line> {
    let Ok(mutex) = serde_json::from_value::<Mutex>(object.clone()) else { return Vec::new() };
    let status = mutex.status.unwrap_or_default();
    let mut words = Vec::new();
    for release in status.ledger.history.iter().rev() {
        words.push(format!(
            "released by {} (token {}), because {} ({})",
            release.holder,
            release.token,
            release.evidence.sentence(),
            release.evidence
        ));
    }
    for holder in &status.ledger.holders {
        words.push(format!("held by {}, token {}", holder.display(), holder.token));
        if let Some(suspect) = &holder.suspect {
            words.push(format!("its holder is suspect: {suspect}"));
        }
    }
    for (index, waiter) in status.common.queue.iter().enumerate() {
        words.push(format!("place {} of its queue: {}", index + 1, waiter.display()));
    }
    words.into_iter().map(|words| Line { who: who.to_owned(), words }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(lines: Vec<Line>) -> Vec<String> {
        lines.into_iter().map(|line| format!("{} {}", line.who, line.words)).collect()
    }

    #[test]
    fn a_pod_speaks_for_its_job_and_says_nothing_twice() {
        let pod = json!({
            "kind": "Pod",
            "metadata": {"name": "b-x1", "ownerReferences": [{"kind": "Job", "name": "b"}]},
            "status": {
                "conditions": [{"type": "konductor.io/Granted", "status": "False", "message": "waits for mutex/db"}],
                "containerStatuses": [{"name": "main", "state": {"waiting": {}}}],
            },
        });
        let mut story = Story::default();
        assert_eq!(words(story.hear(pod.clone())), ["job/b waits for mutex/db"]);
        assert!(story.hear(pod.clone()).is_empty());
        assert!(story.waited("job/b") && !story.waited("job/a"));
        let mut later = pod;
        later["status"]["containerStatuses"][0]["state"] = json!({"terminated": {"exitCode": 0}});
        assert_eq!(words(story.hear(later)), ["job/b its container main has ended, exit code 0"]);
        assert_eq!(story.pods("b").count(), 1);
    }

    #[test]
    fn one_write_of_the_ledger_is_told_as_release_then_hold_then_queue() {
        let mutex = json!({
            "kind": "Mutex", "apiVersion": "konductor.io/v1",
            "metadata": {"name": "db"},
            "spec": {},
            "status": {
                "holders": [{"kind": "Job", "name": "b", "uid": "2", "token": "8", "grantedAt": "2026-01-01T00:00:00Z"}],
                "queue": [{"kind": "Job", "name": "c", "since": "2026-01-01T00:00:00Z"}],
                "history": [{"holder": "job/a", "uid": "1", "token": "7", "evidence": "P2", "at": "2026-01-01T00:00:00Z"}],
            },
        });
        assert_eq!(
            words(Story::default().hear(mutex)),
            [
                "mutex/db released by job/a (token 7), because all its critical containers have ended and cannot \
                 start again (P2)",
                "mutex/db held by job/b, token 8",
                "mutex/db place 1 of its queue: job/c",
            ]
        );
    }

    #[test]
    fn a_gate_tells_what_is_missing_and_a_job_what_it_is_annotated_with() {
        let gate = json!({
            "kind": "Gate", "apiVersion": "konductor.io/v1",
            "metadata": {"name": "g"},
            "spec": {"conditions": [{"type": "Job", "name": "a", "state": "Complete"}]},
            "status": {"phase": "Waiting", "conditions": [{
                "type": "Open", "status": "False", "reason": "ConditionsMissing", "message": "job/a is not Complete",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]},
        });
        assert_eq!(words(Story::default().hear(gate)), ["gate/g closed: job/a is not Complete"]);
        let job = json!({
            "kind": "Job",
            "metadata": {"name": "t", "annotations": {"konductor.io/gate": "g"}},
            "status": {"conditions": [{"type": "Complete", "status": "True"}]},
        });
        assert_eq!(
            words(Story::default().hear(job)),
            ["job/t created; annotated with gate/g", "job/t complete"]
        );
    }
}
