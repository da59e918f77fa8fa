//! WaitGroup: when all of them are through.
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

/// What a WaitGroup should be.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "WaitGroup",
    plural = "waitgroups",
    shortname = "kwg",
    category = "konductor",
    namespaced,
    status = "WaitGroupStatus",
    derive = "PartialEq",
    doc = "Waits for a group: Jobs and Pods annotated with konductor.io/waitgroup: NAME are members until their end is proven, whether they succeeded or not; those annotated with konductor.io/waitgroup-wait: NAME start when all members are through.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Done", type_ = "string", json_path = ".status.doneOf"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.doneAt", priority = "1")
)]
#[serde(rename_all = "camelCase")]
pub struct WaitGroupSpec {
    /// How long a group that is through stays Done before a new member opens a new round, e.g. 1h. Left out: it stays
    /// Done for good, and members that come later count for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')")
        .message("ttl must be longer than 0s, e.g. 1h; leave it out if the group stays Done"))]
    pub ttl: Option<GoDuration>,
    /// Not Done before so many members were seen. Without it the group is Done as soon as those are through that were
    /// seen so far, and a member that is created later comes too late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub expect_at_least: Option<i64>,
}

/// Who is a member of a WaitGroup, who of them is through, and who waits. Written by Konductor's operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WaitGroupStatus {
    /// Waiting or Done.
    pub phase: Option<WaitGroupPhase>,
    /// How many members are not through yet.
    pub counter: i64,
    /// Through and all, as 4/7.
    #[schemars(length(max = 32))]
    pub done_of: Option<String>,
    /// Members that are not through yet.
    pub open: Members,
    /// Members that are through.
    pub done: Members,
    /// Since when the group is Done.
    pub done_at: Option<Time>,
    /// What every kind has.
    #[serde(flatten)]
    pub common: Common,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WaitGroupPhase {
    /// Members are missing, or not through yet.
    Waiting,
    /// All members are through.
    Done,
}

has!(common: WaitGroupStatus);
