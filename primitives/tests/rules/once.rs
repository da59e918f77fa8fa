//! Who executes, what counts as done, and what a failure, a new key and time make of it.

use konductor_api::annotations::{JOB_PLAN, MUTEX, ONCE};
use konductor_api::conditions::{DONE, READY, STALLED, reason};
use konductor_api::once::{Once, OncePhase, OnceSpec, OnceStatus};
use konductor_api::participation::{Kind, PodPlan, PrimitiveRef};
use konductor_primitives::committed::Committed;
use konductor_primitives::entrance::Entrance;
use konductor_primitives::once::check;
use konductor_primitives::snapshot::{Participant, Snapshot};
use konductor_primitives::verdict::{Telling, Who, telling};
use konductor_waiter::grant::Verdict;
use rstest::rstest;

use super::support::{
    self, PodSketch, at, commit, edit, entrance, fresh, holders, is_closed, is_in, is_never, is_ready, job,
    message, of_job, of_pod, pod, reason_of, snapshot, succeeded, time, uid, waits, works,
};

fn of(participants: Vec<Participant>) -> Snapshot<Once> {
    snapshot(fresh(Once::new("x", OnceSpec::default())), participants)
}

fn keyed(key: &str, participants: Vec<Participant>) -> Snapshot<Once> {
    let mut snapshot = of(participants);
    snapshot.primitive.spec.key = Some(key.to_owned());
    snapshot
}

fn with(snapshot: &mut Snapshot<Once>, participants: Vec<Participant>) -> OnceStatus {
    snapshot.participants = participants;
    commit(snapshot)
}

fn failed(name: &str) -> Participant {
    support::failed(name)
}

fn is_done(entrance: &Entrance) -> bool {
    matches!(entrance, Entrance::Done { .. })
}

const PENDING: Option<OncePhase> = Some(OncePhase::Pending);
const RUNNING: Option<OncePhase> = Some(OncePhase::Running);
const EXECUTED: Option<OncePhase> = Some(OncePhase::Executed);
const FAILED: Option<OncePhase> = Some(OncePhase::Failed);

// ------------------------------------------------------------------------------------------------ until it is done

#[test]
fn only_somebody_who_executes_keeps_others_busy() {
    let mut snapshot = of(vec![]);
    commit(&mut snapshot);
    let is_busy = |snapshot: &Snapshot<Once>| match entrance(snapshot, &waits("b", 1)) {
        Entrance::Closed { busy, .. } => busy,
        other => panic!("it should wait: {other:?}"),
    };
    assert!(!is_busy(&snapshot));
    let running = with(&mut snapshot, vec![waits("a", 0)]);
    assert!(is_busy(&snapshot));
    assert_eq!(message(&running.common, READY).1, "the spec is served");
}

#[test]
fn one_executes_and_once_it_has_succeeded_nobody_does() {
    let mut snapshot = of(vec![]);
    assert_eq!(commit(&mut snapshot).phase, PENDING);
    let running = with(&mut snapshot, vec![waits("a", 0), waits("b", 1)]);
    assert_eq!((running.phase, holders(&running.ledger), running.executed), (RUNNING, vec!["a"], false));
    assert!(is_in(&entrance(&snapshot, &waits("a", 0))) && is_closed(&entrance(&snapshot, &waits("b", 1))));
    snapshot.now = at(60);
    let done = with(&mut snapshot, vec![succeeded("a"), waits("b", 1)]);
    assert_eq!((done.phase, done.executor.as_deref(), done.attempts), (EXECUTED, Some("pod/a"), 0));
    assert_eq!((done.executed_at, done.ledger.holders.len()), (Some(time(60)), 0));
    assert!(is_done(&entrance(&snapshot, &waits("b", 1))));
    let later = with(&mut snapshot, vec![waits("b", 1), waits("c", 2)]);
    assert_eq!((later.phase, holders(&later.ledger).len()), (EXECUTED, 0));
}

#[rstest]
#[case::it_runs(pod("a").told_go(1, 2).waiter_passed(2, 3).runs("main", "m", 4), RUNNING, 0)]
#[case::it_is_being_deleted(pod("a").told_go(1, 2).waiter_passed(2, 3).runs("main", "m", 4).deleting(), RUNNING, 0)]
#[case::its_node_is_silent(pod("a").at_work().on_a_silent_node(), RUNNING, 0)]
#[case::the_garbage_collector_calls_it_failed(pod("a").at_work().phase("Failed"), RUNNING, 0)]
#[case::main_is_over_and_the_verdict_stands(
    pod("a").told_go(1, 2).waiter_passed(2, 3).ended("main", "m", 4, 9, 0),
    RUNNING,
    0
)]
#[case::main_is_over(pod("a").withdrawn(1, 2).waiter_passed(2, 3).ended("main", "m", 4, 9, 0), EXECUTED, 0)]
#[case::it_succeeded(pod("a").done(0).over("Succeeded"), EXECUTED, 0)]
#[case::it_failed(pod("a").done(1).over("Failed"), PENDING, 1)]
#[case::it_was_evicted_and_said_goodbye_with_0(pod("a").done(0).over("Failed"), PENDING, 1)]
#[case::its_machine_is_gone(pod("a").at_work().withdrawn(1, 2).on_a_node_that_is_gone(), PENDING, 1)]
#[case::it_was_stopped_before_it_was_let_through(pod("a").waiter_ended(2, 9, 143).over("Failed"), PENDING, 0)]
fn what_becomes_of_the_executor(
    #[case] sketch: PodSketch,
    #[case] phase: Option<OncePhase>,
    #[case] attempts: i64,
) {
    let mut snapshot = of(vec![waits("a", 0)]);
    commit(&mut snapshot);
    let status = with(&mut snapshot, vec![of_pod(&sketch, 0)]);
    assert_eq!((status.phase, status.attempts), (phase, attempts));
    assert_eq!(status.executed, phase == EXECUTED);
}

#[test]
fn one_that_is_gone_before_it_was_told_counts_as_nothing() {
    let mut snapshot = of(vec![waits("a", 0)]);
    commit(&mut snapshot);
    snapshot.participants = vec![waits("b", 1)];
    snapshot.absent.insert(uid("a"));
    let status = commit(&mut snapshot);
    assert_eq!((holders(&status.ledger), status.attempts), (vec!["b"], 0));
}

#[rstest]
#[case::between_two_attempts_of_its_own(job("j"), vec![pod("p").done(1).over("Failed")], RUNNING, 0)]
#[case::its_retry_runs(job("j"), vec![pod("p").done(1).over("Failed"), pod("q").at_work()], RUNNING, 0)]
#[case::complete_over_a_pod_that_runs(job("j").complete(), vec![pod("p").at_work()], RUNNING, 0)]
#[case::complete(job("j").complete(), vec![pod("p").done(0).over("Succeeded")], EXECUTED, 0)]
#[case::its_success_is_proven(job("j"), vec![pod("p").done(0).over("Succeeded")], EXECUTED, 0)]
#[case::failed(job("j").failed(), vec![pod("p").done(1).over("Failed")], PENDING, 1)]
#[case::suspended(job("j").suspended(), vec![pod("p").done(143).over("Failed")], PENDING, 0)]
fn a_job_is_one_executor(
    #[case] sketch: support::JobSketch,
    #[case] pods: Vec<PodSketch>,
    #[case] phase: Option<OncePhase>,
    #[case] attempts: i64,
) {
    let mut snapshot = of(vec![of_job("j", &job("j"), &[pod("p").waiter_running(2)], 0)]);
    assert_eq!(commit(&mut snapshot).phase, RUNNING);
    let status = with(&mut snapshot, vec![of_job("j", &sketch, &pods, 0)]);
    assert_eq!((status.phase, status.attempts), (phase, attempts));
    assert_eq!(status.executor.as_deref(), (phase == EXECUTED).then_some("job/j"));
}

#[test]
fn a_job_that_is_gone_was_seen_to_succeed_by_nobody() {
    let mut snapshot = of(vec![of_job("j", &job("j"), &[pod("p").waiter_running(2)], 0)]);
    commit(&mut snapshot);
    snapshot.participants = vec![waits("b", 1)];
    snapshot.absent = [uid("j"), uid("p")].into();
    let status = commit(&mut snapshot);
    assert_eq!((holders(&status.ledger), status.attempts, status.executed), (vec!["b"], 1, false));
}

// ------------------------------------------------------------------------------------------------------ attempts

#[test]
fn who_fails_gives_way_to_the_next_in_the_same_write_until_as_many_have_failed_as_may() {
    let mut snapshot = of(vec![waits("a", 0), waits("b", 1), waits("c", 2)]);
    snapshot.primitive.spec.max_attempts = Some(2);
    commit(&mut snapshot);
    let second = with(&mut snapshot, vec![failed("a"), waits("b", 1), waits("c", 2)]);
    assert_eq!((second.phase, holders(&second.ledger), second.attempts), (RUNNING, vec!["b"], 1));
    assert_eq!(message(&second.common, DONE).1, "pod/b runs; one attempt has failed");
    let given_up = with(&mut snapshot, vec![failed("b"), waits("c", 2)]);
    assert_eq!((given_up.phase, given_up.attempts, given_up.ledger.holders.len()), (FAILED, 2, 0));
    assert_eq!(reason_of(&given_up.common, DONE), reason::ATTEMPTS_EXHAUSTED);
    assert!(message(&given_up.common, STALLED).1.contains("spec.maxAttempts"));
    assert!(is_never(&entrance(&snapshot, &waits("c", 2))));
}

#[rstest]
#[case::more_attempts(|once: &mut Once| once.spec.max_attempts = Some(3), 2)]
#[case::no_limit(|once: &mut Once| once.spec.max_attempts = None, 2)]
#[case::another_key(|once: &mut Once| once.spec.key = Some("v2".to_owned()), 0)]
fn the_ways_out_of_giving_up(#[case] change: fn(&mut Once), #[case] attempts: i64) {
    let mut snapshot = of(vec![]);
    snapshot.primitive.spec.max_attempts = Some(2);
    for name in ["a", "b"] {
        with(&mut snapshot, vec![waits(name, 0)]);
        with(&mut snapshot, vec![failed(name)]);
    }
    snapshot.participants = vec![waits("c", 2)];
    assert_eq!(commit(&mut snapshot).phase, FAILED);
    edit(&mut snapshot, change);
    assert!(
        !is_never(&entrance(&snapshot, &waits("c", 2))),
        "what was said of an earlier spec denies nobody"
    );
    let status = commit(&mut snapshot);
    assert_eq!((holders(&status.ledger), status.attempts), (vec!["c"], attempts));
    assert!(is_ready(&status.common));
    with(&mut snapshot, vec![succeeded("c")]);
    assert_eq!(snapshot.primitive.status.unwrap().phase, EXECUTED);
}

#[test]
fn fewer_attempts_than_have_failed_give_up_once_the_one_that_runs_has_failed() {
    let mut snapshot = of(vec![waits("a", 0)]);
    commit(&mut snapshot);
    with(&mut snapshot, vec![failed("a"), waits("b", 1)]);
    edit(&mut snapshot, |once| once.spec.max_attempts = Some(1));
    assert_eq!(commit(&mut snapshot).phase, RUNNING, "who runs may succeed");
    assert_eq!(with(&mut snapshot, vec![succeeded("b")]).phase, EXECUTED);
}

// ----------------------------------------------------------------------------------------------------- another key

#[test]
fn another_key_is_another_once() {
    let mut snapshot = keyed("v1", vec![waits("a", 0)]);
    commit(&mut snapshot);
    assert_eq!(with(&mut snapshot, vec![succeeded("a"), waits("b", 1)]).phase, EXECUTED);
    edit(&mut snapshot, |once| once.spec.key = Some("v2".to_owned()));
    assert!(
        is_closed(&entrance(&snapshot, &waits("b", 1))),
        "a success of the old key is none of the new one"
    );
    let anew = with(&mut snapshot, vec![waits("b", 1)]);
    assert_eq!((anew.phase, holders(&anew.ledger), anew.executor), (RUNNING, vec!["b"], None));
    assert_eq!(anew.key.as_deref(), Some("v2"));
    let done = with(&mut snapshot, vec![succeeded("b")]);
    assert_eq!((done.phase, done.executor.as_deref()), (EXECUTED, Some("pod/b")));
}

#[rstest]
#[case::which_succeeds(succeeded("a"))]
#[case::which_fails(failed("a"))]
fn who_runs_for_the_old_key_ends_before_anybody_runs_for_the_new_one(#[case] end: Participant) {
    let mut snapshot = keyed("v1", vec![waits("a", 0)]);
    commit(&mut snapshot);
    edit(&mut snapshot, |once| once.spec.key = Some("v2".to_owned()));
    let changed = with(&mut snapshot, vec![works("a"), waits("b", 1)]);
    assert_eq!((holders(&changed.ledger), changed.running_key.as_deref()), (vec!["a"], Some("v1")));
    edit(&mut snapshot, |once| once.spec.key = Some("v3".to_owned()));
    assert_eq!(commit(&mut snapshot).running_key.as_deref(), Some("v1"));
    let next = with(&mut snapshot, vec![end, waits("b", 1)]);
    assert_eq!((holders(&next.ledger), next.running_key.as_deref()), (vec!["b"], None));
    assert_eq!((next.executed, next.attempts, next.key.as_deref()), (false, 0, Some("v3")));
}

#[test]
fn back_at_the_key_that_somebody_runs_for_its_success_counts() {
    let mut snapshot = keyed("v1", vec![waits("a", 0)]);
    commit(&mut snapshot);
    for key in ["v2", "v1"] {
        edit(&mut snapshot, |once| once.spec.key = Some(key.to_owned()));
        with(&mut snapshot, vec![works("a"), waits("b", 1)]);
    }
    let done = with(&mut snapshot, vec![succeeded("a"), waits("b", 1)]);
    assert_eq!((done.phase, done.executor.as_deref()), (EXECUTED, Some("pod/a")));
}

#[test]
fn a_success_that_is_seen_together_with_the_new_key_is_of_the_old_one() {
    let mut snapshot = keyed("v1", vec![waits("a", 0)]);
    commit(&mut snapshot);
    edit(&mut snapshot, |once| once.spec.key = Some("v2".to_owned()));
    let next = with(&mut snapshot, vec![succeeded("a"), waits("b", 1)]);
    assert_eq!((next.executed, holders(&next.ledger)), (false, vec!["b"]));
}

#[test]
fn a_key_where_there_was_none_is_another_one() {
    let mut snapshot = of(vec![waits("a", 0)]);
    commit(&mut snapshot);
    edit(&mut snapshot, |once| once.spec.key = Some("v1".to_owned()));
    with(&mut snapshot, vec![works("a")]);
    edit(&mut snapshot, |once| once.spec.key = None);
    with(&mut snapshot, vec![works("a")]);
    assert_eq!(with(&mut snapshot, vec![succeeded("a")]).phase, EXECUTED);
}

// --------------------------------------------------------------------------------------------------------- time

#[rstest]
#[case::a_pod_that_waits(waits("b", 1))]
#[case::a_job_without_a_pod(of_job("b", &job("b"), &[], 1))]
fn a_success_that_is_too_old_counts_no_longer_when_the_next_one_comes(#[case] next: Participant) {
    let mut snapshot = of(vec![waits("a", 0)]);
    snapshot.primitive.spec.ttl = Some("1h".parse().unwrap());
    commit(&mut snapshot);
    let done = with(&mut snapshot, vec![succeeded("a")]);
    assert!(message(&done.common, READY).1.ends_with("a success counts for 1h0m0s"));
    snapshot.now = at(50 + 3599);
    assert_eq!(with(&mut snapshot, vec![next.clone()]).phase, EXECUTED);
    assert!(is_done(&entrance(&snapshot, &next)));
    snapshot.now = at(50 + 3600);
    assert!(!is_done(&entrance(&snapshot, &next)), "nobody is skipped for a success that counts no longer");
    assert_eq!(with(&mut snapshot, vec![succeeded("a")]).phase, EXECUTED, "as long as nobody comes");
    let anew = with(&mut snapshot, vec![next]);
    assert!(matches!(anew.phase, RUNNING | PENDING) && !anew.executed, "{anew:?}");
    with(&mut snapshot, vec![waits("b", 1)]);
    let again = with(&mut snapshot, vec![of_pod(&pod("b").done(0).over("Succeeded"), 0)]);
    assert_eq!(again.executed_at, (again.phase == EXECUTED).then(|| time(50 + 3600)));
}

// -------------------------------------------------------------------------------------------------- what is refused

fn done() -> (Snapshot<Once>, OnceStatus) {
    let mut snapshot = of(vec![waits("a", 0)]);
    commit(&mut snapshot);
    let status = with(&mut snapshot, vec![succeeded("a")]);
    (snapshot, status)
}

#[test]
fn a_success_is_not_recorded_over_another_one() {
    let (snapshot, done) = done();
    for other in [
        OnceStatus { executor: Some("pod/b".to_owned()), ..done.clone() },
        OnceStatus { executed_at: Some(time(99)), ..done.clone() },
    ] {
        assert_eq!(check(&snapshot.primitive, &other).unwrap_err().invariant, "OnceSingleSuccess");
    }
    assert_eq!(check(&snapshot.primitive, &done), Ok(()));
}

#[test]
fn nobody_is_recorded_who_did_not_hold_it() {
    let (snapshot, done) = done();
    let fresh = Once { status: None, ..snapshot.primitive };
    assert_eq!(check(&fresh, &done).unwrap_err().invariant, "OnceNoPhantomDone");
    let mut running = of(vec![waits("b", 0)]);
    let status = commit(&mut running);
    let phantom = OnceStatus {
        executed: true,
        executor: Some("pod/a".to_owned()),
        executed_at: Some(time(50)),
        ..status
    };
    assert_eq!(check(&running.primitive, &phantom).unwrap_err().invariant, "OnceNoPhantomDone");
}

#[test]
fn two_executors_are_never_written() {
    let mut snapshot = of(vec![waits("a", 0)]);
    let mut two = commit(&mut snapshot);
    let mut second = two.ledger.holders[0].clone();
    (second.uid, second.token) = ("b".to_owned(), (9_u64 << 16).to_string());
    two.ledger.last_token = Some(second.token.clone());
    two.ledger.holders.push(second);
    assert_eq!(check(&snapshot.primitive, &two).unwrap_err().invariant, "LedgerExclusion");
}

// -------------------------------------------------------------------------------------------- pods that come second

fn on_pods(name: &str) -> PodSketch {
    pod(name).annotation(ONCE, "x")
}

fn tell(sketch: &PodSketch, once: &Once) -> Telling {
    let facts = sketch.facts();
    let plan = PodPlan::of(facts.object().metadata.annotations.as_ref().unwrap(), false);
    telling(&facts, &plan, None, |_| Committed::Once(once), |_, _| None, at(90))
}

fn executed_by_a() -> Snapshot<Once> {
    let mut snapshot = of(vec![waits("a", 0)]);
    commit(&mut snapshot);
    assert!(with(&mut snapshot, vec![succeeded("a")]).executed);
    snapshot
}

#[test]
fn a_pod_that_comes_second_is_told_to_skip_and_not_again() {
    let done = executed_by_a().primitive;
    let Telling::Go { grant, tokens } = tell(&on_pods("b").waiter_running(70), &done) else { panic!() };
    let skip = Verdict::Skip { reason: "once/x was executed by pod/a already".to_owned() };
    assert_eq!((grant.run, grant.verdict.clone(), tokens), (1, skip.clone(), vec![]));
    let told = on_pods("b").waiter_running(70).told(1, 70, skip);
    assert_eq!(tell(&told, &done), Telling::Nothing);
    let Telling::Lift { .. } = tell(&on_pods("b").gates(&["konductor.io/hold"]).without_node(), &done) else {
        panic!()
    };
}

#[test]
fn the_pod_of_a_job_that_is_not_needed_is_told_nothing_its_job_is() {
    let done = executed_by_a().primitive;
    let sketch = pod("j-1").of_job("j").annotation(JOB_PLAN, "v1 once=x").waiter_running(70);
    let facts = sketch.facts();
    let plan = PodPlan::of(facts.object().metadata.annotations.as_ref().unwrap(), true);
    let job = Who::unseen_job("j", &uid("j"));
    let told = telling(&facts, &plan, Some(&job), |_| Committed::Once(&done), |_, _| None, at(90));
    assert!(matches!(told, Telling::Wait(_)), "{told:?}");
}

/// The run that skips may pass at any moment. Were it let in for a new key, its end would count as a success.
#[test]
fn a_run_that_was_told_to_skip_never_executes() {
    let mut snapshot = executed_by_a();
    edit(&mut snapshot, |once| once.spec.key = Some("later".to_owned()));
    let skip = || Verdict::Skip { reason: "done".to_owned() };
    let told = on_pods("b").waiter_running(70).told(1, 70, skip());
    assert_eq!(with(&mut snapshot, vec![of_pod(&told, 0)]).ledger.holders, []);
    assert_eq!(tell(&told, &snapshot.primitive), Telling::Nothing);
    let again = on_pods("b").waiter_running(80).told(1, 70, skip());
    assert_eq!(with(&mut snapshot, vec![of_pod(&again, 0)]).ledger.holders[0].pods[0].run, 2);
}

#[test]
fn a_pod_skips_only_when_it_has_all_that_it_waits_for_beside() {
    let done = executed_by_a().primitive;
    let sketch = on_pods("b").annotation(MUTEX, "db").waiter_running(70);
    let facts = sketch.facts();
    let plan = PodPlan::of(facts.object().metadata.annotations.as_ref().unwrap(), false);
    let committed = |name: &PrimitiveRef| match name.kind {
        Kind::Once => Committed::Once(&done),
        _ => Committed::Missing,
    };
    let telling = telling(&facts, &plan, None, committed, |_, _| None, at(90));
    assert!(matches!(telling, Telling::Wait(_)), "{telling:?}");
}

#[test]
fn how_long_a_success_counts_is_said_of_a_success() {
    let mut snapshot = of(vec![waits("a", 0)]);
    snapshot.primitive.spec.ttl = Some("24h".parse().unwrap());
    let said = |status: &OnceStatus| message(&status.common, READY).1;
    let running = commit(&mut snapshot);
    assert!(!said(&running).contains("counts for"));
    assert_eq!(message(&running.common, DONE).0, "False");
    let done = with(&mut snapshot, vec![succeeded("a")]);
    assert_eq!(message(&done.common, DONE).0, "True");
    assert!(said(&done).contains("a success counts for 24h"), "{}", said(&done));
}
