//! Mutex: one holder at a time.
//!
//! Types only; the rules are in `konductor-primitives`.
#![allow(clippy::duplicated_attributes, reason = "one printcolumn is like the next")]
#![allow(unreachable_pub, reason = "the schema derive repeats the struct where nobody can reach it")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::ledger::{Common, Ledger, has};

/// What a Mutex should be.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "Mutex",
    plural = "mutexes",
    shortname = "kmx",
    category = "konductor",
    namespaced,
    status = "MutexStatus",
    derive = "PartialEq",
    doc = "Mutual exclusion: of the Jobs and Pods annotated with konductor.io/mutex: NAME, one at a time runs its containers. The next one starts when the end of the last one is proven, not when a time is up.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Holder", type_ = "string", json_path = ".status.holder"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.holders[0].grantedAt"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.queue[0].name", priority = "1"),
    printcolumn(name = "Token", type_ = "string", json_path = ".status.holders[0].token", priority = "1"),
    printcolumn(
        name = "Suspect",
        type_ = "string",
        json_path = ".status.holders[0].suspect",
        priority = "1"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct MutexSpec {
    /// How long nothing may be heard of a holder before it counts as lost, e.g. 30m. A Claim from outside of the cluster is heard
    /// of when it is renewed; a Pod while its node or the sidecar konductor-hold answers, so on a healthy node it is never lost, and
    /// in less than 60s only if it has that sidecar. A Pod that is lost is deleted. It is never the longest time that a holder may
    /// run. Left out: a hold ends when the end of its holder is proven, and not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')")
        .message("ttl must be longer than 0s, e.g. 30m; leave it out for release by proof only"))]
    pub ttl: Option<GoDuration>,
}

/// Who holds a Mutex and who waits for it. Written by Konductor's operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MutexStatus {
    /// Unlocked or Locked.
    pub phase: Option<MutexPhase>,
    /// Who holds, as job/NAME or pod/NAME; absent while nobody does.
    #[schemars(length(max = 260))]
    pub holder: Option<String>,
    /// What every kind has.
    #[serde(flatten)]
    pub common: Common,
    /// What every kind has that can be held.
    #[serde(flatten)]
    pub ledger: Ledger,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MutexPhase {
    /// Nobody holds.
    Unlocked,
    /// Somebody holds.
    Locked,
}

has!(ledger: MutexStatus);
