//! Objects, as nodes and arrows.
//!
//! Pure, over objects as JSON, as they stand in a file or in a cluster. What must stay true: what takes part here is what would
//! take part there.

use jiff::Timestamp;
use konductor_api::claim::ClaimSpec;
use konductor_api::participation::{Kind, Role};
use konductor_webhook::waiter::Settings;
use serde_json::Value;

use super::Graph;
use crate::told::{list, name, plain};
use crate::workload::Workload;

/// All of those objects.
pub fn graph<'a>(objects: impl Iterator<Item = &'a Value>) -> Graph {
    let mut graph = Graph::default();
    for object in objects {
        let kind = plain(object, "kind");
        let called = plain(&object["metadata"], "name");
        let own = format!("{}/{called}", kind.to_lowercase());
        match (Kind::ALL.into_iter().find(|known| known.api_kind() == kind), kind) {
            (Some(kind), _) if is_ours(object) => primitive(&mut graph, kind, &own, object),
            (_, "Claim") if is_ours(object) => claim(&mut graph, &own, object),
            _ => workload(&mut graph, &own, object),
        }
    }
    graph
}

fn is_ours(object: &Value) -> bool {
    plain(object, "apiVersion").starts_with("konductor.io/")
}

fn primitive(graph: &mut Graph, kind: Kind, own: &str, object: &Value) {
    graph.node(own, object.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default());
    if kind == Kind::Gate {
        for on in list(object, "/spec/conditions") {
            let (type_, called) = (plain(on, "type"), plain(on, "name"));
            // A person, or the clock, opens those.
            let what = if matches!(type_, "Manual" | "Time") {
                type_.to_lowercase()
            } else {
                format!("{}/{called}", type_.to_lowercase())
            };
            let state =
                on["state"].as_str().map_or_else(|| "opens".to_owned(), |state| format!("{state} opens"));
            graph.edge(&what, own, &state);
        }
    }
    for holder in list(object, "/status/holders") {
        graph.edge(own, &name(holder), "held by");
    }
}

fn claim(graph: &mut Graph, own: &str, object: &Value) {
    let Ok(spec) = serde_json::from_value::<ClaimSpec>(object["spec"].clone()) else { return };
    let state = object.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    if matches!(state, "Denied" | "Expired" | "Released") {
        return;
    }
    graph.node(own, state);
    if let Some(role) = spec.role() {
        tie(graph, own, &spec.primitive().to_string(), role);
    }
}

fn workload(graph: &mut Graph, own: &str, object: &Value) {
    let Some(workload) = Workload::of(object) else { return };
    let part = object.pointer(&workload.pointer()).unwrap_or(&Value::Null);
    // What would be refused is for lint to tell.
    let Ok(plan) = workload.plan(part, &Settings::of_chart("konductor-waiter"), Timestamp::UNIX_EPOCH) else {
        return;
    };
    for entry in plan.participation.entries() {
        tie(graph, own, &entry.primitive.to_string(), entry.role);
    }
}

fn tie(graph: &mut Graph, own: &str, primitive: &str, role: Role) {
    match role {
        Role::Await => graph.edge(primitive, own, "lets through"),
        Role::Meet => graph.edge(own, primitive, "meets at"),
        Role::Arrive => graph.edge(own, primitive, "arrives at"),
        Role::Join => graph.edge(own, primitive, "belongs to"),
        Role::Read => graph.edge(own, primitive, "reads under"),
        Role::Write => graph.edge(own, primitive, "writes under"),
        Role::Take(1) | Role::Hold => graph.edge(own, primitive, "holds"),
        Role::Take(permits) => graph.edge(own, primitive, &format!("takes {permits} of")),
    }
}
