//! Pods that wait at our scheduling gate: they reserve, and are told when they run.

use konductor_api::annotations::{BARRIER, GATE, JOB_PLAN, MUTEX};
use konductor_api::barrier::{Barrier, BarrierPhase};
use konductor_api::ledger::{Evidence, Holder, ParticipantKind};
use konductor_api::mutex::Mutex;
use konductor_api::once::{Once, OnceSpec, OnceStatus};
use konductor_api::participation::{Kind, PodPlan, PrimitiveRef, Role};
use konductor_primitives::committed::Committed;
use konductor_primitives::gated::Gated;
use konductor_primitives::mutex;
use konductor_primitives::reservation::IN_VAIN;
use konductor_primitives::snapshot::{Participant, Snapshot};
use konductor_primitives::step::Step;
use konductor_primitives::verdict::{Telling, Who, telling};
use rstest::rstest;

use super::support::{
    PodSketch, Says, at, commit, fresh, held_by, holder, holders, job, mutex as mutex_of, of_job, of_pod,
    pod, queue, snapshot, uid, waits,
};

const OURS: &str = "konductor.io/hold";
const KUEUES: &str = "kueue.x-k8s.io/admission";

/// A pod that waits at our gate, on no node.
fn gated(name: &str) -> PodSketch {
    pod(name).annotation(MUTEX, "db").without_node().gates(&[OURS])
}

/// Its gate is lifted, and the scheduler finds no room.
fn placeless(name: &str) -> PodSketch {
    gated(name).gates(&[]).condition("PodScheduled", "False", "Unschedulable")
}

/// The entry that such a pod gets, at second 50.
fn reservation(name: &str) -> Holder {
    Holder { granted_at: super::support::time(50), ..holder(ParticipantKind::Pod, name, Vec::new()) }
}

fn of(holders: Vec<Holder>, participants: Vec<Participant>) -> Snapshot<Mutex> {
    snapshot(mutex_of(holders), participants)
}

/// The same, so many seconds after the reservation.
fn after(seconds: i64, snapshot: Snapshot<Mutex>) -> Snapshot<Mutex> {
    Snapshot { now: at(50 + seconds), ..snapshot }
}

fn step(snapshot: &Snapshot<Mutex>) -> Step<konductor_api::mutex::MutexStatus> {
    let step = mutex::step(snapshot);
    mutex::check(&snapshot.primitive, &step.status).unwrap();
    step
}

fn tell(sketch: &PodSketch, mutex: &Mutex) -> Telling {
    let facts = sketch.facts();
    let plan = PodPlan::of(facts.object().metadata.annotations.as_ref().unwrap(), false);
    let committed = |name: &PrimitiveRef| match name.kind {
        Kind::Mutex => Committed::Mutex(mutex),
        _ => Committed::Missing,
    };
    telling(&facts, &plan, None, committed, |_, _| None, at(50))
}

// ------------------------------------------------------------------------------------------------- candidates

#[rstest]
#[case::nobodys(&[], Gated::No, false)]
#[case::ours(&[OURS], Gated::ByUs, true)]
#[case::others(&[KUEUES], Gated::ByOthers, false)]
#[case::both(&[KUEUES, OURS], Gated::ByUsAndOthers, false)]
fn a_pod_whose_only_gate_is_ours_is_a_candidate(
    #[case] gates: &[&str],
    #[case] found: Gated,
    #[case] could: bool,
) {
    let sketch = pod("p").annotation(MUTEX, "db").without_node().gates(gates);
    let facts = sketch.facts();
    assert_eq!((facts.gated, facts.waits_at_our_gate(), facts.can_be_told()), (found, could, None));
    assert_eq!(facts.gated.by_us(), gates.contains(&OURS));
    assert_eq!(facts.gated.by_others(), gates.contains(&KUEUES));
    let mut snapshot = of(vec![], vec![of_pod(&sketch, 0)]);
    let status = commit(&mut snapshot);
    assert_eq!(!status.ledger.holders.is_empty(), could);
    assert_eq!(status.common.waiting, i64::from(!could));
}

#[rstest]
#[case::being_deleted(gated("p").deleting())]
#[case::not_understood(gated("p").annotation("konductor.io/of-tomorrow", "x"))]
fn nobody_reserves_for_a_pod_that_will_not_run(#[case] sketch: PodSketch) {
    assert!(!sketch.facts().waits_at_our_gate());
    assert_eq!(step(&of(vec![], vec![of_pod(&sketch, 0)])).status.ledger.holders, []);
}

#[test]
fn a_gated_pod_that_comes_first_reserves_before_one_that_waits_on_a_node() {
    let mut snapshot = of(vec![], vec![of_pod(&gated("p"), 0), waits("late", 1)]);
    let status = commit(&mut snapshot);
    assert_eq!(holders(&status.ledger), ["p"]);
    assert!(status.ledger.holders[0].pods.is_empty(), "nobody was told anything");
    assert_eq!(queue(&status.common), ["late"]);
}

#[test]
fn a_job_reserves_for_a_pod_at_our_gate() {
    let sketch = gated("j-1").of_job("j").annotation(JOB_PLAN, "v1 mutex=db");
    let mut snapshot = of(vec![], vec![of_job("j", &job("j"), &[sketch], 0)]);
    let status = commit(&mut snapshot);
    assert_eq!((holders(&status.ledger), status.ledger.holders[0].pods.len()), (vec!["j"], 0));
}

#[test]
fn pods_at_our_gate_arrive_at_a_barrier_and_are_let_go_when_it_opens() {
    let at_gate = |name: &str| of_pod(&gated(name), 0).role(Role::Meet);
    let spec = serde_json::from_value(serde_json::json!({"expected": 2})).unwrap();
    let mut snapshot = snapshot(fresh(Barrier::new("x", spec)), vec![at_gate("p")]);
    assert_eq!(commit(&mut snapshot).arrived, 1);
    let tell = |barrier: &Barrier| {
        let sketch = pod("p").annotation(BARRIER, "x").without_node().gates(&[OURS]);
        let facts = sketch.facts();
        let plan = PodPlan::of(facts.object().metadata.annotations.as_ref().unwrap(), false);
        telling(&facts, &plan, None, |_| Committed::Barrier(barrier), |_, _| None, at(50))
    };
    assert!(matches!(tell(&snapshot.primitive), Telling::Wait(_)));
    snapshot.participants.push(at_gate("q"));
    assert_eq!(
        commit(&mut snapshot).phase,
        Some(BarrierPhase::Open),
        "none of them needed room to come together"
    );
    assert!(matches!(tell(&snapshot.primitive), Telling::Lift { .. }));
}

// ------------------------------------------------------------------------------------------------------- stays

#[rstest]
#[case::at_our_gate(gated("p"))]
#[case::without_a_node(gated("p").gates(&[]))]
#[case::on_a_node(gated("p").gates(&[]).on_node("node-a"))]
#[case::on_a_node_and_being_deleted(gated("p").gates(&[]).on_node("node-a").deleting())]
#[case::on_a_node_that_is_silent(gated("p").gates(&[]).on_node("node-a").on_a_silent_node())]
#[case::whose_waiter_failed(gated("p").gates(&[]).on_node("node-a").waiter_ended(1, 2, 143))]
fn a_reservation_stays_while_its_pod_may_run(#[case] sketch: PodSketch) {
    let snapshot = after(1000, of(vec![reservation("p")], vec![of_pod(&sketch, 0), waits("next", 1)]));
    let step = step(&snapshot);
    assert_eq!(holders(&step.status.ledger), ["p"]);
    assert!(step.status.ledger.holders[0].pods.is_empty());
    assert!(step.lookups.is_empty() && step.withdrawals.is_empty());
}

#[test]
fn that_its_machine_is_silent_is_said_of_a_reservation_once() {
    let sketch = gated("p").gates(&[]).on_node("node-a").on_a_silent_node();
    let doubted = commit(&mut of(vec![reservation("p")], vec![of_pod(&sketch, 0)]));
    let said = doubted.ledger.holders[0].suspect.clone().unwrap();
    assert!(said.contains("pod p is on node node-a"), "{said}");
    let known = Holder { suspect: Some(said.clone()), ..reservation("p") };
    let heard = gated("p").gates(&[]).on_node("node-a");
    let status = commit(&mut of(vec![known.clone()], vec![of_pod(&heard, 0)]));
    assert_eq!(status.ledger.holders[0].suspect, None);
    let again = commit(&mut of(vec![known], vec![of_pod(&sketch, 0)]));
    assert_eq!(again.ledger.holders[0].suspect, Some(said));
}

#[test]
fn a_reservation_of_a_pod_that_is_not_seen_stays_until_the_api_server_says_that_it_is_gone() {
    let mut snapshot = of(vec![reservation("p")], vec![waits("next", 1)]);
    let asks = step(&snapshot);
    assert_eq!(holders(&asks.status.ledger), ["p"]);
    assert_eq!(asks.lookups.iter().map(|lookup| lookup.uid.as_str()).collect::<Vec<_>>(), [uid("p")]);
    snapshot.absent.insert(uid("p"));
    let step = step(&snapshot);
    assert_eq!(holders(&step.status.ledger), ["next"]);
    assert_eq!(step.status.ledger.history[0].evidence, Evidence::P0);
}

#[rstest]
#[case::deleted_at_our_gate(gated("p").deleting(), Evidence::P0)]
#[case::failed_on_its_node(
    gated("p").gates(&[]).on_node("node-a").waiter_ended(1, 2, 64).over("Failed"),
    Evidence::P1
)]
#[case::on_a_machine_that_is_off(
    gated("p").gates(&[]).on_node("node-a").on_a_node_out_of_service(),
    Evidence::A1
)]
fn a_reservation_ends_when_its_pod_will_never_run(#[case] sketch: PodSketch, #[case] by: Evidence) {
    let step = step(&of(vec![reservation("p")], vec![of_pod(&sketch, 0), waits("next", 1)]));
    assert_eq!(holders(&step.status.ledger), ["next"]);
    assert_eq!(step.status.ledger.history[0].evidence, by);
}

#[test]
fn that_a_machine_is_off_is_asked_for_and_not_taken_from_a_cache() {
    let sketch = gated("p").gates(&[]).on_node("node-a").on_a_node_out_of_service();
    let mut snapshot = of(vec![reservation("p")], vec![of_pod(&sketch, 0)]);
    snapshot.fresh.clear();
    let step = step(&snapshot);
    assert_eq!((holders(&step.status.ledger), step.lookups.len()), (vec!["p"], 1));
}

#[test]
fn who_reserved_and_never_ran_counts_as_no_attempt_and_as_no_success() {
    for (sketch, code) in [("failed", 1), ("succeeded", 0)] {
        let sketch = gated(sketch).gates(&[]).on_node("node-a").done(code);
        let sketch = sketch.over(if code == 0 { "Succeeded" } else { "Failed" });
        let mut once = fresh(Once::new("x", OnceSpec::default()));
        let name = sketch.object().metadata.name.clone().unwrap();
        once.status = Some(OnceStatus { ledger: held_by(vec![reservation(&name)]), ..OnceStatus::default() });
        let status = commit(&mut snapshot(once, vec![of_pod(&sketch, 0)]));
        assert_eq!((status.executed, status.attempts), (false, 0));
    }
}

// -------------------------------------------------------------------------------------------------- taken back

#[rstest]
#[case::too_early(29, true, "p")]
#[case::in_time(30, true, "next")]
#[case::nobody_else_could_start(1000, false, "p")]
fn a_reservation_in_vain_is_taken_back_for_whoever_could_start(
    #[case] seconds: i64,
    #[case] could: bool,
    #[case] holds: &str,
) {
    let next =
        if could { waits("next", 1) } else { of_pod(&pod("next").on_a_silent_node().waiter_running(2), 1) };
    let mut snapshot = after(seconds, of(vec![reservation("p")], vec![of_pod(&placeless("p"), 0), next]));
    let wakes = step(&snapshot).wake_at;
    let due = (could && seconds < 30).then(|| at(50) + IN_VAIN);
    assert_eq!(wakes, due, "time alone changes it");
    let status = commit(&mut snapshot);
    assert_eq!(holders(&status.ledger), [holds]);
    if holds == "next" {
        let left = &status.ledger.history[0];
        assert_eq!((left.holder.as_str(), left.evidence), ("pod/p", Evidence::P0));
        assert_eq!(queue(&status.common), ["p"], "it waits on");
    }
}

#[test]
fn the_time_does_not_begin_before_the_reservation() {
    // The condition was False before the gate was lifted, and keeps its time.
    let sketch = placeless("p").condition_since("PodScheduled", 0);
    let snapshot = after(29, of(vec![reservation("p")], vec![of_pod(&sketch, 0), waits("next", 1)]));
    assert_eq!(holders(&step(&snapshot).status.ledger), ["p"]);
    // And not before the scheduler says so.
    let sketch = placeless("p").condition_since("PodScheduled", 60);
    let snapshot = after(39, of(vec![reservation("p")], vec![of_pod(&sketch, 0), waits("next", 1)]));
    assert_eq!(holders(&step(&snapshot).status.ledger), ["p"]);
}

#[rstest]
#[case::that_somebody_else_is_unschedulable(gated("p").gates(&[]).condition("Ready", "False", "Unschedulable"))]
#[case::that_it_was_placed(gated("p").gates(&[]).condition("PodScheduled", "True", "Unschedulable"))]
#[case::that_the_scheduler_failed(gated("p").gates(&[]).condition("PodScheduled", "False", "SchedulerError"))]
#[case::that_its_gate_is_on(placeless("p").gates(&[OURS]))]
#[case::that_it_has_a_node(placeless("p").on_node("node-a"))]
fn nothing_is_taken_back_on_the_word(#[case] sketch: PodSketch) {
    let snapshot = after(1000, of(vec![reservation("p")], vec![of_pod(&sketch, 0), waits("next", 1)]));
    let step = step(&snapshot);
    assert_eq!((holders(&step.status.ledger), step.wake_at), (vec!["p"], None));
}

/// What is on its way out ends by evidence, not because somebody else could start.
#[test]
fn what_will_never_run_is_not_taken_back_but_ends() {
    for (sketch, by) in [
        (placeless("p").deleting(), Evidence::P0),
        (placeless("p").waiter_ended(1, 2, 143).over("Failed"), Evidence::P1),
    ] {
        let early = after(1, of(vec![reservation("p")], vec![of_pod(&sketch, 0), waits("next", 1)]));
        let step = step(&early);
        assert_eq!((step.status.ledger.history[0].evidence, step.wake_at), (by, None));
    }
}

#[test]
fn an_entry_that_lists_its_pod_is_never_taken_back() {
    let told = holder(ParticipantKind::Pod, "p", vec![super::support::told("p", 1, 1)]);
    // As a cache that is old may show it.
    let snapshot = after(1000, of(vec![told], vec![of_pod(&placeless("p"), 0), waits("next", 1)]));
    assert_eq!(holders(&step(&snapshot).status.ledger), ["p"]);
}

#[test]
fn a_jobs_entry_is_no_reservation() {
    let sketch = placeless("j-1").of_job("j");
    let held = holder(ParticipantKind::Job, "j", Vec::new());
    let job = of_job("j", &job("j"), &[sketch], 0);
    let snapshot = after(1000, of(vec![held], vec![job, waits("next", 1)]));
    assert_eq!(
        holders(&step(&snapshot).status.ledger),
        ["j"],
        "its told pods are dead, and it may make more"
    );
}

#[test]
fn who_was_taken_back_is_a_candidate_again_when_its_waiter_runs() {
    let mut snapshot =
        after(30, of(vec![reservation("p")], vec![of_pod(&placeless("p"), 0), waits("next", 1)]));
    let first = commit(&mut snapshot);
    let placed = gated("p").gates(&[]).on_node("node-a").waiter_running(90);
    let gone = of_pod(&pod("next").told_go(1, 2).done(0).over("Succeeded"), 1);
    snapshot.participants = vec![of_pod(&placed, 0), gone];
    let second = commit(&mut snapshot);
    assert_eq!(holders(&second.ledger), ["p"]);
    assert_eq!(second.ledger.holders[0].pods.len(), 1, "it can be told now");
    assert!(second.ledger.holders[0].token > first.ledger.holders[0].token);
}

#[test]
fn who_has_lost_what_it_takes_before_gives_this_one_back() {
    for sketch in [gated("p"), gated("p").gates(&[]).on_node("node-a").waiter_running(60)] {
        let who = Participant { reached: false, ..of_pod(&sketch, 0) };
        let status = commit(&mut of(vec![reservation("p")], vec![who, waits("next", 1)]));
        assert_eq!(holders(&status.ledger), ["next"], "or two workloads could wait for each other");
    }
}

// -------------------------------------------------------------------------------------------------------- told

#[test]
fn a_reservation_lists_its_pod_when_the_waiter_runs_and_only_then_it_is_told() {
    let mut snapshot = of(vec![], vec![of_pod(&gated("p"), 0)]);
    commit(&mut snapshot);
    let running = gated("p").gates(&[]).on_node("node-a").waiter_running(60);
    // Whoever sees the waiter and the reservation tells nothing: the ledger lists nobody.
    assert!(matches!(tell(&running, &snapshot.primitive), Telling::Wait(_)));
    let token = snapshot.primitive.status.as_ref().unwrap().ledger.holders[0].token.clone();
    snapshot.participants = vec![of_pod(&running, 0)];
    let status = commit(&mut snapshot);
    let entry = &status.ledger.holders[0];
    assert_eq!((entry.token.clone(), entry.told(&uid("p")).unwrap().run), (token, 1), "the same hold");
    assert!(matches!(tell(&running, &snapshot.primitive), Telling::Go { .. }));
}

#[test]
fn a_stale_operator_that_tells_what_was_taken_back_has_nothing_to_tell() {
    let reserved = mutex_of(vec![reservation("p")]);
    let mut snapshot =
        after(30, of(vec![reservation("p")], vec![of_pod(&placeless("p"), 0), waits("next", 1)]));
    commit(&mut snapshot);
    let running = gated("p").gates(&[]).on_node("node-a").waiter_running(90);
    // It still has the ledger of before; the one that it would need is a compare-and-swap on a version that is gone.
    assert!(matches!(tell(&running, &reserved), Telling::Wait(_)));
    assert_ne!(snapshot.primitive.metadata.resource_version, reserved.metadata.resource_version);
    assert!(matches!(tell(&running, &snapshot.primitive), Telling::Wait(_)));
}

#[test]
fn the_gate_is_lifted_only_when_everything_is_its_own() {
    let reserved = mutex_of(vec![reservation("p")]);
    assert!(matches!(tell(&gated("p"), &reserved), Telling::Lift { .. }));
    assert!(matches!(tell(&gated("p"), &mutex_of(vec![reservation("other")])), Telling::Wait(_)));
    assert!(matches!(tell(&gated("p"), &mutex_of(vec![])), Telling::Wait(_)));
    // The gate that it waits for, too, does not exist.
    assert!(matches!(tell(&gated("p").annotation(GATE, "etl"), &reserved), Telling::Wait(_)));
    let among_others = gated("p").gates(&[OURS, KUEUES]);
    assert_eq!(tell(&among_others, &reserved), Telling::Nothing);
}

#[test]
fn whoever_has_waited_too_long_takes_a_node_to_be_told_so() {
    let overdue = gated("p").annotation("konductor.io/timeout", "10s");
    let Telling::Lift { message } = tell(&overdue, &mutex_of(vec![reservation("other")])) else {
        panic!("its time is up")
    };
    assert!(message.starts_with("10s are over"), "{message}");
    let running = overdue.gates(&[]).on_node("node-a").waiter_running(45);
    assert!(matches!(tell(&running, &mutex_of(vec![reservation("other")])), Telling::Deny { .. }));
}

#[test]
fn a_pod_at_the_gate_of_its_job_is_let_go_when_the_job_holds() {
    let sketch = pod("j-1").of_job("j").annotation(JOB_PLAN, "v1 mutex=db hold=scheduling-gate");
    let facts = sketch.without_node().gates(&[OURS]).facts();
    assert!(facts.understood);
    let plan = PodPlan::of(facts.object().metadata.annotations.as_ref().unwrap(), true);
    let job = Who::unseen_job("j", &uid("j"));
    let tell =
        |mutex: Mutex| telling(&facts, &plan, Some(&job), |_| Committed::Mutex(&mutex), |_, _| None, at(50));
    let held = holder(ParticipantKind::Job, "j", Vec::new());
    assert!(matches!(tell(mutex_of(vec![held])), Telling::Lift { .. }));
    assert!(matches!(tell(mutex_of(vec![])), Telling::Wait(_)));
}
