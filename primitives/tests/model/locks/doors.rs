//! What opens and is not held, in the same world: Gate, Barrier and `WaitGroup`.
//!
//! What must stay true: what is expected here is said by what really happened ([`Ghost`], [`World`]), without asking the
//! rules that are checked.

use std::collections::BTreeMap;

use konductor_api::barrier::{Barrier, BarrierPhase, BarrierSpec, BarrierStatus};
use konductor_api::gate::{
    ConditionOutcome, Gate, GateCondition, GateConditionType, GateOverride, GatePhase, GateSpec, GateStatus,
};
use konductor_api::members::{MemberKey, Members};
use konductor_api::participation::{Kind, Role};
use konductor_api::waitgroup::{WaitGroup, WaitGroupPhase, WaitGroupSpec, WaitGroupStatus};
use konductor_primitives::committed::Committed;
use konductor_primitives::invariants::Violation;
use konductor_primitives::looked::{Looked, Target};
use konductor_primitives::snapshot::Snapshot;
use konductor_primitives::step::Step;
use konductor_primitives::{barrier, gate, waitgroup};

use super::cache::{JOB, job_facts};
use super::kind::{Rule, object};
use super::world::{Ghost, Job, PODS, Pod, World};
use crate::invariants::Invariant;
use crate::mutants::Mutant;
use crate::objects::name;

/// The first two pods come under one index, the third under another.
const KEYS: [u8; PODS] = [0, 0, 1];

/// What everything is checked for that opens.
const SHARED: [Invariant; 4] = ["NoEarlyPass", "NoUnguardedStart", "GrantSingleUse", "NoLostWakeup"];

/// A gate on a Job, and what a person decides meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct GateRule {
    pub(crate) overrides: Vec<Option<GateOverride>>,
}

impl GateRule {
    fn condition() -> GateCondition {
        GateCondition { type_: GateConditionType::Job, name: name(JOB), ..GateCondition::default() }
    }
}

impl Rule for GateRule {
    object!(Gate, GateStatus, gate);

    fn object(&self, spec: u8) -> Gate {
        let r#override = self.overrides[usize::from(spec)];
        let conditions = vec![Self::condition()];
        Gate::new("x", GateSpec { conditions, latch: true, r#override, ..GateSpec::default() })
    }

    fn specs(&self) -> u8 {
        u8::try_from(self.overrides.len()).unwrap()
    }

    fn roles(&self) -> [Role; PODS] {
        [Role::Await; PODS]
    }

    fn keys(&self) -> Option<[u8; PODS]> {
        Some([0, 1, 2])
    }

    fn invariants(&self) -> Vec<Invariant> {
        SHARED.into_iter().chain(["GateSound", "LatchFinal"]).collect()
    }

    fn objects(&self, job: Option<Job>) -> BTreeMap<Target, Looked> {
        let target = Target::of(&Self::condition()).unwrap();
        job.map(|job| (target, Looked::Job(job_facts(job)))).into_iter().collect()
    }

    fn commits(&self, world: &mut World, before: &GateStatus, after: &GateStatus) -> Option<Invariant> {
        let met = |status: &GateStatus| status.condition_statuses.first().cloned().filter(|known| known.met);
        if met(before).is_some() && met(after) != met(before) {
            return Some("LatchFinal");
        }
        if after.phase != Some(GatePhase::Open) {
            let by_hand = self.overrides[usize::from(world.lock.spec)] == Some(GateOverride::Closed);
            return (met(after).is_some() && !by_hand).then_some("LatchFinal");
        }
        world.ghost.opened = true;
        let by_hand = self.overrides[usize::from(world.lock.spec)] == Some(GateOverride::Open);
        let by_whom = met(after).and_then(|known| known.uid);
        // The UID of one that was made again ends with how often it was.
        let made = by_whom.map(|uid| u8::from(uid != crate::objects::uid(JOB)));
        let sound = made.is_some_and(|made| world.ghost.complete & 1 << made != 0);
        (!sound && !by_hand).then_some("GateSound")
    }

    fn may_go(&self, status: &GateStatus, spec: u8, _: usize, _: Ghost) -> bool {
        let current = status.common.observed_generation == Some(i64::from(spec) + 1);
        current && status.phase == Some(GatePhase::Open)
    }

    fn may_wait(&self, world: &World, _: usize, status: &GateStatus) -> bool {
        let complete = world.job.complete && !world.job.gone;
        let by_hand = self.overrides[usize::from(world.lock.spec)];
        by_hand == Some(GateOverride::Closed) || status.phase == Some(GatePhase::Waiting) && !complete
    }

    fn mutate_kind(&self, mutant: Mutant, before: &GateStatus, after: &mut GateStatus) {
        let Some(known) = after.condition_statuses.first_mut() else { return };
        match mutant {
            Mutant::NoLatch if before.phase == Some(GatePhase::Open) => {
                (known.met, known.outcome) = (false, ConditionOutcome::Missing);
                after.phase = Some(GatePhase::Waiting);
            }
            Mutant::CountsForConditions => {
                (known.met, known.outcome, known.uid) =
                    (true, ConditionOutcome::Met, Some(crate::objects::uid(JOB)));
                after.phase = Some(GatePhase::Open);
            }
            _ => {}
        }
    }
}

/// How many are expected, as it is changed.
#[derive(Clone, Debug)]
pub(crate) struct BarrierRule {
    pub(crate) expected: Vec<i64>,
    pub(crate) cyclic: bool,
}

fn bits(members: &Members) -> u8 {
    members.iter().fold(0, |bits, key| match key {
        MemberKey::Index(_, index) => bits | 1 << index,
        MemberKey::Pod { uid, .. } => bits | 1 << KEYS[crate::objects::index(uid)],
        MemberKey::Job(_) | MemberKey::Claim { .. } => bits,
    })
}

impl Rule for BarrierRule {
    object!(Barrier, BarrierStatus, barrier);

    fn object(&self, spec: u8) -> Barrier {
        let spec = serde_json::json!({"expected": self.expected[usize::from(spec)], "cyclic": self.cyclic});
        Barrier::new("x", serde_json::from_value::<BarrierSpec>(spec).unwrap())
    }

    fn specs(&self) -> u8 {
        u8::try_from(self.expected.len()).unwrap()
    }

    fn roles(&self) -> [Role; PODS] {
        [Role::Meet; PODS]
    }

    fn keys(&self) -> Option<[u8; PODS]> {
        Some(KEYS)
    }

    fn invariants(&self) -> Vec<Invariant> {
        SHARED.into_iter().chain(["BarrierTripOnce", "DistinctArrivals", "GenerationIsolation"]).collect()
    }

    fn commits(&self, world: &mut World, before: &BarrierStatus, after: &BarrierStatus) -> Option<Invariant> {
        let needed = self.expected[usize::from(world.lock.spec)];
        let was_open = before.phase == Some(BarrierPhase::Open);
        if was_open && (after.phase, after.generation) != (before.phase, before.generation) {
            return Some("BarrierTripOnce");
        }
        if after.generation > before.generation.max(1) + 1 {
            return Some("BarrierTripOnce");
        }
        let ghost = &mut world.ghost;
        let came = i64::from(ghost.came.count_ones());
        if after.arrived > came {
            return Some("DistinctArrivals");
        }
        if bits(&after.arrivals) & ghost.tripped & !ghost.through != 0 {
            return Some("GenerationIsolation");
        }
        let next = self.cyclic && after.generation > before.generation.max(1);
        if next || after.phase == Some(BarrierPhase::Open) && !was_open {
            if came < needed {
                return Some("NoEarlyPass");
            }
            ghost.opened = true;
        }
        if next {
            let opened_it = bits(&after.passed) & !bits(&before.passed) & ghost.came;
            if opened_it & ghost.tripped & !ghost.through != 0 {
                return Some("GenerationIsolation");
            }
            ghost.came &= !opened_it;
            ghost.tripped = ghost.tripped & !ghost.through | opened_it;
            ghost.through &= !opened_it;
        }
        None
    }

    fn may_go(&self, _: &BarrierStatus, _: u8, _: usize, ghost: Ghost) -> bool {
        ghost.opened
    }

    fn may_wait(&self, world: &World, pod: usize, status: &BarrierStatus) -> bool {
        let opened_it = self.cyclic && world.ghost.tripped & !world.ghost.through & 1 << KEYS[pod] != 0;
        let enough =
            i64::from(bits(&status.arrivals).count_ones()) >= self.expected[usize::from(world.lock.spec)];
        status.phase != Some(BarrierPhase::Open) && !enough && !opened_it
    }

    fn mutate_kind(&self, mutant: Mutant, before: &BarrierStatus, after: &mut BarrierStatus) {
        match mutant {
            Mutant::LeavesAfterTrip if before.phase == Some(BarrierPhase::Open) => {
                after.phase = Some(BarrierPhase::Waiting);
            }
            Mutant::ForgetsPassed if before.generation == after.generation => {
                after.passed = Members::default();
            }
            _ => {}
        }
    }

    fn mutate_told(mutant: Mutant, status: &mut BarrierStatus) {
        if mutant == Mutant::TellsOnArrival {
            status.phase = Some(BarrierPhase::Open);
        }
    }
}

/// The first two pods are members, the third waits for them.
#[derive(Clone, Debug)]
pub(crate) struct WaitGroupRule {
    pub(crate) at_least: Option<i64>,
    /// Are its members tried again by a Job?
    pub(crate) of_job: bool,
}

impl Rule for WaitGroupRule {
    object!(WaitGroup, WaitGroupStatus, waitgroup);

    fn object(&self, _: u8) -> WaitGroup {
        WaitGroup::new("x", WaitGroupSpec { expect_at_least: self.at_least, ..WaitGroupSpec::default() })
    }

    fn roles(&self) -> [Role; PODS] {
        [Role::Join, Role::Join, Role::Await]
    }

    fn keys(&self) -> Option<[u8; PODS]> {
        Some(KEYS)
    }

    fn invariants(&self) -> Vec<Invariant> {
        SHARED.into_iter().chain(["WaitGroupNoEarlyDone", "DoneIdempotent"]).collect()
    }

    fn commits(
        &self,
        world: &mut World,
        before: &WaitGroupStatus,
        after: &WaitGroupStatus,
    ) -> Option<Invariant> {
        world.ghost.added |= bits(&after.open);
        let is_done = after.phase == Some(WaitGroupPhase::Done);
        world.ghost.opened |= is_done;
        if bits(&before.done) & !bits(&after.done) != 0 || bits(&after.done) & bits(&after.open) != 0 {
            return Some("DoneIdempotent");
        }
        let members = &world.pods[..2];
        let never_told = |pod: &Pod| pod.gos == Pod::default().gos;
        let over = |pod: &Pod| never_told(pod) || !pod.runs() && pod.status.over.is_some();
        let job_over = !self.of_job || world.job.gone || world.job.complete || world.job.failed;
        let succeeded = members.iter().any(|pod| pod.status.over == Some(true));
        let ended = members.iter().all(over) && (succeeded || job_over);
        let could_run = |pod: &Pod| !never_told(pod) && !pod.off && pod.status.over.is_none();
        let could_run = members.iter().any(could_run);
        let left = world.ghost.added & !bits(&after.open) & !bits(&after.done) & 1 != 0;
        let counted = after.done.len() >= usize::try_from(self.at_least.unwrap_or(1)).unwrap();
        let early = bits(&after.done) & !bits(&before.done) != 0 && !ended
            || left && could_run && !bits(&before.done) & 1 != 0
            || is_done && !counted;
        early.then_some("WaitGroupNoEarlyDone")
    }

    fn may_go(&self, _: &WaitGroupStatus, _: u8, pod: usize, ghost: Ghost) -> bool {
        ghost.opened || pod < 2 && ghost.added & 1 << KEYS[pod] != 0
    }

    fn may_wait(&self, _: &World, pod: usize, status: &WaitGroupStatus) -> bool {
        let counted = i64::try_from(status.done.len()).unwrap() >= self.at_least.unwrap_or(1);
        let waits_for_somebody = !status.open.is_empty() || !counted;
        pod == 2 && status.phase != Some(WaitGroupPhase::Done) && waits_for_somebody
    }

    fn needs(&self, status: &WaitGroupStatus, pod: usize) -> bool {
        pod < 2 && bits(&status.open) & 1 << KEYS[pod] != 0
    }

    fn mutate_kind(&self, mutant: Mutant, _: &WaitGroupStatus, after: &mut WaitGroupStatus) {
        match mutant {
            Mutant::ForgetsDone => after.done = Members::default(),
            Mutant::EmptyIsDone if after.open.is_empty() => after.phase = Some(WaitGroupPhase::Done),
            _ => {}
        }
    }
}
