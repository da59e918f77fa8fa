//! The ledger, and what else the statuses of all kinds have in common.
//!
//! Types only. What must stay true: whoever is in `holders` holds and nobody else does; every change of it is one
//! compare-and-swap; an entry that leaves is found in `history` with the evidence it left on.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::claim::ClaimingPod;

/// How many waiters a status lists; `waiting` counts all.
pub const QUEUE_SHOWN: usize = 10;
/// How many releases a status remembers.
pub const HISTORY_KEPT: usize = 5;
/// Entries that a ledger may have: what an object can hold, with room to spare.
pub const ENTRIES: usize = 4000;

/// What the status of every kind begins with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Common {
    /// The generation of the spec that this status is about.
    pub observed_generation: Option<i64>,
    /// Ready: this generation was accepted. Open, Held, Available or Done: where it stands, in a sentence. Stalled: a
    /// person must act, and the message says what can be done.
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How many wait.
    pub waiting: i64,
    /// The first ten that wait, the next one first.
    #[schemars(length(max = 10))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub queue: Vec<Waiter>,
}

/// What the status of every kind that can be held has besides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Ledger {
    /// The ledger: who is in it holds, and nobody else does.
    #[schemars(length(max = 4000))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub holders: Vec<Holder>,
    /// The last five holds that ended, the latest first; more if more ended at once.
    #[schemars(length(max = 4000))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub history: Vec<Release>,
    /// The highest token that was ever given out.
    #[schemars(length(max = 20))]
    pub last_token: Option<String>,
}

/// A status, whatever its kind.
pub trait Status: Clone + Default {
    /// What every kind has.
    fn common(&self) -> &Common;
    /// The same, to be changed.
    fn common_mut(&mut self) -> &mut Common;
}

/// A status with a ledger.
pub trait Held: Status {
    /// The ledger.
    fn ledger(&self) -> &Ledger;
    /// The same, to be changed.
    fn ledger_mut(&mut self) -> &mut Ledger;
}

/// Who holds; nobody where there is no status yet.
pub fn holders<S: Held>(status: Option<&S>) -> &[Holder] {
    status.map(|status| status.ledger().holders.as_slice()).unwrap_or_default()
}

/// Says of a status type where the shared parts are.
macro_rules! has {
    (common: $status:ty) => {
        impl $crate::ledger::Status for $status {
            fn common(&self) -> &$crate::ledger::Common {
                &self.common
            }
            fn common_mut(&mut self) -> &mut $crate::ledger::Common {
                &mut self.common
            }
        }
    };
    (ledger: $status:ty) => {
        $crate::ledger::has!(common: $status);
        impl $crate::ledger::Held for $status {
            fn ledger(&self) -> &$crate::ledger::Ledger {
                &self.ledger
            }
            fn ledger_mut(&mut self) -> &mut $crate::ledger::Ledger {
                &mut self.ledger
            }
        }
    };
}
pub(crate) use has;

/// What kind of object takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ParticipantKind {
    /// The Job itself, once, whatever its parallelism and retries.
    Job,
    /// One Pod.
    Pod,
    /// A Claim: somebody else, who asks by name.
    Claim,
}

/// One entry of the ledger: who holds, since when, and which of its pods were told to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// Job, Pod or Claim.
    pub kind: ParticipantKind,
    /// Name of the Job, Pod or Claim.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID of the Job, Pod or Claim: the identity that counts.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// The fencing token of this hold: a decimal number that rises with every grant of this object. A resource that
    /// remembers the highest token it has seen can refuse a lower one.
    #[schemars(length(max = 20))]
    pub token: String,
    /// When the hold was written here.
    pub granted_at: Time,
    /// Of a RWMutex: Read, shared with other readers, or Write, alone. Absent for other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Of a Semaphore: how many permits, if more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permits: Option<i64>,
    /// The pods that were, or are about to be, told to start under this hold. The hold ends only when each of them is
    /// proven dead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10_000))]
    pub pods: Vec<ToldPod>,
    /// Of a Claim: who it says it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub holder: Option<String>,
    /// Of a Claim that was made in a pod: that pod, with whose end the hold ends, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<ClaimingPod>,
    /// Of a Job: it has its place, and none of its pods was told to start yet. Absent once one was.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reserved: bool,
    /// Why the holder may be gone although nothing proves it, and what ends the doubt. Absent while all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub suspect: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// Of a RWMutex: Read, shared with other readers, or Write, alone. Absent for other kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Together with other readers.
    Read,
    /// Alone.
    Write,
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
    /// Job, Pod or Claim.
    pub kind: ParticipantKind,
    /// Name of the Job, Pod or Claim.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Of a Claim: who it says it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub holder: Option<String>,
    /// Since when it waits.
    pub since: Time,
    /// Of a RWMutex: Read or Write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Of a Semaphore: how many permits it asks for, if more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permits: Option<i64>,
    /// Its priority, if it is not 0. Higher goes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Why it cannot be granted yet although it is queued, e.g. because none of its pods is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub not_yet: Option<String>,
}

/// A hold that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Who held, as `job/name`, `pod/name` or `claim/name`.
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

/// What proves that a holder cannot run any more, the weakest first. Deletion, SIGTERM, an unready node prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Evidence {
    /// T: nothing was heard of whoever held for as long as the ttl allows. It proves nothing about them; the token keeps a late one
    /// out.
    T,
    /// A3: somebody with the right to do so broke the hold, and says that whoever held has ended.
    A3,
    /// A2: the Node object is gone, and stayed so: whoever removed it says that the machine is off.
    A2,
    /// A1: the node carries the taint node.kubernetes.io/out-of-service and is not ready: an administrator says that the
    /// machine is off.
    A1,
    /// P2: every critical container has ended and none may start again; the pod may still be stopping others.
    P2,
    /// P1: the kubelet's last word: the pod is Succeeded or Failed and no container runs.
    P1,
    /// P0: it never ran, and cannot start under this hold any more.
    P0,
    /// Released: who held gave it back: the Claim was deleted, or its outcome said.
    Released,
}

impl ParticipantKind {
    /// As in `job/name`.
    pub const fn lower(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Pod => "pod",
            Self::Claim => "claim",
        }
    }
}

impl Holder {
    /// `job/name`, `pod/name` or `claim/name`.
    pub fn display(&self) -> String {
        format!("{}/{}", self.kind.lower(), self.name)
    }

    /// The record of that pod, if it was told.
    pub fn told(&self, pod_uid: &str) -> Option<&ToldPod> {
        self.pods.iter().find(|pod| pod.uid == pod_uid)
    }
}

impl Waiter {
    /// `job/name`, `pod/name` or `claim/name`.
    pub fn display(&self) -> String {
        format!("{}/{}", self.kind.lower(), self.name)
    }
}

impl Evidence {
    /// What was seen, as the end of "released, because …".
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::T => "nothing was heard of it for as long as its ttl allows",
            Self::A3 => "somebody with the right to do so broke the hold",
            Self::Released => "it was given back",
            Self::P0 => "it never ran, and cannot start under this hold any more",
            Self::P1 => "the kubelet reported the end of all its containers",
            Self::P2 => "all its critical containers have ended and cannot start again",
            Self::A1 => "its node is out of service, says an administrator",
            Self::A2 => "its node was removed from the cluster",
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::T => "T",
            Self::A3 => "A3",
            Self::Released => "Released",
            Self::P0 => "P0",
            Self::P1 => "P1",
            Self::P2 => "P2",
            Self::A1 => "A1",
            Self::A2 => "A2",
        })
    }
}
