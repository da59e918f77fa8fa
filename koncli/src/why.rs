//! Why: what a pod, a Job, a claim or a primitive waits for, who is in the way, and what can be done.
//!
//! Pure, over objects as JSON: [`facts`] collects them. The way through: the workload's own state (was it injected, has it a node,
//! was it told?) -> each primitive of its plan ([`state`]) -> what to do. What must stay true: the first line is the answer; all of
//! it fits on one screen; a command that is shown can be pasted.

pub mod facts;
mod state;

use std::fmt::Write;

use konductor_api::annotations::{SCHEDULING_GATE, WAITER_CONTAINER};
use konductor_api::conditions::{CLAIM_GRANTED, GRANTED, reason};
use konductor_api::participation::{Kind, Role};
use serde_json::Value;

use crate::told::{condition, list, plain};
use state::State;

/// What is asked about.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// As `job/train`.
    pub subject: String,
    /// The namespace.
    pub namespace: String,
    /// The object.
    pub object: Value,
    /// In what it takes part, in its order.
    pub parts: Vec<Part>,
    /// Of a Job: its pods.
    pub pods: Vec<Value>,
    /// Is Konductor's webhook there? `None`: that may not be asked.
    pub webhook: Option<bool>,
}

/// One primitive, and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// As what it takes part.
    pub role: Role,
    /// The primitive, if there is one.
    pub primitive: Option<Value>,
    /// Namespaces that have one of that name.
    pub elsewhere: Vec<String>,
    /// A name that looks like it.
    pub similar: Option<String>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Answer {
    first: String,
    lines: Vec<String>,
    ways: Vec<(String, String)>,
}

/// Says it.
pub fn why(facts: &Facts) -> String {
    let answer = answer(facts);
    let mut text = format!("{}\n", answer.first);
    if !answer.lines.is_empty() {
        text.push('\n');
        text.extend(answer.lines.iter().flat_map(|line| [line.as_str(), "\n"]));
    }
    if !answer.ways.is_empty() {
        text.push_str("\nWhat now:\n");
        let width = answer.ways.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0).min(60);
        for (command, what) in &answer.ways {
            let _ = writeln!(text, "  {command:<width$}  {what}");
        }
    }
    text
}

fn answer(facts: &Facts) -> Answer {
    let (kind, name) = facts.subject.split_once('/').unwrap_or(("", &facts.subject));
    if let Some(kind) = Kind::ALL.into_iter().find(|known| known.lower() == kind) {
        return of_primitive(facts, kind, name);
    }
    if facts.parts.is_empty() {
        return Answer {
            first: format!(
                "{} waits for nothing of Konductor's: it has none of its annotations.",
                facts.subject
            ),
            ways: vec![(
                format!("kubectl describe {kind} {name} -n {}", facts.namespace),
                "what else it may wait for".to_owned(),
            )],
            lines: Vec::new(),
        };
    }
    match kind {
        "pod" => of_pod(facts, name),
        "claim" => of_claim(facts),
        _ => of_job(facts, name),
    }
}

// -------------------------------------------------------------------------------------------------- workloads

fn of_pod(facts: &Facts, name: &str) -> Answer {
    let pod = &facts.object;
    let said = condition(pod, GRANTED);
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    let waiter = list(pod, "/spec/initContainers").any(|container| container["name"] == WAITER_CONTAINER);
    let gated = list(pod, "/spec/schedulingGates").any(|gate| gate["name"] == SCHEDULING_GATE);
    if !waiter && !gated && said.is_none() {
        return not_injected(facts);
    }
    if said.is_some_and(|said| said["status"] == "True") {
        let state =
            if matches!(phase, "Succeeded" | "Failed") { "has ended" } else { "waits for nothing any more" };
        return Answer {
            first: format!("{} {state}: {}.", facts.subject, plain(said, "message")),
            ..Answer::default()
        };
    }
    if matches!(phase, "Succeeded" | "Failed") || said.is_some_and(|said| said["reason"] == reason::DENIED) {
        let why = said.map(|said| plain(said, "message")).unwrap_or_default();
        return Answer {
            first: format!("{} does not wait any more: it was told no. {why}", facts.subject),
            ways: vec![(
                format!("kubectl logs {name} -c {WAITER_CONTAINER} -n {}", facts.namespace),
                "what it was told".to_owned(),
            )],
            lines: Vec::new(),
        };
    }
    let unplaced = condition(pod, "PodScheduled")
        .filter(|known| known["status"] == "False" && known["reason"] == "Unschedulable");
    if let Some(unplaced) = unplaced {
        return Answer {
            first: format!(
                "{} has no node yet, so it cannot take its turn, and keeps nobody else from theirs.",
                facts.subject
            ),
            lines: vec![format!("The scheduler says: {}", plain(unplaced, "message"))],
            ways: vec![(
                format!("kubectl describe pod {name} -n {}", facts.namespace),
                "what the scheduler looks for".to_owned(),
            )],
        };
    }
    waits(facts, &[("pod", name)])
}

fn of_job(facts: &Facts, name: &str) -> Answer {
    let job = &facts.object;
    for (type_, says) in [
        ("Complete", "is complete"),
        ("Failed", "has failed"),
        ("FailureTarget", "has failed"),
        ("SuccessCriteriaMet", "is complete"),
    ] {
        if let Some(known) = condition(job, type_).filter(|known| known["status"] == "True") {
            let message = plain(known, "message");
            let colon = if message.is_empty() { "" } else { ": " };
            return Answer {
                first: format!("{} {says}{colon}{message}.", facts.subject).replace("..", "."),
                ..Answer::default()
            };
        }
    }
    let granted = |pod: &&Value| condition(pod, GRANTED).is_some_and(|said| said["status"] == "True");
    let running = facts.pods.iter().filter(granted).count();
    if running > 0 {
        let all = facts.pods.len();
        return Answer {
            first: format!(
                "{} waits for nothing any more: {running} of its {all} pods were let through.",
                facts.subject
            ),
            ..Answer::default()
        };
    }
    let suspended = job["spec"]["suspend"] == true;
    let ours = job.pointer("/metadata/annotations/konductor.io~1suspended").is_some();
    if suspended && !ours {
        return Answer {
            first: format!(
                "{} is suspended by somebody else, and does not wait until it is resumed.",
                facts.subject
            ),
            ways: vec![(
                format!("kubectl get job {name} -o yaml -n {}", facts.namespace),
                "who suspended it: its labels and managers".to_owned(),
            )],
            lines: Vec::new(),
        };
    }
    if facts.pods.is_empty() && !suspended {
        return Answer {
            first: format!("{} has no pod yet, so it cannot take its turn.", facts.subject),
            ways: vec![(
                format!("kubectl describe job {name} -n {}", facts.namespace),
                "why it makes none: quota, admission".to_owned(),
            )],
            lines: Vec::new(),
        };
    }
    let unplaced = facts.pods.iter().find_map(|pod| {
        condition(pod, "PodScheduled")
            .filter(|known| known["status"] == "False" && known["reason"] == "Unschedulable")
    });
    if let Some(unplaced) =
        unplaced.filter(|_| facts.pods.iter().all(|pod| pod["spec"]["nodeName"].is_null()))
    {
        return Answer {
            first: format!(
                "{} has no pod on a node yet, so it cannot take its turn, and keeps nobody else from theirs.",
                facts.subject
            ),
            lines: vec![format!("The scheduler says: {}", plain(unplaced, "message"))],
            ways: vec![(
                format!("kubectl describe pods -l job-name={name} -n {}", facts.namespace),
                "what the scheduler looks for".to_owned(),
            )],
        };
    }
    let pods: Vec<_> =
        facts.pods.iter().map(|pod| ("pod", pod["metadata"]["name"].as_str().unwrap_or_default())).collect();
    waits(facts, &[&[("job", name)], pods.as_slice()].concat())
}

fn of_claim(facts: &Facts) -> Answer {
    let name = facts.object["metadata"]["name"].as_str().unwrap_or_default();
    let said = plain(condition(&facts.object, CLAIM_GRANTED), "message");
    match facts.object.pointer("/status/phase").and_then(Value::as_str) {
        Some("Granted") => {
            Answer { first: format!("{} has what it asks for: {said}.", facts.subject), ..Answer::default() }
        }
        Some(over @ ("Denied" | "Expired" | "Released")) => Answer {
            first: format!("{} is over ({}): {said}.", facts.subject, over.to_lowercase()),
            ..Answer::default()
        },
        Some(_) => waits(facts, &[("claim", name)]),
        None => Answer {
            first: format!("{} was not looked at yet.", facts.subject),
            ways: vec![("koncli check".to_owned(), "does Konductor's operator run?".to_owned())],
            lines: Vec::new(),
        },
    }
}

/// It has our annotations, and nothing holds it.
fn not_injected(facts: &Facts) -> Answer {
    let first =
        format!("{} does not wait: it has Konductor's annotations, and nothing holds it.", facts.subject);
    if facts.webhook == Some(false) {
        return Answer {
            first,
            lines: vec!["Konductor's webhook is not installed in this cluster: there is no MutatingWebhookConfiguration for pods.konductor.io.".to_owned()],
            ways: vec![
                ("helm upgrade --install konductor charts/konductor".to_owned(), "installs it".to_owned()),
                ("koncli check".to_owned(), "what else is missing".to_owned()),
            ],
        };
    }
    Answer {
        first,
        lines: vec![format!(
            "The webhook did not see it: it is older than Konductor, or namespace {} is left out (kube-system, kube-node-lease, \
             Konductor's own, or one with the label konductor.io/break-glass).",
            facts.namespace
        )],
        ways: vec![
            (
                format!("kubectl get namespace {} --show-labels", facts.namespace),
                "is it left out?".to_owned(),
            ),
            ("delete it and create it again".to_owned(), "then it waits".to_owned()),
        ],
    }
}

/// Everything that it waits for.
fn waits(facts: &Facts, names: &[(&str, &str)]) -> Answer {
    let states: Vec<_> = facts.parts.iter().map(|part| state::of(part, &facts.namespace, names)).collect();
    let blocking: Vec<_> = states.iter().filter(|state| state.blocks).collect();
    let first = match blocking.as_slice() {
        [] => format!(
            "{} waits for nothing: everything is open or its own; it is told any moment.",
            facts.subject
        ),
        [only] => format!("{} waits for {}: {}.", facts.subject, only.what, only.short),
        [first, others @ ..] => format!(
            "{} waits for {}: {}; and after that for {} more.",
            facts.subject,
            first.what,
            first.short,
            others.len()
        ),
    };
    let mut answer = Answer { first, ..Answer::default() };
    for state in &states {
        if states.len() > 1 {
            let mark = if state.blocks { "waits" } else { "has" };
            answer.lines.push(format!("{mark:<5}  {}: {}", state.what, state.short));
        }
        let indent = if states.len() > 1 { "       " } else { "" };
        answer.lines.extend(state.lines.iter().take(8).map(|line| format!("{indent}{line}")));
    }
    if let Some(first) = blocking.first() {
        answer.ways.clone_from(&first.ways);
    }
    answer
}

// ------------------------------------------------------------------------------------------------- primitives

fn of_primitive(facts: &Facts, kind: Kind, name: &str) -> Answer {
    let part = Part {
        kind,
        name: name.to_owned(),
        role: Role::Await,
        primitive: Some(facts.object.clone()),
        elsewhere: Vec::new(),
        similar: None,
    };
    let State { short, lines, ways, .. } = state::of(&part, &facts.namespace, &[]);
    let mut all = lines;
    let waiting = facts.object.pointer("/status/waiting").and_then(Value::as_i64).unwrap_or(0);
    if waiting > 0 {
        let shown = (1..).zip(list(&facts.object, "/status/queue")).take(5).map(|(place, waiter)| {
            let not_yet = waiter["notYet"].as_str().map(|why| format!(" ({why})")).unwrap_or_default();
            format!("  {place}. {}{not_yet}", crate::told::name(waiter))
        });
        all.push(format!("{waiting} wait:"));
        all.extend(shown);
    }
    Answer { first: format!("{}: {short}.", facts.subject), lines: all, ways }
}
