//! When a gate opens, when it fails, and what it remembers.

use konductor_api::conditions::{OPEN, READY, STALLED};
use konductor_api::gate::GateState::{Complete, Failed};
use konductor_api::gate::{ConditionOutcome, Gate, GateLogic, GateOverride, GatePhase};
use konductor_api::participation::Role;
use konductor_primitives::describe::differ_in_queue_only;
use konductor_primitives::gate::step;
use konductor_primitives::snapshot::{Participant, Snapshot};
use rstest::rstest;

use super::support::{
    JobSketch, Says, at, commit, edit, entrance, gate, is_closed, is_in, is_never, is_ready, job, jobs_seen,
    line, message, of_job, of_pod, on_job, pod, snapshot, time, uid, waits,
};

/// What is known of Jobs.
fn with(snapshot: &mut Snapshot<Gate>, jobs: &[(&str, JobSketch)]) {
    snapshot.objects = jobs_seen(jobs);
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
    assert_eq!(message(&half.common, OPEN), ("False".to_owned(), "Job b has not failed yet".to_owned()));
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
    assert_eq!(
        (message(&open.common, OPEN).0.as_str(), message(&open.common, READY).0.as_str()),
        ("True", "True")
    );
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
        message(&failed.common, OPEN).1,
        "Job b has failed and will never be complete: it has reached its backoff limit"
    );
    assert!(!is_ready(&failed.common));
    assert!(message(&failed.common, STALLED).1.contains("create it again"));
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
    let other = on_job("c", Some(Complete));
    snapshot.primitive.spec.conditions.remove(1);
    snapshot.primitive.spec.conditions.insert(0, other);
    snapshot.primitive.metadata.generation = Some(2);
    with(&mut snapshot, &[("c", job("c"))]);
    let waiting = commit(&mut snapshot);
    assert_eq!((waiting.phase, waiting.met.as_deref()), (Some(GatePhase::Waiting), Some("1/2")));
    assert_eq!(waiting.common.observed_generation, Some(2));
    let outcomes: Vec<_> = waiting.condition_statuses.iter().map(|known| known.outcome).collect();
    assert_eq!(outcomes, [ConditionOutcome::Missing, ConditionOutcome::Met]);
}

#[test]
fn another_state_of_the_same_job_is_another_condition() {
    let mut snapshot = snapshot(gate(&[("etl", Complete)]), vec![]);
    with(&mut snapshot, &[("etl", job("etl").failed())]);
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Failed));
    snapshot.primitive.spec.conditions[0].state = Some(Failed);
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Open));
}

#[test]
fn a_condition_that_comes_later_closes_an_open_gate_for_who_comes_later() {
    let mut snapshot = snapshot(gate(&[("a", Complete)]), vec![]);
    with(&mut snapshot, &[("a", job("a").complete())]);
    commit(&mut snapshot);
    let other = on_job("b", Some(Complete));
    snapshot.primitive.spec.conditions.push(other);
    let closed = commit(&mut snapshot);
    assert_eq!((closed.phase, closed.opened_at), (Some(GatePhase::Waiting), None));
}

#[test]
fn a_gate_without_conditions_stays_closed() {
    let mut snapshot = snapshot(gate(&[]), vec![]);
    let status = commit(&mut snapshot);
    assert_eq!(status.phase, Some(GatePhase::Waiting));
    assert!(!message(&status.common, OPEN).1.is_empty());
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
    assert_eq!(line(&snapshot, &closed), ["first", "k", "late"].map(uid));
    assert_eq!((closed.status.common.waiting, closed.status.common.queue[0].name.as_str()), (3, "first"));
    let mut unattended = closed.status.clone();
    (unattended.common.waiting, unattended.common.queue) = (0, vec![]);
    assert!(differ_in_queue_only(&unattended, &closed.status));
    with(&mut snapshot, &[("etl", job("etl").complete())]);
    let open = step(&snapshot);
    assert_eq!((open.order.len(), open.status.common.waiting), (0, 0));
    assert!(!differ_in_queue_only(&closed.status, &open.status));
    assert_eq!((open.lookups, open.withdrawals, open.wake_at), (vec![], vec![], None));
}

// ------------------------------------------------------------------------------------------------ any, latch, override

#[rstest]
#[case::one_is_met(job("a").complete(), job("b"), GatePhase::Open)]
#[case::one_is_met_and_the_other_impossible(job("a").failed(), job("b").complete(), GatePhase::Open)]
#[case::one_is_impossible(job("a").failed(), job("b"), GatePhase::Waiting)]
#[case::none_is_left(job("a").failed(), job("b").failed(), GatePhase::Failed)]
fn one_condition_of_any_is_enough(#[case] a: JobSketch, #[case] b: JobSketch, #[case] phase: GatePhase) {
    let mut snapshot = snapshot(gate(&[("a", Complete), ("b", Complete)]), vec![]);
    snapshot.primitive.spec.logic = GateLogic::Any;
    with(&mut snapshot, &[("a", a), ("b", b)]);
    let status = commit(&mut snapshot);
    assert_eq!(status.phase, Some(phase));
    assert_eq!(message(&status.common, OPEN).0 == "True", phase == GatePhase::Open);
}

#[rstest]
#[case::any_names_the_one_that_is_met(GateLogic::Any, "Job a is complete")]
#[case::all_need_not_be_named(GateLogic::All, "all conditions are met")]
fn an_open_gate_says_what_opened_it(#[case] logic: GateLogic, #[case] says: &str) {
    let mut snapshot = snapshot(gate(&[("a", Complete)]), vec![]);
    snapshot.primitive.spec.logic = logic;
    with(&mut snapshot, &[("a", job("a").complete())]);
    assert_eq!(message(&commit(&mut snapshot).common, OPEN).1, says);
}

#[rstest]
fn without_conditions_it_is_opened_by_hand(#[values(GateLogic::All, GateLogic::Any)] logic: GateLogic) {
    let mut snapshot = snapshot(gate(&[]), vec![]);
    snapshot.primitive.spec.logic = logic;
    let status = commit(&mut snapshot);
    assert_eq!(status.phase, Some(GatePhase::Waiting));
    assert_eq!(message(&status.common, OPEN).1, "it is opened by hand: set override: Open");
}

#[test]
fn a_condition_is_dated_anew_when_another_object_meets_it() {
    let mut snapshot = snapshot(gate(&[("etl", Complete)]), vec![]);
    snapshot.primitive.spec.latch = false;
    with(&mut snapshot, &[("etl", job("etl").complete())]);
    assert_eq!(commit(&mut snapshot).condition_statuses[0].at, Some(time(50)));
    snapshot.now = at(60);
    assert_eq!(commit(&mut snapshot).condition_statuses[0].at, Some(time(50)), "the same one");
    with(&mut snapshot, &[("etl", job("etl").made_again().complete())]);
    assert_eq!(commit(&mut snapshot).condition_statuses[0].at, Some(time(60)));
}

#[test]
fn a_message_is_cut_where_nobody_reads_on() {
    let names: Vec<_> = (0..32).map(|number| format!("{number:0>253}")).collect();
    let conditions: Vec<_> = names.iter().map(|name| (name.as_str(), Complete)).collect();
    let mut snapshot = snapshot(gate(&conditions), vec![]);
    assert_eq!(message(&commit(&mut snapshot).common, OPEN).1.chars().count(), 8 * 1024);
}

#[test]
fn success_or_failure_can_be_waited_for() {
    let mut snapshot = snapshot(gate(&[("etl", Complete), ("etl", Failed)]), vec![]);
    snapshot.primitive.spec.logic = GateLogic::Any;
    with(&mut snapshot, &[("etl", job("etl"))]);
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Waiting));
    with(&mut snapshot, &[("etl", job("etl").failed())]);
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Open));
}

#[test]
fn a_gate_that_does_not_latch_follows_its_conditions() {
    let mut snapshot = snapshot(gate(&[("etl", Complete)]), vec![]);
    snapshot.primitive.spec.latch = false;
    for (known, phase) in [
        (vec![("etl", job("etl").complete())], GatePhase::Open),
        (vec![], GatePhase::Waiting),
        (vec![("etl", job("etl").made_again().complete())], GatePhase::Open),
        (vec![("etl", job("etl").made_again().made_again())], GatePhase::Waiting),
    ] {
        with(&mut snapshot, &known);
        assert_eq!(commit(&mut snapshot).phase, Some(phase));
    }
}

#[test]
fn a_person_may_open_and_close_it_whatever_the_conditions_say() {
    let mut snapshot = snapshot(gate(&[("etl", Complete)]), vec![waits("w", 0).role(Role::Await)]);
    with(&mut snapshot, &[("etl", job("etl"))]);
    let who = waits("w", 0).role(Role::Await);
    edit(&mut snapshot, |gate| gate.spec.r#override = Some(GateOverride::Open));
    let open = commit(&mut snapshot);
    assert_eq!(
        (open.phase, message(&open.common, OPEN).1.as_str()),
        (Some(GatePhase::Open), "override says Open")
    );
    assert!(is_in(&entrance(&snapshot, &who)));
    edit(&mut snapshot, |gate| gate.spec.r#override = Some(GateOverride::Closed));
    with(&mut snapshot, &[("etl", job("etl").complete())]);
    let closed = commit(&mut snapshot);
    assert_eq!(
        (closed.phase, closed.met.as_deref(), closed.opened_at),
        (Some(GatePhase::Waiting), Some("1/1"), None)
    );
    assert!(is_closed(&entrance(&snapshot, &who)));
    // What was met under it stays met, although its Job was reaped.
    with(&mut snapshot, &[]);
    edit(&mut snapshot, |gate| gate.spec.r#override = None);
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Open));
}

#[test]
fn a_failed_gate_may_be_opened_by_hand() {
    let mut snapshot = snapshot(gate(&[("etl", Complete)]), vec![]);
    with(&mut snapshot, &[("etl", job("etl").failed())]);
    commit(&mut snapshot);
    edit(&mut snapshot, |gate| gate.spec.r#override = Some(GateOverride::Open));
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Open));
}

#[test]
fn a_gate_without_conditions_is_opened_by_hand() {
    let mut snapshot = snapshot(gate(&[]), vec![]);
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Waiting));
    edit(&mut snapshot, |gate| gate.spec.r#override = Some(GateOverride::Open));
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Open));
}

// ------------------------------------------------------------------------------------------------------------ timeout

fn in_time(participants: Vec<Participant>) -> Snapshot<Gate> {
    let mut snapshot = snapshot(gate(&[("etl", Complete)]), participants);
    snapshot.primitive.spec.timeout = Some("10s".parse().unwrap());
    with(&mut snapshot, &[("etl", job("etl"))]);
    snapshot
}

fn waiter(name: &str) -> Participant {
    waits(name, 0).role(Role::Await)
}

#[test]
fn the_timeout_counts_from_the_first_who_waits_and_not_from_the_creation() {
    let mut snapshot = in_time(vec![]);
    snapshot.now = at(9_999);
    commit(&mut snapshot);
    assert_eq!((commit(&mut snapshot).phase, step(&snapshot).wake_at), (Some(GatePhase::Waiting), None));
    snapshot.participants = vec![waiter("a")];
    assert_eq!(commit(&mut snapshot).first_waiter_at, Some(time(9_999)));
    assert_eq!(step(&snapshot).wake_at, Some(at(10_009)));
    snapshot.now = at(10_008);
    snapshot.participants.push(waiter("b"));
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Waiting));
    snapshot.now = at(10_009);
    let failed = commit(&mut snapshot);
    assert_eq!((failed.phase, failed.timed_out_at.clone()), (Some(GatePhase::Failed), Some(time(10_009))));
    assert_eq!(
        message(&failed.common, OPEN).1,
        "still closed 10s after the first came to wait: Job etl is not complete yet"
    );
    assert!(!is_ready(&failed.common) && is_never(&entrance(&snapshot, &waiter("b"))));
}

#[test]
fn it_opens_if_its_last_condition_is_met_with_the_last_second() {
    let mut snapshot = in_time(vec![waiter("a")]);
    commit(&mut snapshot);
    snapshot.now = at(999);
    with(&mut snapshot, &[("etl", job("etl").complete())]);
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Open));
}

#[test]
fn while_nobody_waits_no_time_passes() {
    let mut snapshot = in_time(vec![waiter("a")]);
    commit(&mut snapshot);
    snapshot.now = at(59);
    snapshot.participants.clear();
    commit(&mut snapshot);
    snapshot.now = at(70);
    snapshot.participants = vec![waiter("b")];
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Waiting));
    assert_eq!(step(&snapshot).wake_at, Some(at(80)));
}

#[test]
fn who_keeps_it_closed_by_hand_has_all_the_time() {
    let mut snapshot = in_time(vec![waiter("a")]);
    snapshot.primitive.spec.r#override = Some(GateOverride::Closed);
    commit(&mut snapshot);
    snapshot.now = at(9_999);
    let closed = commit(&mut snapshot);
    assert_eq!((closed.phase, closed.first_waiter_at), (Some(GatePhase::Waiting), None));
}

#[test]
fn whoever_comes_after_a_timeout_fails_until_the_gate_is_changed() {
    let mut snapshot = in_time(vec![waiter("a")]);
    commit(&mut snapshot);
    snapshot.now = at(60);
    commit(&mut snapshot);
    snapshot.now = at(5_000);
    snapshot.participants = vec![waiter("b")];
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Failed));
    edit(&mut snapshot, |gate| gate.spec.timeout = Some("20s".parse().unwrap()));
    assert!(is_closed(&entrance(&snapshot, &waiter("b"))));
    let anew = commit(&mut snapshot);
    assert_eq!((anew.phase, anew.first_waiter_at), (Some(GatePhase::Waiting), Some(time(5_000))));
    assert_eq!(step(&snapshot).wake_at, Some(at(5_020)));
}
