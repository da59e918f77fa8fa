//! The rule of each kind: where the generic reconcile meets `konductor-primitives`.
//!
//! One implementation a kind, nothing but wiring.

use std::fmt::Debug;

use konductor_api::gate::{Gate, GateStatus};
use konductor_api::ledger::Holder;
use konductor_api::mutex::{Mutex, MutexStatus};
use konductor_primitives::invariants::Violation;
use konductor_primitives::snapshot::Snapshot;
use konductor_primitives::step::Step;
use konductor_primitives::verdict::Committed;
use konductor_primitives::{gate, invariants, mutex};
use kube::core::NamespaceResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::caches::{Caches, Shelf};

/// A kind of primitive.
pub(crate) trait Rule:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
    type Status: Clone + Debug + Default + PartialEq + Serialize + Send + Sync;

    fn shelf(caches: &Caches) -> &Shelf<Self>;
    fn status(&self) -> Option<&Self::Status>;
    fn step(snapshot: &Snapshot<Self>) -> Step<Self::Status>;
    fn check(&self, after: &Self::Status) -> Result<(), Violation>;
    fn differ_in_queue_only(left: &Self::Status, right: &Self::Status) -> bool;
    /// Who holds; empty for kinds that nobody holds.
    fn holders(&self) -> &[Holder];
    /// Names of the Jobs that it looks at.
    fn objects(&self) -> Vec<String>;
    fn committed(&self) -> Committed<'_>;
}

impl Rule for Gate {
    type Status = GateStatus;

    fn shelf(caches: &Caches) -> &Shelf<Self> {
        &caches.gates
    }

    fn status(&self) -> Option<&GateStatus> {
        self.status.as_ref()
    }

    fn step(snapshot: &Snapshot<Self>) -> Step<GateStatus> {
        gate::step(snapshot)
    }

    fn check(&self, after: &GateStatus) -> Result<(), Violation> {
        invariants::gate(&self.spec, &self.status.clone().unwrap_or_default(), after)
    }

    fn differ_in_queue_only(left: &GateStatus, right: &GateStatus) -> bool {
        gate::differ_in_queue_only(left, right)
    }

    fn holders(&self) -> &[Holder] {
        &[]
    }

    fn objects(&self) -> Vec<String> {
        self.spec.conditions.iter().map(|condition| condition.name.clone()).collect()
    }

    fn committed(&self) -> Committed<'_> {
        Committed::Gate(self)
    }
}

impl Rule for Mutex {
    type Status = MutexStatus;

    fn shelf(caches: &Caches) -> &Shelf<Self> {
        &caches.mutexes
    }

    fn status(&self) -> Option<&MutexStatus> {
        self.status.as_ref()
    }

    fn step(snapshot: &Snapshot<Self>) -> Step<MutexStatus> {
        mutex::step(snapshot)
    }

    fn check(&self, after: &MutexStatus) -> Result<(), Violation> {
        invariants::mutex(&self.status.clone().unwrap_or_default(), after)
    }

    fn differ_in_queue_only(left: &MutexStatus, right: &MutexStatus) -> bool {
        mutex::differ_in_queue_only(left, right)
    }

    fn holders(&self) -> &[Holder] {
        self.status.as_ref().map(|status| status.holders.as_slice()).unwrap_or_default()
    }

    fn objects(&self) -> Vec<String> {
        Vec::new()
    }

    fn committed(&self) -> Committed<'_> {
        Committed::Mutex(self)
    }
}
