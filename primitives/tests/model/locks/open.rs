//! Gate, Barrier and `WaitGroup` within their bounds, and their mutants.

use konductor_api::gate::GateOverride;
use rstest::rstest;

use super::doors::{BarrierRule, GateRule, WaitGroupRule};
use super::found::is_found;
use super::model::Bounds;
use super::tests::{ONE, STALE, check};
use crate::invariants::Invariant;
use crate::mutants::Mutant;

/// A bare pod in a wait group, which does not withdraw what its members were told: see the limit below.
const BARE: Bounds = Bounds { faults: 2, failures: true, attestations: false, pods: 1, early: 0, ..ONE };
/// Two pods before a gate, and the Job that it looks at.
const GATE: Bounds = Bounds { job: true, pods: 2, early: 1, ..ONE };
/// A pod of an Indexed Job and its replacement under the same index, and a pod that waits.
const INDEXED: Bounds = Bounds { job: true, failures: true, pods: 3, early: 1, ..ONE };

fn by_hand() -> GateRule {
    GateRule { overrides: vec![None, Some(GateOverride::Closed), None] }
}

#[rstest]
#[case::with_one_fault(GATE)]
#[case::with_two_faults(Bounds { faults: 2, pods: 1, early: 1, ..GATE })]
#[case::with_a_stale_cache(Bounds { faults: 1, memories: 1, pods: 1, early: 1, ..GATE })]
fn gate(#[case] bounds: Bounds) {
    check("Gate", by_hand(), bounds);
}

#[test]
fn gate_opened_by_hand() {
    check("Gate", GateRule { overrides: vec![None, Some(GateOverride::Open)] }, GATE);
}

#[rstest]
#[case::with_one_fault(INDEXED, vec![2], false)]
#[case::with_another_number_expected(INDEXED, vec![1, 2], false)]
#[case::with_a_stale_cache(Bounds { faults: 0, memories: 1, ..INDEXED }, vec![2], false)]
#[case::of_cycles(INDEXED, vec![1], true)]
fn barrier(#[case] bounds: Bounds, #[case] expected: Vec<i64>, #[case] cyclic: bool) {
    check("Barrier", BarrierRule { expected, cyclic }, bounds);
}

#[rstest]
#[case::with_one_fault(Bounds { attestations: false, ..INDEXED }, None)]
#[case::with_a_stale_cache(Bounds { faults: 0, memories: 1, ..INDEXED }, None)]
#[case::of_a_bare_pod(BARE, None)]
#[case::that_expects_more(Bounds { faults: 0, ..INDEXED }, Some(2))]
fn waitgroup(#[case] bounds: Bounds, #[case] at_least: Option<i64>) {
    check("WaitGroup", WaitGroupRule { at_least, of_job: bounds.job }, bounds);
}

#[rstest]
#[case(Mutant::NoLatch, "LatchFinal")]
#[case(Mutant::CountsForConditions, "GateSound")]
#[case(Mutant::IgnoresGeneration, "NoEarlyPass")]
fn a_mutant_of_the_gate_is_found(#[case] mutant: Mutant, #[case] by: Invariant) {
    is_found(by_hand(), mutant, GATE, &[by]);
}

#[rstest]
#[case(Mutant::CountsPods, 3, false, &["DistinctArrivals"])]
#[case(Mutant::LeavesAfterTrip, 1, false, &["BarrierTripOnce"])]
#[case(Mutant::TellsOnArrival, 2, false, &["NoEarlyPass"])]
#[case(Mutant::ForgetsPassed, 1, true, &["GenerationIsolation", "NoEarlyPass"])]
fn a_mutant_of_the_barrier_is_found(
    #[case] mutant: Mutant,
    #[case] expected: i64,
    #[case] cyclic: bool,
    #[case] by: &[Invariant],
) {
    is_found(BarrierRule { expected: vec![expected], cyclic }, mutant, INDEXED, by);
}

#[rstest]
#[case(Mutant::DeletionIsDeath, &["WaitGroupNoEarlyDone"])]
#[case(Mutant::FailureIsDone, &["WaitGroupNoEarlyDone"])]
#[case(Mutant::ForgetsDone, &["DoneIdempotent", "WaitGroupNoEarlyDone", "NoLostWakeup"])]
#[case(Mutant::EmptyIsDone, &["WaitGroupNoEarlyDone"])]
#[case(Mutant::LiftsFinalizerEarly, &["WaitGroupNoEarlyDone"])]
fn a_mutant_of_the_wait_group_is_found(#[case] mutant: Mutant, #[case] by: &[Invariant]) {
    is_found(WaitGroupRule { at_least: None, of_job: true }, mutant, INDEXED, by);
}

/// What is known not to hold: an administrator vouches for a machine that is off, its member is done, the machine comes
/// back, and the pod runs after all.
#[test]
fn a_member_of_a_machine_that_comes_back_is_a_limit() {
    let bounds = Bounds { attestations: true, ..BARE };
    is_found(
        WaitGroupRule { at_least: None, of_job: false },
        Mutant::None,
        bounds,
        &["WaitGroupNoEarlyDone"],
    );
}

#[test]
fn a_stale_cache_alone_breaks_nothing_that_opens() {
    check("Gate", by_hand(), Bounds { pods: 2, faulty: 2, job: true, ..STALE });
}
