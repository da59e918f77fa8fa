//! Who has arrived at a barrier, when it opens, and for whom.

use konductor_api::barrier::{ArrivalPolicy, Barrier, BarrierPhase, BarrierSpec};
use konductor_api::conditions::{OPEN, STALLED, reason};
use konductor_api::ledger::ParticipantKind;
use konductor_api::members::MemberKey;
use konductor_api::participation::Role;
use konductor_primitives::barrier::{check, step};
use konductor_primitives::snapshot::{Participant, Snapshot};
use konductor_primitives::step::Lookup;
use rstest::rstest;

use super::support::{
    self, JobSketch, PodSketch, Says, at, commit, edit, entrance, fresh, is_closed, is_in, is_never,
    is_ready, job, message, of_job, of_pod, pod, queue, reason_of, snapshot, time, uid, waits, works,
};

fn of(expected: i64, participants: Vec<Participant>) -> Snapshot<Barrier> {
    let spec =
        BarrierSpec { expected, quorum: None, timeout: None, cyclic: false, arrivals: ArrivalPolicy::Sticky };
    snapshot(fresh(Barrier::new("x", spec)), participants)
}

/// A bare pod that has come to meet the others.
fn comes(name: &str) -> Participant {
    waits(name, 0).role(Role::Meet)
}

fn meets(sketch: &PodSketch) -> Participant {
    of_pod(sketch, 0).role(Role::Meet)
}

fn awaits(name: &str) -> Participant {
    waits(name, 0).role(Role::Await)
}

/// A pod of an Indexed Job.
fn indexed(job: &str, index: &str, name: &str) -> PodSketch {
    pod(name).of_job(job).index(index)
}

fn arrived(snapshot: &mut Snapshot<Barrier>, participants: Vec<Participant>) -> (i64, Option<BarrierPhase>) {
    snapshot.participants = participants;
    let status = commit(snapshot);
    (status.arrived, status.phase)
}

const WAITING: Option<BarrierPhase> = Some(BarrierPhase::Waiting);
const OPENED: Option<BarrierPhase> = Some(BarrierPhase::Open);
const FAILED: Option<BarrierPhase> = Some(BarrierPhase::Failed);

// ---------------------------------------------------------------------------------------------------- the trip

#[test]
fn it_opens_in_the_write_in_which_the_last_one_arrives() {
    let mut snapshot = of(3, vec![comes("a"), comes("b")]);
    let two = commit(&mut snapshot);
    assert_eq!((two.arrived, two.phase, two.arrived_of.as_deref()), (2, WAITING, Some("2/3")));
    assert_eq!((two.first_arrival_at, two.opened_at.clone()), (Some(time(50)), None));
    assert!(snapshot.participants.iter().all(|who| is_closed(&entrance(&snapshot, who))));
    snapshot.now = at(60);
    snapshot.participants.push(comes("c"));
    let open = commit(&mut snapshot);
    assert_eq!((open.arrived, open.phase, open.opened_at), (3, OPENED, Some(time(60))));
    assert!(snapshot.participants.iter().all(|who| is_in(&entrance(&snapshot, who))));
}

#[rstest]
#[case::whose_waiter_has_not_started(meets(&pod("b")), 1)]
#[case::whose_node_is_silent(meets(&pod("b").waiter_running(2).on_a_silent_node()), 1)]
#[case::that_has_not_what_comes_before(Participant { reached: false, ..comes("b") }, 1)]
#[case::a_job_without_a_pod(of_job("b", &job("b"), &[], 0).role(Role::Meet), 1)]
#[case::a_job_whose_pod_waits(of_job("b", &job("b"), &[pod("p").waiter_running(2)], 0).role(Role::Meet), 2)]
#[case::a_job_whose_two_pods_wait(
    of_job("b", &job("b"), &[pod("p").waiter_running(2), pod("q").waiter_running(2)], 0).role(Role::Meet),
    2
)]
#[case::who_waits_without_counting(awaits("b"), 1)]
fn somebody_arrives_when_it_starts_to_wait(#[case] second: Participant, #[case] count: i64) {
    assert_eq!(arrived(&mut of(9, vec![]), vec![comes("a"), second]).0, count);
}

#[rstest]
#[case::a_pod_that_waits(waits("b", 0), 1)]
#[case::a_pod_that_works(works("b"), 1)]
#[case::a_pod_that_succeeded(support::succeeded("b"), 2)]
#[case::a_pod_that_failed(support::failed("b"), 1)]
#[case::a_job_that_works(of_job("b", &job("b"), &[pod("p").at_work()], 0), 1)]
#[case::a_job_that_is_complete(of_job("b", &job("b").complete(), &[], 0), 2)]
#[case::a_job_whose_success_is_proven(of_job("b", &job("b"), &[pod("p").done(0).over("Succeeded")], 0), 2)]
#[case::a_job_that_failed(of_job("b", &job("b").failed(), &[], 0), 1)]
fn who_arrives_by_succeeding(#[case] second: Participant, #[case] count: i64) {
    let second = second.role(Role::Arrive);
    let mut snapshot = of(9, vec![]);
    assert_eq!(arrived(&mut snapshot, vec![comes("a"), second.clone()]).0, count);
    assert!(is_in(&entrance(&snapshot, &second)), "it waits for nobody");
}

#[test]
fn an_open_barrier_stays_so_and_lets_all_pass_that_come_late() {
    let mut snapshot = of(2, vec![comes("a"), comes("b")]);
    let open = commit(&mut snapshot);
    snapshot.now = at(999);
    assert_eq!(arrived(&mut snapshot, vec![comes("late")]), (2, OPENED));
    assert!(is_in(&entrance(&snapshot, &comes("late"))) && is_in(&entrance(&snapshot, &awaits("w"))));
    edit(&mut snapshot, |barrier| barrier.spec.expected = 50);
    assert_eq!(commit(&mut snapshot).phase, OPENED);
    assert_eq!(snapshot.primitive.status.unwrap().arrivals, open.arrivals);
}

#[test]
fn a_quorum_is_enough() {
    let mut snapshot = of(5, vec![comes("a"), comes("b"), comes("c")]);
    snapshot.primitive.spec.quorum = Some(3);
    let status = commit(&mut snapshot);
    assert_eq!((status.phase, status.arrived_of.as_deref()), (OPENED, Some("3/3")));
}

#[test]
fn more_expected_before_it_opens_means_more_and_fewer_may_open_it_at_once() {
    let mut snapshot = of(3, vec![comes("a"), comes("b")]);
    commit(&mut snapshot);
    edit(&mut snapshot, |barrier| barrier.spec.expected = 4);
    assert_eq!(arrived(&mut snapshot, vec![comes("a"), comes("b"), comes("c")]), (3, WAITING));
    edit(&mut snapshot, |barrier| barrier.spec.expected = 2);
    assert_eq!(commit(&mut snapshot).phase, OPENED);
}

#[test]
fn ten_thousand_arrive() {
    let member = |index: u32| Participant {
        member: MemberKey::Index("job/train".to_owned(), index),
        ..comes(&format!("train-{index}"))
    };
    let mut snapshot = of(10_000, (0..9_999).map(member).collect());
    assert_eq!(commit(&mut snapshot).phase, WAITING);
    snapshot.participants.push(member(9_999));
    let open = commit(&mut snapshot);
    assert_eq!((open.phase, open.arrived), (OPENED, 10_000));
    assert_eq!(serde_json::to_value(&open.arrivals).unwrap(), serde_json::json!(["job/train[0-9999]"]));
}

// ------------------------------------------------------------------------------------------------------- keys

#[rstest]
#[case::a_job_by_its_name(
    of_job("j", &job("j"), &[pod("p").waiter_running(2)], 0),
    of_job("j", &job("j").made_again(), &[pod("q").waiter_running(2)], 0),
    1
)]
#[case::a_pod_of_an_indexed_job_by_its_index(
    meets(&indexed("train", "3", "train-3-a").waiter_running(2)),
    meets(&indexed("train", "3", "train-3-b").waiter_running(2)),
    1
)]
#[case::two_indexes(
    meets(&indexed("train", "3", "train-3-a").waiter_running(2)),
    meets(&indexed("train", "4", "train-4-a").waiter_running(2)),
    2
)]
#[case::the_same_index_of_two_jobs(
    meets(&indexed("train", "3", "train-3-a").waiter_running(2)),
    meets(&indexed("test", "3", "test-3-a").waiter_running(2)),
    2
)]
#[case::a_pod_of_a_stateful_set_by_its_ordinal(
    meets(&pod("db-1").of_stateful_set("db").waiter_running(2)),
    meets(&pod("db-1").of_stateful_set("db").made_again().waiter_running(2)),
    1
)]
#[case::two_ordinals(
    meets(&pod("db-1").of_stateful_set("db").waiter_running(2)),
    meets(&pod("db-2").of_stateful_set("db").waiter_running(2)),
    2
)]
#[case::a_bare_pod_by_its_uid(comes("p"), meets(&pod("p").made_again().waiter_running(2)), 2)]
#[case::a_pod_of_a_job_that_is_not_indexed_by_its_uid(
    meets(&pod("j-a").of_job("j").waiter_running(2)),
    meets(&pod("j-b").of_job("j").waiter_running(2)),
    2
)]
fn an_arrival_is_known_by(#[case] first: Participant, #[case] second: Participant, #[case] count: i64) {
    let (first, second) = (first.role(Role::Meet), second.role(Role::Meet));
    assert_eq!(arrived(&mut of(9, vec![]), vec![first, second]).0, count);
}

#[test]
fn a_retry_counts_once_and_who_waits_and_succeeds_counts_once() {
    let failed = meets(&indexed("train", "0", "a").waiter_ended(2, 9, 143).over("Failed"));
    let retry = meets(&indexed("train", "0", "b").waiter_running(12));
    let mut snapshot = of(2, vec![meets(&indexed("train", "0", "a").waiter_running(2))]);
    commit(&mut snapshot);
    assert_eq!(arrived(&mut snapshot, vec![failed.clone()]), (1, WAITING), "between two attempts");
    assert_eq!(arrived(&mut snapshot, vec![failed, retry]), (1, WAITING));
    let by_success = of_job("j", &job("j").complete(), &[], 0).role(Role::Arrive);
    let by_waiting = of_job("j", &job("j"), &[pod("p").waiter_running(2)], 0).role(Role::Meet);
    assert_eq!(arrived(&mut of(9, vec![]), vec![by_success, by_waiting]).0, 1);
}

// ------------------------------------------------------------------------------------------- who leaves the count

fn live(expected: i64) -> Snapshot<Barrier> {
    let mut snapshot = of(expected, vec![]);
    snapshot.primitive.spec.arrivals = ArrivalPolicy::Live;
    snapshot
}

#[rstest]
#[case::its_retry_comes_under_the_same_key(of(9, vec![]), indexed("train", "0", "a"), 1)]
#[case::live_means_alive(live(9), indexed("train", "0", "a"), 0)]
#[case::a_bare_pod_is_always_live(of(9, vec![]), pod("a"), 0)]
#[case::so_is_one_of_a_job_that_is_not_indexed(of(9, vec![]), pod("a").of_job("j"), 0)]
fn when_a_pod_that_has_arrived_dies(
    #[case] mut snapshot: Snapshot<Barrier>,
    #[case] sketch: PodSketch,
    #[case] count: i64,
) {
    let waiting = meets(&sketch.clone().waiter_running(2));
    assert_eq!(arrived(&mut snapshot, vec![waiting]).0, 1);
    let deleting = meets(&sketch.clone().waiter_running(2).deleting());
    assert_eq!(arrived(&mut snapshot, vec![deleting]).0, 1, "deletion proves nothing");
    let dead = meets(&sketch.waiter_ended(2, 9, 143).over("Failed"));
    assert_eq!(arrived(&mut snapshot, vec![dead]).0, count);
    assert_eq!(snapshot.primitive.status.unwrap().first_arrival_at.is_some(), count == 1);
}

#[test]
fn who_dies_on_a_machine_that_is_gone_leaves_too() {
    let mut snapshot = of(2, vec![comes("a")]);
    commit(&mut snapshot);
    let lost = meets(&pod("a").waiter_running(2).on_a_node_that_is_gone());
    assert_eq!(arrived(&mut snapshot, vec![lost, comes("b")]), (1, WAITING));
}

#[test]
fn a_pod_that_is_not_seen_is_asked_for_and_counts_until_the_answer() {
    let mut snapshot = of(9, vec![comes("a")]);
    commit(&mut snapshot);
    snapshot.participants.clear();
    let unseen = step(&snapshot);
    assert_eq!(unseen.status.arrived, 1);
    let lookup = Lookup { kind: ParticipantKind::Pod, name: "a".to_owned(), uid: uid("a") };
    assert_eq!(unseen.lookups, [lookup]);
    snapshot.absent.insert(uid("a"));
    let gone = step(&snapshot);
    assert_eq!((gone.status.arrived, gone.lookups), (0, vec![]));
}

#[test]
fn a_job_that_has_arrived_and_is_deleted_leaves_a_live_barrier_once_the_api_server_says_so() {
    let mut snapshot = live(9);
    let waiting = of_job("j", &job("j"), &[pod("p").waiter_running(2)], 0).role(Role::Meet);
    assert_eq!(arrived(&mut snapshot, vec![waiting]).0, 1);
    snapshot.participants.clear();
    let unseen = step(&snapshot);
    let lookup = Lookup { kind: ParticipantKind::Job, name: "j".to_owned(), uid: String::new() };
    assert_eq!((unseen.status.arrived, unseen.lookups), (1, vec![lookup]));
    snapshot.absent.insert("job/j".to_owned());
    assert!(step(&snapshot).lookups.is_empty(), "what was answered is not asked again");
    assert_eq!(commit(&mut snapshot).arrived, 0);
}

#[rstest]
#[case::it_is_over(job("j").failed(), pod("p").waiter_running(2), 0)]
#[case::it_is_being_deleted_and_its_pod_is_dead(
    job("j").deleting(),
    pod("p").waiter_ended(2, 9, 143).over("Failed"),
    0
)]
#[case::it_is_being_deleted_and_its_pod_waits(job("j").deleting(), pod("p").waiter_running(2), 1)]
#[case::its_pod_is_dead_and_may_come_again(job("j"), pod("p").waiter_ended(2, 9, 143).over("Failed"), 1)]
fn when_a_job_leaves_a_live_barrier(#[case] now: JobSketch, #[case] its_pod: PodSketch, #[case] count: i64) {
    let mut snapshot = live(9);
    let waiting = of_job("j", &job("j"), &[pod("p").waiter_running(2)], 0).role(Role::Meet);
    assert_eq!(arrived(&mut snapshot, vec![waiting]).0, 1);
    assert_eq!(arrived(&mut snapshot, vec![of_job("j", &now, &[its_pod], 0).role(Role::Meet)]).0, count);
}

#[test]
fn after_the_trip_nobody_leaves() {
    let mut snapshot = of(2, vec![comes("a"), comes("b")]);
    commit(&mut snapshot);
    let dead = meets(&pod("a").waiter_ended(2, 9, 143).over("Failed"));
    assert_eq!(arrived(&mut snapshot, vec![dead]), (2, OPENED));
}

// ---------------------------------------------------------------------------------------------------- timeout

fn in_time(expected: i64, participants: Vec<Participant>) -> Snapshot<Barrier> {
    let mut snapshot = of(expected, participants);
    snapshot.primitive.spec.timeout = Some("10s".parse().unwrap());
    snapshot
}

#[test]
fn the_timeout_counts_from_the_first_arrival() {
    let mut snapshot = in_time(2, vec![]);
    assert_eq!(step(&snapshot).wake_at, None);
    commit(&mut snapshot);
    snapshot.now = at(100);
    snapshot.participants = vec![comes("a")];
    commit(&mut snapshot);
    assert_eq!(step(&snapshot).wake_at, Some(at(110)));
    snapshot.now = at(109);
    assert_eq!(commit(&mut snapshot).phase, WAITING);
    snapshot.now = at(110);
    let failed = commit(&mut snapshot);
    assert_eq!((failed.phase, reason_of(&failed.common, OPEN).as_str()), (FAILED, reason::TIMED_OUT));
    assert_eq!(message(&failed.common, OPEN).1, "1 of 2 have arrived within 10s of the first arrival");
    assert!(!is_ready(&failed.common) && message(&failed.common, STALLED).1.contains("spec.expected"));
    assert!(is_never(&entrance(&snapshot, &comes("a"))) && is_never(&entrance(&snapshot, &awaits("w"))));
}

#[test]
fn who_arrives_with_the_last_second_has_arrived() {
    let mut snapshot = in_time(2, vec![comes("a")]);
    commit(&mut snapshot);
    snapshot.now = at(999);
    assert_eq!(arrived(&mut snapshot, vec![comes("a"), comes("b")]), (2, OPENED));
}

#[test]
fn when_all_have_left_the_time_starts_anew() {
    let mut snapshot = in_time(2, vec![comes("a")]);
    commit(&mut snapshot);
    snapshot.now = at(59);
    arrived(&mut snapshot, vec![meets(&pod("a").waiter_ended(2, 9, 143).over("Failed"))]);
    snapshot.now = at(70);
    assert_eq!(arrived(&mut snapshot, vec![comes("b")]), (1, WAITING));
    assert_eq!(step(&snapshot).wake_at, Some(at(80)));
}

#[test]
fn who_comes_to_a_failed_barrier_fails_and_a_changed_one_starts_anew() {
    let mut snapshot = in_time(3, vec![comes("a")]);
    commit(&mut snapshot);
    snapshot.now = at(60);
    commit(&mut snapshot);
    snapshot.now = at(61);
    assert_eq!(arrived(&mut snapshot, vec![comes("b"), comes("c"), comes("d")]).1, FAILED);
    assert!(is_never(&entrance(&snapshot, &comes("d"))));
    edit(&mut snapshot, |barrier| barrier.spec.timeout = Some("1h".parse().unwrap()));
    assert!(is_closed(&entrance(&snapshot, &comes("d"))), "nobody has looked at it since");
    snapshot.participants.truncate(1);
    let anew = commit(&mut snapshot);
    assert_eq!((anew.phase, anew.arrived, anew.generation), (WAITING, 1, 2));
    assert_eq!(anew.first_arrival_at, Some(time(61)));
    assert!(is_ready(&anew.common));
}

// -------------------------------------------------------------------------------------------- what people read

#[test]
fn people_read_who_waits_and_who_will_not_come() {
    let lost = of_job("lost", &job("lost").failed(), &[], 0).role(Role::Meet);
    let mut snapshot = of(3, vec![comes("a"), awaits("w"), lost, waits("later", 0).role(Role::Arrive)]);
    let status = commit(&mut snapshot);
    let said = message(&status.common, OPEN);
    assert_eq!(
        said,
        ("False".to_owned(), "1 of 3 have arrived; failed before arriving: job/lost".to_owned())
    );
    assert_eq!((queue(&status.common), status.common.waiting), (vec!["a", "w"], 2));
    assert!(is_ready(&status.common));
}

#[test]
fn who_failed_after_arriving_is_not_among_those_who_will_not_come() {
    let mut snapshot = of(3, vec![of_job("j", &job("j"), &[pod("p").waiter_running(2)], 0).role(Role::Meet)]);
    commit(&mut snapshot);
    snapshot.participants = vec![of_job("j", &job("j").failed(), &[], 0).role(Role::Meet)];
    assert_eq!(message(&commit(&mut snapshot).common, OPEN).1, "1 of 3 have arrived");
}

#[test]
fn a_generation_follows_the_one_before() {
    let mut snapshot = of(2, vec![comes("a")]);
    let mut status = commit(&mut snapshot);
    for (generation, allowed) in [(0, false), (1, true), (3, true), (4, false)] {
        status.generation = generation;
        let broken = check(&snapshot.primitive, &status).err().map(|violation| violation.invariant);
        assert_eq!(broken, (!allowed).then_some("BarrierTripOnce"), "generation {generation}");
    }
}

#[test]
fn an_open_barrier_has_no_queue_and_is_not_counted_again() {
    let mut snapshot = of(1, vec![comes("a")]);
    let mut open = commit(&mut snapshot);
    assert_eq!((open.common.waiting, message(&open.common, OPEN).0.as_str()), (0, "True"));
    open.arrived = 2;
    assert_eq!(check(&snapshot.primitive, &open).unwrap_err().invariant, "DistinctArrivals");
    open.phase = WAITING;
    assert_eq!(check(&snapshot.primitive, &open).unwrap_err().invariant, "BarrierTripOnce");
}

#[test]
fn nobody_opens_it_early() {
    let mut snapshot = of(2, vec![comes("a")]);
    let mut early = commit(&mut snapshot);
    early.phase = OPENED;
    assert_eq!(check(&snapshot.primitive, &early).unwrap_err().invariant, "NoEarlyPass");
}
