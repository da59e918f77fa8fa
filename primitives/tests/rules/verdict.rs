//! What a pod is told, from what was committed.

use std::collections::BTreeMap;

use konductor_api::annotations::{GATE, JOB_PLAN, MUTEX, TIMEOUT, WAITGROUP};
use konductor_api::conditions::reason;
use konductor_api::gate::GateState::Complete;
use konductor_api::gate::{Gate, GatePhase};
use konductor_api::ledger::{Holder, ParticipantKind, ToldPod};
use konductor_api::mutex::Mutex;
use konductor_api::participation::{PodPlan, PrimitiveRef};
use konductor_api::waitgroup::{WaitGroup, WaitGroupSpec};
use konductor_primitives::committed::Committed;
use konductor_primitives::facts::PodFacts;
use konductor_primitives::gate;
use konductor_primitives::step::Withdrawal;
use konductor_primitives::verdict::{JobTelling, Telling, Wait, Who, telling, withdrawn};
use konductor_waiter::grant::{Grant, NEVER, Verdict};
use rstest::rstest;

use super::support::{
    JobSketch, PodSketch, at, gate as gate_on, holder, job, jobs_seen, mutex, name_of_gate, name_of_mutex,
    pod, snapshot, told, told_of, uid,
};

/// What the API server returned.
#[derive(Default)]
struct Store {
    gates: BTreeMap<String, Gate>,
    mutexes: BTreeMap<String, Mutex>,
}

impl Store {
    fn get(&self, primitive: &PrimitiveRef) -> Committed<'_> {
        if let Some(gate) = self.gates.get(&primitive.to_string()) {
            return Committed::Gate(gate);
        }
        self.mutexes.get(&primitive.to_string()).map_or(Committed::Missing, Committed::Mutex)
    }

    fn held(mut self, name: &str, holder: Holder) -> Self {
        self.mutexes.insert(name_of_mutex(name).to_string(), mutex(vec![holder]));
        self
    }

    fn free(mut self, name: &str) -> Self {
        self.mutexes.insert(name_of_mutex(name).to_string(), mutex(vec![]));
        self
    }

    /// A gate that has looked at a Job of its own name.
    fn gate(mut self, name: &str, known: &JobSketch) -> Self {
        let mut gate = gate_on(&[(name, Complete)]);
        let mut snapshot = snapshot(gate.clone(), vec![]);
        snapshot.objects = jobs_seen(&[(name, known.clone())]);
        gate.status = Some(gate::step(&snapshot).status);
        self.gates.insert(name_of_gate(name).to_string(), gate);
        self
    }

    fn open(self, name: &str) -> Self {
        self.gate(name, &job(name).complete())
    }

    fn closed(self, name: &str) -> Self {
        self.gate(name, &job(name))
    }

    fn failed(self, name: &str) -> Self {
        self.gate(name, &job(name).failed())
    }

    /// Somebody has changed the gate's spec, and no step has looked at it since.
    fn changed(mut self, name: &str) -> Self {
        self.gates.get_mut(&name_of_gate(name).to_string()).unwrap().metadata.generation = Some(2);
        self
    }
}

fn plan_of(facts: &PodFacts, controlled: bool) -> PodPlan {
    PodPlan::of(facts.object().metadata.annotations.as_ref().unwrap(), controlled)
}

/// As the operator asks.
fn tell(sketch: &PodSketch, store: &Store) -> Telling {
    let facts = sketch.facts();
    telling(&facts, &plan_of(&facts, false), None, |name| store.get(name), |_, _| None, at(50))
}

fn the_job() -> Who {
    Who::unseen_job("j", &uid("j"))
}

fn tell_under_job(sketch: &PodSketch, store: &Store) -> Telling {
    let facts = sketch.clone().of_job("j").facts();
    let job = the_job();
    telling(&facts, &plan_of(&facts, true), Some(&job), |name| store.get(name), |_, _| None, at(50))
}

fn grant(run: u64, waiter_started_at: i64, verdict: Verdict) -> Grant {
    Grant { pod_uid: uid("p"), run, waiter_started_at: at(waiter_started_at).as_second(), verdict }
}

fn go(run: u64, waiter_started_at: i64, tokens: &[(usize, &str)]) -> Telling {
    let tokens = tokens.iter().map(|(place, token)| (*place, (*token).to_owned())).collect();
    Telling::Go { grant: grant(run, waiter_started_at, Verdict::Go), tokens }
}

fn waits(telling: Telling) -> Wait {
    let Telling::Wait(wait) = telling else { panic!("it should wait: {telling:?}") };
    wait
}

fn waiter() -> PodSketch {
    pod("p").waiter_running(4)
}

fn hold(pods: Vec<ToldPod>) -> Holder {
    holder(ParticipantKind::Pod, "p", pods)
}

fn hold_of_job(pods: Vec<ToldPod>) -> Holder {
    holder(ParticipantKind::Job, "j", pods)
}

// -------------------------------------------------------------------------------------------------------- go

#[test]
fn a_pod_goes_when_its_gate_is_open() {
    assert_eq!(tell(&waiter().annotation(GATE, "etl"), &Store::default().open("etl")), go(1, 4, &[]));
}

#[test]
fn a_pod_goes_when_the_ledger_names_it_and_this_run_of_its_waiter() {
    let store = Store::default().held("db", hold(vec![told("p", 1, 4)]));
    assert_eq!(tell(&waiter().annotation(MUTEX, "db"), &store), go(1, 4, &[(1, "5")]));
}

#[rstest]
#[case::nobody_holds(Store::default().free("db"))]
#[case::somebody_else_holds(Store::default().held("db", holder(ParticipantKind::Pod, "q", vec![told("q", 1, 4)])))]
#[case::it_holds_but_is_not_in_the_list(Store::default().held("db", hold(vec![])))]
#[case::it_holds_for_another_run_of_the_waiter(Store::default().held("db", hold(vec![told("p", 1, 3)])))]
#[case::it_was_never_looked_at({
    let mut store = Store::default().free("db");
    store.mutexes.values_mut().for_each(|mutex| mutex.status = None);
    store
})]
fn a_pod_waits_for_a_mutex_while(#[case] store: Store) {
    let wait = waits(tell(&waiter().annotation(MUTEX, "db"), &store));
    assert_eq!((wait.primitive, wait.reason), (name_of_mutex("db"), reason::WAITING));
}

#[test]
fn a_pod_goes_only_when_all_that_it_names_is_its_own() {
    let sketch = waiter().annotation(GATE, "etl").annotation(MUTEX, "a,b");
    let held = |store: Store, name| store.held(name, hold(vec![told("p", 1, 4)]));
    for (store, waits_for) in [
        (held(held(Store::default().closed("etl"), "a"), "b"), name_of_gate("etl")),
        (held(Store::default().open("etl").free("a"), "b"), name_of_mutex("a")),
        (held(Store::default().open("etl"), "a"), name_of_mutex("b")),
        (Store::default().closed("etl"), name_of_gate("etl")),
    ] {
        assert_eq!(waits(tell(&sketch, &store)).primitive, waits_for);
    }
    let all = held(held(Store::default().open("etl"), "a"), "b");
    assert_eq!(tell(&sketch, &all), go(1, 4, &[(2, "5"), (3, "5")]));
}

#[test]
fn who_was_told_go_is_told_again_only_as_a_later_run() {
    let sketch = || waiter().annotation(MUTEX, "db");
    let ledger = |run| Store::default().held("db", hold(vec![told("p", run, 4)]));
    assert_eq!(tell(&sketch().told_go(2, 4), &ledger(2)), Telling::Nothing);
    assert_eq!(tell(&sketch().told_go(2, 4), &ledger(3)), go(3, 4, &[(1, "5")]));
    assert_eq!(tell(&sketch().told_go(3, 4), &ledger(2)), Telling::Nothing, "the ledger is behind");
    let gated = || waiter().annotation(GATE, "etl");
    let open = Store::default().open("etl");
    assert_eq!(tell(&gated().told_go(1, 4), &open), Telling::Nothing);
    assert_eq!(tell(&gated().withdrawn(1, 4), &open), go(2, 4, &[]), "what was withdrawn opened nothing");
}

#[test]
fn whose_job_is_gone_is_told_nothing_on_its_behalf() {
    let sketch = waiter().annotation(JOB_PLAN, "v1 mutex=db").of_job("j");
    let (facts, store) = (sketch.facts(), Store::default().free("db"));
    let told = telling(&facts, &plan_of(&facts, true), None, |name| store.get(name), |_, _| None, at(50));
    assert_eq!(told, Telling::Nothing);
    assert!(matches!(tell_under_job(&sketch, &store), Telling::Wait(_)));
}

/// Joining waits for nobody, so there is no patience to lose.
#[test]
fn who_is_no_member_yet_waits_however_long_it_takes() {
    let sketch = waiter().annotation(WAITGROUP, "g").annotation(TIMEOUT, "10s");
    let group = WaitGroup::new("g", WaitGroupSpec::default());
    let facts = sketch.facts();
    let committed = |_: &PrimitiveRef| Committed::WaitGroup(&group);
    let told = telling(&facts, &plan_of(&facts, false), None, committed, |_, _| None, at(50));
    assert!(waits(told).message.starts_with("is not a member yet of waitgroup/g"));
}

#[test]
fn of_two_ledgers_the_higher_run_counts() {
    let store =
        Store::default().held("a", hold(vec![told("p", 3, 4)])).held("b", hold(vec![told("p", 1, 4)]));
    assert_eq!(tell(&waiter().annotation(MUTEX, "a,b"), &store), go(3, 4, &[(1, "5"), (2, "5")]));
}

#[test]
fn a_jobs_entries_are_satisfied_by_the_jobs_hold() {
    let sketch = waiter().annotation(JOB_PLAN, "v1 mutex=db").annotation(MUTEX, "own");
    let own = hold(vec![told("p", 1, 4)]);
    let listed = Store::default().held("db", hold_of_job(vec![told("p", 1, 4)])).held("own", own.clone());
    assert_eq!(tell_under_job(&sketch, &listed), go(1, 4, &[(1, "5"), (2, "5")]));
    let unlisted = Store::default().held("db", hold_of_job(vec![told("q", 1, 4)])).held("own", own.clone());
    let wait = waits(tell_under_job(&sketch, &unlisted));
    assert_eq!((wait.primitive, wait.message.contains("its turn")), (name_of_mutex("db"), false));
    let by_itself = Store::default().held("db", own.clone()).held("own", own);
    assert_eq!(waits(tell_under_job(&sketch, &by_itself)).primitive, name_of_mutex("db"));
}

// ------------------------------------------------------------------------------------------ once, run by run

#[rstest]
#[case::it_knows(waiter().told_go(1, 4), 1)]
#[case::it_knows_a_higher_run(waiter().told_go(2, 4), 1)]
#[case::the_ledger_is_behind_a_withdrawal(waiter().withdrawn(1, 4), 1)]
#[case::nobody_waits(pod("p").waiter_passed(4, 5), 1)]
#[case::it_is_being_deleted(waiter().deleting(), 1)]
#[case::its_node_is_silent(waiter().on_a_silent_node(), 1)]
#[case::a_denial_is_final_for_its_run(waiter().told(1, 4, Verdict::Deny { code: 1, reason: "no".to_owned() }), 2)]
fn nothing_is_told_when(#[case] sketch: PodSketch, #[case] run: i64) {
    let store = Store::default().held("db", hold(vec![told("p", run, 4)]));
    assert_eq!(tell(&sketch.annotation(MUTEX, "db"), &store), Telling::Nothing);
}

#[rstest]
#[case::after_a_withdrawal(waiter().withdrawn(1, 4), 2)]
#[case::to_a_later_run_of_the_waiter(waiter().told_go(1, 1), 2)]
#[case::after_a_denial_of_an_earlier_run(waiter().told(1, 1, Verdict::Deny { code: 1, reason: "no".to_owned() }), 2)]
fn a_higher_run_is_told(#[case] sketch: PodSketch, #[case] run: i64) {
    let store = Store::default().held("db", hold(vec![told("p", run, 4)]));
    assert_eq!(tell(&sketch.annotation(MUTEX, "db"), &store), go(2, 4, &[(1, "5")]));
}

#[test]
fn a_gate_lets_a_later_run_pass_with_the_next_number() {
    let store = Store::default().open("etl");
    let sketch = waiter().annotation(GATE, "etl");
    assert_eq!(tell(&sketch.clone().told_go(1, 4), &store), Telling::Nothing);
    assert_eq!(tell(&sketch.told_go(1, 1), &store), go(2, 4, &[]));
}

// ------------------------------------------------------------------------------------------------- what it reads

#[test]
fn a_pod_reads_what_it_waits_for() {
    let store = Store::default().held("db", holder(ParticipantKind::Job, "j", vec![])).closed("etl");
    let facts = waiter().annotation(MUTEX, "db").facts();
    let place = |_: &PrimitiveRef, _: &str| Some((2, 5));
    let told = telling(&facts, &plan_of(&facts, false), None, |name| store.get(name), place, at(50));
    let said = waits(told).message;
    assert!(said.starts_with("waits for mutex/db: place 2 of 5, held by job/j since "), "{said}");
    let said = waits(tell(&waiter().annotation(GATE, "etl"), &store)).message;
    assert_eq!(said, "waits for gate/etl: Job etl is not complete yet");
    let wait = waits(tell(&waiter().annotation(GATE, "nowhere"), &store));
    assert_eq!(wait.reason, reason::MISSING_PRIMITIVE);
    assert!(wait.message.contains("create the Gate"), "{}", wait.message);
}

// ------------------------------------------------------------------------------------------------------ denial

#[test]
fn a_pod_is_denied_when_its_gate_can_never_open_whatever_else_it_waits_for() {
    let sketch = waiter().withdrawn(6, 1).annotation(GATE, "a,b").annotation(MUTEX, "db");
    let Telling::Deny { grant } = tell(&sketch, &Store::default().closed("a").failed("b").free("db")) else {
        panic!("it should be denied")
    };
    let Verdict::Deny { code, reason } = &grant.verdict else { panic!("{grant}") };
    assert_eq!((grant.run, *code), (7, NEVER));
    assert!(reason.starts_with("gate/b can never open: Job b has failed"), "{reason}");
}

#[test]
fn a_pod_waits_for_its_job_to_fail_when_the_gate_is_the_jobs() {
    let wait =
        waits(tell_under_job(&waiter().annotation(JOB_PLAN, "v1 gate=etl"), &Store::default().failed("etl")));
    assert_eq!(wait.reason, reason::DENIED);
}

#[rstest]
#[case::open(Store::default().open("etl").changed("etl"))]
#[case::failed(Store::default().failed("etl").changed("etl"))]
fn what_a_gate_said_before_its_spec_was_changed_counts_for_nobody(#[case] store: Store) {
    let sketch = waiter().annotation(GATE, "etl");
    let wait = waits(tell(&sketch, &store));
    assert_eq!(wait.reason, reason::WAITING);
    let facts = waiter().annotation(JOB_PLAN, "v1 gate=etl").facts();
    let committed = |name: &PrimitiveRef| store.get(name);
    let plan = plan_of(&facts, true);
    let told = told_of(&the_job(), &plan.job, std::slice::from_ref(&facts), committed, at(50));
    assert_eq!(told, JobTelling::Nothing);
}

#[test]
fn a_job_fails_when_its_gate_can_never_open_unless_a_pod_was_let_through() {
    let plan = plan_of(&waiter().annotation(JOB_PLAN, "v1 gate=etl").facts(), true);
    let fails = |pods: &[PodSketch], store: &Store| {
        let pods: Vec<_> = pods.iter().map(PodSketch::facts).collect();
        told_of(&the_job(), &plan.job, &pods, |name| store.get(name), at(50))
    };
    let failed = Store::default().failed("etl");
    for pods in [&[waiter()][..], &[]] {
        let JobTelling::Fail { reason, message } = fails(pods, &failed) else { panic!("it should fail") };
        assert_eq!(reason, reason::JOB_DENIED);
        assert!(message.starts_with("gate/etl can never open: Job etl has failed"), "{message}");
    }
    assert_eq!(fails(&[waiter(), pod("q").waiter_passed(1, 2)], &failed), JobTelling::Nothing);
    for other in [Store::default().open("etl"), Store::default().closed("etl"), Store::default()] {
        assert_eq!(fails(&[waiter()], &other), JobTelling::Nothing);
    }
}

#[test]
fn a_template_gate_is_no_reason_to_fail_the_job() {
    let plan = plan_of(&waiter().annotation(GATE, "etl").facts(), true);
    let failed = Store::default().failed("etl");
    let told = told_of(&the_job(), &plan.job, &[], |name| failed.get(name), at(50));
    assert_eq!(told, JobTelling::Nothing);
}

// ------------------------------------------------------------------------------------ what cannot be understood

#[rstest]
#[case::nothing_that_this_version_knows(waiter().annotation("konductor.io/queue", "x"))]
#[case::a_gate_beside_something_unknown(waiter().annotation(GATE, "etl").annotation("konductor.io/queue", "x"))]
#[case::a_gate_beside_a_marker_of_a_later_version(
    waiter().annotation(GATE, "etl").annotation(JOB_PLAN, "v2 gate=etl queue=x")
)]
#[case::a_gate_beside_names_that_are_none(waiter().annotation(GATE, "etl").annotation(MUTEX, "No Name"))]
#[case::nothing_at_all(waiter().annotation("other.io/note", "x"))]
fn a_plan_that_is_not_understood_as_a_whole_opens_nothing(#[case] sketch: PodSketch) {
    let store = Store::default().open("etl");
    assert_eq!(tell(&sketch, &store), Telling::Nothing);
    assert_eq!(tell_under_job(&sketch, &store), Telling::Nothing);
}

#[test]
fn a_pod_whose_job_is_gone_does_not_pass_without_what_the_job_had_to_take() {
    let orphan = waiter().annotation(JOB_PLAN, "v1 mutex=db").annotation(GATE, "etl");
    assert_eq!(tell(&orphan, &Store::default().open("etl").free("db")), Telling::Nothing);
}

// -------------------------------------------------------------------------------------------------- withdrawal

#[test]
fn what_is_withdrawn_keeps_its_run_and_opens_nothing() {
    let of_run = |run| Withdrawal {
        pod: "p".to_owned(),
        uid: uid("p"),
        run,
        waiter_started_at: at(9).as_second(),
        lost: false,
    };
    assert_eq!(withdrawn(&waiter().told_go(3, 4).facts(), &of_run(3)), grant(3, 4, Verdict::Released));
    assert_eq!(withdrawn(&waiter().told_go(3, 4).facts(), &of_run(4)), grant(4, 9, Verdict::Released));
    assert_eq!(withdrawn(&waiter().facts(), &of_run(1)), grant(1, 9, Verdict::Released));
}

#[test]
fn a_gate_that_nobody_has_looked_at_is_closed() {
    let mut store = Store::default().open("etl");
    for gate in store.gates.values_mut() {
        gate.status.as_mut().unwrap().phase = None;
    }
    assert_eq!(waits(tell(&waiter().annotation(GATE, "etl"), &store)).reason, reason::WAITING);
    assert_eq!(Store::default().open("etl").gates.len(), 1);
    let phase = Store::default().failed("x").gates.values().next().unwrap().status.as_ref().unwrap().phase;
    assert_eq!(phase, Some(GatePhase::Failed));
}
