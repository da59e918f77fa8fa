//! Looked at: what the conditions of a gate name, read off whatever object it is.
//!
//! Pure. What must stay true: facts are read off one object version; what a gate may not look at is told apart from
//! what is not there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use konductor_api::gate::{GateCondition, GateConditionType, GateState};
use serde_json::Value;

use crate::facts::JobFacts;

/// An object that a condition names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Its kind, as in a manifest.
    pub kind: String,
    /// Its apiVersion.
    pub api_version: String,
    /// Its namespace, if it is not the gate's own.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// What was found there.
#[derive(Clone, Debug)]
pub enum Looked {
    /// A Job.
    Job(JobFacts),
    /// Any other object of Kubernetes or of somebody else.
    Object(ObjectFacts),
    /// A primitive of ours.
    Primitive(PrimitiveFacts),
    /// Nobody has looked yet: nothing follows from it.
    Unseen,
    /// The gate may not look at it; a sentence with the way out.
    Refused(String),
    /// It waits for this gate; a sentence.
    Ring(String),
}

/// What matters of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectFacts {
    /// Identity.
    pub uid: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// `status.phase`.
    pub phase: Option<String>,
    /// Its conditions: type to status.
    pub conditions: BTreeMap<String, String>,
    /// Of a Deployment or `StatefulSet`: what is missing until it is rolled out; `None` if nothing is.
    pub unfinished: Option<String>,
}

/// What matters of a primitive of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimitiveFacts {
    /// Identity.
    pub uid: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// The state it is in.
    pub state: GateState,
    /// Of a semaphore: how many permits are free.
    pub free: i64,
    /// Why it can never reach the other state, if it cannot.
    pub hopeless: Option<String>,
}

impl Target {
    /// What the condition names; `None` for the clock and for persons.
    pub fn of(condition: &GateCondition) -> Option<Self> {
        let api_version = match condition.type_ {
            GateConditionType::Job => "batch/v1",
            GateConditionType::Pod => "v1",
            GateConditionType::Deployment | GateConditionType::StatefulSet => "apps/v1",
            GateConditionType::Object => condition.api_version.as_deref().unwrap_or_default(),
            _ => "konductor.io/v1",
        };
        Some(Self {
            kind: condition.looks_at()?.to_owned(),
            api_version: api_version.to_owned(),
            namespace: condition.namespace.clone(),
            name: condition.name.clone(),
        })
    }

    /// Is it a primitive of ours?
    pub fn is_ours(&self) -> bool {
        self.api_version == "konductor.io/v1"
    }

    /// As people say it.
    pub fn display(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} {namespace}/{}", self.kind, self.name),
            None => format!("{} {}", self.kind, self.name),
        }
    }
}

impl Looked {
    /// Identity and age of the object, if there is one.
    pub(crate) fn object(&self) -> Option<(&str, Option<Timestamp>)> {
        match self {
            Self::Job(job) => Some((&job.uid, job.created)),
            Self::Object(object) => Some((&object.uid, object.created)),
            Self::Primitive(primitive) => Some((&primitive.uid, primitive.created)),
            Self::Unseen | Self::Refused(_) | Self::Ring(_) => None,
        }
    }
}

impl ObjectFacts {
    /// Reads them off an object of whatever kind.
    pub fn of(object: &Value) -> Self {
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
        let conditions = conditions
            .filter_map(|condition| {
                Some((condition["type"].as_str()?.to_owned(), condition["status"].as_str()?.to_owned()))
            })
            .collect();
        Self {
            uid: text("/metadata/uid").unwrap_or_default(),
            created: text("/metadata/creationTimestamp").and_then(|text| text.parse().ok()),
            phase: text("/status/phase"),
            conditions,
            unfinished: unfinished(object),
        }
    }
}

/// As `kubectl rollout status` has it.
fn unfinished(object: &Value) -> Option<String> {
    let number = |at: &str| object.pointer(at).and_then(Value::as_i64);
    let wanted = number("/spec/replicas").unwrap_or(1);
    if number("/status/observedGeneration").unwrap_or(0) < number("/metadata/generation").unwrap_or(0) {
        return Some("its latest change has not been looked at yet".to_owned());
    }
    let partition = number("/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0);
    let updated = number("/status/updatedReplicas").unwrap_or(0);
    if updated < wanted - partition {
        return Some(format!("{updated} of {wanted} replicas are updated"));
    }
    let all = number("/status/replicas").unwrap_or(0);
    if object["kind"] == "Deployment" && all > updated {
        return Some(format!("{} old replicas are still there", all - updated));
    }
    let at =
        if object["kind"] == "Deployment" { "/status/availableReplicas" } else { "/status/readyReplicas" };
    let ready = number(at).unwrap_or(0);
    (ready < wanted).then(|| format!("{ready} of {wanted} replicas are ready"))
}
