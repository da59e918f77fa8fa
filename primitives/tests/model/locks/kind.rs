//! What distinguishes the kinds that can be held: their objects, their shipped rules, and what must be true of those who
//! run at once.
//!
//! What must stay true: what is expected here is said without asking the rules that are checked.

use std::collections::BTreeMap;
use std::fmt::Debug;

use konductor_api::lease::{Lease, LeaseSpec, LeaseStatus};
use konductor_api::ledger::{Holder, Ledger, ParticipantKind, Status};
use konductor_api::mutex::{Mutex, MutexSpec, MutexStatus};
use konductor_api::once::{Once, OnceSpec, OnceStatus};
use konductor_api::participation::{Kind, Role};
use konductor_api::rwmutex::{RWMutex, RWMutexPolicy, RWMutexSpec, RWMutexStatus};
use konductor_api::semaphore::{Semaphore, SemaphoreSpec, SemaphoreStatus};
use konductor_primitives::committed::Committed;
use konductor_primitives::invariants::Violation;
use konductor_primitives::looked::{Looked, Target};
use konductor_primitives::snapshot::Snapshot;
use konductor_primitives::step::Step;
use konductor_primitives::{lease, mutex, once, rwmutex, semaphore};
use serde::Serialize;

use super::world::{Ghost, Job, PODS, World};
use crate::invariants::Invariant;
use crate::mutants::Mutant;
use crate::objects::index;

/// What every kind of lock is checked for.
const SHARED: [Invariant; 10] = [
    "LedgerExclusion",
    "TokenMonotone",
    "ReleaseNeedsEvidence",
    "GrantIdempotent",
    "PriorityRespected",
    "NoUnguardedStart",
    "LedgerBeforeGo",
    "WithdrawBeforeRelease",
    "GrantSingleUse",
    "NoLostWakeup",
];

/// One kind, with the specs that follow each other and what the three pods ask for.
pub(crate) trait Rule: Clone + Debug + Send + Sync + 'static {
    type Object: Clone + Debug + Send;
    type Status: Status + PartialEq + Serialize + Debug + Send;
    const KIND: Kind;

    /// The object under that spec.
    fn object(&self, spec: u8) -> Self::Object;
    fn metadata(object: &mut Self::Object)
    -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    fn set_status(object: &mut Self::Object, status: Self::Status);
    fn step(snapshot: &Snapshot<Self::Object>) -> Step<Self::Status>;
    fn check(object: &Self::Object, after: &Self::Status) -> Result<(), Violation>;
    fn committed(object: &Self::Object) -> Committed<'_>;

    /// Who holds.
    fn holders(_: &Self::Status) -> &[Holder] {
        &[]
    }

    /// The ledger, of what can be held.
    fn ledger_mut(_: &mut Self::Status) -> Option<&mut Ledger> {
        None
    }

    /// How many specs there are.
    fn specs(&self) -> u8 {
        1
    }

    fn roles(&self) -> [Role; PODS] {
        [Role::Hold; PODS]
    }

    fn invariants(&self) -> Vec<Invariant> {
        SHARED.into_iter().chain(["MutualExclusion"]).collect()
    }

    /// What is broken if those participants run, or hold, at once.
    fn together(&self, at_once: &[Role], _spec: u8) -> Option<Invariant> {
        (at_once.len() > 1).then_some("MutualExclusion")
    }

    /// May somebody enter before `first`, who waits in a smaller place and could start?
    fn may_overtake(&self, _spec: u8, _first: Role, _entered: Role, _left: &[Holder]) -> bool {
        false
    }

    /// What is broken by a status that is about to be committed, beside the ledger.
    fn breaks(&self, _before: &Self::Status, _after: &Self::Status, _spec: u8) -> Option<Invariant> {
        None
    }

    /// Does it matter what has really been done?
    fn records_work(&self) -> bool {
        false
    }

    /// The pod whose work is recorded by that change.
    fn recorded(&self, _before: &Self::Status, _after: &Self::Status) -> Option<usize> {
        None
    }

    /// What a broken version would write instead.
    fn mutate(&self, mutant: Mutant, before: &Self::Status, after: &mut Self::Status) {
        let ledger = Self::ledger_mut(after).into_iter();
        let told = ledger.flat_map(|ledger| &mut ledger.holders).flat_map(|holder| &mut holder.pods);
        match mutant {
            Mutant::NeverRaisesRun => told.for_each(|told| told.run = 1),
            Mutant::ForgetsRanBefore => told.for_each(|told| told.ran_before.clear()),
            _ => self.mutate_kind(mutant, before, after),
        }
    }

    /// The same for what only this kind has.
    fn mutate_kind(&self, _: Mutant, _before: &Self::Status, _after: &mut Self::Status) {}

    /// May that pod wait for ever in a world at rest, because nothing is left to do, or because it is not its turn?
    fn may_wait(&self, _world: &World, _pod: usize, _status: &Self::Status) -> bool {
        false
    }

    // What follows is about what opens and is not held.

    /// Which pods come under one key.
    fn keys(&self) -> Option<[u8; PODS]> {
        None
    }

    /// What it looks at.
    fn objects(&self, _: Option<Job>) -> BTreeMap<Target, Looked> {
        BTreeMap::new()
    }

    /// What is broken by a status that is being committed, and what is to be remembered of it.
    fn commits(&self, _: &mut World, _before: &Self::Status, _after: &Self::Status) -> Option<Invariant> {
        None
    }

    /// May that pod be told `go` from this status?
    fn may_go(&self, _: &Self::Status, _spec: u8, _pod: usize, _: Ghost) -> bool {
        false
    }

    /// What a broken version would tell from.
    fn mutate_told(_: Mutant, _: &mut Self::Status) {}

    /// Must the object of that pod stay, although it is over?
    fn needs(&self, _: &Self::Status, _pod: usize) -> bool {
        false
    }
}

macro_rules! object {
    ($object:ident, $status:ty, $module:ident) => {
        type Object = $object;
        type Status = $status;
        const KIND: Kind = Kind::$object;

        fn metadata(object: &mut $object) -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            &mut object.metadata
        }
        fn set_status(object: &mut $object, status: $status) {
            object.status = Some(status);
        }
        fn step(snapshot: &Snapshot<$object>) -> Step<$status> {
            $module::step(snapshot)
        }
        fn check(object: &$object, after: &$status) -> Result<(), Violation> {
            $module::check(object, after)
        }
        fn committed(object: &$object) -> Committed<'_> {
            Committed::$object(object)
        }
    };
    (held $object:ident, $status:ty, $module:ident) => {
        object!($object, $status, $module);

        fn holders(status: &$status) -> &[Holder] {
            &status.ledger.holders
        }
        fn ledger_mut(status: &mut $status) -> Option<&mut Ledger> {
            Some(&mut status.ledger)
        }
    };
}
pub(crate) use object;

#[derive(Clone, Debug)]
pub(crate) struct MutexRule;

impl Rule for MutexRule {
    object!(held Mutex, MutexStatus, mutex);

    fn object(&self, _: u8) -> Mutex {
        Mutex::new("x", MutexSpec::default())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct LeaseRule;

impl Rule for LeaseRule {
    object!(held Lease, LeaseStatus, lease);

    fn object(&self, _: u8) -> Lease {
        Lease::new("x", LeaseSpec::default())
    }
}

/// The permits, as they are changed, and what each pod asks for.
#[derive(Clone, Debug)]
pub(crate) struct SemaphoreRule {
    pub(crate) permits: Vec<i64>,
    pub(crate) wanted: [u32; PODS],
}

impl Rule for SemaphoreRule {
    object!(held Semaphore, SemaphoreStatus, semaphore);

    fn object(&self, spec: u8) -> Semaphore {
        Semaphore::new("x", SemaphoreSpec { permits: self.permits[usize::from(spec)], ttl: None })
    }

    fn specs(&self) -> u8 {
        u8::try_from(self.permits.len()).unwrap()
    }

    fn roles(&self) -> [Role; PODS] {
        self.wanted.map(Role::Take)
    }

    fn invariants(&self) -> Vec<Invariant> {
        SHARED.into_iter().filter(|name| *name != "LedgerExclusion").chain(["SemaphoreBound"]).collect()
    }

    /// Fewer permits put nobody out: what counts is the most there ever were.
    fn together(&self, at_once: &[Role], spec: u8) -> Option<Invariant> {
        let most = self.permits.iter().take(usize::from(spec) + 1).max();
        (Some(&permits(at_once)) > most).then_some("SemaphoreBound")
    }

    fn may_overtake(&self, spec: u8, first: Role, _: Role, _: &[Holder]) -> bool {
        permits(&[first]) > self.permits[usize::from(spec)]
    }

    fn breaks(&self, before: &SemaphoreStatus, after: &SemaphoreStatus, spec: u8) -> Option<Invariant> {
        let enters = after.ledger.holders.iter().any(|new| {
            before.ledger.holders.iter().all(|old| (&old.uid, &old.token) != (&new.uid, &new.token))
        });
        let roles: Vec<_> =
            after.ledger.holders.iter().map(|holder| self.roles()[index(&holder.uid)]).collect();
        (enters && permits(&roles) > self.permits[usize::from(spec)]).then_some("SemaphoreBound")
    }

    fn may_wait(&self, world: &World, pod: usize, _: &SemaphoreStatus) -> bool {
        i64::from(self.wanted[pod]) > self.permits[usize::from(world.lock.spec)]
    }
}

fn permits(roles: &[Role]) -> i64 {
    roles.iter().map(|role| if let Role::Take(permits) = role { i64::from(*permits) } else { 1 }).sum()
}

/// The policies, as they are changed, and who reads.
#[derive(Clone, Debug)]
pub(crate) struct RWMutexRule {
    pub(crate) policies: Vec<RWMutexPolicy>,
    pub(crate) roles: [Role; PODS],
}

impl Rule for RWMutexRule {
    object!(held RWMutex, RWMutexStatus, rwmutex);

    fn object(&self, spec: u8) -> RWMutex {
        RWMutex::new("x", RWMutexSpec { ttl: None, policy: self.policies[usize::from(spec)] })
    }

    fn specs(&self) -> u8 {
        u8::try_from(self.policies.len()).unwrap()
    }

    fn roles(&self) -> [Role; PODS] {
        self.roles
    }

    fn invariants(&self) -> Vec<Invariant> {
        SHARED.into_iter().chain(["RWExclusion"]).collect()
    }

    fn together(&self, at_once: &[Role], _: u8) -> Option<Invariant> {
        (at_once.len() > 1 && at_once.contains(&Role::Write)).then_some("RWExclusion")
    }

    fn may_overtake(&self, spec: u8, first: Role, entered: Role, left: &[Holder]) -> bool {
        let reader_passes_writer = first == Role::Write && entered == Role::Read;
        let writer_passes_reader = first == Role::Read && entered == Role::Write;
        match self.policies[usize::from(spec)] {
            RWMutexPolicy::Fair => false,
            RWMutexPolicy::PhaseFair => {
                let writer_left = left.iter().any(|holder| self.roles[index(&holder.uid)] == Role::Write);
                reader_passes_writer && writer_left
            }
            RWMutexPolicy::PreferReaders => reader_passes_writer,
            RWMutexPolicy::PreferWriters => writer_passes_reader,
        }
    }

    fn breaks(&self, _: &RWMutexStatus, after: &RWMutexStatus, _: u8) -> Option<Invariant> {
        let holders = &after.ledger.holders;
        let roles: Vec<_> = holders.iter().map(|holder| self.roles[index(&holder.uid)]).collect();
        (roles.len() > 1 && roles.contains(&Role::Write)).then_some("LedgerExclusion")
    }
}

/// The keys, as they are changed.
#[derive(Clone, Debug)]
pub(crate) struct OnceRule {
    pub(crate) keys: Vec<&'static str>,
    pub(crate) max_attempts: Option<i64>,
}

impl Rule for OnceRule {
    object!(held Once, OnceStatus, once);

    fn object(&self, spec: u8) -> Once {
        let key = Some(self.keys[usize::from(spec)].to_owned());
        Once::new("x", OnceSpec { ttl: None, key, max_attempts: self.max_attempts })
    }

    fn specs(&self) -> u8 {
        u8::try_from(self.keys.len()).unwrap()
    }

    fn invariants(&self) -> Vec<Invariant> {
        let own = ["MutualExclusion", "OnceSingleSuccess", "OnceNoPhantomDone"];
        SHARED.into_iter().chain(own).collect()
    }

    fn breaks(&self, before: &OnceStatus, after: &OnceStatus, _: u8) -> Option<Invariant> {
        if before.executed && after.executed && before.key == after.key && before.executor != after.executor {
            return Some("OnceSingleSuccess");
        }
        // Who had begun for another key has no part in the present one.
        let recorded = after.executed && !(before.executed && before.key == after.key);
        let begun_for =
            |key: &Option<String>| before.running_key.as_ref().or(before.key.as_ref()) == key.as_ref();
        let held_it = before.ledger.holders.iter().any(|holder| Some(holder.display()) == after.executor);
        (recorded && !(held_it && begun_for(&after.key))).then_some("OnceNoPhantomDone")
    }

    fn records_work(&self) -> bool {
        true
    }

    fn recorded(&self, before: &OnceStatus, after: &OnceStatus) -> Option<usize> {
        let recorded = after.executed && !(before.executed && before.key == after.key);
        let executor = after.executor.as_ref().filter(|_| recorded)?;
        let holder = before.ledger.holders.iter().find(|holder| holder.display() == *executor)?;
        (holder.kind == ParticipantKind::Pod).then(|| index(&holder.uid))
    }

    fn mutate_kind(&self, mutant: Mutant, before: &OnceStatus, after: &mut OnceStatus) {
        let Some(left) = before
            .ledger
            .holders
            .first()
            .filter(|_| after.ledger.history.len() > before.ledger.history.len())
        else {
            return;
        };
        let counts = match mutant {
            Mutant::AnyEndIsSuccess => true,
            Mutant::SuccessOfOldKey => before.running_key.is_some(),
            _ => false,
        };
        if counts && !after.executed {
            (after.executed, after.executor) = (true, Some(left.display()));
        }
    }

    fn may_wait(&self, _: &World, _: usize, status: &OnceStatus) -> bool {
        status.executed || self.max_attempts.is_some_and(|most| status.attempts >= most)
    }
}
