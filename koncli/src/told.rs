//! Told: the status of one primitive for people. Who holds it, who waits, why, and what ended before.
//!
//! Pure, over the object as JSON. What must stay true: it fits on one screen; every sentence of a condition that means trouble
//! is in it.

use std::fmt::Write;

use konductor_api::participation::Kind;
use serde_json::Value;

use crate::rows::row;

/// That status.
pub fn told(kind: Kind, object: &Value) -> String {
    let mut text = String::new();
    let mut say = |key: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{:<12} {value}", format!("{key}:"));
        }
    };
    say("Kind", kind.api_kind());
    say("Namespace", object["metadata"]["namespace"].as_str().unwrap_or_default());
    for (key, value) in row(kind, object) {
        let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let key = key.replace(['_', '-'], " ");
        let mut letters = key.chars();
        let first: String = letters.next().map(|letter| letter.to_ascii_uppercase()).into_iter().collect();
        say(&format!("{first}{}", letters.as_str()), &plain);
    }
    for condition in list(object, "/status/conditions") {
        let type_ = condition["type"].as_str().unwrap_or_default();
        let holds = condition["status"] == "True";
        // The two that are no news while all is well.
        let news = match type_ {
            "Ready" => !holds,
            "Stalled" => holds,
            _ => true,
        };
        if news {
            say(type_, condition["message"].as_str().unwrap_or_default());
        }
    }
    section(&mut text, "Holders", list(object, "/status/holders").map(holder));
    let waiting = object.pointer("/status/waiting").and_then(Value::as_i64).unwrap_or(0);
    let queue = (1..).zip(list(object, "/status/queue")).map(|(place, waiter)| queued(place, waiter));
    section(&mut text, &format!("Waiting ({waiting})"), queue);
    let met = list(object, "/status/conditionStatuses").map(|one| {
        let mark = if one["met"] == true { "met" } else { "not met" };
        format!("{}: {mark}; {}", plain(one, "about"), plain(one, "message"))
    });
    section(&mut text, "Conditions", met);
    section(&mut text, "Released", list(object, "/status/history").map(release));
    text
}

pub(crate) fn list<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

/// A text of it; empty where there is none.
pub(crate) fn plain<'a>(value: impl Into<Option<&'a Value>>, key: &str) -> &'a str {
    value.into().and_then(|value| value[key].as_str()).unwrap_or_default()
}

/// Its condition of that type.
pub(crate) fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    list(object, "/status/conditions").find(|condition| condition["type"] == type_)
}

fn section(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return;
    }
    let _ = writeln!(text, "{title}:");
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
}

/// `job/name`.
pub(crate) fn name(value: &Value) -> String {
    format!("{}/{}", plain(value, "kind").to_lowercase(), plain(value, "name"))
}

/// `claim/name (holder)`: of a claim, also in whose name it is.
pub(crate) fn named(value: &Value) -> String {
    let who = value["holder"].as_str().map(|who| format!(" ({who})")).unwrap_or_default();
    format!("{}{who}", name(value))
}

fn holder(value: &Value) -> String {
    let mode = value["mode"].as_str().map(|mode| format!(", {mode}")).unwrap_or_default();
    let permits = value["permits"].as_i64().map(|permits| format!(", {permits} permits")).unwrap_or_default();
    let reserved = if value["reserved"] == true { ", reserved: none of its pods was told yet" } else { "" };
    let suspect = value["suspect"].as_str().map(|why| format!("; in doubt: {why}")).unwrap_or_default();
    format!(
        "{} since {}, token {}{mode}{permits}{reserved}{suspect}",
        named(value),
        plain(value, "grantedAt"),
        plain(value, "token")
    )
}

fn queued(place: usize, value: &Value) -> String {
    let not_yet = value["notYet"].as_str().map(|why| format!("; {why}")).unwrap_or_default();
    let priority =
        value["priority"].as_i64().map(|number| format!(", priority {number}")).unwrap_or_default();
    format!("{place}. {} since {}{priority}{not_yet}", named(value), plain(value, "since"))
}

fn release(value: &Value) -> String {
    format!("{} at {}, on evidence {}", plain(value, "holder"), plain(value, "at"), plain(value, "evidence"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_holds_who_waits_and_what_is_wrong_is_said() {
        let mutex = json!({
            "metadata": {"name": "db", "namespace": "shop"},
            "status": {
                "phase": "Locked", "holder": "job/a", "waiting": 1,
                "conditions": [
                    {"type": "Ready", "status": "True", "message": "the spec is served"},
                    {"type": "Held", "status": "True", "message": "held by job/a"},
                    {"type": "Stalled", "status": "True", "message": "its node is silent"},
                ],
                "holders": [{"kind": "Job", "name": "a", "grantedAt": "t1", "token": "5", "suspect": "node n"}],
                "queue": [{"kind": "Pod", "name": "b", "since": "t2", "notYet": "it has no node"}],
                "history": [{"holder": "job/z", "at": "t0", "evidence": "P1"}],
            },
        });
        let expected = "\
Kind:        Mutex
Namespace:   shop
Name:        db
Holder:      job/a
Phase:       Locked
Locked:      t1
Held:        held by job/a
Stalled:     its node is silent
Holders:
  job/a since t1, token 5; in doubt: node n
Waiting (1):
  1. pod/b since t2; it has no node
Released:
  job/z at t0, on evidence P1
";
        assert_eq!(told(Kind::Mutex, &mutex), expected);
    }

    #[test]
    fn one_that_nobody_has_looked_at_yet_is_no_error() {
        let text = told(Kind::Gate, &json!({"metadata": {"name": "g"}}));
        assert_eq!(text, "Kind:        Gate\nName:        g\nConditions met: 0\nConditions total: 0\n");
    }
}
