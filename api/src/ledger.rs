//! The ledger: what the status of every primitive that can be held has in common.
//!
//! Types only. What must stay true: whoever is in `holders` holds and nobody else does; every change of it is one
//! compare-and-swap; an entry that leaves is found in `history` with the evidence it left on.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many waiters a status lists; `waiting` counts all.
pub const QUEUE_SHOWN: usize = 10;
/// How many releases a status remembers.
pub const HISTORY_KEPT: usize = 5;

/// What kind of object takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ParticipantKind {
    /// The Job itself, once, whatever its parallelism and retries.
    Job,
    /// One Pod.
    Pod,
}

/// One entry of the ledger: who holds, since when, and which of its pods were told to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// Job or Pod.
    pub kind: ParticipantKind,
    /// Name of the Job or Pod.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID of the Job or Pod: the identity that counts.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// The fencing token of this hold: a decimal number that rises with every grant of this object. A resource that
    /// remembers the highest token it has seen can refuse a lower one.
    #[schemars(length(max = 20))]
    pub token: String,
    /// When the hold was written here.
    pub granted_at: Time,
    /// The pods that were, or are about to be, told to start under this hold. The hold ends only when each of them is
    /// proven dead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10_000))]
    pub pods: Vec<ToldPod>,
    /// Why the holder may be gone although nothing proves it, and what ends the doubt. Absent while all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub suspect: Option<String>,
}

/// A pod that was told to start, and the run of its waiter that was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToldPod {
    /// Name of the pod.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID of the pod.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Number of the grant. A higher one is issued when the pod's init containers run again while it holds.
    pub run: i64,
    /// Start of the run of konductor-wait that this grant is for.
    pub waiter_started_at: Time,
    /// IDs of the pod's containers that were there before this grant: their end proves nothing about the run that
    /// this grant admitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub ran_before: Vec<String>,
}

/// A place in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waiter {
    /// Job or Pod.
    pub kind: ParticipantKind,
    /// Name of the Job or Pod.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Since when it waits.
    pub since: Time,
    /// Why it cannot be granted yet although it is queued, e.g. because none of its pods is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub not_yet: Option<String>,
}

/// A hold that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Who held, as `job/name` or `pod/name`.
    #[schemars(length(max = 260))]
    pub holder: String,
    /// UID of who held.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// The token of that hold.
    #[schemars(length(max = 20))]
    pub token: String,
    /// What proved the end.
    pub evidence: Evidence,
    /// When the release was written.
    pub at: Time,
}

/// What proves that a holder cannot run any more. Deletion, SIGTERM, an unready node prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Evidence {
    /// P2: every critical container has ended and none may start again; the pod may still be stopping others.
    P2,
    /// P1: the kubelet's last word: the pod is Succeeded or Failed and no container runs.
    P1,
    /// P0: it never ran and cannot start any more.
    P0,
}

impl ParticipantKind {
    /// As in `job/name`.
    pub const fn lower(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Pod => "pod",
        }
    }
}

impl Holder {
    /// `job/name` or `pod/name`.
    pub fn display(&self) -> String {
        format!("{}/{}", self.kind.lower(), self.name)
    }

    /// The record of that pod, if it was told.
    pub fn told(&self, pod_uid: &str) -> Option<&ToldPod> {
        self.pods.iter().find(|pod| pod.uid == pod_uid)
    }
}

impl Waiter {
    /// `job/name` or `pod/name`.
    pub fn display(&self) -> String {
        format!("{}/{}", self.kind.lower(), self.name)
    }
}

impl Evidence {
    /// What was seen, as the end of "released, because …".
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::P0 => "it never ran and cannot start any more",
            Self::P1 => "the kubelet reported the end of all its containers",
            Self::P2 => "all its critical containers have ended and cannot start again",
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::P0 => "P0",
            Self::P1 => "P1",
            Self::P2 => "P2",
        })
    }
}
