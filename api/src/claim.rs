//! Claim: how somebody takes part who is no annotated Job or Pod.
//!
//! Types, and what follows from a spec alone; the rules are in `konductor-primitives`. What must stay true: all of a spec but
//! `renewTime` and `outcome` is fixed, so that whoever holds cannot come to hold something else.
#![allow(clippy::duplicated_attributes, reason = "one printcolumn is like the next")]
#![allow(unreachable_pub, reason = "the schema derive repeats the struct where nobody can reach it")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::options::{OnBusy, Options};
use crate::participation::{Kind, PrimitiveRef, Role};

/// Of a Lease whose claim says nothing of a ttl.
pub const LEASE_TTL: GoDuration = GoDuration::from_seconds(15);

/// What somebody asks for.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "Claim",
    plural = "claims",
    shortname = "kcl",
    category = "konductor",
    namespaced,
    status = "ClaimStatus",
    derive = "PartialEq",
    doc = "How somebody takes part in a primitive who is no annotated Job or Pod: a person at a terminal, a script, a program. Creating it asks, its status answers, deleting it gives back what it holds.",
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.primitive.kind"),
    printcolumn(name = "Primitive", type_ = "string", json_path = ".spec.primitive.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Holder", type_ = "string", json_path = ".spec.holder"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "TTL", type_ = "string", json_path = ".spec.ttl", priority = "1"),
    printcolumn(name = "Renewed", type_ = "date", json_path = ".spec.renewTime", priority = "1"),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority", priority = "1"),
    printcolumn(name = "Pod", type_ = "string", json_path = ".spec.pod.name", priority = "1"),
    printcolumn(name = "Token", type_ = "string", json_path = ".status.token", priority = "1")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.primitive == oldSelf.primitive && self.holder == oldSelf.holder && has(self.mode) == has(oldSelf.mode) && (!has(self.mode) || self.mode == oldSelf.mode) && has(self.permits) == has(oldSelf.permits) && (!has(self.permits) || self.permits == oldSelf.permits) && has(self.ttl) == has(oldSelf.ttl) && (!has(self.ttl) || self.ttl == oldSelf.ttl) && has(self.timeout) == has(oldSelf.timeout) && (!has(self.timeout) || self.timeout == oldSelf.timeout) && has(self.priority) == has(oldSelf.priority) && (!has(self.priority) || self.priority == oldSelf.priority) && has(self.requester) == has(oldSelf.requester) && (!has(self.requester) || self.requester == oldSelf.requester) && has(self.binding) == has(oldSelf.binding) && (!has(self.binding) || self.binding == oldSelf.binding) && has(self.pod) == has(oldSelf.pod) && (!has(self.pod) || self.pod == oldSelf.pod)")
        .message("a claim is fixed once it exists, but for renewTime and outcome: delete it and create another one"),
    validation = Rule::new("!has(oldSelf.outcome) || (has(self.outcome) && self.outcome == oldSelf.outcome)")
        .message("the outcome was said already, and the first word counts"),
    validation = Rule::new("self.primitive.kind == 'RWMutex' ? has(self.mode) && self.mode in ['Read', 'Write'] : true")
        .message("say how the RWMutex is claimed: mode: Read, or mode: Write"),
    validation = Rule::new("!has(self.mode) || (self.primitive.kind == 'Barrier' ? self.mode in ['ArriveAndWait', 'Arrive', 'Wait'] : self.primitive.kind == 'WaitGroup' ? self.mode in ['Join', 'Wait'] : self.primitive.kind == 'RWMutex')")
        .message("a mode is for a RWMutex (Read, Write), a Barrier (ArriveAndWait, Arrive, Wait) or a WaitGroup (Join, Wait): remove it, or use one of those"),
    validation = Rule::new("!has(self.permits) || self.primitive.kind == 'Semaphore'")
        .message("permits are those of a Semaphore: remove them"),
    validation = Rule::new("!has(self.ttl) || self.primitive.kind in ['Mutex', 'RWMutex', 'Semaphore', 'Lease']")
        .message("ttl is for a Mutex, RWMutex, Semaphore or Lease: nothing else is given back by time; remove it"),
)]
pub struct ClaimSpec {
    /// What is claimed, in the claim's namespace.
    pub primitive: ClaimedPrimitive,
    /// How. Of a RWMutex: Read or Write. Of a Barrier: ArriveAndWait, which is the default, Arrive, or Wait. Of a WaitGroup:
    /// Join, which is the default, or Wait. Absent for other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ClaimMode>,
    /// Of a Semaphore: how many permits, 1 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub permits: Option<i64>,
    /// Who it is for, as people should read it. What counts is the claim itself.
    #[schemars(length(min = 1, max = 253))]
    pub holder: String,
    /// How long the claim may go without being renewed, once it is granted, before it counts as lost and what it holds is
    /// given to the next one; at least 3s. The operator counts from what it saw, on its own clock, and never sooner. Left
    /// out: the ttl of the primitive; without one a Lease has 15s, and everything else is held until the claim is deleted.
    /// Not for what is claimed in a pod: there the end of the pod counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('3s')")
        .message("ttl must be at least 3s, e.g. 30s; leave it out to hold until the claim is deleted"))]
    pub ttl: Option<GoDuration>,
    /// Any change of it renews the claim. What it says is for people: it is compared with no clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_time: Option<MicroTime>,
    /// How long it waits before it is denied, e.g. 30m. 0s: it does not wait at all. Left out: without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// Higher goes first; left out: the default of the primitive, else 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// How it went, said once by who holds it, and then the hold ends. A Once is executed by Succeeded only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ClaimOutcome>,
    /// Pod, which is the default: a claim that is made in a pod ends with that pod, too. None: it does not, like one that is
    /// made outside of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<ClaimBinding>,
    /// Who made it. Filled in by Konductor, which accepts no other name: that user, or in a pod that pod, may renew it, say
    /// its outcome and delete it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub requester: Option<String>,
    /// The pod that it was made in. Filled in by Konductor, which accepts no other. When that pod's end is proven, the claim
    /// has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<ClaimingPod>,
}

/// What is claimed, in the claim's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedPrimitive {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How. Of a RWMutex: Read or Write. Of a Barrier: ArriveAndWait, which is the default, Arrive, or Wait. Of a WaitGroup: Join,
/// which is the default, or Wait. Absent for other kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClaimMode {
    /// Of a RWMutex: together with other readers.
    Read,
    /// Of a RWMutex: alone.
    Write,
    /// Of a Barrier: it arrives, and is granted when the barrier opens.
    ArriveAndWait,
    /// Of a Barrier: it arrives, and is granted when that is counted. It counts until the barrier opens, or the claim is gone.
    Arrive,
    /// Of a Barrier or WaitGroup: granted when that is open or done; it does not count itself.
    Wait,
    /// Of a WaitGroup: it is a member until its outcome, or its deletion.
    Join,
}

/// How it went, said once by who holds it, and then the hold ends. A Once is executed by Succeeded only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClaimOutcome {
    /// It did what it was there for.
    Succeeded,
    /// It did not.
    Failed,
}

/// Pod, which is the default: a claim that is made in a pod ends with that pod, too. None: it does not, like one that is made
/// outside of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClaimBinding {
    /// It does.
    Pod,
    /// It does not.
    None,
}

/// The pod that it was made in, this one and no later one of its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimingPod {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its UID.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// The answer. Written by Konductor's operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimStatus {
    /// Waiting, Granted, Denied, Expired or Released. The last three are final.
    pub phase: Option<ClaimPhase>,
    /// The fencing token of what it holds: a decimal number that rises with every grant of the primitive. Absent where
    /// nothing is held.
    #[schemars(length(max = 20))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The generation of the spec that this status is about.
    pub observed_generation: Option<i64>,
    /// Ready: it was read. Granted: what it has, or waits for, in a sentence.
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Waiting, Granted, Denied, Expired or Released. The last three are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClaimPhase {
    /// It is not its turn yet.
    Waiting,
    /// It has what it asked for.
    Granted,
    /// It will not get it.
    Denied,
    /// It had it, and lost it: it was not renewed in time, or somebody broke it, or its pod has ended.
    Expired,
    /// It had it, and gave it back.
    Released,
}

impl ClaimPhase {
    /// Does it stay so for ever?
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Denied | Self::Expired | Self::Released)
    }
}

impl ClaimSpec {
    /// What is claimed.
    pub fn primitive(&self) -> PrimitiveRef {
        PrimitiveRef { kind: self.primitive.kind, name: self.primitive.name.clone() }
    }

    /// As what it takes part; `None` if the mode is none of that kind, which the API server accepts from nobody.
    pub fn role(&self) -> Option<Role> {
        Some(match (self.primitive.kind, self.mode) {
            (Kind::Gate, None) | (Kind::WaitGroup | Kind::Barrier, Some(ClaimMode::Wait)) => Role::Await,
            (Kind::WaitGroup, None | Some(ClaimMode::Join)) => Role::Join,
            (Kind::Barrier, None | Some(ClaimMode::ArriveAndWait | ClaimMode::Arrive)) => Role::Meet,
            (Kind::Semaphore, None) => {
                Role::Take(self.permits.and_then(|permits| u32::try_from(permits).ok()).unwrap_or(1))
            }
            (Kind::RWMutex, Some(ClaimMode::Read)) => Role::Read,
            (Kind::RWMutex, Some(ClaimMode::Write)) => Role::Write,
            (Kind::Mutex | Kind::Lease | Kind::Once, None) => Role::Hold,
            _ => return None,
        })
    }

    /// How it waits. Who waits for no time at all does not want to wait for others.
    pub fn options(&self) -> Options {
        let at_once = self.timeout.is_some_and(|timeout| timeout.as_nanoseconds() == 0);
        Options {
            timeout: self.timeout.filter(|_| !at_once),
            on_busy: if at_once { OnBusy::Fail } else { OnBusy::Wait },
            priority: self.priority,
            ..Options::default()
        }
    }
}
