//! The model can fail: every mutant is found.

use konductor_api::participation::Role;
use konductor_api::rwmutex::RWMutexPolicy;
use rstest::rstest;

use super::kind::{MutexRule, OnceRule, RWMutexRule, Rule, SemaphoreRule};
use super::model::{Bounds, Locks};
use super::tests::{GATED, GATED_AND_STALE, JOB, NOWHERE, ONE, RIVALS, STALE_AND_FAULTY, THREE, TWICE};
use crate::invariants::Invariant;
use crate::mutants::Mutant;
use crate::run::breaks;

pub(super) fn is_found<R: Rule>(rule: R, mutant: Mutant, bounds: Bounds, by: &[Invariant]) {
    let (name, story) = breaks(Locks::new(rule, mutant, bounds));
    assert!(by.contains(&name), "{mutant:?} should break one of {by:?}, and {story}");
    println!("{mutant:?} is found by {name}");
}

#[rstest]
#[case(Mutant::DeletionIsDeath, THREE, &["ReleaseNeedsEvidence", "NoUnguardedStart"])]
#[case(Mutant::AnyPhaseIsDeath, TWICE, &["ReleaseNeedsEvidence", "NoUnguardedStart"])]
#[case(Mutant::SilenceIsDeath, ONE, &["ReleaseNeedsEvidence"])]
#[case(Mutant::DropsCompareAndSwap, RIVALS, &["ReleaseNeedsEvidence", "TokenMonotone", "NoUnguardedStart"])]
#[case(Mutant::DropsPrecondition, STALE_AND_FAULTY, &["LedgerBeforeGo", "WithdrawBeforeRelease"])]
#[case(Mutant::SkipsWithdrawal, ONE, &["WithdrawBeforeRelease"])]
#[case(Mutant::AbsenceFromCache, ONE, &["ReleaseNeedsEvidence", "WithdrawBeforeRelease"])]
#[case(Mutant::TellsUncommitted, ONE, &["LedgerBeforeGo"])]
#[case(Mutant::NeverRaisesRun, ONE, &["GrantSingleUse", "NoLostWakeup"])]
#[case(Mutant::ForgetsRanBefore, ONE, &["ReleaseNeedsEvidence", "NoUnguardedStart"])]
#[case(Mutant::NoFinalizer, ONE, &["ReleaseNeedsEvidence"])]
#[case(Mutant::LiftsFinalizerEarly, ONE, &["ReleaseNeedsEvidence"])]
#[case(Mutant::WaiterForgets, TWICE, &["GrantSingleUse"])]
#[case(Mutant::WaiterIgnoresStart, TWICE, &["GrantSingleUse"])]
#[case(Mutant::LastFirst, ONE, &["PriorityRespected"])]
#[case(Mutant::ForgetsToken, ONE, &["TokenMonotone"])]
#[case(Mutant::TellsOnce, ONE, &["NoLostWakeup"])]
#[case(Mutant::ReservationIsDeath, GATED, &["ReleaseNeedsEvidence"])]
#[case(Mutant::TakesBackTold, GATED_AND_STALE, &["ReleaseNeedsEvidence", "WithdrawBeforeRelease"])]
#[case(Mutant::TellsReserved, GATED, &["LedgerBeforeGo"])]
#[case(Mutant::NeverTakesBack, NOWHERE, &["NoLostWakeup"])]
fn a_mutant_of_the_mutex_is_found(#[case] mutant: Mutant, #[case] bounds: Bounds, #[case] by: &[Invariant]) {
    is_found(MutexRule, mutant, bounds, by);
}

#[test]
fn a_hold_that_ends_with_its_job_whatever_its_pods_do_is_found() {
    is_found(
        MutexRule,
        Mutant::JobEndIsDeath,
        JOB,
        &["ReleaseNeedsEvidence", "WithdrawBeforeRelease", "NoUnguardedStart"],
    );
}

#[test]
fn a_semaphore_that_counts_holders_is_found() {
    let rule = SemaphoreRule { permits: vec![2], wanted: [1, 1, 2] };
    is_found(rule, Mutant::CountsHolders, ONE, &["SemaphoreBound"]);
}

#[test]
fn a_writer_beside_readers_is_found() {
    let roles = [Role::Read, Role::Write, Role::Read];
    let rule = RWMutexRule { policies: vec![RWMutexPolicy::Fair], roles };
    is_found(rule, Mutant::WriterBesideReaders, ONE, &["RWExclusion", "LedgerExclusion"]);
}

#[rstest]
#[case(Mutant::AnyEndIsSuccess)]
#[case(Mutant::SuccessOfOldKey)]
#[case(Mutant::SkippedEnters)]
fn a_once_that_records_what_was_no_success_is_found(#[case] mutant: Mutant) {
    let rule = OnceRule { keys: vec!["a", "b"], max_attempts: None };
    is_found(rule, mutant, Bounds { failures: true, ..ONE }, &["OnceNoPhantomDone"]);
}

/// What is known not to hold: an administrator vouches for a machine that is off, its pod's hold ends, the machine comes
/// back with a clock that is up to a minute behind, and its kubelet reads the past. The start is the only guard of a grant
/// that was never used.
#[test]
fn a_machine_that_comes_back_with_a_clock_behind_is_a_limit() {
    let bounds = Bounds { clocks: true, ..ONE };
    is_found(
        MutexRule,
        Mutant::None,
        bounds,
        &["LedgerBeforeGo", "NoUnguardedStart", "WithdrawBeforeRelease"],
    );
}
