//! The state of one primitive, as far as it concerns somebody who waits for it.
//!
//! Pure.

use konductor_api::conditions::{DONE, OPEN, STALLED, reason};
use konductor_api::participation::{Kind, Role};
use serde_json::Value;

use super::Part;
use crate::told::{condition, list, name, named, plain};

/// What there is to say.
pub(super) struct State {
    /// As `mutex/db`.
    pub(super) what: String,
    /// Is it in the way?
    pub(super) blocks: bool,
    /// In half a sentence.
    pub(super) short: String,
    /// What else.
    pub(super) lines: Vec<String>,
    /// Commands, and what they are for.
    pub(super) ways: Vec<(String, String)>,
}

/// Of that primitive, for whoever is called like that.
pub(super) fn of(part: &Part, namespace: &str, names: &[(&str, &str)]) -> State {
    let what = format!("{}/{}", part.kind.lower(), part.name);
    let Some(object) = &part.primitive else { return missing(part, namespace, what) };
    match part.kind {
        Kind::Gate => gate(part, namespace, what, object),
        Kind::Barrier | Kind::WaitGroup => opens(part, namespace, what, object),
        _ => held(part, namespace, what, object, names),
    }
}

fn missing(part: &Part, namespace: &str, what: String) -> State {
    let kind = part.kind.lower();
    let mut state = State {
        what,
        blocks: true,
        short: format!("there is no {} of that name in namespace {namespace}", part.kind.api_kind()),
        lines: Vec::new(),
        ways: Vec::new(),
    };
    if let Some(similar) = &part.similar {
        state.lines.push(format!("There is {kind}/{similar}: is that the one that is meant?"));
    }
    if !part.elsewhere.is_empty() {
        state.lines.push(format!(
            "Namespace {} has one: a workload takes part in the primitives of its own namespace.",
            part.elsewhere.join(", ")
        ));
    }
    let make = match part.kind {
        Kind::Semaphore => " --permits 1",
        Kind::Barrier => " --expected 2",
        _ => "",
    };
    state
        .ways
        .push((format!("koncli {kind} create {}{make} -n {namespace}", part.name), "makes one".to_owned()));
    state.ways.push((format!("koncli {kind} list -n {namespace}"), "which there are".to_owned()));
    state
}

fn gate(part: &Part, namespace: &str, what: String, object: &Value) -> State {
    let open = condition(object, OPEN);
    let message = plain(open, "message").to_owned();
    let phase = object.pointer("/status/phase").and_then(Value::as_str).unwrap_or("Waiting");
    let unmet = || {
        list(object, "/status/conditionStatuses").filter(|one| one["met"] != true).map(|one| {
            let said = plain(one, "message");
            let colon = if said.is_empty() { "" } else { ": " };
            format!("not met: {}{colon}{said}", plain(one, "about"))
        })
    };
    let by_hand = object.pointer("/spec/override").and_then(Value::as_str);
    let manual = list(object, "/spec/conditions").next().is_none();
    let (short, lines, ways) = match (phase, by_hand) {
        ("Open", _) => ("it is open".to_owned(), Vec::new(), Vec::new()),
        ("Failed", _) => (
            format!("it has failed: {message}"),
            vec![plain(condition(object, STALLED), "message").to_owned()],
            vec![
                (format!("koncli gate status {} -n {namespace}", part.name), "its conditions".to_owned()),
                (
                    format!("koncli gate open {} -n {namespace}", part.name),
                    "opens it all the same".to_owned(),
                ),
            ],
        ),
        (_, Some("Closed")) => (
            "it is closed by hand".to_owned(),
            Vec::new(),
            vec![(
                format!("koncli gate clear {} -n {namespace}", part.name),
                "lets its conditions decide again".to_owned(),
            )],
        ),
        _ if manual => (
            "it is closed, and a person opens it".to_owned(),
            Vec::new(),
            vec![(format!("koncli gate open {} -n {namespace}", part.name), "opens it".to_owned())],
        ),
        _ => (
            format!("it is closed: {message}"),
            unmet().collect(),
            vec![
                (format!("koncli gate wait {} -n {namespace}", part.name), "wakes when it opens".to_owned()),
                (
                    format!("koncli gate open {} -n {namespace}", part.name),
                    "opens it all the same".to_owned(),
                ),
            ],
        ),
    };
    State { what, blocks: phase != "Open", short, lines, ways }
}

fn opens(part: &Part, namespace: &str, what: String, object: &Value) -> State {
    let type_ = if part.kind == Kind::Barrier { OPEN } else { DONE };
    let known = condition(object, type_);
    let phase = object.pointer("/status/phase").and_then(Value::as_str).unwrap_or("Waiting");
    let through = matches!(phase, "Open" | "Done") || matches!(part.role, Role::Arrive | Role::Join);
    let message = plain(known, "message");
    let state = match phase {
        "Open" => "it is open",
        "Done" => "it is done",
        "Failed" => "it has failed",
        _ => "it waits",
    };
    let colon = if message.is_empty() { "" } else { ": " };
    let kind = part.kind.lower();
    let mut lines = Vec::new();
    let stalled = condition(object, STALLED).filter(|known| known["status"] == "True");
    lines.extend(stalled.map(|known| plain(known, "message").to_owned()));
    let ways = if through {
        Vec::new()
    } else {
        vec![(
            format!("koncli status {kind} {} -n {namespace}", part.name),
            "who is there, and who is not".to_owned(),
        )]
    };
    State { what, blocks: !through, short: format!("{state}{colon}{message}"), lines, ways }
}

fn held(part: &Part, namespace: &str, what: String, object: &Value, names: &[(&str, &str)]) -> State {
    let is = |value: &Value| names.iter().any(|(kind, called)| name(value) == format!("{kind}/{called}"));
    let holders: Vec<_> = list(object, "/status/holders").collect();
    let kind = part.kind.lower();
    if holders.iter().any(|holder| is(holder)) {
        return State {
            what,
            blocks: false,
            short: "it is its own".to_owned(),
            lines: Vec::new(),
            ways: Vec::new(),
        };
    }
    let phase = object.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    if part.kind == Kind::Once && phase == "Executed" {
        let by = object.pointer("/status/executor").and_then(Value::as_str).unwrap_or("somebody");
        return State {
            what,
            blocks: false,
            short: format!("it was executed by {by}"),
            lines: Vec::new(),
            ways: Vec::new(),
        };
    }
    let waiting = object.pointer("/status/waiting").and_then(Value::as_i64).unwrap_or(0);
    let place = (1..).zip(list(object, "/status/queue")).find(|(_, waiter)| is(waiter));
    let first = match &place {
        Some((place, _)) => format!("place {place} of {waiting}"),
        None if names.is_empty() || waiting == 0 => String::new(),
        None => format!("behind the first {} of {waiting}", list(object, "/status/queue").count()),
    };
    let by = match holders.as_slice() {
        [] => plain(condition(object, DONE), "message").to_owned(),
        [only] => format!("held by {}", named(only)),
        [first, others @ ..] => format!("held by {} and {} others", named(first), others.len()),
    };
    let by = if by.is_empty() { "nobody holds it".to_owned() } else { by };
    let comma = if first.is_empty() { "" } else { ", " };
    let mut lines: Vec<_> = place
        .as_ref()
        .and_then(|(_, waiter)| waiter["notYet"].as_str())
        .map(|why| format!("it is not a candidate yet: {why}"))
        .into_iter()
        .collect();
    for holder in holders.iter().take(3) {
        lines.push(format!(
            "{} holds it since {}, token {}",
            named(holder),
            plain(*holder, "grantedAt"),
            plain(*holder, "token")
        ));
        lines.extend(holder["suspect"].as_str().map(|why| format!("in doubt: {why}")));
    }
    let stalled = condition(object, STALLED)
        .filter(|known| known["status"] == "True" && known["reason"] != reason::HOLDER_SUSPECT);
    lines.extend(stalled.map(|known| plain(known, "message").to_owned()));
    let mut ways = Vec::new();
    if let Some(holder) = holders.first() {
        let (holder_kind, holder_name) = (plain(*holder, "kind").to_lowercase(), plain(*holder, "name"));
        let look = match holder_kind.as_str() {
            "job" => format!("kubectl get pods -l job-name={holder_name} -n {namespace}"),
            other => format!("kubectl describe {other} {holder_name} -n {namespace}"),
        };
        ways.push((look, "what the holder does".to_owned()));
        ways.push((
            format!("koncli status {kind} {} -n {namespace}", part.name),
            "the whole queue".to_owned(),
        ));
        ways.push((
            format!("koncli break {kind} {} --reason WHY -n {namespace}", part.name),
            "if the holder has certainly ended".to_owned(),
        ));
    } else {
        ways.push(("koncli check".to_owned(), "does Konductor's operator run?".to_owned()));
    }
    State { what, blocks: true, short: format!("{first}{comma}{by}"), lines, ways }
}
