//! What a gate may look at, and what it makes of it.

use std::collections::BTreeMap;

use konductor_api::barrier::{Barrier, BarrierPhase, BarrierSpec, BarrierStatus};
use konductor_api::conditions::{OPEN, STALLED, reason};
use konductor_api::gate::ConditionOutcome::{Impossible, Met, Missing};
use konductor_api::gate::{
    ConditionOutcome, Gate, GateCondition, GateConditionType, GatePhase, GateState, TimeWindow,
};
use konductor_api::lease::{Lease, LeaseSpec};
use konductor_api::ledger::ParticipantKind;
use konductor_api::once::{Once, OnceSpec};
use konductor_api::participation::Role;
use konductor_api::semaphore::{Semaphore, SemaphoreSpec};
use konductor_api::waitgroup::{WaitGroup, WaitGroupPhase, WaitGroupSpec, WaitGroupStatus};
use konductor_primitives::committed::Committed;
use konductor_primitives::gate::step;
use konductor_primitives::looked::{Looked, ObjectFacts, PrimitiveFacts, Target};
use konductor_primitives::snapshot::{Participant, Snapshot};
use rstest::rstest;
use serde_json::{Value, json};

use super::support::{
    JobSketch, Primitive, Says, at, commit, edit, fresh, gate_on, holder, is_ready, job, message, mutex,
    of_job, on_job, reason_of, snapshot, succeeded, time, uid, waits,
};

fn condition(type_: GateConditionType, state: Option<GateState>) -> GateCondition {
    GateCondition { type_, name: "it".to_owned(), state, ..GateCondition::default() }
}

/// A gate on that condition, of which this is known.
fn seen(condition: GateCondition, looked: Option<Looked>) -> Snapshot<Gate> {
    let target = Target::of(&condition);
    let mut snapshot = snapshot(gate_on(vec![condition]), vec![]);
    snapshot.objects = looked.map(|looked| (target.unwrap(), looked)).into_iter().collect();
    snapshot
}

fn outcome(condition: GateCondition, looked: Option<Looked>) -> ConditionOutcome {
    commit(&mut seen(condition, looked)).condition_statuses[0].outcome
}

fn object(value: &Value) -> Looked {
    Looked::Object(ObjectFacts::of(value))
}

// --------------------------------------------------------------------------------------------------- objects

fn a_pod(phase: &str, ready: &str) -> Looked {
    object(&json!({
        "metadata": {"uid": "u", "creationTimestamp": "2030-06-01T12:00:00Z"},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
    }))
}

#[rstest]
#[case::ready(GateState::Ready, a_pod("Running", "True"), Met)]
#[case::not_ready_yet(GateState::Ready, a_pod("Running", "False"), Missing)]
#[case::never_ready_any_more(GateState::Ready, a_pod("Failed", "False"), Impossible)]
#[case::succeeded(GateState::Succeeded, a_pod("Succeeded", "False"), Met)]
#[case::not_succeeded_yet(GateState::Succeeded, a_pod("Running", "True"), Missing)]
#[case::failed_instead(GateState::Succeeded, a_pod("Failed", "False"), Impossible)]
#[case::failed(GateState::Failed, a_pod("Failed", "False"), Met)]
#[case::succeeded_instead(GateState::Failed, a_pod("Succeeded", "False"), Impossible)]
fn of_a_pod(#[case] wanted: GateState, #[case] looked: Looked, #[case] expected: ConditionOutcome) {
    assert_eq!(outcome(condition(GateConditionType::Pod, Some(wanted)), Some(looked)), expected);
}

fn workload(kind: &str, generation: i64, updated: i64, all: i64, ready: i64) -> Looked {
    object(&json!({
        "kind": kind,
        "metadata": {"uid": "u", "generation": 2},
        "spec": {"replicas": 3},
        "status": {
            "observedGeneration": generation, "updatedReplicas": updated, "replicas": all,
            "readyReplicas": ready, "availableReplicas": ready,
        },
    }))
}

#[rstest]
#[case::rolled_out(2, 3, 3, 3, Met)]
#[case::its_latest_change_was_not_looked_at(1, 3, 3, 3, Missing)]
#[case::not_all_are_updated(2, 2, 3, 3, Missing)]
#[case::not_all_are_ready(2, 3, 3, 2, Missing)]
fn of_a_workload(
    #[case] generation: i64,
    #[case] updated: i64,
    #[case] all: i64,
    #[case] ready: i64,
    #[case] expected: ConditionOutcome,
    #[values(GateConditionType::Deployment, GateConditionType::StatefulSet)] type_: GateConditionType,
) {
    let looked = workload(&format!("{type_:?}"), generation, updated, all, ready);
    assert_eq!(outcome(condition(type_, None), Some(looked)), expected);
}

#[test]
fn a_deployment_is_not_rolled_out_while_old_replicas_are_there() {
    let looked = workload("Deployment", 2, 3, 4, 3);
    assert_eq!(outcome(condition(GateConditionType::Deployment, None), Some(looked)), Missing);
}

#[test]
fn a_stateful_set_with_a_partition_is_rolled_out_above_it() {
    let looked = object(&json!({
        "kind": "StatefulSet",
        "metadata": {"uid": "u", "generation": 2},
        "spec": {"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}},
        "status": {"observedGeneration": 2, "updatedReplicas": 1, "replicas": 3, "readyReplicas": 3},
    }));
    assert_eq!(outcome(condition(GateConditionType::StatefulSet, None), Some(looked)), Met);
}

#[rstest]
#[case::it_is_true(None, Some("True"), Met)]
#[case::it_is_false(None, Some("False"), Missing)]
#[case::nobody_knows(None, Some("Unknown"), Missing)]
#[case::there_is_no_such_condition(None, None, Missing)]
#[case::false_is_wanted(Some(GateState::False), Some("False"), Met)]
#[case::false_is_wanted_and_it_is_true(Some(GateState::False), Some("True"), Missing)]
fn of_any_object(
    #[case] wanted: Option<GateState>,
    #[case] status: Option<&str>,
    #[case] expected: ConditionOutcome,
) {
    let asked = GateCondition {
        api_version: Some("cert-manager.io/v1".to_owned()),
        kind: Some("Certificate".to_owned()),
        condition_type: Some("Issued".to_owned()),
        ..condition(GateConditionType::Object, wanted)
    };
    let conditions: Vec<_> =
        status.iter().map(|status| json!({"type": "Issued", "status": status})).collect();
    let looked = object(&json!({"metadata": {"uid": "u"}, "status": {"conditions": conditions}}));
    assert_eq!(outcome(asked.clone(), Some(looked)), expected);
    assert_eq!(outcome(asked, None), Missing);
}

#[rstest]
#[case::it_runs(job("it").running(), Met)]
#[case::it_has_not_started(job("it"), Missing)]
#[case::it_is_over(job("it").complete(), Impossible)]
fn of_a_job_that_should_be_active(#[case] sketch: JobSketch, #[case] expected: ConditionOutcome) {
    let asked = condition(GateConditionType::Job, Some(GateState::Active));
    assert_eq!(outcome(asked, Some(Looked::Job(sketch.facts()))), expected);
}

// ----------------------------------------------------------------------------------------------- our primitives

fn primitive(state: GateState, free: i64, hopeless: Option<&str>) -> Looked {
    let (uid, created) = ("u".to_owned(), Some(at(0)));
    Looked::Primitive(PrimitiveFacts { uid, created, state, free, hopeless: hopeless.map(str::to_owned) })
}

#[rstest]
#[case(GateConditionType::Barrier, None, GateState::Open, Met)]
#[case(GateConditionType::Barrier, None, GateState::Closed, Missing)]
#[case(GateConditionType::Gate, None, GateState::Open, Met)]
#[case(GateConditionType::Gate, Some(GateState::Closed), GateState::Open, Missing)]
#[case(GateConditionType::Lease, Some(GateState::Acquired), GateState::Acquired, Met)]
#[case(GateConditionType::Lease, Some(GateState::Available), GateState::Acquired, Missing)]
#[case(GateConditionType::Mutex, Some(GateState::Unlocked), GateState::Unlocked, Met)]
#[case(GateConditionType::RWMutex, Some(GateState::Unlocked), GateState::Locked, Missing)]
#[case(GateConditionType::Once, Some(GateState::Done), GateState::Done, Met)]
#[case(GateConditionType::Once, Some(GateState::Pending), GateState::Done, Missing)]
#[case(GateConditionType::WaitGroup, Some(GateState::Zero), GateState::Zero, Met)]
#[case(GateConditionType::WaitGroup, Some(GateState::Zero), GateState::NonZero, Missing)]
fn of_a_primitive(
    #[case] type_: GateConditionType,
    #[case] wanted: Option<GateState>,
    #[case] state: GateState,
    #[case] expected: ConditionOutcome,
) {
    assert_eq!(outcome(condition(type_, wanted), Some(primitive(state, 0, None))), expected);
    assert_eq!(outcome(condition(type_, wanted), None), Missing);
}

#[rstest]
#[case(3, Met)]
#[case(4, Met)]
#[case(2, Missing)]
#[case(-1, Missing)]
fn of_the_permits_of_a_semaphore(#[case] free: i64, #[case] expected: ConditionOutcome) {
    let asked = GateCondition { value: Some(3), ..condition(GateConditionType::Semaphore, None) };
    assert_eq!(outcome(asked, Some(primitive(GateState::Available, free, None))), expected);
}

#[test]
fn a_primitive_that_has_failed_fails_the_gate_until_it_comes_back() {
    let asked = condition(GateConditionType::Barrier, None);
    let mut snapshot = seen(asked.clone(), Some(primitive(GateState::Closed, 0, Some("has failed"))));
    let failed = commit(&mut snapshot);
    assert_eq!(failed.phase, Some(GatePhase::Failed));
    assert_eq!(message(&failed.common, OPEN).1, "Barrier it has failed and will never be Open");
    snapshot.objects.insert(Target::of(&asked).unwrap(), primitive(GateState::Closed, 0, None));
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Waiting));
}

fn state_of<P: Primitive>(primitive: &P) -> (GateState, i64, bool) {
    let facts = PrimitiveFacts::of(primitive.committed()).unwrap();
    (facts.state, facts.free, facts.hopeless.is_some())
}

#[test]
fn what_a_primitive_says_of_itself() {
    let held = mutex(vec![holder(ParticipantKind::Pod, "p", vec![])]);
    assert_eq!(state_of(&held), (GateState::Locked, 0, false));
    assert_eq!(state_of(&mutex(vec![])), (GateState::Unlocked, 0, false));
    let mut lease = snapshot(fresh(Lease::new("x", LeaseSpec::default())), vec![waits("p", 0)]);
    assert_eq!(state_of(&lease.primitive), (GateState::Available, 0, false));
    commit(&mut lease);
    assert_eq!(state_of(&lease.primitive), (GateState::Acquired, 0, false));
    let spec = SemaphoreSpec { permits: 5, ttl: None };
    let mut semaphore = snapshot(fresh(Semaphore::new("x", spec)), vec![waits("p", 0).role(Role::Take(2))]);
    commit(&mut semaphore);
    assert_eq!(state_of(&semaphore.primitive), (GateState::Available, 3, false));
    let mut once = snapshot(fresh(Once::new("x", OnceSpec::default())), vec![waits("p", 0)]);
    commit(&mut once);
    assert_eq!(state_of(&once.primitive), (GateState::Pending, 0, false));
    once.participants = vec![succeeded("p")];
    commit(&mut once);
    assert_eq!(state_of(&once.primitive), (GateState::Done, 0, false));
    once.primitive.spec.key = Some("v2".to_owned());
    assert_eq!(state_of(&once.primitive), (GateState::Pending, 0, false));
    let mut failed = seen(on_job("it", None), Some(Looked::Job(job("it").failed().facts())));
    commit(&mut failed);
    assert_eq!(state_of(&failed.primitive), (GateState::Closed, 0, true));
    edit(&mut failed, |_| ());
    assert_eq!(state_of(&failed.primitive), (GateState::Closed, 0, false));
    assert_eq!(PrimitiveFacts::of(Committed::Missing), None);
}

#[rstest]
#[case::nobody_has_looked_at_it(None, GateState::Closed, false)]
#[case::it_waits(Some(BarrierPhase::Waiting), GateState::Closed, false)]
#[case::it_is_open_for_good(Some(BarrierPhase::Open), GateState::Open, true)]
#[case::it_has_failed_and_never_opens(Some(BarrierPhase::Failed), GateState::Closed, true)]
fn what_a_barrier_says_of_itself(
    #[case] phase: Option<BarrierPhase>,
    #[case] state: GateState,
    #[case] settled: bool,
) {
    let spec: BarrierSpec = serde_json::from_value(json!({"expected": 2})).unwrap();
    let mut barrier = fresh(Barrier::new("x", spec));
    barrier.status = phase.map(|phase| BarrierStatus { phase: Some(phase), ..BarrierStatus::default() });
    assert_eq!(state_of(&barrier), (state, 0, settled));
}

#[rstest]
#[case::nobody_has_looked_at_it(None, GateState::NonZero)]
#[case::it_waits(Some(WaitGroupPhase::Waiting), GateState::NonZero)]
#[case::it_is_done(Some(WaitGroupPhase::Done), GateState::Zero)]
fn what_a_wait_group_says_of_itself(#[case] phase: Option<WaitGroupPhase>, #[case] state: GateState) {
    let mut group = fresh(WaitGroup::new("x", WaitGroupSpec::default()));
    group.status = phase.map(|phase| WaitGroupStatus { phase: Some(phase), ..WaitGroupStatus::default() });
    assert_eq!(state_of(&group), (state, 0, false));
}

// ------------------------------------------------------------------------------------------ persons and the clock

#[test]
fn a_person_approves_and_what_was_approved_stays_so() {
    let mut snapshot = seen(condition(GateConditionType::Manual, None), None);
    let waiting = commit(&mut snapshot);
    assert_eq!(message(&waiting.common, OPEN).1, "it is not approved: set approved: true");
    edit(&mut snapshot, |gate| gate.spec.conditions[0].approved = true);
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Open));
    edit(&mut snapshot, |gate| gate.spec.conditions[0].approved = false);
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Open));
}

fn from(second: i64) -> GateCondition {
    GateCondition { not_before: Some(time(second)), ..condition(GateConditionType::Time, None) }
}

#[test]
fn a_moment_is_waited_for_and_then_past_for_good() {
    let mut snapshot = seen(from(60), None);
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Waiting));
    assert_eq!(step(&snapshot).wake_at, Some(at(60)));
    snapshot.now = at(60);
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Open));
    snapshot.now = at(50);
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Open), "a clock that steps back closes nothing");
}

#[rstest]
#[case::it_latches(true, GatePhase::Open, None)]
#[case::it_does_not(false, GatePhase::Waiting, Some("2030-06-02T11:00:00Z"))]
fn a_window_ends(#[case] latch: bool, #[case] phase: GatePhase, #[case] wake_at: Option<&str>) {
    // It is 12:00:50.
    let window = TimeWindow { from: "11:00".to_owned(), to: "13:00".to_owned(), ..TimeWindow::default() };
    let asked = GateCondition { window: Some(window), ..condition(GateConditionType::Time, None) };
    let mut snapshot = seen(asked, None);
    snapshot.primitive.spec.latch = latch;
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Open));
    let ends = (!latch).then(|| at(3600));
    assert_eq!(step(&snapshot).wake_at, ends);
    snapshot.now = at(3600);
    assert_eq!(commit(&mut snapshot).phase, Some(phase));
    assert_eq!(step(&snapshot).wake_at, wake_at.map(|at| at.parse().unwrap()));
}

// --------------------------------------------------------------------------------------------- older, newer, unseen

#[rstest]
#[case::older(-1, GatePhase::Waiting)]
#[case::of_the_same_second(0, GatePhase::Open)]
#[case::newer(1, GatePhase::Open)]
fn only_a_newer_object_counts_where_one_is_asked_for(#[case] created: i64, #[case] phase: GatePhase) {
    let mut facts = job("it").complete().facts();
    facts.created = Some(at(created));
    let asked = GateCondition { newer: true, ..on_job("it", None) };
    assert_eq!(commit(&mut seen(asked, Some(Looked::Job(facts.clone())))).phase, Some(phase));
    facts.created = Some(at(-99_999));
    let any = commit(&mut seen(on_job("it", None), Some(Looked::Job(facts))));
    assert_eq!(any.phase, Some(GatePhase::Open), "old ones count where nothing is asked");
}

#[test]
fn nothing_follows_from_what_nobody_has_looked_at_yet() {
    let asked = on_job("it", None);
    let mut snapshot = seen(asked.clone(), Some(Looked::Unseen));
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Waiting));
    snapshot.primitive.spec.latch = false;
    let target = Target::of(&asked).unwrap();
    snapshot.objects.insert(target.clone(), Looked::Job(job("it").complete().facts()));
    let open = commit(&mut snapshot);
    snapshot.objects.insert(target, Looked::Unseen);
    assert_eq!(commit(&mut snapshot), open);
}

// ------------------------------------------------------------------------------------------------ a person must act

#[test]
fn what_the_gate_may_not_look_at_is_missing_and_a_case_for_a_person() {
    let why = "the namespace does not allow it".to_owned();
    let mut snapshot = seen(
        GateCondition { namespace: Some("other".to_owned()), ..on_job("it", None) },
        Some(Looked::Refused(why)),
    );
    let status = commit(&mut snapshot);
    assert_eq!(status.phase, Some(GatePhase::Waiting));
    assert_eq!(reason_of(&status.common, STALLED), reason::BAD_REFERENCE);
    assert_eq!(message(&status.common, STALLED).1, "Job other/it: the namespace does not allow it");
}

#[test]
fn a_ring_of_gates_fails_at_once_and_is_mended_by_opening_it() {
    let asked = condition(GateConditionType::Gate, None);
    let mut snapshot = seen(asked.clone(), Some(Looked::Ring("waits for this gate".to_owned())));
    let status = commit(&mut snapshot);
    assert_eq!(status.phase, Some(GatePhase::Failed));
    assert_eq!(message(&status.common, OPEN).1, "Gate it waits for this gate");
    snapshot.objects = BTreeMap::from([(Target::of(&asked).unwrap(), primitive(GateState::Closed, 0, None))]);
    assert_eq!(commit(&mut snapshot).phase, Some(GatePhase::Waiting));
}

#[test]
fn a_gate_that_waits_for_itself_fails_at_once() {
    let itself = GateCondition { name: "ready".to_owned(), ..condition(GateConditionType::Gate, None) };
    assert_eq!(commit(&mut seen(itself.clone(), None)).phase, Some(GatePhase::Failed));
    let elsewhere = GateCondition { namespace: Some("other".to_owned()), ..itself };
    assert_eq!(commit(&mut seen(elsewhere, None)).phase, Some(GatePhase::Waiting));
}

#[rstest]
#[case::the_job_itself(of_job("it", &job("it"), &[], 0).role(Role::Await))]
#[case::a_pod_of_it(waits("it-0", 0).role(Role::Await).of_a_job("it", Some(false)))]
fn who_waits_for_a_gate_that_waits_for_it_is_told_of(#[case] who: Participant) {
    let shown = if who.kind == ParticipantKind::Job { "(job/it)" } else { "(pod/it-0)" };
    let mut snapshot = seen(on_job("it", None), Some(Looked::Job(job("it").facts())));
    assert!(is_ready(&commit(&mut snapshot).common));
    snapshot.participants = vec![who];
    let status = commit(&mut snapshot);
    assert_eq!(
        (status.phase, reason_of(&status.common, STALLED).as_str()),
        (Some(GatePhase::Waiting), reason::BAD_REFERENCE)
    );
    let said = message(&status.common, STALLED).1;
    assert!(said.starts_with(&format!("Job it waits for this gate {shown}")), "{said}");
}

#[rstest]
#[case(GateConditionType::Job, "batch/v1", false)]
#[case(GateConditionType::Pod, "v1", false)]
#[case(GateConditionType::Deployment, "apps/v1", false)]
#[case(GateConditionType::StatefulSet, "apps/v1", false)]
#[case(GateConditionType::Object, "cert-manager.io/v1", false)]
#[case(GateConditionType::Barrier, "konductor.io/v1", true)]
fn what_a_condition_looks_at(
    #[case] type_: GateConditionType,
    #[case] api_version: &str,
    #[case] ours: bool,
) {
    let asked = GateCondition {
        api_version: Some("cert-manager.io/v1".to_owned()),
        kind: Some("Certificate".to_owned()),
        ..condition(type_, None)
    };
    let target = Target::of(&asked).unwrap();
    assert_eq!((target.api_version.as_str(), target.is_ours()), (api_version, ours));
}

#[rstest]
#[case::another_job(on_job("it", None), of_job("other", &job("other"), &[], 0))]
#[case::a_pod_of_that_name(on_job("it", None), waits("it", 0))]
#[case::a_job_of_that_name_elsewhere(
    GateCondition { namespace: Some("other".to_owned()), ..on_job("it", None) },
    of_job("it", &job("it"), &[], 0),
)]
#[case::something_else_of_that_name(
    condition(GateConditionType::Pod, Some(GateState::Succeeded)),
    of_job("it", &job("it"), &[], 0),
)]
fn others_do_not_wait_for_themselves(#[case] condition: GateCondition, #[case] who: Participant) {
    let mut snapshot = seen(condition, None);
    snapshot.participants = vec![who.role(Role::Await)];
    assert_ne!(reason_of(&commit(&mut snapshot).common, STALLED), reason::BAD_REFERENCE);
}

#[test]
fn a_met_condition_names_the_object_that_met_it() {
    let mut snapshot = seen(on_job("it", None), Some(Looked::Job(job("it").complete().facts())));
    let status = commit(&mut snapshot);
    let known = &status.condition_statuses[0];
    assert_eq!((known.uid.clone(), known.at.clone()), (Some(uid("it")), Some(time(50))));
    assert_eq!((known.met, known.about.as_str()), (true, "Job it Complete"));
}
