//! Sight: what a gate sees of the objects that its conditions name.
//!
//! Reads only. What must stay true: an object of another namespace is seen only with that namespace's consent; gates
//! that wait for each other in a ring are told so.

use std::collections::{BTreeMap, BTreeSet};

use konductor_api::gate::GateConditionType;
use konductor_api::participation::{Kind, PrimitiveRef};
use konductor_primitives::facts::JobFacts;
use konductor_primitives::looked::{Looked, PrimitiveFacts, Target};

use crate::caches::Caches;
use crate::index::{Key, ObjectKey};
use crate::rules::Read;
use crate::watches::{Seen, Watched};

/// What is seen of those targets; what is not there is not in it.
pub(crate) fn look(
    caches: &Caches,
    namespace: &str,
    primitive: &PrimitiveRef,
    targets: &[Target],
) -> BTreeMap<Target, Looked> {
    if primitive.kind != Kind::Gate {
        return BTreeMap::new();
    }
    let wanted: BTreeSet<_> = targets.iter().flat_map(|target| watched(namespace, target)).collect();
    caches.watches.want(&Key::Primitive(namespace.to_owned(), primitive.clone()), &wanted);
    targets
        .iter()
        .filter_map(|target| Some((target.clone(), see(caches, namespace, primitive, target)?)))
        .collect()
}

/// A gate that is gone looks at nothing.
pub(crate) fn forget(caches: &Caches, namespace: &str, primitive: &PrimitiveRef) {
    if primitive.kind == Kind::Gate {
        caches.watches.want(&Key::Primitive(namespace.to_owned(), primitive.clone()), &BTreeSet::new());
    }
}

/// What has to be watched for it beside Jobs and primitives, which are watched anyhow.
fn watched(namespace: &str, target: &Target) -> Vec<Watched> {
    let elsewhere = target.namespace.as_ref().filter(|other| *other != namespace);
    let consent = elsewhere.map(|other| consent_of(other));
    let is_cached = target.is_ours() || (target.kind == "Job" && target.api_version == "batch/v1");
    let object = (!is_cached).then(|| object_of(namespace, target));
    consent.into_iter().chain(object).collect()
}

fn consent_of(namespace: &str) -> Watched {
    Watched {
        api_version: "v1".to_owned(),
        kind: "Namespace".to_owned(),
        namespace: String::new(),
        name: namespace.to_owned(),
    }
}

fn object_of(namespace: &str, target: &Target) -> Watched {
    Watched {
        api_version: target.api_version.clone(),
        kind: target.kind.clone(),
        namespace: target.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
        name: target.name.clone(),
    }
}

fn see(caches: &Caches, namespace: &str, primitive: &PrimitiveRef, target: &Target) -> Option<Looked> {
    let at = target.namespace.as_deref().unwrap_or(namespace);
    if at != namespace
        && let Some(refused) = refused(caches, namespace, at)
    {
        return Some(refused);
    }
    if target.is_ours() {
        let kind = Kind::ALL.into_iter().find(|kind| kind.api_kind() == target.kind)?;
        let other = PrimitiveRef { kind, name: target.name.clone() };
        if kind == Kind::Gate
            && let Some(ring) = ring(caches, (namespace, &primitive.name), (at, &other.name))
        {
            return Some(Looked::Ring(ring));
        }
        return PrimitiveFacts::of(Read::cached(caches, at, &other).committed()).map(Looked::Primitive);
    }
    if target.kind == "Job" && target.api_version == "batch/v1" {
        let key = ObjectKey { namespace: at.to_owned(), name: target.name.clone() };
        return caches.job(&key).map(|job| Looked::Job(JobFacts::of(&job)));
    }
    match caches.watches.seen(&object_of(namespace, target)) {
        Seen::Unknown => Some(Looked::Unseen),
        Seen::Nothing | Seen::Namespace(_) => None,
        Seen::Object(object) => Some(Looked::Object(object)),
        Seen::Refused(why) => Some(Looked::Refused(why)),
    }
}

/// Why a gate of one namespace may not look into another.
fn refused(caches: &Caches, namespace: &str, other: &str) -> Option<Looked> {
    let consent = match caches.watches.seen(&consent_of(other)) {
        Seen::Namespace(consent) => consent.unwrap_or_default(),
        Seen::Unknown => return Some(Looked::Unseen),
        Seen::Refused(why) => return Some(Looked::Refused(why)),
        Seen::Nothing | Seen::Object(_) => {
            return Some(Looked::Refused(format!("namespace {other} does not exist (yet)")));
        }
    };
    let agrees = consent.split(',').map(str::trim).any(|allowed| allowed == namespace || allowed == "*");
    (!agrees).then(|| {
        Looked::Refused(format!(
            "namespace {other} does not let gates of {namespace} look at it: whoever owns it can say kubectl annotate \
             namespace {other} konductor.io/allow-gates-from={namespace}"
        ))
    })
}

/// The way back from one gate to another, if there is one.
fn ring(caches: &Caches, gate: (&str, &str), first: (&str, &str)) -> Option<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![(first.0.to_owned(), first.1.to_owned())];
    while let Some((namespace, name)) = open.pop() {
        if (namespace.as_str(), name.as_str()) == gate {
            return Some(format!("waits for gate {} in turn: none of them could ever open", gate.1));
        }
        if !seen.insert((namespace.clone(), name.clone())) {
            continue;
        }
        let Some(other) = caches.gates.get(&namespace, &name) else { continue };
        let gates =
            other.spec.conditions.iter().filter(|condition| condition.type_ == GateConditionType::Gate);
        open.extend(gates.map(|condition| {
            (condition.namespace.clone().unwrap_or_else(|| namespace.clone()), condition.name.clone())
        }));
    }
    None
}
