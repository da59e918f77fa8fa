//! Who is a member, when a member is through, and when the group is.

use konductor_api::conditions::{DONE, READY};
use konductor_api::ledger::ParticipantKind;
use konductor_api::members::MemberKey;
use konductor_api::participation::Role;
use konductor_api::waitgroup::{WaitGroup, WaitGroupPhase, WaitGroupSpec, WaitGroupStatus};
use konductor_primitives::entrance::Entrance;
use konductor_primitives::snapshot::{Participant, Snapshot};
use konductor_primitives::step::Lookup;
use konductor_primitives::waitgroup::{check, step};
use rstest::rstest;

use super::support::{
    self, PodSketch, Says, at, commit, entrance, fresh, is_closed, is_in, job, message, of_job, of_pod, pod,
    queue, snapshot, time, uid, waits,
};

fn of(participants: Vec<Participant>) -> Snapshot<WaitGroup> {
    snapshot(fresh(WaitGroup::new("x", WaitGroupSpec::default())), participants)
}

fn with(snapshot: &mut Snapshot<WaitGroup>, participants: Vec<Participant>) -> WaitGroupStatus {
    snapshot.participants = participants;
    commit(snapshot)
}

fn joins(who: Participant) -> Participant {
    who.role(Role::Join)
}

fn comes(name: &str) -> Participant {
    joins(waits(name, 0))
}

fn ended(name: &str) -> Participant {
    joins(support::succeeded(name))
}

fn awaits(name: &str) -> Participant {
    waits(name, 0).role(Role::Await)
}

fn of_a_pod(sketch: &PodSketch) -> Participant {
    joins(of_pod(sketch, 0))
}

fn a_job(sketch: &support::JobSketch, pods: &[PodSketch]) -> Participant {
    joins(of_job("j", sketch, pods, 0))
}

/// Open and through.
fn counts(status: &WaitGroupStatus) -> (usize, usize) {
    (status.open.len(), status.done.len())
}

const WAITING: Option<WaitGroupPhase> = Some(WaitGroupPhase::Waiting);
const DONE_: Option<WaitGroupPhase> = Some(WaitGroupPhase::Done);

// ------------------------------------------------------------------------------------------------------ the group

#[test]
fn a_group_without_a_member_is_not_done() {
    let mut snapshot = of(vec![awaits("w")]);
    let status = commit(&mut snapshot);
    assert_eq!((status.phase, status.counter, queue(&status.common)), (WAITING, 0, vec!["w"]));
    assert_eq!(message(&status.common, DONE), ("False".to_owned(), "it has had no member yet".to_owned()));
    assert!(message(&status.common, READY).1.contains("without expectAtLeast"));
    assert!(is_closed(&entrance(&snapshot, &awaits("w"))));
}

#[test]
fn a_group_is_done_when_all_its_members_are_through() {
    let mut snapshot = of(vec![comes("a"), comes("b"), awaits("w")]);
    let status = commit(&mut snapshot);
    assert_eq!((status.phase, status.counter, status.done_of.as_deref()), (WAITING, 2, Some("0/2")));
    let half = with(&mut snapshot, vec![ended("a"), comes("b"), awaits("w")]);
    assert_eq!((half.phase, half.done_of.as_deref()), (WAITING, Some("1/2")));
    assert_eq!(message(&half.common, DONE).1, "1 of 2 members are through; not yet: pod/b");
    snapshot.now = at(70);
    let done = with(&mut snapshot, vec![ended("a"), ended("b"), awaits("w")]);
    assert_eq!((done.phase, done.counter, done.done_at), (DONE_, 0, Some(time(70))));
    assert!(is_in(&entrance(&snapshot, &awaits("w"))));
}

#[test]
fn a_member_that_fails_is_through_as_well() {
    let mut snapshot = of(vec![comes("a")]);
    commit(&mut snapshot);
    assert_eq!(with(&mut snapshot, vec![joins(support::failed("a"))]).phase, DONE_);
}

#[test]
fn as_many_as_are_expected_at_least_must_have_been_there() {
    let mut snapshot = of(vec![comes("a")]);
    snapshot.primitive.spec.expect_at_least = Some(3);
    assert_eq!(commit(&mut snapshot).done_of.as_deref(), Some("0/3"));
    let one = with(&mut snapshot, vec![ended("a")]);
    assert_eq!((one.phase, counts(&one)), (WAITING, (0, 1)));
    assert_eq!(message(&one.common, DONE).1, "1 members are through, and at least 3 are expected");
    with(&mut snapshot, vec![ended("a"), comes("b"), comes("c")]);
    assert_eq!(with(&mut snapshot, vec![ended("b"), ended("c")]).phase, DONE_);
}

#[test]
fn a_group_that_is_done_stays_done_when_more_are_expected() {
    let mut snapshot = of(vec![comes("a")]);
    commit(&mut snapshot);
    assert_eq!(with(&mut snapshot, vec![ended("a")]).phase, DONE_);
    snapshot.primitive.spec.expect_at_least = Some(5);
    let later = commit(&mut snapshot);
    assert_eq!((later.phase, later.done_of.as_deref()), (DONE_, Some("1/5")));
}

#[test]
fn only_who_waits_for_the_group_stands_in_its_queue() {
    let passed = of_pod(&pod("through").at_work(), 0).role(Role::Await);
    let mut snapshot = of(vec![comes("member"), awaits("w"), passed]);
    assert_eq!(queue(&commit(&mut snapshot).common), ["w"]);
}

#[test]
fn the_first_five_are_named_and_that_there_are_more_is_shown() {
    let names = |count| (0..count).map(|number| comes(&format!("p{number}"))).collect::<Vec<_>>();
    let said = |count| message(&commit(&mut of(names(count))).common, DONE).1;
    assert!(said(5).ends_with("pod/p3, pod/p4"), "{}", said(5));
    assert!(said(6).ends_with("pod/p4, …"), "{}", said(6));
}

#[test]
fn that_it_may_be_done_too_early_is_said_only_where_somebody_could_be_surprised() {
    let warns = |least: Option<i64>, who: Vec<Participant>| {
        let mut snapshot = of(who);
        snapshot.primitive.spec.expect_at_least = least;
        message(&commit(&mut snapshot).common, READY).1.contains("without expectAtLeast")
    };
    assert!(warns(None, vec![awaits("w")]));
    assert!(!warns(None, vec![comes("a")]));
    assert!(!warns(Some(2), vec![awaits("w")]));
}

#[test]
fn who_is_no_member_and_who_waits_are_told_so_in_their_own_words() {
    let mut snapshot = of(vec![comes("a")]);
    commit(&mut snapshot);
    let said = |who: &Participant| match entrance(&snapshot, who) {
        Entrance::Closed { message, busy, .. } => (message, busy),
        other => panic!("it should be closed: {other:?}"),
    };
    let still = "0 of 1 members are through; not yet: pod/a";
    assert_eq!(said(&awaits("w")), (format!("waits for waitgroup/x: {still}"), true));
    assert_eq!(said(&comes("b")), (format!("is not a member yet of waitgroup/x: {still}"), false));
}

/// Its Job goes on, and will not come under the key of this pod again.
#[test]
fn a_pod_that_never_started_leaves_although_its_job_goes_on() {
    let never = of_pod(&pod("a").without_node().deleting(), 0).of_a_job("j", Some(false));
    let mut snapshot = of(vec![comes("a")]);
    commit(&mut snapshot);
    assert_eq!(counts(&with(&mut snapshot, vec![joins(never)])), (0, 0));
}

#[test]
fn a_pod_that_was_let_through_is_through_even_if_nothing_of_it_ran() {
    let mut snapshot = of(vec![comes("a")]);
    commit(&mut snapshot);
    let over = joins(of_pod(&pod("a").waiter_passed(1, 2).over("Failed"), 0));
    assert_eq!(counts(&with(&mut snapshot, vec![over])), (0, 1));
}

#[test]
fn somebody_is_a_member_before_it_starts() {
    let mut snapshot = of(vec![of_a_pod(&pod("a"))]);
    assert_eq!(counts(&commit(&mut snapshot)), (0, 0));
    assert!(is_closed(&entrance(&snapshot, &comes("a"))));
    with(&mut snapshot, vec![comes("a")]);
    assert!(is_in(&entrance(&snapshot, &comes("a"))));
    assert_eq!(counts(&with(&mut snapshot, vec![comes("a"), comes("a")])), (1, 0));
}

#[test]
fn twenty_end_at_once() {
    let names: Vec<_> = (0..20).map(|number| format!("p{number}")).collect();
    let mut snapshot = of(names.iter().map(|name| comes(name)).collect());
    assert_eq!(commit(&mut snapshot).counter, 20);
    let done = with(&mut snapshot, names.iter().map(|name| ended(name)).collect());
    assert_eq!((done.phase, counts(&done)), (DONE_, (0, 20)));
}

// ---------------------------------------------------------------------------------------------- when one is through

fn attempt(name: &str) -> PodSketch {
    pod(name).of_job("j")
}

#[rstest]
#[case::it_works(of_a_pod(&pod("a").at_work()), (1, 0))]
#[case::it_is_being_deleted(of_a_pod(&pod("a").at_work().deleting()), (1, 0))]
#[case::its_node_is_silent(of_a_pod(&pod("a").at_work().on_a_silent_node()), (1, 0))]
#[case::main_is_over_and_the_pod_is_not(of_a_pod(&pod("a").done(0)), (1, 0))]
#[case::it_succeeded(ended("a"), (0, 1))]
#[case::it_failed_and_nobody_tries_again(joins(support::failed("a")), (0, 1))]
#[case::its_machine_is_gone(of_a_pod(&pod("a").at_work().on_a_node_that_is_gone()), (0, 1))]
#[case::it_was_deleted_while_it_waited(of_a_pod(&pod("a").waiter_ended(2, 9, 143).over("Failed")), (0, 0))]
#[case::it_was_stopped_when_it_waited_for_the_second_time(
    of_a_pod(&pod("a").done(137).waiter_ended(20, 21, 143).over("Failed")),
    (0, 1)
)]
fn a_pod(#[case] later: Participant, #[case] expected: (usize, usize)) {
    let mut snapshot = of(vec![comes("a")]);
    commit(&mut snapshot);
    let status = with(&mut snapshot, vec![later]);
    assert_eq!(counts(&status), expected);
    assert_eq!(status.phase, if expected == (0, 1) { DONE_ } else { WAITING });
}

#[rstest]
#[case::its_job_may_try_again(attempt("a").done(1).over("Failed"), Some(false), (1, 0))]
#[case::its_job_is_over(attempt("a").done(1).over("Failed"), Some(true), (0, 1))]
#[case::it_succeeded(attempt("a").done(0).over("Succeeded"), Some(false), (0, 1))]
#[case::it_was_stopped_when_it_waited_for_the_second_time(
    attempt("a").done(137).waiter_ended(20, 21, 143).over("Failed"),
    Some(false),
    (1, 0)
)]
fn a_pod_of_a_job(#[case] later: PodSketch, #[case] over: Option<bool>, #[case] expected: (usize, usize)) {
    let mut snapshot = of(vec![of_a_pod(&attempt("a").waiter_running(2)).of_a_job("j", Some(false))]);
    commit(&mut snapshot);
    assert_eq!(counts(&with(&mut snapshot, vec![of_a_pod(&later).of_a_job("j", over)])), expected);
}

#[test]
fn a_failed_pod_whose_job_is_not_seen_stays_open_until_the_api_server_says_that_it_is_gone() {
    let mut snapshot = of(vec![of_a_pod(&attempt("a").waiter_running(2)).of_a_job("j", Some(false))]);
    commit(&mut snapshot);
    snapshot.participants = vec![of_a_pod(&attempt("a").done(1).over("Failed")).of_a_job("j", None)];
    let unseen = step(&snapshot);
    let lookup = Lookup { kind: ParticipantKind::Job, name: "j".to_owned(), uid: uid("j") };
    assert_eq!((counts(&unseen.status), unseen.lookups), ((1, 0), vec![lookup]));
    snapshot.absent.insert(uid("j"));
    assert_eq!(counts(&commit(&mut snapshot)), (0, 1));
}

#[test]
fn an_index_that_is_tried_again_is_one_member() {
    let indexed = |name: &str| attempt(name).index("0");
    let of_j = |sketch: PodSketch, over| of_a_pod(&sketch).of_a_job("j", Some(over));
    let mut snapshot = of(vec![of_j(indexed("a").waiter_running(2), false)]);
    commit(&mut snapshot);
    let failed = of_j(indexed("a").done(1).over("Failed"), false);
    assert_eq!(counts(&with(&mut snapshot, vec![failed.clone()])), (1, 0));
    let retry = of_j(indexed("b").waiter_running(12), false);
    assert_eq!(counts(&with(&mut snapshot, vec![failed.clone(), retry])), (1, 0));
    let succeeded = of_j(indexed("b").done(0).over("Succeeded"), false);
    assert_eq!(counts(&with(&mut snapshot, vec![failed, succeeded])), (0, 1));
}

#[test]
fn attempts_of_a_job_that_is_not_indexed_are_through_when_the_job_is() {
    let of_j = |sketch: PodSketch, over| of_a_pod(&sketch).of_a_job("j", Some(over));
    let mut snapshot = of(vec![of_j(attempt("a").waiter_running(2), false)]);
    commit(&mut snapshot);
    let failed = |over| of_j(attempt("a").done(1).over("Failed"), over);
    with(&mut snapshot, vec![failed(false), of_j(attempt("b").waiter_running(12), false)]);
    let success = |over| of_j(attempt("b").done(0).over("Succeeded"), over);
    let status = with(&mut snapshot, vec![failed(false), success(false)]);
    assert_eq!((status.phase, counts(&status)), (WAITING, (1, 1)));
    assert_eq!(with(&mut snapshot, vec![failed(true), success(true)]).phase, DONE_);
}

#[rstest]
#[case::between_two_attempts(a_job(&job("j"), &[pod("p").done(1).over("Failed")]), (1, 0))]
#[case::about_to_complete(a_job(&job("j").condition("SuccessCriteriaMet", ""), &[pod("p").at_work()]), (1, 0))]
#[case::over_by_a_status_write_while_a_pod_runs(a_job(&job("j").failed(), &[pod("p").at_work()]), (1, 0))]
#[case::suspended(a_job(&job("j").suspended(), &[pod("p").done(143).over("Failed")]), (1, 0))]
#[case::complete(a_job(&job("j").complete(), &[pod("p").done(0).over("Succeeded")]), (0, 1))]
#[case::failed(a_job(&job("j").failed(), &[pod("p").done(1).over("Failed")]), (0, 1))]
fn a_job_is_through_with_its_condition(#[case] later: Participant, #[case] expected: (usize, usize)) {
    let mut snapshot = of(vec![a_job(&job("j"), &[pod("p").waiter_running(2)])]);
    commit(&mut snapshot);
    assert_eq!(counts(&with(&mut snapshot, vec![later])), expected);
}

// ------------------------------------------------------------------------------------------- who is not seen any more

fn member(key: &MemberKey) -> Snapshot<WaitGroup> {
    let mut snapshot = of(vec![Participant { member: key.clone(), ..comes("a") }]);
    commit(&mut snapshot);
    snapshot.participants.clear();
    snapshot
}

fn key_of_pod() -> MemberKey {
    MemberKey::Pod { name: "a".to_owned(), uid: uid("a") }
}

fn key_of_index(owner: &str) -> MemberKey {
    MemberKey::Index(owner.to_owned(), 3)
}

#[rstest]
#[case::a_pod_by_its_uid(key_of_pod(), ParticipantKind::Pod, "a", &uid("a"), &uid("a"), (0, 0))]
#[case::a_job_by_its_name(MemberKey::Job("j".to_owned()), ParticipantKind::Job, "j", "", "job/j", (0, 1))]
#[case::an_index_by_the_name_of_its_job(key_of_index("job/j"), ParticipantKind::Job, "j", "", "job/j", (0, 1))]
fn is_asked_for(
    #[case] key: MemberKey,
    #[case] kind: ParticipantKind,
    #[case] name: &str,
    #[case] uid_of_it: &str,
    #[case] absent: &str,
    #[case] expected: (usize, usize),
) {
    let mut snapshot = member(&key);
    let unseen = step(&snapshot);
    let lookup = Lookup { kind, name: name.to_owned(), uid: uid_of_it.to_owned() };
    assert_eq!(lookup.key(), absent);
    assert_eq!((counts(&unseen.status), unseen.lookups), ((1, 0), vec![lookup]));
    snapshot.absent.insert(absent.to_owned());
    let gone = step(&snapshot);
    assert_eq!((counts(&gone.status), gone.lookups), (expected, vec![]));
}

#[rstest]
#[case::a_job(MemberKey::Job("j".to_owned()))]
#[case::an_index(key_of_index("job/j"))]
fn of_a_job_that_is_gone_is_open_while_its_pods_live_on(#[case] key: MemberKey) {
    let mut snapshot = member(&key);
    snapshot.absent.insert("job/j".to_owned());
    snapshot.outlived.insert("j".to_owned());
    let lives_on = step(&snapshot);
    assert_eq!((counts(&lives_on.status), lives_on.lookups), ((1, 0), vec![]));
    snapshot.outlived.clear();
    assert_eq!(counts(&step(&snapshot).status), (0, 1));
}

#[rstest]
#[case::a_job_that_is_no_member_has_taken_the_name(MemberKey::Job("j".to_owned()), job("j").made_again(), (0, 1))]
#[case::the_job_of_that_index_is_over(key_of_index("job/j"), job("j").complete(), (0, 1))]
#[case::the_job_of_that_index_goes_on(key_of_index("job/j"), job("j"), (1, 0))]
fn its_job_was_found(
    #[case] key: MemberKey,
    #[case] found: support::JobSketch,
    #[case] expected: (usize, usize),
) {
    let mut snapshot = member(&key);
    snapshot.owners.insert("j".to_owned(), found.facts());
    let step = step(&snapshot);
    assert_eq!((counts(&step.status), step.lookups), (expected, vec![]));
}

#[test]
fn an_ordinal_is_open_until_its_next_pod_says_otherwise() {
    let step = step(&member(&key_of_index("statefulset/db")));
    assert_eq!((counts(&step.status), step.lookups), ((1, 0), vec![]));
}

// ----------------------------------------------------------------------------------------------------- round by round

fn done(ttl: Option<&str>) -> Snapshot<WaitGroup> {
    let mut snapshot = of(vec![comes("a")]);
    snapshot.primitive.spec.ttl = ttl.map(|ttl| ttl.parse().unwrap());
    commit(&mut snapshot);
    assert_eq!(with(&mut snapshot, vec![ended("a")]).phase, DONE_);
    snapshot
}

#[test]
fn without_a_ttl_a_group_that_is_done_stays_so_and_later_members_count_for_nothing() {
    let mut snapshot = done(None);
    snapshot.now = at(99_999);
    let later = with(&mut snapshot, vec![comes("b"), awaits("w")]);
    assert_eq!((later.phase, counts(&later), later.done_at), (DONE_, (0, 1), Some(time(50))));
    assert!(is_in(&entrance(&snapshot, &comes("b"))) && is_in(&entrance(&snapshot, &awaits("w"))));
}

#[test]
fn with_a_ttl_a_new_member_opens_a_new_round_when_the_old_one_is_over() {
    let mut snapshot = done(Some("60s"));
    snapshot.now = at(109);
    assert_eq!(with(&mut snapshot, vec![comes("b")]).phase, DONE_);
    snapshot.now = at(110);
    assert_eq!(with(&mut snapshot, vec![awaits("w")]).phase, DONE_, "nobody has come to join");
    assert!(is_in(&entrance(&snapshot, &awaits("w"))));
    let anew = with(&mut snapshot, vec![comes("b")]);
    assert_eq!((anew.phase, counts(&anew), anew.done_at), (WAITING, (1, 0), None));
    assert!(is_closed(&entrance(&snapshot, &awaits("w"))) && is_in(&entrance(&snapshot, &comes("b"))));
    assert_eq!(with(&mut snapshot, vec![ended("b")]).phase, DONE_);
}

#[test]
fn the_same_member_may_open_the_next_round() {
    let mut snapshot = done(Some("60s"));
    snapshot.now = at(200);
    let again = a_job(&job("j"), &[pod("p").waiter_running(2)]);
    assert_eq!(counts(&with(&mut snapshot, vec![again.clone()])), (1, 0));
    with(&mut snapshot, vec![a_job(&job("j").complete(), &[])]);
    snapshot.now = at(400);
    assert_eq!(counts(&with(&mut snapshot, vec![again])), (1, 0));
}

#[test]
fn nobody_starts_as_a_member_of_a_round_that_is_over() {
    let mut snapshot = done(Some("60s"));
    snapshot.now = at(200);
    let late = joins(waits("b", 150));
    assert!(is_closed(&entrance(&snapshot, &late)), "it has to be added to the next round first");
    with(&mut snapshot, vec![late.clone()]);
    assert!(is_in(&entrance(&snapshot, &late)));
}

// -------------------------------------------------------------------------------------------------- what is refused

#[test]
fn it_is_not_done_early_and_nobody_is_done_twice_or_undone() {
    let mut snapshot = of(vec![comes("a"), comes("b")]);
    commit(&mut snapshot);
    let half = with(&mut snapshot, vec![ended("a"), comes("b")]);
    let refused = |after: &WaitGroupStatus| check(&snapshot.primitive, after).unwrap_err().invariant;
    assert_eq!(refused(&WaitGroupStatus { phase: DONE_, ..half.clone() }), "WaitGroupNoEarlyDone");
    let mut both = half.clone();
    both.open.insert(key_of_pod());
    assert_eq!(refused(&both), "DoneIdempotent");
    let mut undone = half.clone();
    undone.done.remove(&key_of_pod());
    assert_eq!(refused(&undone), "DoneIdempotent");
    let empty = WaitGroupStatus { phase: DONE_, ..WaitGroupStatus::default() };
    assert_eq!(check(&of(vec![]).primitive, &empty).unwrap_err().invariant, "WaitGroupNoEarlyDone");
    assert_eq!(with(&mut snapshot, vec![ended("a"), ended("a"), comes("b")]), half);
}
