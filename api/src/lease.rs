//! Lease: one of many, as long as it lives.
//!
//! Types only; the rules are in `konductor-primitives`.
#![allow(clippy::duplicated_attributes, reason = "one printcolumn is like the next")]
#![allow(unreachable_pub, reason = "the schema derive repeats the struct where nobody can reach it")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::ledger::{Common, Ledger, has};

/// What a Lease should be.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "Lease",
    plural = "leases",
    shortname = "kls",
    category = "konductor",
    namespaced,
    status = "LeaseStatus",
    derive = "PartialEq",
    doc = "A singleton or a leader: of the Jobs and Pods annotated with konductor.io/lease: NAME, one runs and the others stand by. Whoever holds it keeps it while it lives; the next one is chosen when its end is proven. kubectl get lease shows those of coordination.k8s.io: use kls, or leases.konductor.io.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Holder", type_ = "string", json_path = ".status.holder"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.holders[0].grantedAt"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "TTL", type_ = "string", json_path = ".spec.ttl", priority = "1"),
    printcolumn(name = "Token", type_ = "string", json_path = ".status.holders[0].token", priority = "1"),
    printcolumn(
        name = "Suspect",
        type_ = "string",
        json_path = ".status.holders[0].suspect",
        priority = "1"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct LeaseSpec {
    /// How long nothing may be heard of a leader before it counts as lost, e.g. 30s. A Claim from outside of the cluster is heard of
    /// when it is renewed, and has 15s if nobody says anything; a Pod while its node or the sidecar konductor-hold answers, so on a
    /// healthy node it is never lost, and in less than 60s only if it has that sidecar. A Pod that is lost is deleted. It is never
    /// the longest time that a leader may run. Left out: a Pod is replaced when its end is proven, and not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')")
        .message("ttl must be longer than 0s, e.g. 1h; leave it out for release by proof only"))]
    pub ttl: Option<GoDuration>,
    /// The priority of waiters that have no konductor.io/priority of their own. Higher goes first; nobody who holds is
    /// put out. 0 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub priority: Option<i32>,
}

/// Who holds a Lease and who stands by. Written by Konductor's operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseStatus {
    /// Available or Held.
    pub phase: Option<LeasePhase>,
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
pub enum LeasePhase {
    /// Nobody holds.
    Available,
    /// Somebody holds.
    Held,
}

has!(ledger: LeaseStatus);
