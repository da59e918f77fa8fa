//! A step as the operator commits it, of whatever kind, and what people read afterwards.

use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use konductor_api::barrier::{Barrier, BarrierStatus};
use konductor_api::conditions::STALLED;
use konductor_api::gate::{Gate, GateStatus};
use konductor_api::lease::{Lease, LeaseStatus};
use konductor_api::ledger::{Common, HISTORY_KEPT, Ledger, Status};
use konductor_api::mutex::{Mutex, MutexStatus};
use konductor_api::once::{Once, OnceStatus};
use konductor_api::participation::{Kind, PrimitiveRef, PrimitiveSet};
use konductor_api::rwmutex::{RWMutex, RWMutexStatus};
use konductor_api::semaphore::{Semaphore, SemaphoreStatus};
use konductor_api::waitgroup::{WaitGroup, WaitGroupStatus};
use konductor_primitives::committed;
use konductor_primitives::committed::Committed;
use konductor_primitives::entrance::{Asker, Entrance};
use konductor_primitives::facts::{PodFacts, Suspended};
use konductor_primitives::invariants::Violation;
use konductor_primitives::snapshot::{Participant, Snapshot};
use konductor_primitives::step::Step;
use konductor_primitives::verdict::{JobTelling, Who, telling_job};
use konductor_primitives::{barrier, gate, lease, mutex, once, rwmutex, semaphore, waitgroup};

use super::{name_of, time};

/// What a Job is told that runs.
pub(crate) fn told_of<'a>(
    job: &Who,
    set: &PrimitiveSet,
    pods: &[PodFacts],
    committed: impl Fn(&PrimitiveRef) -> Committed<'a>,
    now: Timestamp,
) -> JobTelling {
    telling_job(job, Suspended::No, set, pods, committed, |_, _| None, now)
}

/// A kind, with its rules.
pub(crate) trait Primitive: Clone {
    type Status: Status + PartialEq + Debug;
    const KIND: Kind;
    fn step(snapshot: &Snapshot<Self>) -> Step<Self::Status>;
    fn check(&self, after: &Self::Status) -> Result<(), Violation>;
    fn parts(&mut self) -> (&mut ObjectMeta, &mut Option<Self::Status>);
    fn committed(&self) -> Committed<'_>;
    /// What a write forgets that releases nobody: all but the last five releases.
    fn forget(status: &mut Self::Status);
}

macro_rules! primitives {
    ($($rules:ident: $kind:ident, $status:ty $(, $ledger:ident)?;)*) => {$(
        impl Primitive for $kind {
            type Status = $status;
            const KIND: Kind = Kind::$kind;
            fn step(snapshot: &Snapshot<Self>) -> Step<$status> {
                $rules::step(snapshot)
            }
            fn check(&self, after: &$status) -> Result<(), Violation> {
                $rules::check(self, after)
            }
            fn parts(&mut self) -> (&mut ObjectMeta, &mut Option<$status>) {
                (&mut self.metadata, &mut self.status)
            }
            fn committed(&self) -> Committed<'_> {
                Committed::$kind(self)
            }
            fn forget(_status: &mut $status) {
                $(_status.$ledger.history.truncate(HISTORY_KEPT);)?
            }
        }
    )*};
}

primitives! {
    barrier: Barrier, BarrierStatus;
    gate: Gate, GateStatus;
    lease: Lease, LeaseStatus, ledger;
    mutex: Mutex, MutexStatus, ledger;
    once: Once, OnceStatus, ledger;
    rwmutex: RWMutex, RWMutexStatus, ledger;
    semaphore: Semaphore, SemaphoreStatus, ledger;
    waitgroup: WaitGroup, WaitGroupStatus;
}

/// A step, checked and committed: what comes back has that revision. The same snapshot again changes nothing.
pub(crate) fn commit_as<P: Primitive>(snapshot: &mut Snapshot<P>, revision: u64) -> P::Status {
    let after = P::step(snapshot).status;
    snapshot.primitive.check(&after).unwrap();
    let (metadata, status) = snapshot.primitive.parts();
    *status = Some(after.clone());
    metadata.resource_version = Some(revision.to_string());
    let mut settled = after.clone();
    P::forget(&mut settled);
    assert_eq!(P::step(snapshot).status, settled, "nothing has happened since");
    after
}

/// The same, as the next revision.
pub(crate) fn commit<P: Primitive>(snapshot: &mut Snapshot<P>) -> P::Status {
    let (metadata, _) = snapshot.primitive.parts();
    let revision: u64 = metadata.resource_version.as_ref().unwrap().parse().unwrap();
    commit_as(snapshot, revision + 1)
}

/// A new one, at revision 7, that nobody has looked at.
pub(crate) fn fresh<P: Primitive>(mut primitive: P) -> P {
    let (metadata, _) = primitive.parts();
    metadata.resource_version = Some("7".to_owned());
    metadata.generation = Some(1);
    metadata.creation_timestamp = Some(time(0));
    primitive
}

/// Where somebody stands, as the pod of it that could be told, if there is one.
pub(crate) fn entrance<P: Primitive>(snapshot: &Snapshot<P>, who: &Participant) -> Entrance {
    let primitive = name_of(P::KIND, "x");
    let asker = Asker {
        primitive: &primitive,
        role: who.role,
        uid: &who.uid,
        member: &who.member,
        since: who.key.since(),
        pod: who.pods.iter().find_map(|pod| Some((pod.uid.as_str(), pod.can_be_told()?))),
        place: None,
        now: snapshot.now,
    };
    committed::entrance(snapshot.primitive.committed(), &asker)
}

/// It may go on, holding or not.
pub(crate) fn is_in(entrance: &Entrance) -> bool {
    matches!(entrance, Entrance::Through | Entrance::Held { .. })
}

/// Not yet.
pub(crate) fn is_closed(entrance: &Entrance) -> bool {
    matches!(entrance, Entrance::Closed { .. })
}

/// Never.
pub(crate) fn is_never(entrance: &Entrance) -> bool {
    matches!(entrance, Entrance::Never { .. })
}

/// Names of those who hold, in the order of the ledger.
pub(crate) fn holders(ledger: &Ledger) -> Vec<&str> {
    ledger.holders.iter().map(|holder| holder.name.as_str()).collect()
}

/// Names of those who wait, in the order of the queue.
pub(crate) fn queue(common: &Common) -> Vec<&str> {
    common.queue.iter().map(|waiter| waiter.name.as_str()).collect()
}

/// UIDs of all who wait, in the order of the queue.
pub(crate) fn line<P, S>(snapshot: &Snapshot<P>, step: &Step<S>) -> Vec<String> {
    step.order.iter().map(|place| snapshot.participants[*place].uid.clone()).collect()
}

/// Somebody has changed the spec.
pub(crate) fn edit<P: Primitive>(snapshot: &mut Snapshot<P>, change: impl FnOnce(&mut P)) {
    change(&mut snapshot.primitive);
    let (metadata, _) = snapshot.primitive.parts();
    metadata.generation = metadata.generation.map(|generation| generation + 1);
}

/// Value and words of a condition.
pub(crate) fn message(common: &Common, type_: &str) -> (String, String) {
    let known = common.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
    (known.status.clone(), known.message.clone())
}

/// Its reason.
pub(crate) fn reason_of(common: &Common, type_: &str) -> String {
    common.conditions.iter().find(|condition| condition.type_ == type_).unwrap().reason.clone()
}

/// Does `Stalled` say that nobody needs to act?
pub(crate) fn is_ready(common: &Common) -> bool {
    common.conditions.iter().any(|condition| condition.type_ == STALLED && condition.status == "False")
}
