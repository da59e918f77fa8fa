//! When a gate opens, when it fails, and what it remembers.

use konductor_api::conditions::{OPEN, READY, STALLED};
use konductor_api::gate::JobState::{Complete, Failed};
use konductor_api::gate::{ConditionOutcome, Gate, GateCondition, GateConditionType, GatePhase, GateStatus};
use konductor_primitives::snapshot::Snapshot;
use konductor_primitives::{gate::differ_in_queue_only, gate::step, invariants};
use rstest::rstest;

use super::support::{JobSketch, at, gate, is_ready, job, of_job, of_pod, pod, snapshot, time, uid};

/// What is known of Jobs.
fn with(snapshot: &mut Snapshot<Gate>, jobs: &[(&str, JobSketch)]) {
    snapshot.objects = jobs.iter().map(|(name, job)| ((*name).to_owned(), job.facts())).collect();
}

/// A step, committed.
fn commit(snapshot: &mut Snapshot<Gate>) -> GateStatus {
    let before = snapshot.primitive.status.clone().unwrap_or_default();
    let after = step(snapshot).status;
    invariants::gate(&snapshot.primitive.spec, &before, &after).unwrap();
    snapshot.primitive.status = Some(after.clone());
    after
}

fn message(status: &GateStatus, type_: &str) -> (String, String) {
    let known = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
    (known.status.clone(), known.message.clone())
}

#[rstest]
#[case::it_does_not_exist(None, GatePhase::Waiting)]
#[case::it_runs(Some(job("etl")), GatePhase::Waiting)]
#[case::it_is_about_to_complete(Some(job("etl").condition("SuccessCriteriaMet", "")), GatePhase::Waiting)]
#[case::it_is_about_to_fail(Some(job("etl").condition("FailureTarget", "")), GatePhase::Waiting)]
#[case::it_is_complete(Some(job("etl").complete()), GatePhase::Open)]
#[case::it_has_failed(Some(job("etl").failed()), GatePhase::Failed)]
#[case::it_is_suspended(Some(job("etl").suspended()), GatePhase::Waiting)]
fn on_a_job_that_should_complete(#[case] known: Option<JobSketch>, #[case] phase: GatePhase) {
    let mut snapshot = snapshot(gate(&[("etl", Complete)]), vec![]);
    with(&mut snapshot, &known.map(|job| vec![("etl", job)]).unwrap_or_default());
    assert_eq!(commit(&mut snapshot).phase, Some(phase));
}

#[rstest]
#[case::it_runs(job("etl"), GatePhase::Waiting)]
#[case::it_has_failed(job("etl").failed(), GatePhase::Open)]
#[case::it_is_complete(job("etl").complete(), GatePhase::Failed)]
fn on_a_job_that_should_fail(#[case] known: JobSketch, #[case] phase: GatePhase) {
    let mut snapshot = snapshot(gate(&[("etl", Failed)]), vec![]);
    with(&mut snapshot, &[("etl", known)]);
    assert_eq!(commit(&mut snapshot).phase, Some(phase));
}

#[test]
fn it_opens_when_all_conditions_are_met_and_remembers_by_whom() {
    let mut snapshot = snapshot(gate(&[("a", Complete), ("b", Failed)]), vec![]);
    with(&mut snapshot, &[("a", job("a").complete()), ("b", job("b"))]);
    let half = commit(&mut snapshot);
    assert_eq!(
        (half.phase, half.met.as_deref(), half.opened_at.clone()),
        (Some(GatePhase::Waiting), Some("1/2"), None)
    );
    assert_eq!(message(&half, OPEN), ("False".to_owned(), "Job b has not failed yet".to_owned()));
    snapshot.now = at(60);
    with(&mut snapshot, &[("a", job("a").complete()), ("b", job("b").failed())]);
    let open = commit(&mut snapshot);
    assert_eq!((open.phase, open.met.as_deref()), (Some(GatePhase::Open), Some("2/2")));
    assert_eq!(open.opened_at, Some(time(60)));
    let known: Vec<_> = open
        .condition_statuses
        .iter()
        .map(|known| (known.uid.clone().unwrap(), known.at.clone().unwrap()))
        .collect();
    assert_eq!(known, [(uid("a"), time(50)), (uid("b"), time(60))]);
    assert_eq!((message(&open, OPEN).0.as_str(), message(&open, READY).0.as_str()), ("True", "True"));
}

#[rstest]
#[case::reaped(None)]
#[case::made_again(Some(job("etl").made_again()))]
#[case::made_again_and_failed(Some(job("etl").made_again().failed()))]
fn what_is_met_stays_met_whatever_becomes_of_the_job(#[case] later: Option<JobSketch>) {
    let mut snapshot = snapshot(gate(&[("etl", Complete)]), vec![]);
    with(&mut snapshot, &[("etl", job("etl").complete())]);
    let open = commit(&mut snapshot);
    snapshot.now = at(99);
    with(&mut snapshot, &later.map(|job| vec![("etl", job)]).unwrap_or_default());
    assert_eq!(commit(&mut snapshot), open);
}

#[test]
fn a_condition_that_can_never_be_met_fails_the_gate_although_others_are_missing() {
    let mut snapshot = snapshot(gate(&[("a", Complete), ("b", Complete), ("c", Complete)]), vec![]);
    with(&mut snapshot, &[("a", job("a").complete()), ("b", job("b").failed())]);
    let failed = commit(&mut snapshot);
    assert_eq!(failed.phase, Some(GatePhase::Failed));
    assert_eq!(
        message(&failed, OPEN).1,
        "Job b has failed and will never be complete: it has reached its backoff limit"
    );
    assert!(!is_ready(&failed.conditions));
    assert!(message(&failed, STALLED).1.contains("create it again"));
}

#[test]
fn a_failed_gate_waits_again_once_another_job_of_that_name_is_there() {
    let mut snapshot = snapshot(gate(&[("etl", Complete)]), vec![]);
    with(&mut snapshot, &[("etl", job("etl").failed())]);
    let failed = commit(&mut snapshot);
    with(&mut snapshot, &[]);
    assert_eq!(commit(&mut snapshot), failed, "bound to the object that made it so, deleted or not");
    with(&mut snapshot, &[("etl", job("etl").made_again())]);
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Waiting));
    with(&mut snapshot, &[("etl", job("etl").made_again().complete())]);
    let open = commit(&mut snapshot);
    assert_eq!(open.phase, Some(GatePhase::Open));
    assert_eq!(open.condition_statuses[0].uid, Some(format!("{}-again", uid("etl"))));
}

#[test]
fn a_changed_spec_keeps_what_it_did_not_change() {
    let mut snapshot = snapshot(gate(&[("a", Complete), ("b", Complete)]), vec![]);
    with(&mut snapshot, &[("a", job("a").complete()), ("b", job("b").failed())]);
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Failed));
    // The failed one goes, another comes in front; `a` is reaped and stays met.
    let other = GateCondition { type_: GateConditionType::Job, name: "c".to_owned(), state: Complete };
    snapshot.primitive.spec.conditions.remove(1);
    snapshot.primitive.spec.conditions.insert(0, other);
    snapshot.primitive.metadata.generation = Some(2);
    with(&mut snapshot, &[("c", job("c"))]);
    let waiting = commit(&mut snapshot);
    assert_eq!((waiting.phase, waiting.met.as_deref()), (Some(GatePhase::Waiting), Some("1/2")));
    assert_eq!(waiting.observed_generation, Some(2));
    let outcomes: Vec<_> = waiting.condition_statuses.iter().map(|known| known.outcome).collect();
    assert_eq!(outcomes, [ConditionOutcome::Missing, ConditionOutcome::Met]);
}

#[test]
fn another_state_of_the_same_job_is_another_condition() {
    let mut snapshot = snapshot(gate(&[("etl", Complete)]), vec![]);
    with(&mut snapshot, &[("etl", job("etl").failed())]);
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Failed));
    snapshot.primitive.spec.conditions[0].state = Failed;
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Open));
}

#[test]
fn a_condition_that_comes_later_closes_an_open_gate_for_who_comes_later() {
    let mut snapshot = snapshot(gate(&[("a", Complete)]), vec![]);
    with(&mut snapshot, &[("a", job("a").complete())]);
    commit(&mut snapshot);
    let other = GateCondition { type_: GateConditionType::Job, name: "b".to_owned(), state: Complete };
    snapshot.primitive.spec.conditions.push(other);
    let closed = commit(&mut snapshot);
    assert_eq!((closed.phase, closed.opened_at), (Some(GatePhase::Waiting), None));
}

#[test]
fn a_gate_without_conditions_stays_closed() {
    let mut snapshot = snapshot(gate(&[]), vec![]);
    let status = commit(&mut snapshot);
    assert_eq!(status.phase, Some(GatePhase::Waiting));
    assert!(!message(&status, OPEN).1.is_empty());
}

#[test]
fn no_message_is_longer_than_its_field() {
    let name = "n".repeat(253);
    let mut snapshot = snapshot(gate(&[(&name, Complete)]), vec![]);
    for known in [job(&name), job(&name).condition("Failed", &"é".repeat(9000))] {
        with(&mut snapshot, &[(&name, known)]);
        let status = commit(&mut snapshot);
        let longest = status.condition_statuses.iter().map(|known| known.message.chars().count()).max();
        assert!(longest <= Some(512), "{longest:?}");
    }
}

#[test]
fn the_queue_shows_who_waits_while_it_is_closed() {
    let passed = pod("p").waiter_passed(1, 2);
    let everybody = vec![
        of_pod(&pod("late").waiter_running(1), 9),
        of_pod(&pod("first").waiter_running(1), 1),
        of_pod(&passed, 0),
        of_job("j", &job("j"), &[passed.clone(), pod("retry").waiter_running(4)], 0),
        of_job("k", &job("k"), &[], 5),
    ];
    let mut snapshot = snapshot(gate(&[("etl", Complete)]), everybody);
    let closed = step(&snapshot);
    assert_eq!(closed.order, ["first", "k", "late"].map(uid));
    assert_eq!((closed.status.waiting, closed.status.queue[0].name.as_str()), (3, "first"));
    assert!(differ_in_queue_only(
        &GateStatus { waiting: 0, queue: vec![], ..closed.status.clone() },
        &closed.status
    ));
    with(&mut snapshot, &[("etl", job("etl").complete())]);
    let open = step(&snapshot);
    assert_eq!((open.order.len(), open.status.waiting), (0, 0));
    assert!(!differ_in_queue_only(&closed.status, &open.status));
    assert_eq!((open.lookups, open.withdrawals, open.wake_at), (vec![], vec![], None));
}
