//! Windows pods, which our waiter cannot hold: they are told at their scheduling gate, and go on when it is lifted.

use konductor_api::annotations::{GATE, JOB_PLAN, MUTEX};
use konductor_api::gate::{Gate, GateSpec};
use konductor_api::ledger::{Evidence, Holder, ParticipantKind, ToldPod};
use konductor_api::mutex::Mutex;
use konductor_api::participation::{PodPlan, PrimitiveRef};
use konductor_primitives::committed::Committed;
use konductor_primitives::facts::NO_WAITER;
use konductor_primitives::hold::{Ending, Fate, Outcome, judge};
use konductor_primitives::verdict::{Telling, telling};
use konductor_waiter::grant::Verdict;
use rstest::rstest;

use super::support::{
    PodSketch, at, commit, fresh, holder, holders, job, mutex as mutex_of, of_job, of_pod, pod, queue,
    snapshot, told, waits,
};

const OURS: &str = "konductor.io/hold";

/// Seconds from the beginning of the tests to the run of a waiter that is none.
fn no_waiter() -> i64 {
    NO_WAITER.as_second() - at(0).as_second()
}

/// At its gate, on no node.
fn windows(name: &str) -> PodSketch {
    pod(name).for_windows().annotation(MUTEX, "x").without_node().gates(&[OURS])
}

fn entry(name: &str) -> ToldPod {
    told(name, 1, no_waiter())
}

fn holds(name: &str) -> Holder {
    holder(ParticipantKind::Pod, name, vec![entry(name)])
}

fn tell(sketch: &PodSketch, committed: Committed<'_>) -> Telling {
    let facts = sketch.facts();
    let plan = PodPlan::of(facts.object().metadata.annotations.as_ref().unwrap(), false);
    telling(&facts, &plan, None, |_: &PrimitiveRef| committed, |_, _| None, at(50))
}

#[rstest]
#[case::by_its_name(pod("p").for_windows(), true)]
#[case::by_its_selector(pod("p").without_waiter().selecting("kubernetes.io/os", "windows"), true)]
#[case::with_a_waiter(pod("p").selecting("kubernetes.io/os", "windows"), false)]
#[case::linux_without_a_waiter(pod("p").without_waiter().selecting("kubernetes.io/os", "linux"), false)]
#[case::of_no_system(pod("p").without_waiter(), false)]
fn its_gate_alone_holds_a_pod_of_windows_without_a_waiter(#[case] sketch: PodSketch, #[case] alone: bool) {
    let facts = sketch.annotation(MUTEX, "x").without_node().gates(&[OURS]).facts();
    assert_eq!(facts.by_gate_alone, alone);
    assert_eq!(facts.can_be_told(), alone.then_some(NO_WAITER));
    assert!(facts.waits_at_our_gate() && (!alone || !facts.has_passed()));
}

#[rstest]
#[case::on_a_node(windows("p").on_node("n"))]
#[case::without_its_gate(windows("p").gates(&[]))]
#[case::at_gates_of_others_too(windows("p").gates(&[OURS, "kueue.x-k8s.io/admission"]))]
#[case::being_deleted(windows("p").deleting())]
fn nobody_tells_it_anything_elsewhere(#[case] sketch: PodSketch) {
    assert_eq!(sketch.facts().can_be_told(), None);
    assert_eq!(tell(&sketch, Committed::Mutex(&mutex_of(vec![holds("p")]))), Telling::Nothing);
}

#[test]
fn its_entry_lists_it_from_the_beginning_so_it_is_no_reservation() {
    let mut snapshot = snapshot(mutex_of(vec![]), vec![of_pod(&windows("p"), 0), waits("late", 1)]);
    let status = commit(&mut snapshot);
    assert_eq!((holders(&status.ledger), queue(&status.common)), (vec!["p"], vec!["late"]));
    assert_eq!(status.ledger.holders[0].pods, [entry("p")]);
    // Found no node for long: it was told, so only its end ends it.
    snapshot.participants[0] =
        of_pod(&windows("p").gates(&[]).condition("PodScheduled", "False", "Unschedulable"), 0);
    snapshot.now = at(9999);
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["p"]);
}

#[test]
fn a_job_lists_its_pods_of_windows_at_their_gates() {
    let sketch = windows("j-1").of_job("j").annotation(JOB_PLAN, "v1 mutex=x");
    let mut snapshot = snapshot(mutex_of(vec![]), vec![of_job("j", &job("j"), &[sketch], 0)]);
    let entry_of_job = commit(&mut snapshot).ledger.holders[0].clone();
    assert_eq!((entry_of_job.pods, entry_of_job.reserved), (vec![entry("j-1")], false));
}

#[test]
fn it_is_told_first_and_its_gate_is_lifted_when_it_carries_what_it_was_told() {
    let mutex: Mutex = mutex_of(vec![holds("p")]);
    let Telling::Go { grant, tokens } = tell(&windows("p"), Committed::Mutex(&mutex)) else {
        panic!("it should be told")
    };
    assert_eq!((grant.run, grant.waiter_started_at, grant.verdict), (1, 0, Verdict::Go));
    assert_eq!(tokens, [(1, "5".to_owned())]);
    let carries = windows("p").told_go(1, no_waiter());
    assert!(matches!(tell(&carries, Committed::Mutex(&mutex)), Telling::Lift { .. }));
    assert_eq!(tell(&carries.gates(&[]), Committed::Mutex(&mutex)), Telling::Nothing);
    // Not in the ledger, not told.
    assert!(matches!(tell(&windows("p"), Committed::Mutex(&mutex_of(vec![]))), Telling::Wait(_)));
    // Where nothing is held it is the same.
    let opens = pod("p").for_windows().annotation(GATE, "x").without_node().gates(&[OURS]);
    let spec: GateSpec = serde_json::from_value(serde_json::json!({"override": "Open"})).unwrap();
    let mut open = snapshot(fresh(Gate::new("x", spec)), vec![]);
    commit(&mut open);
    assert!(matches!(tell(&opens, Committed::Gate(&open.primitive)), Telling::Go { .. }));
}

fn fate(sketch: &PodSketch) -> Fate {
    let snapshot = snapshot(mutex_of(vec![]), vec![]);
    judge(&holds("p"), Some(&of_pod(sketch, 0)), false, None, &snapshot, &mut Vec::new())
}

#[rstest]
#[case::at_its_gate(windows("p"))]
#[case::told(windows("p").told_go(1, no_waiter()))]
#[case::running(windows("p").told_go(1, no_waiter()).gates(&[]).on_node("n").runs("main", "m", 60))]
#[case::whose_containers_have_ended(windows("p").told_go(1, no_waiter()).gates(&[]).on_node("n").ended("main", "m", 60, 70, 0))]
fn it_holds_until_the_kubelet_says_that_all_is_over(#[case] sketch: PodSketch) {
    assert_eq!(fate(&sketch), Fate::Stays);
}

#[test]
fn a_machine_that_is_off_may_come_back_and_start_it_again_unless_it_is_being_deleted() {
    for sketch in [
        windows("p").told_go(1, no_waiter()).gates(&[]).on_node("n").on_a_node_out_of_service(),
        windows("p").told_go(1, no_waiter()).gates(&[]).on_node("n").on_a_node_that_is_gone(),
    ] {
        assert_eq!(sketch.facts().attested(), None);
        assert!(sketch.deleting().facts().attested().is_some());
    }
}

#[test]
fn it_is_released_on_the_kubelets_last_word_or_when_it_never_found_a_node() {
    let ends = |evidence, outcome| Fate::Ends(Ending { evidence, outcome });
    let ran = windows("p").told_go(1, no_waiter()).gates(&[]).on_node("n").ended("main", "m", 60, 70, 0);
    assert_eq!(fate(&ran.over("Succeeded")), ends(Evidence::P1, Outcome::Succeeded));
    assert_eq!(fate(&windows("p").told_go(1, no_waiter()).deleting()), ends(Evidence::P0, Outcome::GaveBack));
}
