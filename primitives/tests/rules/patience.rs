//! What becomes of a pod and of a Job whose time is up, who does not want to wait, or for whom nothing is left to do.

use std::collections::BTreeMap;

use konductor_api::annotations::{
    BARRIER, GATE, JOB_PLAN, MUTEX, ON_BUSY, ON_TIMEOUT, SEMAPHORE, TIMEOUT, WAITGROUP,
};
use konductor_api::barrier::{ArrivalPolicy, Barrier, BarrierSpec};
use konductor_api::conditions::reason;
use konductor_api::gate::Gate;
use konductor_api::gate::GateState::Complete;
use konductor_api::ledger::ParticipantKind;
use konductor_api::members::MemberKey;
use konductor_api::mutex::Mutex;
use konductor_api::once::{Once, OncePhase, OnceSpec, OnceStatus};
use konductor_api::options::{OnBusy, OnTimeout, Options};
use konductor_api::participation::{Kind, PodPlan, PrimitiveRef, PrimitiveSet, Role};
use konductor_api::semaphore::{Semaphore, SemaphoreSpec};
use konductor_api::waitgroup::{WaitGroup, WaitGroupPhase, WaitGroupSpec, WaitGroupStatus};
use konductor_primitives::committed::Committed;
use konductor_primitives::facts::PodFacts;
use konductor_primitives::verdict::{JobTelling, Telling, Wait, Who, has_reached, telling};
use konductor_waiter::grant::{BUSY, Grant, NEVER, TIMED_OUT, Verdict};
use rstest::rstest;

use super::support::{
    JobSketch, PodSketch, Primitive, Says, at, commit, fresh, gate, holder, job, jobs_seen, mutex, name_of,
    pod, snapshot, told, told_of, uid, waits,
};

/// What the API server returned.
enum Stored {
    Missing,
    Gate(Box<Gate>),
    Mutex(Box<Mutex>),
    Once(Box<Once>),
    Semaphore(Box<Semaphore>),
    Barrier(Box<Barrier>),
    WaitGroup(Box<WaitGroup>),
}

impl Stored {
    fn committed(&self) -> Committed<'_> {
        match self {
            Self::Missing => Committed::Missing,
            Self::Gate(object) => object.committed(),
            Self::Mutex(object) => object.committed(),
            Self::Once(object) => object.committed(),
            Self::Semaphore(object) => object.committed(),
            Self::Barrier(object) => object.committed(),
            Self::WaitGroup(object) => object.committed(),
        }
    }
}

/// A gate on a Job that has not ended.
fn closed() -> Stored {
    let mut snapshot = snapshot(gate(&[("etl", Complete)]), vec![]);
    snapshot.objects = jobs_seen(&[("etl", job("etl"))]);
    commit(&mut snapshot);
    Stored::Gate(Box::new(snapshot.primitive))
}

/// A mutex that nobody has.
fn free() -> Stored {
    Stored::Mutex(Box::new(mutex(vec![])))
}

/// A mutex that somebody else has.
fn held() -> Stored {
    Stored::Mutex(Box::new(mutex(vec![holder(ParticipantKind::Pod, "q", vec![told("q", 1, 1)])])))
}

/// A mutex that the pod `p` has, for the run of its waiter that started then.
fn own(waiter_started_at: i64) -> Stored {
    let entry = holder(ParticipantKind::Pod, "p", vec![told("p", 1, waiter_started_at)]);
    Stored::Mutex(Box::new(mutex(vec![entry])))
}

fn once(status: OnceStatus) -> Stored {
    let mut once = fresh(Once::new("x", OnceSpec { max_attempts: Some(1), ..OnceSpec::default() }));
    once.status = Some(status);
    Stored::Once(Box::new(once))
}

fn executed() -> Stored {
    once(OnceStatus {
        phase: Some(OncePhase::Executed),
        executed: true,
        executor: Some("job/other".to_owned()),
        ..OnceStatus::default()
    })
}

fn given_up() -> Stored {
    once(OnceStatus { phase: Some(OncePhase::Failed), attempts: 1, ..OnceStatus::default() })
}

fn semaphore(permits: i64) -> Stored {
    Stored::Semaphore(Box::new(fresh(Semaphore::new("x", SemaphoreSpec { permits, ttl: None }))))
}

fn barrier() -> Stored {
    let spec = BarrierSpec {
        expected: 2,
        quorum: None,
        timeout: None,
        cyclic: false,
        arrivals: ArrivalPolicy::Sticky,
    };
    let mut snapshot = snapshot(fresh(Barrier::new("x", spec)), vec![waits("q", 0).role(Role::Meet)]);
    commit(&mut snapshot);
    Stored::Barrier(Box::new(snapshot.primitive))
}

fn group() -> Stored {
    let mut snapshot = snapshot(fresh(WaitGroup::new("x", WaitGroupSpec::default())), vec![]);
    commit(&mut snapshot);
    Stored::WaitGroup(Box::new(snapshot.primitive))
}

// ---------------------------------------------------------------------------------------------------------- pods

/// The pod `p`, created at second 0, whose waiter has run since second 4.
fn waiter() -> PodSketch {
    pod("p").waiter_running(4)
}

fn plan(facts: &PodFacts, controlled: bool) -> PodPlan {
    PodPlan::of(facts.object().metadata.annotations.as_ref().unwrap(), controlled)
}

/// At that second.
fn tell(sketch: &PodSketch, stored: &Stored, second: i64) -> Telling {
    let facts = sketch.facts();
    telling(&facts, &plan(&facts, false), None, |_| stored.committed(), |_, _| None, at(second))
}

fn denied(telling: Telling) -> (u8, String) {
    let Telling::Deny { grant: Grant { verdict: Verdict::Deny { code, reason }, .. } } = telling else {
        panic!("it should be denied: {telling:?}")
    };
    (code, reason)
}

fn waits_for(telling: Telling) -> Wait {
    let Telling::Wait(wait) = telling else { panic!("it should wait: {telling:?}") };
    wait
}

#[rstest]
#[case::a_gate(GATE, closed(), "10s are over, and it still waits for gate/x: Job etl is not complete yet")]
#[case::a_mutex(MUTEX, held(), "10s are over, and it still waits for mutex/x: held by pod/q since ")]
#[case::what_does_not_exist(
    MUTEX,
    Stored::Missing,
    "10s are over, and it still waits for mutex/x, which does not exist"
)]
fn a_pod_whose_time_is_up_is_denied(#[case] annotation: &str, #[case] stored: Stored, #[case] said: &str) {
    let sketch = waiter().annotation(annotation, "x").annotation(TIMEOUT, "10s");
    waits_for(tell(&sketch, &stored, 9));
    let (code, reason) = denied(tell(&sketch, &stored, 10));
    assert_eq!(code, TIMED_OUT);
    assert!(reason.starts_with(said), "{reason}");
}

#[test]
fn who_has_what_it_waits_for_goes_whatever_the_time() {
    let sketch = waiter().annotation(MUTEX, "x").annotation(TIMEOUT, "10s");
    assert!(matches!(tell(&sketch, &own(4), 99), Telling::Go { .. }));
    waits_for(tell(&sketch, &own(3), 99));
}

#[test]
fn a_pod_may_start_all_the_same_where_nothing_is_held() {
    let sketch = waiter().annotation(GATE, "x").annotation(TIMEOUT, "10s").annotation(ON_TIMEOUT, "proceed");
    waits_for(tell(&sketch, &closed(), 9));
    assert!(matches!(tell(&sketch, &closed(), 10), Telling::Go { .. }));
    let held_too = sketch.annotation(MUTEX, "x");
    assert_eq!(
        tell(&held_too, &held(), 99),
        Telling::Nothing,
        "admission refuses it, and nobody here follows it"
    );
}

#[rstest]
#[case::somebody_holds_it(MUTEX, held(), true)]
#[case::a_gate_is_closed(GATE, closed(), true)]
#[case::nobody_holds_it(MUTEX, free(), false)]
#[case::it_does_not_exist(MUTEX, Stored::Missing, false)]
#[case::it_is_its_own_turn(MUTEX, own(3), false)]
#[case::it_comes_to_meet_others(BARRIER, barrier(), false)]
#[case::it_is_no_member_yet(WAITGROUP, group(), false)]
fn a_pod_that_does_not_want_to_wait_is_denied_if(
    #[case] annotation: &str,
    #[case] stored: Stored,
    #[case] busy: bool,
) {
    let sketch = waiter().annotation(annotation, "x").annotation(ON_BUSY, "fail");
    let told = tell(&sketch, &stored, 50);
    if busy {
        let (code, reason) = denied(told);
        assert_eq!(code, BUSY);
        assert!(reason.starts_with("it would have to wait, and does not want to"), "{reason}");
    } else {
        waits_for(told);
    }
}

#[test]
fn who_asks_for_more_than_there_is_is_denied_at_once() {
    let (code, reason) = denied(tell(&waiter().annotation(SEMAPHORE, "x=3"), &semaphore(2), 5));
    assert_eq!(code, NEVER);
    assert!(reason.starts_with("it asks for 3 permits of semaphore/x, and there are 2"), "{reason}");
}

#[test]
fn a_pod_waits_while_its_job_is_told() {
    let sketch = waiter().of_job("j").annotation(JOB_PLAN, "v1 gate=x");
    let facts = sketch.facts();
    let job = Who { deadline: Some(at(10)), ..Who::unseen_job("j", &uid("j")) };
    let stored = closed();
    let told = telling(&facts, &plan(&facts, true), Some(&job), |_| stored.committed(), |_, _| None, at(99));
    assert_eq!(waits_for(told).reason, reason::WAITING);
}

#[test]
fn what_nobody_knows_of_a_job_never_ends_its_patience() {
    let stored = held();
    let unseen = Who::unseen_job("j", &uid("j"));
    let set: PrimitiveSet = "v1 mutex=x".parse().unwrap();
    assert_eq!(told_of(&unseen, &set, &[], |_| stored.committed(), at(99_999)), JobTelling::Nothing);
}

// ---------------------------------------------------------------------------------------------------------- Jobs

fn options(on_timeout: OnTimeout, on_busy: OnBusy) -> Options {
    Options {
        priority: None,
        timeout: Some("10s".parse().unwrap()),
        on_timeout,
        on_busy,
        ..Options::default()
    }
}

/// A Job that came at second 0.
fn who(options: Options) -> Who {
    Who {
        uid: uid("j"),
        member: MemberKey::Job("j".to_owned()),
        since: at(0),
        deadline: options.deadline(at(0)),
        options,
    }
}

fn tell_job(options: Options, set: &str, pods: &[PodSketch], stored: &Stored, second: i64) -> JobTelling {
    let pods: Vec<_> = pods.iter().map(PodSketch::facts).collect();
    told_of(&who(options), &set.parse().unwrap(), &pods, |_| stored.committed(), at(second))
}

fn fails(telling: &JobTelling) -> &'static str {
    let JobTelling::Fail { reason, .. } = telling else { panic!("it should fail: {telling:?}") };
    reason
}

fn is_skipped(telling: &JobTelling) -> bool {
    matches!(telling, JobTelling::Skip { .. })
}

#[test]
fn a_job_whose_time_is_up_fails_is_skipped_or_goes_on_as_it_says() {
    let told = |on_timeout, second| {
        tell_job(options(on_timeout, OnBusy::Wait), "v1 gate=x", &[waiter()], &closed(), second)
    };
    for on_timeout in [OnTimeout::Fail, OnTimeout::Skip, OnTimeout::Proceed] {
        assert_eq!(told(on_timeout, 9), JobTelling::Nothing);
    }
    assert_eq!(fails(&told(OnTimeout::Fail, 10)), reason::JOB_TIMED_OUT);
    assert!(is_skipped(&told(OnTimeout::Skip, 10)));
    assert_eq!(told(OnTimeout::Proceed, 10), JobTelling::Nothing);
}

#[test]
fn a_job_that_would_have_to_wait_fails_is_skipped_or_waits_as_it_says() {
    let told = |on_busy, stored: &Stored| {
        tell_job(options(OnTimeout::Fail, on_busy), "v1 mutex=x", &[waiter()], stored, 5)
    };
    assert_eq!(fails(&told(OnBusy::Fail, &held())), reason::JOB_BUSY);
    assert!(is_skipped(&told(OnBusy::Skip, &held())));
    assert_eq!(told(OnBusy::Wait, &held()), JobTelling::Nothing);
    for on_busy in [OnBusy::Fail, OnBusy::Skip] {
        assert_eq!(told(on_busy, &free()), JobTelling::Nothing);
        assert_eq!(told(on_busy, &Stored::Missing), JobTelling::Nothing);
    }
}

#[test]
fn a_job_that_comes_to_meet_others_or_to_join_them_does_not_wait_for_somebody_in_its_way() {
    let impatient = options(OnTimeout::Fail, OnBusy::Skip);
    assert_eq!(tell_job(impatient, "v1 barrier=x", &[waiter()], &barrier(), 5), JobTelling::Nothing);
    assert_eq!(tell_job(impatient, "v1 waitgroup=x", &[waiter()], &group(), 99), JobTelling::Nothing);
    assert_eq!(
        fails(&tell_job(impatient, "v1 barrier=x", &[waiter()], &barrier(), 10)),
        reason::JOB_TIMED_OUT
    );
}

#[rstest]
#[case::it_has_no_pod(vec![])]
#[case::its_pod_waits(vec![waiter()])]
#[case::its_pod_was_denied(vec![waiter().told(1, 4, Verdict::Deny { code: 1, reason: "no".to_owned() })])]
fn a_job_for_which_nothing_is_left_to_do_is_complete_without_having_run(#[case] pods: Vec<PodSketch>) {
    let told = tell_job(Options::default(), "v1 once=x", &pods, &executed(), 5);
    let JobTelling::Skip { message } = told else { panic!("it should be skipped: {told:?}") };
    assert_eq!(message, "once/x was executed by job/other already");
}

#[test]
fn a_job_that_waits_for_what_was_given_up_fails() {
    let told = tell_job(Options::default(), "v1 once=x", &[waiter()], &given_up(), 5);
    assert_eq!(fails(&told), reason::JOB_DENIED);
    let greedy = tell_job(Options::default(), "v1 semaphore=x=9", &[], &semaphore(2), 5);
    assert_eq!(fails(&greedy), reason::JOB_DENIED);
}

#[rstest]
#[case::a_pod_was_let_through(pod("q").waiter_passed(1, 2))]
#[case::a_pod_was_told_go(pod("q").waiter_running(1).told_go(1, 1))]
fn a_job_is_told_nothing_any_more_once(#[case] first: PodSketch) {
    let pods = [first, waiter()];
    let impatient = options(OnTimeout::Fail, OnBusy::Fail);
    for (set, stored) in [
        ("v1 gate=x", closed()),
        ("v1 mutex=x", held()),
        ("v1 once=x", executed()),
        ("v1 once=x", given_up()),
    ] {
        assert_eq!(tell_job(impatient, set, &pods, &stored, 99), JobTelling::Nothing, "{set}");
    }
}

#[test]
fn whatever_else_a_job_waits_for_what_never_comes_decides() {
    let stored: BTreeMap<_, _> = [(Kind::Gate, closed()), (Kind::Once, executed())].into();
    let set: PrimitiveSet = "v1 gate=x once=x".parse().unwrap();
    let committed = |primitive: &PrimitiveRef| stored[&primitive.kind].committed();
    assert!(is_skipped(&told_of(&who(Options::default()), &set, &[], committed, at(5))));
}

#[test]
fn a_suspended_job_does_not_wait_and_starts_anew_when_it_goes_on() {
    let facts = |sketch: JobSketch| sketch.facts();
    let patience = options(OnTimeout::Fail, OnBusy::Wait);
    assert_eq!(facts(job("j")).deadline(&patience, at(0)), Some(at(10)));
    assert_eq!(facts(job("j").suspended()).deadline(&patience, at(0)), None);
    assert_eq!(facts(job("j").started(500)).deadline(&patience, at(0)), Some(at(510)));
    assert_eq!(facts(job("j").started(-5)).deadline(&patience, at(0)), Some(at(10)));
}

#[test]
fn who_goes_on_without_a_gate_may_turn_to_what_comes_next() {
    let reached = |on_timeout, second| {
        let who = who(options(on_timeout, OnBusy::Wait));
        has_reached(closed().committed(), &name_of(Kind::Gate, "x"), Role::Await, &who, at(second))
    };
    assert!(!reached(OnTimeout::Proceed, 9) && reached(OnTimeout::Proceed, 10));
    assert!(!reached(OnTimeout::Fail, 10));
}

#[test]
fn who_is_through_or_holds_may_turn_to_what_comes_next_and_a_member_only_once_it_is_one() {
    let group = WaitGroup::new("x", WaitGroupSpec::default());
    let done = WaitGroup {
        status: Some(WaitGroupStatus { phase: Some(WaitGroupPhase::Done), ..WaitGroupStatus::default() }),
        ..group.clone()
    };
    let who = who(options(OnTimeout::Proceed, OnBusy::Wait));
    let reached = |group: &WaitGroup, role| {
        has_reached(Committed::WaitGroup(group), &name_of(Kind::WaitGroup, "x"), role, &who, at(10))
    };
    assert!(reached(&done, Role::Await) && reached(&done, Role::Join));
    assert!(reached(&group, Role::Await), "its patience is over");
    assert!(!reached(&group, Role::Join), "it has none to lose");
}
