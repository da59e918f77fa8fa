//! Each kind that can be held, within its bounds.
//!
//! What must stay true: the usual bounds are small enough for every change; `KONDUCTOR_MODEL=deep` raises them.

use konductor_api::participation::Role;
use konductor_api::rwmutex::RWMutexPolicy::{self, Fair, PhaseFair, PreferReaders, PreferWriters};
use rstest::rstest;

use super::kind::{LeaseRule, MutexRule, OnceRule, RWMutexRule, Rule, SemaphoreRule};
use super::model::{Bounds, Locks};
use super::world::PODS;
use crate::mutants::Mutant;
use crate::run::{is_deep, nothing_breaks};

/// Three pods of which two wait from the start; one fault, to one of the first two.
pub(super) const THREE: Bounds = Bounds {
    faults: 1,
    memories: 0,
    failures: false,
    job: false,
    restarts: [false; PODS],
    pods: 3,
    faulty: 2,
    early: 2,
    rivals: false,
    clocks: false,
    stale_attestations: false,
    attestations: true,
    gated: 0,
    nowhere: false,
    held: false,
};
/// The same without faults, but with an old version in the second operator's cache.
pub(super) const STALE: Bounds = Bounds { faults: 0, memories: 1, faulty: 3, ..THREE };
/// Two pods: a fault of the first one, and an old version of it or of the primitive.
pub(super) const STALE_AND_FAULTY: Bounds = Bounds { memories: 1, pods: 2, faulty: 1, early: 1, ..THREE };
/// Three pods, and a fault of the first one.
pub(super) const ONE: Bounds = Bounds { faulty: 1, ..THREE };
/// One pod, and two faults.
pub(super) const TWICE: Bounds = Bounds { faults: 2, pods: 1, faulty: 1, early: 0, ..THREE };
/// Two pods, and both operators about to write.
pub(super) const RIVALS: Bounds = Bounds { rivals: true, pods: 2, early: 1, ..THREE };
/// A Job with a pod and its replacement, and a pod that waits.
pub(super) const JOB: Bounds = Bounds { job: true, failures: true, early: 1, ..ONE };

/// The same, and the Job is suspended until it is its turn.
pub(super) const SUSPENDED: Bounds = Bounds { held: true, pods: 3, ..JOB };

/// Two pods, the first of them at our scheduling gate.
pub(super) const GATED: Bounds = Bounds { pods: 2, faulty: 1, early: 1, gated: 1, ..THREE };
/// The same, and it never finds a node.
pub(super) const NOWHERE: Bounds = Bounds { nowhere: true, ..GATED };
/// The same with an old version of it or of the primitive in the second operator's cache.
pub(super) const GATED_AND_STALE: Bounds = Bounds { faults: 0, memories: 1, ..GATED };

/// What may be asked of a longer run.
const fn deeper(bounds: Bounds) -> Bounds {
    let faults = if bounds.faults == 0 { 1 } else { 2 };
    let pods = if bounds.pods == 1 && bounds.attestations { 2 } else { bounds.pods };
    Bounds { faults, pods, ..bounds }
}

pub(super) fn check<R: Rule>(what: &str, rule: R, bounds: Bounds) {
    let bounds = if is_deep() { deeper(bounds) } else { bounds };
    let model = Locks::new(rule, Mutant::None, bounds);
    let names = model.invariants();
    nothing_breaks(&format!("{what} ({})", bounds.words()), &names, model);
}

#[rstest]
#[case::with_one_fault(ONE)]
#[case::with_a_stale_cache(STALE)]
#[case::with_a_stale_cache_and_a_fault(STALE_AND_FAULTY)]
#[case::with_two_faults(TWICE)]
#[case::with_a_machine_that_is_back_and_a_cache_that_has_not_seen_it(
    Bounds { stale_attestations: true, ..STALE_AND_FAULTY }
)]
#[case::with_two_operators_about_to_write(RIVALS)]
#[case::of_a_job(JOB)]
#[case::of_a_job_with_a_stale_cache(Bounds { faults: 0, memories: 1, ..JOB })]
#[case::of_a_pod_at_our_gate(GATED)]
#[case::of_a_pod_at_our_gate_that_finds_no_node(NOWHERE)]
#[case::of_pods_at_our_gate(Bounds { faults: 0, pods: 3, gated: 2, ..GATED })]
#[case::of_a_pod_at_our_gate_with_a_stale_cache(GATED_AND_STALE)]
#[case::of_a_pod_at_our_gate_with_a_stale_cache_and_a_fault(Bounds { faults: 1, ..GATED_AND_STALE })]
#[case::of_a_pod_at_our_gate_with_two_operators_about_to_write(Bounds { gated: 1, ..RIVALS })]
#[case::of_a_job_at_our_gate(Bounds { gated: 1, ..JOB })]
#[case::of_a_job_that_is_suspended(SUSPENDED)]
#[case::of_a_job_that_is_suspended_with_a_stale_cache(Bounds { faults: 0, memories: 1, ..SUSPENDED })]
#[case::of_a_job_that_is_suspended_with_two_operators_about_to_write(Bounds { rivals: true, ..SUSPENDED })]
#[case::of_pods_that_restart(Bounds { restarts: [true; PODS], failures: true, pods: 2, early: 1, ..ONE })]
fn mutex(#[case] bounds: Bounds) {
    check("Mutex", MutexRule, bounds);
}

#[rstest]
#[case::with_one_fault(RIVALS)]
#[case::with_a_stale_cache(STALE)]
fn lease(#[case] bounds: Bounds) {
    check("Lease", LeaseRule, bounds);
}

#[rstest]
#[case::with_one_fault(ONE, [1, 1, 2])]
#[case::with_a_stale_cache(Bounds { faulty: 1, ..STALE }, [2, 1, 1])]
#[case::with_two_operators_about_to_write(RIVALS, [1, 2, 1])]
#[case::of_pods_at_our_gate(Bounds { faults: 0, pods: 3, gated: 2, ..GATED }, [2, 1, 1])]
#[case::that_grows(Bounds { pods: 2, early: 1, ..ONE }, [1, 1, 1])]
fn semaphore(#[case] bounds: Bounds, #[case] wanted: [u32; PODS]) {
    let permits = if wanted == [1, 1, 1] { vec![1, 2, 1] } else { vec![2, 1] };
    check("Semaphore", SemaphoreRule { permits, wanted }, bounds);
}

#[rstest]
#[case::fair(Bounds { pods: 2, early: 1, ..ONE }, vec![Fair, PreferReaders])]
#[case::of_pods_at_our_gate(Bounds { faults: 0, pods: 3, gated: 2, ..GATED }, vec![Fair])]
#[case::phase_fair(Bounds { faults: 0, ..ONE }, vec![PhaseFair])]
#[case::preferring_readers(Bounds { faults: 0, ..ONE }, vec![PreferReaders])]
#[case::preferring_writers(Bounds { faults: 0, ..ONE }, vec![PreferWriters])]
#[case::with_a_stale_cache(Bounds { faulty: 1, ..STALE }, vec![Fair])]
#[case::with_two_operators_about_to_write(RIVALS, vec![PhaseFair, PreferWriters])]
fn rwmutex(#[case] bounds: Bounds, #[case] policies: Vec<RWMutexPolicy>) {
    check("RWMutex", RWMutexRule { policies, roles: [Role::Read, Role::Write, Role::Read] }, bounds);
}

#[rstest]
#[case::with_one_fault(ONE)]
#[case::with_a_stale_cache(Bounds { faulty: 1, ..STALE })]
#[case::with_two_operators_about_to_write(RIVALS)]
#[case::of_a_pod_at_our_gate(GATED)]
#[case::of_a_job_that_is_suspended(SUSPENDED)]
fn once(#[case] bounds: Bounds) {
    let rule = OnceRule { keys: vec!["a", "b", "a"], max_attempts: Some(2) };
    check("Once", rule, Bounds { failures: true, ..bounds });
}
