//! RWMutex: many readers, or one writer.
//!
//! Types only; the rules are in `konductor-primitives`.
#![allow(clippy::duplicated_attributes, reason = "one printcolumn is like the next")]
#![allow(unreachable_pub, reason = "the schema derive repeats the struct where nobody can reach it")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::ledger::{Common, Ledger, has};

/// What a RWMutex should be.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "RWMutex",
    plural = "rwmutexes",
    shortname = "krw",
    category = "konductor",
    namespaced,
    status = "RWMutexStatus",
    derive = "PartialEq",
    doc = "Readers and writers: Jobs and Pods annotated with konductor.io/rwmutex-read: NAME run together, one annotated with konductor.io/rwmutex-write: NAME runs alone. The next one starts when the end of those before it is proven, not when a time is up.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Readers", type_ = "integer", json_path = ".status.readers"),
    printcolumn(name = "Writer", type_ = "string", json_path = ".status.writeHolder"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.queue[0].name", priority = "1"),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policy", priority = "1")
)]
#[serde(rename_all = "camelCase")]
pub struct RWMutexSpec {
    /// How long nothing may be heard of a holder before it counts as lost, e.g. 5m; each reader for itself. A Claim from outside of
    /// the cluster is heard of when it is renewed; a Pod while its node or the sidecar konductor-hold answers, so on a healthy node
    /// it is never lost, and in less than 60s only if it has that sidecar. A Pod that is lost is deleted. It is never the longest
    /// time that a holder may run. Left out: a hold ends when the end of its holder is proven, and not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')")
        .message("ttl must be longer than 0s, e.g. 5m; leave it out for release by proof only"))]
    pub ttl: Option<GoDuration>,
    /// Who goes first where readers and writers wait. Fair: the order of the queue; readers that follow each other enter
    /// together, and a waiting writer stops the readers behind it. PhaseFair: when a writer leaves, all readers that wait
    /// then enter together, so a reader waits for at most one writer. PreferReaders: readers enter whenever no writer
    /// holds; writers may starve. PreferWriters: no reader enters while a writer waits; readers may starve. A new policy
    /// takes effect at the next grant; nobody is put out.
    #[serde(default)]
    pub policy: RWMutexPolicy,
}

/// Who goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RWMutexPolicy {
    /// In the order of the queue.
    #[default]
    Fair,
    /// When a writer leaves, all readers that wait then.
    PhaseFair,
    /// Readers whenever no writer holds.
    PreferReaders,
    /// No reader while a writer waits.
    PreferWriters,
}

/// Who holds a RWMutex and who waits for it. Written by Konductor's operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RWMutexStatus {
    /// Unlocked, ReadLocked or WriteLocked.
    pub phase: Option<RWMutexPhase>,
    /// Who holds it to write, as job/NAME or pod/NAME; absent while nobody does.
    #[schemars(length(max = 260))]
    pub write_holder: Option<String>,
    /// How many hold it to read.
    pub readers: i64,
    /// What every kind has.
    #[serde(flatten)]
    pub common: Common,
    /// What every kind has that can be held.
    #[serde(flatten)]
    pub ledger: Ledger,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RWMutexPhase {
    /// Nobody holds.
    Unlocked,
    /// Readers hold.
    ReadLocked,
    /// A writer holds.
    WriteLocked,
}

has!(ledger: RWMutexStatus);
