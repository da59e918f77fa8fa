//! A cyclic barrier: who belongs to which generation.

use konductor_api::barrier::{ArrivalPolicy, Barrier, BarrierPhase, BarrierSpec, BarrierStatus};
use konductor_api::conditions::READY;
use konductor_api::participation::Role;
use konductor_primitives::barrier::check;
use konductor_primitives::snapshot::{Participant, Snapshot};
use rstest::rstest;

use super::support::{
    self, PodSketch, Says, at, commit, edit, entrance, fresh, is_closed, is_in, is_never, job, message,
    of_job, of_pod, pod, snapshot, waits,
};

fn cyclic(expected: i64) -> Snapshot<Barrier> {
    let spec =
        BarrierSpec { expected, quorum: None, timeout: None, cyclic: true, arrivals: ArrivalPolicy::Sticky };
    snapshot(fresh(Barrier::new("x", spec)), vec![])
}

fn meets(sketch: &PodSketch) -> Participant {
    of_pod(sketch, 0).role(Role::Meet)
}

/// A pod of index `index` of an Indexed Job, in its `attempt`th attempt.
fn attempt(index: &str, attempt: &str) -> PodSketch {
    pod(&format!("train-{index}-{attempt}")).of_job("train").index(index)
}

fn waiting(index: &str, number: &str) -> Participant {
    meets(&attempt(index, number).waiter_running(2))
}

fn through(index: &str, number: &str) -> Participant {
    meets(&attempt(index, number).at_work())
}

fn failed(index: &str, number: &str) -> Participant {
    meets(&attempt(index, number).done(1).over("Failed"))
}

fn succeeded(index: &str, number: &str) -> Participant {
    meets(&attempt(index, number).done(0).over("Succeeded"))
}

/// A step with these; generation and count afterwards.
fn with(snapshot: &mut Snapshot<Barrier>, participants: &[Participant]) -> (i64, i64) {
    snapshot.participants = participants.to_vec();
    let status = commit(snapshot);
    assert_eq!(status.phase, Some(BarrierPhase::Waiting));
    (status.generation, status.arrived)
}

#[test]
fn the_trip_opens_the_next_generation() {
    let mut snapshot = cyclic(2);
    let both = [waiting("0", "a"), waiting("1", "a")];
    assert_eq!(with(&mut snapshot, &both), (2, 0));
    assert!(both.iter().all(|who| is_in(&entrance(&snapshot, who))));
    let other = waiting("2", "a");
    assert!(is_closed(&entrance(&snapshot, &other)));
    assert_eq!(with(&mut snapshot, &[both[0].clone(), both[1].clone(), other.clone()]), (2, 1));
    assert!(is_in(&entrance(&snapshot, &both[0])) && is_closed(&entrance(&snapshot, &other)));
    let status = snapshot.primitive.status.as_ref().unwrap();
    assert_eq!(message(&status.common, READY).1, "the spec is served; generation 2 is filling");
}

#[test]
fn the_retry_of_a_member_that_failed_is_let_through_and_counts_for_nothing() {
    let mut snapshot = cyclic(2);
    with(&mut snapshot, &[waiting("0", "a"), waiting("1", "a")]);
    let retry = [failed("0", "a"), waiting("0", "b"), through("1", "a")];
    assert_eq!(with(&mut snapshot, &retry), (2, 0));
    assert!(is_in(&entrance(&snapshot, &retry[1])));
}

#[test]
fn whoever_comes_after_a_success_counts_for_the_next_generation() {
    let mut snapshot = cyclic(2);
    with(&mut snapshot, &[waiting("0", "a"), waiting("1", "a")]);
    assert_eq!(with(&mut snapshot, &[succeeded("0", "a"), through("1", "a")]), (2, 0));
    let next = waiting("0", "b");
    assert_eq!(with(&mut snapshot, &[succeeded("0", "a"), next.clone(), through("1", "a")]), (2, 1));
    assert!(is_closed(&entrance(&snapshot, &next)));
}

#[test]
fn members_that_were_not_told_yet_when_the_next_generation_opens_are_let_through_all_the_same() {
    let mut snapshot = cyclic(2);
    let bare = |name: &str| waits(name, 0).role(Role::Meet);
    let first = [bare("a"), bare("b")];
    assert_eq!(with(&mut snapshot, &first), (2, 0));
    // Whoever committed it died before it told them.
    let all = [bare("a"), bare("b"), bare("c"), bare("d")];
    assert_eq!(with(&mut snapshot, &all), (3, 0));
    assert!(all.iter().all(|who| is_in(&entrance(&snapshot, who))));
    assert_eq!(with(&mut snapshot, &all), (3, 0), "none of them counts again");
}

#[test]
fn a_member_that_fails_after_the_next_generation_has_opened_is_let_through_again() {
    let mut snapshot = cyclic(2);
    with(&mut snapshot, &[waiting("0", "a"), waiting("1", "a")]);
    with(&mut snapshot, &[through("0", "a"), through("1", "a"), waiting("2", "a"), waiting("3", "a")]);
    let retry =
        [failed("0", "a"), waiting("0", "b"), through("1", "a"), through("2", "a"), through("3", "a")];
    assert_eq!(with(&mut snapshot, &retry), (3, 0));
    assert!(is_in(&entrance(&snapshot, &retry[1])));
}

#[test]
fn what_succeeded_in_an_earlier_generation_takes_nothing_from_who_comes_after_it() {
    let mut snapshot = cyclic(1);
    assert_eq!(with(&mut snapshot, &[waiting("0", "a")]), (2, 0));
    assert_eq!(with(&mut snapshot, &[succeeded("0", "a")]), (2, 0));
    // The Job was made again, and a pod of the first one is still there.
    let second = [succeeded("0", "a"), waiting("0", "b")];
    assert_eq!(with(&mut snapshot, &second), (3, 0));
    assert!(is_in(&entrance(&snapshot, &second[1])));
    assert_eq!(with(&mut snapshot, &second), (3, 0));
    assert!(is_in(&entrance(&snapshot, &second[1])));
}

#[rstest]
#[case::a_job(of_job("j", &job("j").complete(), &[], 0))]
#[case::a_pod(support::succeeded("p"))]
#[case::a_pod_of_an_index(succeeded("0", "a"))]
fn a_success_counts_for_one_generation_only(#[case] who: Participant) {
    let mut snapshot = cyclic(1);
    let who = who.role(Role::Arrive);
    assert_eq!(with(&mut snapshot, std::slice::from_ref(&who)), (2, 0));
    assert_eq!(with(&mut snapshot, std::slice::from_ref(&who)), (2, 0));
    let other = support::succeeded("other").role(Role::Arrive);
    assert_eq!(with(&mut snapshot, &[who.clone(), other.clone()]), (3, 0));
    assert_eq!(with(&mut snapshot, &[who, other]), (3, 0));
}

#[test]
fn a_job_that_was_made_again_and_succeeds_again_counts_again() {
    let mut snapshot = cyclic(1);
    let arrives = |sketch| of_job("j", &sketch, &[], 0).role(Role::Arrive);
    assert_eq!(with(&mut snapshot, &[arrives(job("j").complete())]), (2, 0));
    assert_eq!(with(&mut snapshot, &[arrives(job("j").made_again())]), (2, 0));
    assert_eq!(with(&mut snapshot, &[arrives(job("j").made_again().complete())]), (3, 0));
}

/// Who has come by the trip and has not succeeded yet is not through with it.
#[test]
fn who_succeeds_after_a_trip_counts_for_the_next_generation() {
    let mut snapshot = cyclic(1);
    let first = support::succeeded("first").role(Role::Arrive);
    let works = support::works("second").role(Role::Arrive);
    assert_eq!(with(&mut snapshot, &[first.clone(), works]), (2, 0));
    let second = support::succeeded("second").role(Role::Arrive);
    assert_eq!(with(&mut snapshot, &[first, second]), (3, 0));
}

#[test]
fn who_waits_without_counting_passes_with_the_generation_that_opens_next() {
    let mut snapshot = cyclic(2);
    let await_since = |name: &str, second: i64| waits(name, second).role(Role::Await);
    let early = await_since("early", 40);
    snapshot.participants = vec![early.clone(), waiting("0", "a")];
    commit(&mut snapshot);
    assert!(is_closed(&entrance(&snapshot, &early)));
    snapshot.participants.push(waiting("1", "a"));
    commit(&mut snapshot);
    assert!(is_in(&entrance(&snapshot, &early)));
    assert!(is_closed(&entrance(&snapshot, &await_since("late", 51))));
}

#[test]
fn what_has_opened_stays_open_for_its_members_whatever_becomes_of_the_next_generation() {
    let mut snapshot = cyclic(2);
    snapshot.primitive.spec.timeout = Some("10s".parse().unwrap());
    let members = [waiting("0", "a"), waiting("1", "a")];
    with(&mut snapshot, &members);
    let waiter = waits("w", 40).role(Role::Await);
    snapshot.participants = vec![members[0].clone(), members[1].clone(), waiting("2", "a"), waiter.clone()];
    commit(&mut snapshot);
    snapshot.now = at(60);
    let failed: BarrierStatus = commit(&mut snapshot);
    assert_eq!(failed.phase, Some(BarrierPhase::Failed));
    assert!(is_in(&entrance(&snapshot, &members[0])) && is_in(&entrance(&snapshot, &waiter)));
    assert!(is_never(&entrance(&snapshot, &waiting("2", "a"))));
    edit(&mut snapshot, |barrier| barrier.spec.timeout = None);
    let anew = commit(&mut snapshot);
    assert_eq!((anew.generation, anew.arrived), (3, 1), "the members of the first one count for none");
}

#[test]
fn all_who_have_come_by_then_go_with_the_generation_that_they_open() {
    let mut snapshot = cyclic(2);
    let three = [waiting("0", "a"), waiting("1", "a"), waiting("2", "a")];
    assert_eq!(with(&mut snapshot, &three), (2, 0));
    assert!(three.iter().all(|who| is_in(&entrance(&snapshot, who))));
}

#[test]
fn no_write_counts_somebody_twice_or_goes_back() {
    let mut snapshot = cyclic(2);
    with(&mut snapshot, &[waiting("0", "a"), waiting("1", "a")]);
    with(&mut snapshot, &[through("0", "a"), through("1", "a"), waiting("2", "a")]);
    let status = snapshot.primitive.status.clone().unwrap();
    let refused = |after: &BarrierStatus| check(&snapshot.primitive, after).unwrap_err().invariant;
    let mut twice = status.clone();
    twice.arrivals.insert(waiting("0", "a").member);
    twice.arrived = 2;
    assert_eq!(refused(&twice), "GenerationIsolation");
    for generation in [status.generation - 1, status.generation + 9] {
        assert_eq!(refused(&BarrierStatus { generation, ..status.clone() }), "BarrierTripOnce");
    }
}

#[test]
fn what_is_remembered_of_earlier_generations_goes_with_those_who_can_be_seen_no_more() {
    let mut snapshot = cyclic(1);
    let arrives = |name: &str| of_job(name, &job(name).complete(), &[], 0).role(Role::Arrive);
    for round in 0..20 {
        let name = format!("j{round}");
        let bare = waits(&format!("p{round}"), 0).role(Role::Meet);
        assert_eq!(with(&mut snapshot, &[arrives(&name), bare]), (round + 2, 0));
    }
    assert_eq!(snapshot.primitive.status.unwrap().passed.len(), 2);
}

#[test]
fn the_next_pod_of_an_ordinal_is_let_through_although_there_was_none_for_a_while() {
    let ordinal = |sketch: PodSketch| meets(&sketch.of_stateful_set("db").waiter_running(2));
    let mut snapshot = cyclic(1);
    with(&mut snapshot, &[ordinal(pod("db-0"))]);
    with(&mut snapshot, &[waiting("7", "a")]);
    let next = ordinal(pod("db-0").made_again());
    assert_eq!(with(&mut snapshot, std::slice::from_ref(&next)), (3, 0));
    assert!(is_in(&entrance(&snapshot, &next)));
}
