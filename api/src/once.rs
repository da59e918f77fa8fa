//! Once: until it succeeded, and never again.
//!
//! Types only; the rules are in `konductor-primitives`.
#![allow(clippy::duplicated_attributes, reason = "one printcolumn is like the next")]
#![allow(unreachable_pub, reason = "the schema derive repeats the struct where nobody can reach it")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::ledger::{Common, Ledger, has};

/// What a Once should be.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "Once",
    plural = "onces",
    shortname = "kon",
    category = "konductor",
    namespaced,
    status = "OnceStatus",
    derive = "PartialEq",
    doc = "Once and not again: of the Jobs annotated with konductor.io/once: NAME, one at a time runs until one has succeeded; the others are then completed without running. Success counts only when it is proven: who fails or dies half-way gives way to the next.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Runner", type_ = "string", json_path = ".status.holders[0].name"),
    printcolumn(name = "Attempts", type_ = "integer", json_path = ".status.attempts"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Executor", type_ = "string", json_path = ".status.executor", priority = "1"),
    printcolumn(name = "Executed", type_ = "date", json_path = ".status.executedAt", priority = "1"),
    printcolumn(name = "Key", type_ = "string", json_path = ".status.key", priority = "1")
)]
#[serde(rename_all = "camelCase")]
pub struct OnceSpec {
    /// How long a recorded success counts, e.g. 24h. After that the next one who comes runs again. Left out: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')")
        .message("ttl must be longer than 0s, e.g. 24h; leave it out if a success counts for ever"))]
    pub ttl: Option<GoDuration>,
    /// What the success is about, e.g. a version: a new key is a new once. Whoever runs for the old key still ends
    /// before anybody runs for the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
    /// How many executors may fail before it is given up and all who wait fail. Left out: no limit. Raising it, or a new
    /// key, lets the next ones try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_attempts: Option<i64>,
}

/// Has it been done, by whom, and who waits. Written by Konductor's operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OnceStatus {
    /// Pending, Running, Executed or Failed.
    pub phase: Option<OncePhase>,
    /// Has somebody succeeded, and does it still count?
    pub executed: bool,
    /// Who succeeded, as job/NAME.
    #[schemars(length(max = 260))]
    pub executor: Option<String>,
    /// When that was seen.
    pub executed_at: Option<Time>,
    /// How many executors have failed for this key.
    pub attempts: i64,
    /// The key that this status is about.
    #[schemars(length(max = 253))]
    pub key: Option<String>,
    /// The key for which the present executor runs, if the spec names another one by now.
    #[schemars(length(max = 253))]
    pub running_key: Option<String>,
    /// What every kind has.
    #[serde(flatten)]
    pub common: Common,
    /// What every kind has that can be held.
    #[serde(flatten)]
    pub ledger: Ledger,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OncePhase {
    /// Nobody has run yet, or nobody has succeeded yet.
    Pending,
    /// Somebody runs.
    Running,
    /// Somebody succeeded.
    Executed,
    /// As many have failed as may.
    Failed,
}

has!(ledger: OnceStatus);
