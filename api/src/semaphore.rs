//! Semaphore: so many permits, and no more.
//!
//! Types only; the rules are in `konductor-primitives`.
#![allow(clippy::duplicated_attributes, reason = "one printcolumn is like the next")]
#![allow(unreachable_pub, reason = "the schema derive repeats the struct where nobody can reach it")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::ledger::{Common, Ledger, has};

/// What a Semaphore should be.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "Semaphore",
    plural = "semaphores",
    shortname = "ksem",
    category = "konductor",
    namespaced,
    status = "SemaphoreStatus",
    derive = "PartialEq",
    doc = "A limit: the Jobs and Pods annotated with konductor.io/semaphore: NAME, or NAME=PERMITS, that run at the same time have at most spec.permits permits together. A permit is free again when the end of its holder is proven, not when a time is up.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Used", type_ = "string", json_path = ".status.used"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.queue[0].name", priority = "1"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.queue[0].since", priority = "1")
)]
#[serde(rename_all = "camelCase")]
pub struct SemaphoreSpec {
    /// How many permits there are. Raising it lets the next ones in at once. Lowering it puts nobody out: the semaphore
    /// is OverCommitted until enough holders have ended, and whoever asks for more than there are is refused.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub permits: i64,
    /// How long nothing may be heard of a holder before it counts as lost, e.g. 30m; each for itself. A Claim from outside of the
    /// cluster is heard of when it is renewed; a Pod while its node or the sidecar konductor-hold answers, so on a healthy node it
    /// is never lost, and in less than 60s only if it has that sidecar. A Pod that is lost is deleted. It is never the longest time
    /// that a holder may run. Left out: a hold ends when the end of its holder is proven, and not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')")
        .message("ttl must be longer than 0s, e.g. 30m; leave it out for release by proof only"))]
    pub ttl: Option<GoDuration>,
}

/// Who holds permits of a Semaphore and who waits for some. Written by Konductor's operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SemaphoreStatus {
    /// Ready, Full or OverCommitted.
    pub phase: Option<SemaphorePhase>,
    /// How many permits are held.
    pub in_use: i64,
    /// How many are free; 0 also while more are held than there are.
    pub available: i64,
    /// Held and all, as 3/8.
    #[schemars(length(max = 32))]
    pub used: Option<String>,
    /// What every kind has.
    #[serde(flatten)]
    pub common: Common,
    /// What every kind has that can be held.
    #[serde(flatten)]
    pub ledger: Ledger,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SemaphorePhase {
    /// Permits are free.
    Ready,
    /// None is free.
    Full,
    /// More are held than there are, because there were more before.
    OverCommitted,
}

has!(ledger: SemaphoreStatus);
