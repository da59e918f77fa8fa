//! When silence ends a hold, and what must happen first.

use jiff::SignedDuration;
use konductor_api::annotations::RENEWED;
use konductor_api::duration::GoDuration;
use konductor_api::ledger::{Evidence, ParticipantKind};
use konductor_api::mutex::Mutex;
use konductor_primitives::mutex::step;
use konductor_primitives::snapshot::{Participant, Snapshot};
use rstest::rstest;

use super::support::{PodSketch, at, holder, job, mutex, of_job, of_pod, pod, snapshot, told, uid, waits};

const TTL: i64 = 20;

fn seconds(text: &str) -> GoDuration {
    text.parse().unwrap()
}

/// As the API server itself says it: of which nothing was heard for so long.
fn silent(mut who: Participant, seconds: i64) -> Participant {
    for pod in &mut who.pods {
        *pod = pod.clone().silent_for(SignedDuration::from_secs(seconds));
    }
    who
}

fn renews(sketch: PodSketch) -> PodSketch {
    sketch.annotation(RENEWED, "1 7 20s")
}

/// It holds the mutex, and somebody waits.
fn held_by(sketch: &PodSketch, silent_for: i64, ttl: Option<i64>) -> Snapshot<Mutex> {
    let mut lock = mutex(vec![holder(ParticipantKind::Pod, "p", vec![told("p", 1, 1)])]);
    lock.spec.ttl = ttl.map(|ttl| seconds(&format!("{ttl}s")));
    let mut snapshot = snapshot(lock, vec![silent(of_pod(sketch, 0), silent_for), waits("next", 1)]);
    snapshot.fresh.insert(uid("p"));
    snapshot
}

fn holder_of(snapshot: &Snapshot<Mutex>) -> String {
    step(snapshot).status.ledger.holders[0].name.clone()
}

#[rstest]
#[case::nobody_asked_for_it(pod("p").at_work(), 1_000_000, None, false)]
#[case::a_sidecar_renews(renews(pod("p").at_work()), TTL - 1, Some(TTL), false)]
#[case::a_sidecar_renewed_last_a_ttl_ago(renews(pod("p").at_work()), TTL, Some(TTL), true)]
#[case::it_was_promised_more(pod("p").at_work().annotation(RENEWED, "1 7 30s"), 29, Some(TTL), false)]
#[case::no_more_than_that(pod("p").at_work().annotation(RENEWED, "1 7 30s"), 30, Some(TTL), true)]
#[case::of_another_run(pod("p").at_work().annotation(RENEWED, "2 7 20s"), TTL, Some(TTL), false)]
#[case::no_sidecar_and_the_floor(pod("p").at_work(), 59, Some(TTL), false)]
#[case::no_sidecar_after_the_floor(pod("p").at_work(), 60, Some(TTL), true)]
#[case::no_sidecar_and_a_longer_ttl(pod("p").at_work(), 89, Some(90), false)]
#[case::told_and_never_started(pod("p").waiter_running(1).told_go(1, 1), 60, Some(TTL), true)]
#[case::decided_and_never_told(pod("p").waiter_running(1), 60, Some(TTL), true)]
fn a_hold_is_lost_after_a_whole_ttl_of_silence(
    #[case] sketch: PodSketch,
    #[case] silent_for: i64,
    #[case] ttl: Option<i64>,
    #[case] lost: bool,
) {
    let step = step(&held_by(&sketch, silent_for, ttl));
    assert_eq!(step.status.ledger.holders[0].name, "p", "it is never gone in one go");
    let told: Vec<_> =
        step.withdrawals.iter().map(|withdrawal| (withdrawal.uid.clone(), withdrawal.lost)).collect();
    assert_eq!(told, if lost { vec![(uid("p"), true)] } else { vec![] });
}

#[test]
fn its_verdict_is_withdrawn_and_it_is_deleted_before_anybody_else_enters() {
    let at_work = || renews(pod("p").at_work());
    let withdrawn = held_by(&at_work().withdrawn(1, 1), TTL, Some(TTL));
    assert_eq!(step(&withdrawn).withdrawals.len(), 1, "it is to be deleted, too");
    let deleted = held_by(&at_work().deleting(), TTL, Some(TTL));
    assert_eq!(step(&deleted).withdrawals.len(), 1, "its verdict still stands");
    let both = held_by(&at_work().withdrawn(1, 1).deleting(), TTL, Some(TTL));
    let step = step(&both);
    assert!(step.withdrawals.is_empty());
    assert_eq!(step.status.ledger.holders[0].name, "next");
    let release = &step.status.ledger.history[0];
    assert_eq!((release.uid.clone(), release.evidence), (uid("p"), Evidence::T));
}

#[test]
fn a_cache_that_is_silent_proves_nothing() {
    let mut snapshot = held_by(&renews(pod("p").at_work()), TTL, Some(TTL));
    snapshot.fresh.clear();
    let step = step(&snapshot);
    assert!(step.withdrawals.is_empty());
    assert_eq!(step.lookups.len(), 1, "the API server is asked about the pod");
}

#[test]
fn who_is_heard_of_again_in_between_keeps_its_hold() {
    let heard = held_by(&renews(pod("p").at_work()).withdrawn(1, 1), 0, Some(TTL));
    assert_eq!(holder_of(&heard), "p");
    assert!(step(&heard).withdrawals.is_empty());
}

#[test]
fn proof_goes_before_silence() {
    let over = held_by(&renews(pod("p").done(0)).over("Succeeded"), TTL, Some(TTL));
    assert_eq!(step(&over).status.ledger.history[0].evidence, Evidence::P1);
}

/// A Job that lost all its pods has lost its hold, and queues again with those that come in their place; while one of them is heard of it
/// holds.
#[test]
fn a_job_is_lost_when_all_its_pods_are() {
    let held = |silences: [i64; 2]| {
        let pods = ["a", "b"].map(|name| renews(pod(name).at_work()).withdrawn(1, 1).deleting());
        let mut lock = mutex(vec![holder(ParticipantKind::Job, "j", vec![told("a", 1, 1), told("b", 1, 1)])]);
        lock.spec.ttl = Some(seconds("20s"));
        let mut who = of_job("j", &job("j"), &pods, 0);
        for (pod, silence) in who.pods.iter_mut().zip(silences) {
            *pod = pod.clone().silent_for(SignedDuration::from_secs(silence));
        }
        let mut snapshot = snapshot(lock, vec![who, waits("next", 1)]);
        snapshot.fresh.extend([uid("a"), uid("b")]);
        snapshot
    };
    assert_eq!(holder_of(&held([TTL, TTL - 1])), "j");
    assert_eq!(holder_of(&held([TTL, TTL])), "next");
}

#[test]
fn it_is_looked_at_again_when_it_would_be_lost() {
    let wake = |silent_for| step(&held_by(&renews(pod("p").at_work()), silent_for, Some(TTL))).wake_at;
    assert_eq!(wake(5), Some(at(50 + TTL - 5)), "the snapshot is of second 50");
    let held = held_by(&renews(pod("p").at_work()), 5, None);
    assert_eq!(step(&held).wake_at, None);
}

#[test]
fn what_people_read_names_the_ttl() {
    let on_a_silent_node = held_by(&pod("p").at_work().on_a_silent_node(), 5, Some(TTL));
    let suspect = step(&on_a_silent_node).status.ledger.holders[0].suspect.clone().unwrap();
    assert!(suspect.contains("its ttl of 20s (60s where no sidecar renews it)"), "{suspect}");
}
