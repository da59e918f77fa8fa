//! Jobs that we keep suspended: they reserve, go on, and their pods are told when they run.

use konductor_api::annotations::JOB_PLAN;
use konductor_api::conditions::reason;
use konductor_api::ledger::{Evidence, Holder, ParticipantKind};
use konductor_api::mutex::{Mutex, MutexStatus};
use konductor_api::once::{Once, OnceSpec};
use konductor_api::participation::{PrimitiveRef, PrimitiveSet};
use konductor_primitives::committed::Committed;
use konductor_primitives::facts::{PodFacts, Suspended};
use konductor_primitives::hold::{Ending, Fate, Outcome, judge};
use konductor_primitives::mutex;
use konductor_primitives::reservation::IN_VAIN;
use konductor_primitives::snapshot::{Participant, Snapshot};
use konductor_primitives::verdict::{JobTelling, Who, telling_job};
use rstest::rstest;

use super::support::{
    JobSketch, PodSketch, at, commit, fresh, holder, holders, job, mutex as mutex_of, of_job, pod, queue,
    snapshot, time, told, uid, waits, works,
};

/// The Job `j`, which we keep suspended.
fn suspended() -> Participant {
    of_job("j", &job("j").suspended_by_us(), &[], 0)
}

/// A pod of it, as it comes when the Job goes on.
fn of_j(name: &str) -> PodSketch {
    pod(name).of_job("j").annotation(JOB_PLAN, "v1 mutex=x")
}

/// The entry that it gets, at second 50.
fn reservation() -> Holder {
    Holder { reserved: true, granted_at: time(50), ..holder(ParticipantKind::Job, "j", Vec::new()) }
}

fn of(holders: Vec<Holder>, participants: Vec<Participant>) -> Snapshot<Mutex> {
    snapshot(mutex_of(holders), participants)
}

/// What becomes of the mutex so many seconds after the reservation.
fn after(seconds: i64, snapshot: Snapshot<Mutex>) -> (MutexStatus, Option<jiff::Timestamp>) {
    let snapshot = Snapshot { now: at(50 + seconds), ..snapshot };
    let step = mutex::step(&snapshot);
    mutex::check(&snapshot.primitive, &step.status).unwrap();
    (step.status, step.wake_at)
}

fn tell(suspended: Suspended, pods: &[PodFacts], mutex: Option<&Mutex>) -> JobTelling {
    let set: PrimitiveSet = "v1 mutex=x".parse().unwrap();
    let who = Who::unseen_job("j", &uid("j"));
    let committed = |_: &PrimitiveRef| mutex.map_or(Committed::Missing, Committed::Mutex);
    telling_job(&who, suspended, &set, pods, committed, |_, _| Some((2, 3)), at(60))
}

// ------------------------------------------------------------------------------------------------------ facts

#[rstest]
#[case::by_us(job("j").suspended_by_us(), Suspended::ByUs, true)]
#[case::by_others(job("j").suspended(), Suspended::ByOthers, false)]
#[case::not(job("j"), Suspended::No, false)]
fn who_suspended_a_job_says_whether_it_waits(
    #[case] sketch: JobSketch,
    #[case] expected: Suspended,
    #[case] starts: bool,
) {
    assert_eq!(sketch.facts().suspended, expected);
    let who = of_job("j", &sketch, &[], 0);
    assert_eq!((who.can_start(), who.is_suspended_by_us()), (starts, starts));
    assert_eq!(who.waits(), expected != Suspended::ByOthers);
}

// -------------------------------------------------------------------------------------------- the reservation

#[test]
fn it_reserves_in_its_place_and_nobody_is_told() {
    let mut snapshot = of(vec![], vec![suspended(), waits("late", 1)]);
    let status = commit(&mut snapshot);
    assert_eq!((holders(&status.ledger), queue(&status.common)), (vec!["j"], vec!["late"]));
    let entry = &status.ledger.holders[0];
    assert!(entry.reserved && entry.pods.is_empty());
    // And keeps it.
    assert_eq!(commit(&mut snapshot).ledger.holders, std::slice::from_ref(entry));
}

#[test]
fn who_waits_already_is_in_nobodys_way_and_reserves_behind_who_holds() {
    let held = holder(ParticipantKind::Pod, "first", vec![told("first", 1, 1)]);
    let mut snapshot = of(vec![held], vec![works("first"), suspended()]);
    let status = commit(&mut snapshot);
    assert_eq!((holders(&status.ledger), queue(&status.common)), (vec!["first"], vec!["j"]));
    assert_eq!(status.common.queue[0].not_yet, None);
}

#[test]
fn when_a_waiter_of_it_runs_the_entry_lists_the_pod_and_is_no_reservation_any_more() {
    let going = of_job("j", &job("j"), &[of_j("a").waiter_running(55), of_j("b")], 0);
    let mut snapshot = of(vec![reservation()], vec![going]);
    let entry = commit(&mut snapshot).ledger.holders[0].clone();
    assert_eq!(entry.pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["a"]);
    assert!(!entry.reserved);
    assert_eq!((entry.token.as_str(), entry.granted_at), ("5", time(50)));
}

fn fate(participant: Option<&Participant>, absent: bool) -> (Fate, usize) {
    let mut snapshot = of(vec![], vec![]);
    snapshot.absent.extend(absent.then(|| uid("j")));
    let mut lookups = Vec::new();
    let fate = judge(&reservation(), participant, false, None, &snapshot, &mut lookups);
    (fate, lookups.len())
}

#[rstest]
#[case::still_suspended(job("j").suspended_by_us(), vec![])]
#[case::going_on_without_a_pod_yet(job("j"), vec![])]
#[case::whose_pod_failed_before_it_was_told(job("j"), vec![of_j("a").over("Failed")])]
fn it_stays_while_the_job_may_make_pods(#[case] sketch: JobSketch, #[case] pods: Vec<PodSketch>) {
    assert_eq!(fate(Some(&of_job("j", &sketch, &pods, 0)), false), (Fate::Stays, 0));
}

#[rstest]
#[case::complete(job("j").complete())]
#[case::failed(job("j").failed())]
#[case::being_deleted(job("j").suspended_by_us().deleting())]
#[case::suspended_by_somebody_else(job("j").suspended())]
fn it_ends_when_the_job_will_not_run_under_it(#[case] sketch: JobSketch) {
    let gave_back = Fate::Ends(Ending { evidence: Evidence::P0, outcome: Outcome::GaveBack });
    let pods = [of_j("a").waiter_running(55)];
    assert_eq!(fate(Some(&of_job("j", &sketch, &pods, 0)), false), (gave_back.clone(), 0));
    let lost = Participant { reached: false, ..suspended() };
    assert_eq!(fate(Some(&lost), false), (gave_back.clone(), 0));
    assert_eq!(fate(None, true), (gave_back, 0));
}

#[test]
fn that_its_job_is_gone_must_be_asked() {
    assert_eq!(fate(None, false), (Fate::Stays, 1));
}

// ------------------------------------------------------------------------------------------------- in vain

#[rstest]
#[case::no_pod(vec![])]
#[case::a_pod_without_a_node(vec![of_j("a").without_node()])]
#[case::a_pod_on_a_silent_node(vec![of_j("a").on_a_silent_node()])]
#[case::dead_pods(vec![of_j("a").over("Failed")])]
fn it_is_taken_back_when_it_finds_no_node_and_somebody_else_could_start(#[case] pods: Vec<PodSketch>) {
    let going = || of_job("j", &job("j").started(51), &pods, 0);
    let limit = IN_VAIN.as_secs() + 1;
    let both = || of(vec![reservation()], vec![going(), waits("next", 1)]);
    let (status, wake_at) = after(limit - 1, both());
    assert_eq!((holders(&status.ledger), wake_at), (vec!["j"], Some(at(50 + limit))));
    let (status, _) = after(limit, both());
    assert_eq!((holders(&status.ledger), queue(&status.common)), (vec!["next"], vec!["j"]));
    assert_eq!(status.ledger.history[0].evidence, Evidence::P0);
    let (status, wake_at) = after(9999, of(vec![reservation()], vec![going()]));
    assert_eq!((holders(&status.ledger), wake_at), (vec!["j"], None), "nobody else wants it");
}

#[rstest]
#[case::still_suspended(job("j").suspended_by_us(), vec![])]
#[case::with_a_pod_on_its_node(job("j"), vec![of_j("a").without_node(), of_j("b")])]
#[case::with_a_pod_at_our_gate(job("j"), vec![of_j("a").without_node().gates(&["konductor.io/hold"])])]
fn it_is_not_taken_back_while_it_may_start(#[case] sketch: JobSketch, #[case] pods: Vec<PodSketch>) {
    let (status, wake_at) =
        after(9999, of(vec![reservation()], vec![of_job("j", &sketch, &pods, 0), waits("next", 1)]));
    assert_eq!((holders(&status.ledger), wake_at), (vec!["j"], None));
}

#[test]
fn an_attempt_that_never_ran_is_none() {
    let spec: OnceSpec = serde_json::from_value(serde_json::json!({"maxAttempts": 1})).unwrap();
    let mut snapshot = snapshot(fresh(Once::new("x", spec)), vec![suspended()]);
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["j"]);
    snapshot.participants = vec![of_job("j", &job("j").suspended(), &[], 0)];
    let status = commit(&mut snapshot);
    assert_eq!((holders(&status.ledger).len(), status.attempts), (0, 0));
}

// --------------------------------------------------------------------------------------------------- telling

#[test]
fn it_goes_on_when_the_ledger_has_it_and_says_what_it_waits_for_until_then() {
    let own = mutex_of(vec![reservation()]);
    assert!(matches!(tell(Suspended::ByUs, &[], Some(&own)), JobTelling::Resume { .. }));
    assert_eq!(tell(Suspended::No, &[], Some(&own)), JobTelling::Nothing);
    let others = mutex_of(vec![holder(ParticipantKind::Pod, "first", vec![told("first", 1, 1)])]);
    let JobTelling::Wait(wait) = tell(Suspended::ByUs, &[], Some(&others)) else { panic!("it waits") };
    assert_eq!(wait.reason, reason::WAITING);
    assert!(
        wait.message.starts_with("waits for mutex/x: place 2 of 3, held by pod/first"),
        "{}",
        wait.message
    );
    let JobTelling::Wait(wait) = tell(Suspended::ByUs, &[], None) else { panic!("it waits") };
    assert_eq!(wait.reason, reason::MISSING_PRIMITIVE);
    for suspended in [Suspended::No, Suspended::ByOthers] {
        assert_eq!(tell(suspended, &[], Some(&others)), JobTelling::Nothing);
    }
}

#[test]
fn once_a_pod_was_let_through_it_is_told_nothing() {
    let passed = of_j("a").waiter_passed(55, 56).facts();
    assert_eq!(tell(Suspended::ByUs, &[passed], None), JobTelling::Nothing);
}
