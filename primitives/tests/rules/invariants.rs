//! Each rule that a write may not break is broken here once.

use konductor_api::gate::GateState::Complete;
use konductor_api::gate::{Gate, GateLogic, GateOverride, GatePhase, GateStatus};
use konductor_api::ledger::{Evidence, Holder, Ledger, Mode, ParticipantKind, Release};
use konductor_api::mutex::{Mutex, MutexStatus};
use konductor_primitives::gate::{self as gates, step};
use konductor_primitives::invariants::Violation;
use konductor_primitives::mutex as mutexes;
use rstest::rstest;

use super::support::{gate, holder, job, jobs_seen, mutex, snapshot, time, told, uid};

/// May a mutex go from here to there?
fn may_become(before: &MutexStatus, after: &MutexStatus) -> Result<(), Violation> {
    mutexes::check(&Mutex { status: Some(before.clone()), ..mutex(vec![]) }, after)
}

/// The same of a gate.
fn gate_may_become(gate: &Gate, before: &GateStatus, after: &GateStatus) -> Result<(), Violation> {
    gates::check(&Gate { status: Some(before.clone()), ..gate.clone() }, after)
}

fn hold(name: &str, token: &str) -> Holder {
    Holder { token: token.to_owned(), ..holder(ParticipantKind::Pod, name, vec![told(name, 3, 1)]) }
}

fn ledger(holders: Vec<Holder>, last_token: &str) -> MutexStatus {
    with_history(holders, last_token, Vec::new())
}

fn with_history(holders: Vec<Holder>, last_token: &str, history: Vec<Release>) -> MutexStatus {
    let ledger = Ledger { holders, history, last_token: Some(last_token.to_owned()) };
    MutexStatus { ledger, ..MutexStatus::default() }
}

fn released(name: &str, token: &str) -> Vec<Release> {
    let (holder, uid, token) = (format!("pod/{name}"), uid(name), token.to_owned());
    vec![Release { holder, uid, token, evidence: Evidence::P1, at: time(9) }]
}

fn told_as(run: i64) -> Holder {
    Holder { pods: vec![told("a", run, 1)], ..hold("a", "5") }
}

#[rstest]
#[case::nothing(ledger(vec![], "4"), ledger(vec![], "4"))]
#[case::a_grant(ledger(vec![], "4"), ledger(vec![hold("a", "5")], "5"))]
#[case::a_higher_run(ledger(vec![hold("a", "5")], "5"), ledger(vec![told_as(4)], "5"))]
#[case::a_release(
    ledger(vec![hold("a", "5")], "5"),
    with_history(vec![], "5", released("a", "5"))
)]
#[case::a_hand_over(
    ledger(vec![hold("a", "5")], "5"),
    with_history(vec![hold("b", "6")], "6", released("a", "5"))
)]
#[case::the_same_one_again(
    ledger(vec![hold("a", "5")], "5"),
    with_history(vec![hold("a", "6")], "6", released("a", "5"))
)]
fn legal(#[case] before: MutexStatus, #[case] after: MutexStatus) {
    assert_eq!(may_become(&before, &after), Ok(()));
}

#[rstest]
#[case::two_holders(
    "LedgerExclusion",
    ledger(vec![hold("a", "5")], "5"),
    ledger(vec![hold("a", "5"), hold("b", "6")], "6")
)]
#[case::one_holder_twice("LedgerExclusion", ledger(vec![], "4"), ledger(vec![hold("a", "5"), hold("a", "6")], "6"))]
#[case::granted_anew(
    "GrantIdempotent",
    ledger(vec![hold("a", "5")], "5"),
    ledger(vec![Holder { granted_at: time(9), ..hold("a", "5") }], "5")
)]
#[case::held_by_more_permits(
    "GrantIdempotent",
    ledger(vec![hold("a", "5")], "5"),
    ledger(vec![Holder { permits: Some(3), ..hold("a", "5") }], "5")
)]
#[case::held_in_another_mode(
    "GrantIdempotent",
    ledger(vec![Holder { mode: Some(Mode::Read), ..hold("a", "5") }], "5"),
    ledger(vec![Holder { mode: Some(Mode::Write), ..hold("a", "5") }], "5")
)]
#[case::another_token_without_a_release(
    "ReleaseNeedsEvidence",
    ledger(vec![hold("a", "5")], "5"),
    ledger(vec![hold("a", "6")], "6")
)]
#[case::a_run_that_falls("GrantSingleUse", ledger(vec![hold("a", "5")], "5"), ledger(vec![told_as(2)], "5"))]
#[case::a_told_pod_that_is_forgotten(
    "LedgerBeforeGo",
    ledger(vec![hold("a", "5")], "5"),
    ledger(vec![Holder { pods: vec![], ..hold("a", "5") }], "5")
)]
#[case::a_token_given_before("TokenMonotone", ledger(vec![], "5"), ledger(vec![hold("a", "5")], "5"))]
#[case::a_lower_token("TokenMonotone", ledger(vec![], "5"), ledger(vec![hold("a", "4")], "5"))]
#[case::numbers_are_no_texts("TokenMonotone", ledger(vec![], "10"), ledger(vec![hold("a", "9")], "10"))]
#[case::the_last_token_falls("TokenMonotone", ledger(vec![], "5"), ledger(vec![], "4"))]
#[case::the_last_token_vanishes("TokenMonotone", ledger(vec![], "5"), MutexStatus::default())]
#[case::the_last_token_stays_behind("TokenMonotone", ledger(vec![], "5"), ledger(vec![hold("a", "6")], "5"))]
#[case::after_what_is_no_number("TokenMonotone", ledger(vec![], "many"), ledger(vec![hold("a", "5")], "many"))]
#[case::a_holder_vanishes("ReleaseNeedsEvidence", ledger(vec![hold("a", "5")], "5"), ledger(vec![], "5"))]
#[case::a_hand_over_without_a_word(
    "ReleaseNeedsEvidence",
    ledger(vec![hold("a", "5")], "5"),
    ledger(vec![hold("b", "6")], "6")
)]
#[case::a_word_about_another_hold(
    "ReleaseNeedsEvidence",
    ledger(vec![hold("a", "5")], "5"),
    with_history(vec![], "5", released("a", "3"))
)]
#[case::a_word_about_another_holder(
    "ReleaseNeedsEvidence",
    ledger(vec![hold("a", "5")], "5"),
    with_history(vec![], "5", released("b", "5"))
)]
fn illegal(#[case] invariant: &str, #[case] before: MutexStatus, #[case] after: MutexStatus) {
    let violation = may_become(&before, &after).unwrap_err();
    assert_eq!(violation.invariant, invariant, "{violation}");
    assert!(violation.to_string().starts_with(&format!("{invariant}: ")));
}

#[test]
fn a_jobs_list_may_shrink() {
    let of_job = |pods| Holder { pods, ..holder(ParticipantKind::Job, "j", vec![]) };
    let before = ledger(vec![of_job(vec![told("a", 1, 1)])], "5");
    assert_eq!(may_become(&before, &ledger(vec![of_job(vec![])], "5")), Ok(()));
}

// ----------------------------------------------------------------------------------------------------- gates

fn opened() -> (Gate, GateStatus) {
    let gate = gate(&[("a", Complete), ("b", Complete)]);
    let mut snapshot = snapshot(gate.clone(), vec![]);
    snapshot.objects = jobs_seen(&["a", "b"].map(|name| (name, job(name).complete())));
    (gate, step(&snapshot).status)
}

#[test]
fn a_gate_may_open_and_stay_so() {
    let (gate, open) = opened();
    assert_eq!(open.phase, Some(GatePhase::Open));
    assert_eq!(gate_may_become(&gate, &GateStatus::default(), &open), Ok(()));
    assert_eq!(gate_may_become(&gate, &open, &open), Ok(()));
}

#[test]
fn a_condition_that_was_met_cannot_be_lost_or_rewritten() {
    let (gate, open) = opened();
    let mut lost = open.clone();
    lost.condition_statuses.remove(0);
    lost.phase = Some(GatePhase::Waiting);
    let mut rewritten = open.clone();
    rewritten.condition_statuses[1].uid = Some(uid("another"));
    for after in [lost, rewritten] {
        let violation = gate_may_become(&gate, &open, &after).unwrap_err();
        assert_eq!(violation.invariant, "LatchFinal");
    }
}

#[test]
fn a_condition_that_the_spec_no_longer_has_may_go() {
    let (mut gate, open) = opened();
    gate.spec.conditions.remove(0);
    let mut after = open.clone();
    after.condition_statuses.remove(0);
    assert_eq!(gate_may_become(&gate, &open, &after), Ok(()));
}

#[test]
fn a_gate_does_not_open_without_every_condition_met_by_an_object() {
    let (gate, open) = opened();
    let mut fewer = open.clone();
    fewer.condition_statuses.pop();
    let mut by_nobody = open.clone();
    by_nobody.condition_statuses[0].uid = None;
    for after in [fewer, by_nobody] {
        let violation = gate_may_become(&gate, &GateStatus::default(), &after).unwrap_err();
        assert_eq!(violation.invariant, "GateSound");
    }
    let mut manual = gate;
    manual.spec.conditions.clear();
    let after = GateStatus { phase: Some(GatePhase::Open), ..GateStatus::default() };
    let violation = gate_may_become(&manual, &GateStatus::default(), &after).unwrap_err();
    assert_eq!(violation.invariant, "GateSound");
}

#[test]
fn a_person_decides_before_the_conditions_do() {
    let (mut gate, open) = opened();
    gate.spec.r#override = Some(GateOverride::Closed);
    let violation = gate_may_become(&gate, &GateStatus::default(), &open).unwrap_err();
    assert_eq!(violation.invariant, "GateSound");
    gate.spec.r#override = Some(GateOverride::Open);
    let mut unmet = open;
    unmet.condition_statuses.clear();
    assert_eq!(gate_may_become(&gate, &GateStatus::default(), &unmet), Ok(()));
}

#[test]
fn of_any_one_met_by_an_object_is_enough_and_none_is_not() {
    let (mut gate, mut open) = opened();
    gate.spec.logic = GateLogic::Any;
    open.condition_statuses[1].met = false;
    assert_eq!(gate_may_become(&gate, &GateStatus::default(), &open), Ok(()));
    open.condition_statuses[0].uid = None;
    let violation = gate_may_become(&gate, &GateStatus::default(), &open).unwrap_err();
    assert_eq!(violation.invariant, "GateSound");
}

#[test]
fn a_condition_may_be_lost_where_the_gate_does_not_latch() {
    let (mut gate, open) = opened();
    gate.spec.latch = false;
    let closed = GateStatus { phase: Some(GatePhase::Waiting), ..GateStatus::default() };
    assert_eq!(gate_may_become(&gate, &open, &closed), Ok(()));
}
