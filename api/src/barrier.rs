//! Barrier: all of them, then all at once.
//!
//! Types only; the rules are in `konductor-primitives`.
#![allow(clippy::duplicated_attributes, reason = "one printcolumn is like the next")]
#![allow(unreachable_pub, reason = "the schema derive repeats the struct where nobody can reach it")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::ledger::{Common, has};
use crate::members::Members;

/// What a Barrier should be.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "Barrier",
    plural = "barriers",
    shortname = "kbr",
    category = "konductor",
    namespaced,
    status = "BarrierStatus",
    derive = "PartialEq",
    doc = "A meeting point: the Jobs and Pods annotated with konductor.io/barrier: NAME wait until as many have arrived as are expected, then all start. With konductor.io/barrier-arrive one counts when it has succeeded; with konductor.io/barrier-wait one waits without counting. A retry never counts twice.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Arrived", type_ = "string", json_path = ".status.arrivedOf"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Generation", type_ = "integer", json_path = ".status.generation", priority = "1"),
    printcolumn(name = "Timeout", type_ = "string", json_path = ".spec.timeout", priority = "1"),
    printcolumn(name = "Opened", type_ = "date", json_path = ".status.openedAt", priority = "1")
)]
#[x_kube(validation = Rule::new("!has(self.quorum) || self.quorum <= self.expected")
    .message("quorum must not be larger than expected, or it could never be reached; lower quorum or raise expected"))]
#[x_kube(validation = Rule::new("!has(self.quorum) || !self.cyclic")
    .message("quorum and cyclic exclude each other: latecomers of one generation could not be told from the next one; leave one of the two out"))]
#[serde(rename_all = "camelCase")]
pub struct BarrierSpec {
    /// How many have to arrive. Changed before the barrier opens, the new number counts at once; afterwards it changes
    /// nothing, except that a failed barrier starts anew.
    #[schemars(range(min = 1, max = 10_000))]
    pub expected: i64,
    /// Opens as soon as so many have arrived, although more are expected. Left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub quorum: Option<i64>,
    /// How long after the first arrival the barrier may stay closed, e.g. 30m. Then it fails, with everybody who waits.
    /// Left out: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')")
        .message("timeout must be longer than 0s, e.g. 30m; leave it out to wait without a limit"))]
    pub timeout: Option<GoDuration>,
    /// After it opened the barrier closes again for the next round: whoever has not been through counts for the next
    /// generation, a retry of whoever has been through is let through.
    #[serde(default)]
    pub cyclic: bool,
    /// What becomes of an arrival whose pod dies before the barrier opens. Sticky: it counts all the same, because its
    /// retry comes under the same name. Live: it no longer counts. Pods without a name that lasts (bare, of a Deployment,
    /// of a Job that is not Indexed) are always Live, because their replacement would count again.
    #[serde(default)]
    pub arrivals: ArrivalPolicy,
}

/// What becomes of the arrival of a pod that dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ArrivalPolicy {
    /// It counts all the same.
    #[default]
    Sticky,
    /// It no longer counts.
    Live,
}

/// Who has arrived at a Barrier and who waits there. Written by Konductor's operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BarrierStatus {
    /// Waiting, Open or Failed.
    pub phase: Option<BarrierPhase>,
    /// The generation that arrivals count for, from 1. Stays 1 unless the barrier is cyclic.
    pub generation: i64,
    /// How many have arrived in this generation.
    pub arrived: i64,
    /// Arrived and needed, as 3/5.
    #[schemars(length(max = 32))]
    pub arrived_of: Option<String>,
    /// Who has arrived in this generation by waiting here.
    pub arrivals: Members,
    /// Who has arrived in this generation by having succeeded.
    pub succeeded: Members,
    /// Of a cyclic barrier: who opened generations before and has not succeeded yet; a retry of theirs is let through and
    /// counts for nothing. And, by UID, pods and Jobs whose success has been counted.
    pub passed: Members,
    /// When the first of this generation arrived.
    pub first_arrival_at: Option<Time>,
    /// When the barrier opened; of a cyclic one: the last time.
    pub opened_at: Option<Time>,
    /// What every kind has.
    #[serde(flatten)]
    pub common: Common,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BarrierPhase {
    /// More have to arrive.
    Waiting,
    /// It lets everybody through, for good.
    Open,
    /// Too few arrived in time; who waits for it fails.
    Failed,
}

has!(common: BarrierStatus);
