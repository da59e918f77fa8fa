//! The frame that all primitives share: what a step answers.
//!
//! Types only. A step never acts. What it cannot conclude from a cache it asks for ([`Lookup`]); what must be taken
//! back before an entry may leave the ledger it names ([`Withdrawal`], [`Expiry`]); the status it proposes is right without either.

use jiff::Timestamp;
use konductor_api::ledger::{Evidence, ParticipantKind};

/// The answer of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step<S> {
    /// What the status should be, given what is known. Equal to the present one if nothing has to change.
    pub status: S,
    /// Objects that the snapshot misses: read them from the API server, add what was found, and step again.
    pub lookups: Vec<Lookup>,
    /// Verdicts to be withdrawn: do it, put the pods that came back into the snapshot, and step again.
    pub withdrawals: Vec<Withdrawal>,
    /// Claims that are lost: tell them, put what came back into the snapshot, and step again.
    pub expiries: Vec<Expiry>,
    /// Who waits, the next one first, each by the place it has among the snapshot's participants.
    pub order: Vec<usize>,
    /// When to step again even if nothing happens.
    pub wake_at: Option<Timestamp>,
}

/// An object whose absence must be read from the API server itself: a cache that lags looks the same as a deletion.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lookup {
    /// Job, Pod or Claim.
    pub kind: ParticipantKind,
    /// Its name.
    pub name: String,
    /// The identity that is asked for; another object of that name means that this one is gone. Empty where none is
    /// known: then any object of that name is the one.
    pub uid: String,
}

impl Lookup {
    /// How `Snapshot::absent` names it: by its UID, or where there is none by kind and name.
    pub fn key(&self) -> String {
        if self.uid.is_empty() { format!("{}/{}", self.kind.lower(), self.name) } else { self.uid.clone() }
    }
}

/// A pod whose verdict has to become `released` before its hold may end, so that no later run of its init containers
/// passes on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Withdrawal {
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod.
    pub uid: String,
    /// The run that the ledger names. Where it was never told, it is written all the same: an operator that still means to
    /// tell it then finds another version of the pod.
    pub run: u64,
    /// Start of the waiter that the ledger names, in seconds since 1970.
    pub waiter_started_at: i64,
    /// Is it lost to silence? Then it is to be deleted afterwards: if it lives after all, its kubelet ends it as soon as that hears
    /// of it.
    pub lost: bool,
}

/// A claim that has to be told that it is lost before its hold may end, on the condition that it was not renewed meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry {
    /// Name of the claim.
    pub name: String,
    /// UID of the claim.
    pub uid: String,
    /// Why: T or A3.
    pub evidence: Evidence,
}
