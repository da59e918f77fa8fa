//! What the API showed: runs by the kubelet's word, ends of workloads, ledgers, and the grades on which holds ended.
//!
//! Pure: objects come in, as they are or as they were last. What must stay true: what was seen once is not forgotten when
//! the object is gone; what no ledger may ever show is a problem from then on.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::locks::of_object;

/// A run of a critical container; the kubelet's times have seconds, cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ran {
    pub(super) pod: String,
    pub(super) name: String,
    pub(super) started: Timestamp,
    pub(super) ended: Option<Timestamp>,
}

/// How a workload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Through {
    /// It succeeded; a Job that was not needed did, too.
    Well,
    /// It was ended, by its own failure or by whatever chaos did to it.
    Badly,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By ID of the container.
    pub(super) runs: BTreeMap<String, Ran>,
    /// By name of the workload.
    pub(super) through: BTreeMap<String, Through>,
    /// Grades, by object and token.
    pub(super) releases: BTreeMap<(String, u64), String>,
    /// UIDs of pods that the kubelet saw succeed.
    pub(super) succeeded: BTreeSet<String>,
    /// Invariants that were broken, as sentences.
    pub(super) problems: BTreeSet<String>,
    last_tokens: BTreeMap<String, u64>,
}

impl Seen {
    /// An object, whatever it is.
    pub(super) fn hear(&mut self, object: &Value) {
        match object["kind"].as_str().unwrap_or_default() {
            "Pod" => self.pod(object),
            "Job" => self.job(object),
            "Event" => self.event(object),
            _ => self.primitive(object),
        }
    }

    fn pod(&mut self, pod: &Value) {
        let (name, uid) = (text(&pod["metadata"]["name"]), text(&pod["metadata"]["uid"]));
        let phase = text(&pod["status"]["phase"]);
        if phase == "Succeeded" {
            self.succeeded.insert(uid.clone());
        }
        if pod["metadata"]["ownerReferences"].is_null() {
            match phase.as_str() {
                "Succeeded" => drop(self.through.insert(name.clone(), Through::Well)),
                "Failed" => drop(self.through.insert(name.clone(), Through::Badly)),
                _ => {}
            }
        }
        for status in list(&pod["status"]["containerStatuses"]) {
            for state in [&status["lastState"], &status["state"]] {
                let (id, times) = match (&state["terminated"], &state["running"]) {
                    (Value::Null, Value::Null) => continue,
                    (Value::Null, running) => (text(&status["containerID"]), running),
                    (ended, _) => (text(&ended["containerID"]), ended),
                };
                let Some(started) = time(&times["startedAt"]).filter(|_| !id.is_empty()) else { continue };
                let ended = time(&times["finishedAt"]);
                self.runs.insert(id, Ran { pod: uid.clone(), name: name.clone(), started, ended });
            }
        }
        for waiter in
            list(&pod["status"]["initContainerStatuses"]).filter(|init| init["name"] == "konductor-wait")
        {
            let code = waiter["state"]["terminated"]["exitCode"].as_i64().unwrap_or_default();
            // 64 and more are verdicts; 128 and more are signals.
            if (64..128).contains(&code) {
                self.problem(format!("NoLostWaiter: pod {name} was denied with code {code}"));
            }
        }
    }

    fn job(&mut self, job: &Value) {
        let name = text(&job["metadata"]["name"]);
        let is = |kind: &str| {
            list(&job["status"]["conditions"]).any(|known| known["type"] == kind && known["status"] == "True")
        };
        if is("Complete") {
            self.through.insert(name, Through::Well);
        } else if is("Failed") {
            self.through.insert(name, Through::Badly);
        }
    }

    fn event(&mut self, event: &Value) {
        if event["reason"] == "InvariantViolated" {
            self.problem(format!("the operator says: {}", text(&event["message"])));
        }
    }

    fn primitive(&mut self, object: &Value) {
        let name = text(&object["metadata"]["name"]);
        let Some(lock) = of_object(&name) else { return };
        let status = &object["status"];
        let (mut taken, mut uids) = (0, BTreeSet::new());
        for holder in list(&status["holders"]) {
            taken += match holder["mode"].as_str() {
                Some("Write") => u64::from(lock.capacity()),
                _ => holder["permits"].as_u64().unwrap_or(1),
            };
            if !uids.insert(text(&holder["uid"])) {
                self.problem(format!("GrantIdempotent: {name} lists {} twice", text(&holder["name"])));
            }
        }
        if taken > u64::from(lock.capacity()) {
            self.problem(format!("LedgerExclusion: {name} shows {}", status["holders"]));
        }
        let last = number(&status["lastToken"]);
        let before = self.last_tokens.entry(name.clone()).or_default();
        let fell = last.is_some_and(|last| last < *before);
        let (from, to) = (*before, last.unwrap_or_default());
        *before = from.max(to);
        if fell {
            self.problem(format!("TokenMonotone: the last token of {name} fell from {from} to {to}"));
        }
        for release in list(&status["history"]) {
            if let Some(token) = number(&release["token"]) {
                self.releases.insert((name.clone(), token), text(&release["evidence"]));
            }
        }
    }

    fn problem(&mut self, words: String) {
        self.problems.insert(words);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok()
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// The members of a list, none if there is none.
pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn heard(objects: &[Value]) -> Seen {
        let mut seen = Seen::default();
        for object in objects {
            seen.hear(object);
        }
        seen
    }

    fn ledger(name: &str, last: &str, holders: &Value) -> Value {
        json!({"kind": "Mutex", "metadata": {"name": name}, "status": {"lastToken": last, "holders": holders,
            "history": [{"token": "4", "evidence": "P2"}]}})
    }

    #[test]
    fn a_ledger_that_is_as_it_should_be_is_no_problem() {
        let reader = json!({"uid": "a", "mode": "Read"});
        let seen = heard(&[
            ledger("orders", "5", &json!([{"uid": "a", "name": "a"}])),
            ledger("table", "5", &json!([reader, {"uid": "b", "mode": "Read"}])),
            ledger("pool", "5", &json!([{"uid": "a", "permits": 2}, {"uid": "b"}])),
        ]);
        assert!(seen.problems.is_empty(), "{:?}", seen.problems);
        assert_eq!(seen.releases[&("orders".to_owned(), 4)], "P2");
    }

    #[test]
    fn what_no_ledger_may_show_is_found() {
        for (objects, words) in [
            (vec![ledger("orders", "5", &json!([{"uid": "a"}, {"uid": "b"}]))], "LedgerExclusion"),
            (
                vec![ledger(
                    "table",
                    "5",
                    &json!([{"uid": "a", "mode": "Write"}, {"uid": "b", "mode": "Read"}]),
                )],
                "LedgerExclusion",
            ),
            (
                vec![ledger("pool", "5", &json!([{"uid": "a", "permits": 2}, {"uid": "b", "permits": 2}]))],
                "LedgerExclusion",
            ),
            (vec![ledger("pool", "5", &json!([{"uid": "a"}, {"uid": "a"}]))], "GrantIdempotent"),
            (vec![ledger("orders", "5", &json!([])), ledger("orders", "4", &json!([]))], "TokenMonotone"),
            (
                vec![json!({"kind": "Event", "reason": "InvariantViolated", "message": "m"})],
                "operator says: m",
            ),
        ] {
            let seen = heard(&objects);
            assert!(
                seen.problems.iter().any(|problem| problem.contains(words)),
                "{words}: {:?}",
                seen.problems
            );
        }
    }

    #[test]
    fn runs_and_ends_are_remembered() {
        let pod = |state: Value, phase: &str, code: i64| {
            json!({"kind": "Pod", "metadata": {"name": "p", "uid": "u"}, "status": {
                "phase": phase,
                "containerStatuses": [{"name": "main", "containerID": "c", "state": state}],
                "initContainerStatuses": [{"name": "konductor-wait", "state": {"terminated": {"exitCode": code}}}],
            }})
        };
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:01Z"}});
        let ended = json!({"terminated": {"containerID": "c", "startedAt": "2026-01-01T00:00:01Z",
            "finishedAt": "2026-01-01T00:00:03Z"}});
        let seen = heard(&[pod(running.clone(), "Running", 0)]);
        assert_eq!((seen.runs["c"].ended, seen.through.len()), (None, 0));
        let seen = heard(&[pod(running, "Running", 0), pod(ended, "Succeeded", 0)]);
        assert_eq!(seen.runs["c"].ended, Some("2026-01-01T00:00:03Z".parse().unwrap()));
        assert_eq!(seen.through["p"], Through::Well);
        assert!(seen.problems.is_empty() && seen.succeeded.contains("u"));
        let seen = heard(&[pod(json!({}), "Failed", 67)]);
        assert_eq!((seen.through["p"], seen.problems.len()), (Through::Badly, 1));
        // 143: it was told to stop.
        assert!(heard(&[pod(json!({}), "Failed", 143)]).problems.is_empty());
        let job = |kind: &str| {
            json!({"kind": "Job", "metadata": {"name": "j"}, "status": {"conditions": [
            {"type": kind, "status": "True"}]}})
        };
        assert_eq!(heard(&[job("Failed")]).through["j"], Through::Badly);
        assert!(heard(&[job("FailureTarget")]).through.is_empty());
    }
}
