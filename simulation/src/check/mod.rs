//! The checks: every invariant that has a name, against what was committed and what really runs.
//!
//! Each change and each start passes here at the moment at which it happens. [`ledger`] for what can be held, [`states`] for
//! gates, barriers, groups and onces, [`pods`] for what pods are told and what runs, [`progress`] for the end. What must stay
//! true: the checks look at the truth, never at what an operator believes.

pub(crate) mod ledger;
pub(crate) mod pods;
pub(crate) mod progress;
pub(crate) mod states;

use konductor_api::ledger::{Holder, Ledger};
use konductor_api::participation::{Kind, PrimitiveRef, PrimitiveSet};
use serde_json::Value;

pub(crate) use pods::{passes, starts};

use crate::cluster::Cluster;
use crate::store::{Actor, Change, Key, Resource};

/// A change was made.
pub(crate) fn change(cluster: &mut Cluster, change: &Change) {
    let resource = change.key.resource;
    if resource.is_primitive() || resource == Resource::Claim {
        written_by_an_operator(cluster, change);
    }
    let (Some(after), before) = (&change.after, &change.before) else {
        if resource == Resource::Pod {
            pods::gone(cluster, change);
        }
        return;
    };
    let before = before.as_ref().map(|version| &version.value);
    let after = &after.value;
    match resource {
        Resource::Mutex | Resource::RWMutex | Resource::Semaphore | Resource::Lease | Resource::Once => {
            ledger::written(cluster, &change.key, before, after);
            if resource == Resource::Once {
                states::once(cluster, before, after);
            }
        }
        Resource::Gate => states::gate(cluster, &change.key, before, after),
        Resource::Barrier => states::barrier(cluster, &change.key, before, after),
        Resource::WaitGroup => states::waitgroup(cluster, &change.key, before, after),
        Resource::Pod => pods::written(cluster, change, before, after),
        Resource::Job => job(cluster, before, after),
        Resource::Claim => ledger::claim(cluster, before, after),
        Resource::Node | Resource::NodeLease => {}
    }
}

fn written_by_an_operator(cluster: &mut Cluster, change: &Change) {
    let status = |version: &Option<std::sync::Arc<crate::store::Version>>| {
        version.as_ref().map(|version| version.value["status"].clone()).unwrap_or_default()
    };
    if change.after.is_some()
        && change.actor == Actor::World
        && status(&change.before) != status(&change.after)
    {
        breaks(cluster, "StatusOnlyByOperator", format!("{} was written by somebody else", change.key));
    }
}

fn job(cluster: &mut Cluster, before: Option<&Value>, after: &Value) {
    let uid = text(after, "/metadata/uid").to_owned();
    if before.is_none() {
        let annotations =
            serde_json::from_value(after["metadata"]["annotations"].clone()).unwrap_or_default();
        for primitive in PrimitiveSet::of(&annotations).primitives() {
            cluster.history.members.entry(key_of(primitive)).or_default().insert(uid.clone());
        }
    }
    let conditions = after["status"]["conditions"].as_array();
    for condition in conditions.into_iter().flatten().filter(|condition| condition["status"] == "True") {
        match condition["type"].as_str() {
            Some("Complete") => cluster.history.completed.insert(uid.clone()),
            Some("Failed") => cluster.history.failed.insert(uid.clone()),
            _ => false,
        };
    }
}

// ----------------------------------------------------------------------------------------------------- in common

pub(crate) fn breaks(cluster: &mut Cluster, invariant: &'static str, detail: impl Into<String>) {
    let at = cluster.age();
    cluster.history.breaks(at, invariant, detail);
}

pub(crate) fn key_of(primitive: &PrimitiveRef) -> Key {
    let resource = match primitive.kind {
        Kind::Gate => Resource::Gate,
        Kind::WaitGroup => Resource::WaitGroup,
        Kind::Barrier => Resource::Barrier,
        Kind::Semaphore => Resource::Semaphore,
        Kind::RWMutex => Resource::RWMutex,
        Kind::Mutex => Resource::Mutex,
        Kind::Lease => Resource::Lease,
        Kind::Once => Resource::Once,
    };
    Key::new(resource, &primitive.name)
}

pub(crate) fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn ledger_of(value: Option<&Value>) -> Ledger {
    let status = value.map(|value| value["status"].clone()).filter(Value::is_object);
    status.and_then(|status| serde_json::from_value(status).ok()).unwrap_or_default()
}

/// The entry of that participant as it is committed now.
pub(crate) fn entry(cluster: &Cluster, key: &Key, uid: &str) -> Option<Holder> {
    let ledger = ledger_of(cluster.store.get(key).map(|version| &version.value));
    ledger.holders.into_iter().find(|holder| holder.uid == uid)
}
