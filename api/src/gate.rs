//! Gate: closed until its conditions are met, then open for good.
//!
//! Types only; the rules are in `konductor-primitives`.
#![allow(clippy::duplicated_attributes, reason = "one printcolumn is like the next")]
#![allow(unreachable_pub, reason = "the schema derive repeats the struct where nobody can reach it")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ledger::Waiter;

/// What a Gate should be.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "Gate",
    plural = "gates",
    shortname = "kgt",
    category = "konductor",
    namespaced,
    status = "GateStatus",
    derive = "PartialEq",
    doc = "Waits for other work: Jobs and Pods annotated with konductor.io/gate: NAME start when all conditions of the Gate have been met, and fail at once when one of them can never be met any more.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Met", type_ = "string", json_path = ".status.met"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Open\")].message",
        priority = "1"
    ),
    printcolumn(
        name = "Since",
        type_ = "date",
        json_path = ".status.conditions[?(@.type==\"Open\")].lastTransitionTime",
        priority = "1"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct GateSpec {
    /// What must have come true. All of them; each one stays met once it was, whatever becomes of the object later.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new(
        "self.all(x, self.exists_one(y, x.type == y.type && x.name == y.name && x.state == y.state))"
    ).message("the same condition stands in the list twice; remove one of the two"))]
    #[x_kube(validation = Rule::new(
        "self.all(x, self.all(y, x.type != y.type || x.name != y.name || x.state == y.state))"
    ).message("a Job cannot both complete and fail, so this gate could never open; keep one of the two states"))]
    pub conditions: Vec<GateCondition>,
}

/// One thing that must come true.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateCondition {
    /// The kind of object that is looked at: Job.
    #[serde(rename = "type")]
    pub type_: GateConditionType,
    /// Name of the object, in the Gate's own namespace. It need not exist yet.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// The state it must reach. Complete: the Job's condition Complete is True, so all its completions are through.
    /// Failed: the Job has given up. If the Job ends the other way, this can never be met any more and the gate fails.
    #[serde(default)]
    pub state: JobState,
}

/// Kinds of objects that a gate can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum GateConditionType {
    /// A Job of group batch.
    Job,
}

/// Ends of a Job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum JobState {
    /// It is complete.
    #[default]
    Complete,
    /// It has failed for good.
    Failed,
}

/// How far a Gate has come. Written by Konductor's operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GateStatus {
    /// The generation of the spec that this status is about.
    pub observed_generation: Option<i64>,
    /// Waiting, Open or Failed.
    pub phase: Option<GatePhase>,
    /// Ready: this generation was accepted. Open: it lets through; the message names what is missing. Stalled: a
    /// person must act.
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How many of how many conditions are met, as 2/3.
    #[schemars(length(max = 16))]
    pub met: Option<String>,
    /// Each condition of the spec, in its order: is it met, by which object, since when.
    #[schemars(length(max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub condition_statuses: Vec<GateConditionStatus>,
    /// When the gate opened.
    pub opened_at: Option<Time>,
    /// How many wait.
    pub waiting: i64,
    /// The first ten that wait.
    #[schemars(length(max = 10))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub queue: Vec<Waiter>,
}

/// What is known of one condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateConditionStatus {
    /// As in the spec.
    #[serde(rename = "type")]
    pub type_: GateConditionType,
    /// As in the spec.
    #[schemars(length(max = 253))]
    pub name: String,
    /// As in the spec.
    pub state: JobState,
    /// Met: it came true. Missing: not yet. Impossible: it can never come true any more.
    pub outcome: ConditionOutcome,
    /// UID of the object that met it or made it impossible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
    /// When that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// A sentence.
    #[schemars(length(max = 512))]
    pub message: String,
}

/// Where a condition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionOutcome {
    /// Not yet.
    Missing,
    /// It came true, and stays so.
    Met,
    /// It can never come true any more.
    Impossible,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GatePhase {
    /// Conditions are missing.
    Waiting,
    /// It lets everybody through, for good.
    Open,
    /// It can never open; who waits for it fails.
    Failed,
}

impl GateCondition {
    /// As people say it: `job/etl Complete`.
    pub fn display(&self) -> String {
        format!("job/{} {:?}", self.name, self.state)
    }
}
