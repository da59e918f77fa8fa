//! When a hold ends, what must be taken back first, and which pods come into its list.

use konductor_api::ledger::{Evidence, Holder, ParticipantKind};
use konductor_api::mutex::Mutex;
use konductor_primitives::hold::Outcome::{Failed, GaveBack, Succeeded};
use konductor_primitives::hold::{self, Ending, Fate, Outcome};
use konductor_primitives::snapshot::{Participant, Snapshot};
use konductor_primitives::step::{Lookup, Withdrawal};
use rstest::rstest;

use super::support::{
    JobSketch, PodSketch, at, holder, job, mutex, of_job, of_pod, pod, snapshot, time, told, uid,
};

fn judge(holder: &Holder, snapshot: &Snapshot<Mutex>) -> (Fate, Vec<Lookup>) {
    let mut lookups = Vec::new();
    let fate = hold::judge(holder, snapshot.participant(&holder.uid), false, None, snapshot, &mut lookups);
    (fate, lookups)
}

fn of(participants: Vec<Participant>) -> Snapshot<Mutex> {
    snapshot(mutex(Vec::new()), participants)
}

fn ends(evidence: Evidence, outcome: Outcome) -> Fate {
    Fate::Ends(Ending { evidence, outcome })
}

fn stays(held: &Holder, fate: Fate) -> Holder {
    match fate {
        Fate::Stays => held.clone(),
        Fate::Changes(changed) => {
            assert_ne!(&changed, held, "what does not change costs nothing");
            changed
        }
        other => panic!("it should stay: {other:?}"),
    }
}

/// The entry of somebody who goes on holding.
fn goes_on(held: &Holder, snapshot: &Snapshot<Mutex>) -> Holder {
    stays(held, judge(held, snapshot).0)
}

fn of_run_one(pod: &str) -> Withdrawal {
    of_run(pod, 1, 1)
}

fn of_run(pod: &str, run: u64, started: i64) -> Withdrawal {
    let (pod, uid) = (pod.to_owned(), uid(pod));
    Withdrawal { pod, uid, run, waiter_started_at: at(started).as_second(), lost: false }
}

fn withdrawal(pod: &str) -> Fate {
    Fate::EndsAfter(vec![of_run_one(pod)])
}

fn lookup(kind: ParticipantKind, name: &str) -> Lookup {
    Lookup { kind, name: name.to_owned(), uid: uid(name) }
}

fn names(holder: &Holder) -> Vec<(&str, i64)> {
    holder.pods.iter().map(|told| (told.name.as_str(), told.run)).collect()
}

// -------------------------------------------------------------------------------------------- the hold of a pod

fn pods_hold() -> Holder {
    holder(ParticipantKind::Pod, "p", vec![told("p", 1, 1)])
}

#[rstest]
#[case::not_told_yet(pod("p").waiter_running(1), Fate::Stays)]
#[case::at_work(pod("p").at_work(), Fate::Stays)]
#[case::deletion_proves_nothing(pod("p").at_work().deleting(), Fate::Stays)]
#[case::the_garbage_collectors_word_proves_nothing(pod("p").at_work().phase("Failed"), Fate::Stays)]
#[case::main_is_over(pod("p").done(0), withdrawal("p"))]
#[case::main_is_over_and_the_verdict_is_withdrawn(pod("p").done(0).withdrawn(1, 1), ends(Evidence::P2, Succeeded))]
#[case::main_is_over_while_it_is_being_deleted(pod("p").done(0).deleting(), ends(Evidence::P2, Succeeded))]
#[case::the_kubelets_last_word(pod("p").done(1).over("Failed"), ends(Evidence::P1, Failed))]
#[case::it_ended_while_it_waited(pod("p").waiter_ended(1, 2, 143).over("Failed"), ends(Evidence::P1, GaveBack))]
#[case::main_is_over_but_may_start_again(pod("p").policy("OnFailure").done(1), Fate::Stays)]
fn a_pod(#[case] sketch: PodSketch, #[case] fate: Fate) {
    assert_eq!(judge(&pods_hold(), &of(vec![of_pod(&sketch, 0)])), (fate, Vec::new()));
}

#[test]
fn a_pod_that_is_not_seen_is_asked_for_and_holds_until_the_answer() {
    let (fate, lookups) = judge(&pods_hold(), &of(Vec::new()));
    assert_eq!(fate, Fate::Stays);
    assert_eq!(lookups, [lookup(ParticipantKind::Pod, "p")]);
}

#[test]
fn a_pod_that_the_api_server_says_is_gone_never_ran() {
    let mut snapshot = of(Vec::new());
    snapshot.absent.insert(uid("p"));
    assert_eq!(judge(&pods_hold(), &snapshot), (ends(Evidence::P0, GaveBack), Vec::new()));
}

#[test]
fn a_pod_on_a_silent_node_is_suspect_until_the_node_is_heard_from() {
    let silent = goes_on(&pods_hold(), &of(vec![of_pod(&pod("p").at_work().on_a_silent_node(), 0)]));
    assert!(silent.suspect.as_ref().unwrap().contains("node-a"), "{silent:?}");
    let again = goes_on(&silent, &of(vec![of_pod(&pod("p").at_work(), 0)]));
    assert_eq!(again, pods_hold());
}

#[rstest]
#[case::its_node_is_out_of_service(pod("p").at_work().on_a_node_out_of_service(), withdrawal("p"))]
#[case::its_node_is_gone(pod("p").at_work().on_a_node_that_is_gone(), withdrawal("p"))]
#[case::out_of_service_and_withdrawn(
    pod("p").at_work().withdrawn(1, 1).on_a_node_out_of_service(),
    ends(Evidence::A1, Failed)
)]
#[case::gone_and_withdrawn(pod("p").at_work().withdrawn(1, 1).on_a_node_that_is_gone(), ends(Evidence::A2, Failed))]
#[case::the_kubelets_word_goes_before(
    pod("p").done(0).over("Succeeded").on_a_node_that_is_gone(),
    ends(Evidence::P1, Succeeded)
)]
#[case::so_does_the_end_of_main(
    pod("p").done(0).withdrawn(1, 1).on_a_node_out_of_service(),
    ends(Evidence::P2, Succeeded)
)]
#[case::what_has_no_node_has_none_that_is_gone(
    pod("p").without_node().on_a_node_that_is_gone(),
    Fate::Stays
)]
fn somebody_vouches_for_the_machine(#[case] sketch: PodSketch, #[case] fate: Fate) {
    assert_eq!(judge(&pods_hold(), &of(vec![of_pod(&sketch, 0)])), (fate, Vec::new()));
}

#[test]
fn who_vouches_in_a_cache_is_asked_again() {
    let away = pod("p").at_work().withdrawn(1, 1).on_a_node_out_of_service();
    let mut snapshot = of(vec![of_pod(&away, 0)]);
    snapshot.fresh.clear();
    let (fate, lookups) = judge(&pods_hold(), &snapshot);
    assert!(stays(&pods_hold(), fate).suspect.is_some());
    assert_eq!(lookups, [lookup(ParticipantKind::Pod, "p")]);
}

#[test]
fn a_pod_on_a_machine_that_is_off_is_withdrawn_although_it_was_told_nothing() {
    let untold = pod("p").waiter_running(1).on_a_node_out_of_service();
    let (fate, _) = judge(&pods_hold(), &of(vec![of_pod(&untold, 0)]));
    assert_eq!(fate, withdrawal("p"));
    let (fate, _) = judge(&pods_hold(), &of(vec![of_pod(&untold.withdrawn(1, 1), 0)]));
    assert!(matches!(fate, Fate::Ends(Ending { evidence: Evidence::A1, .. })), "{fate:?}");
}

#[rstest]
#[case::it_succeeded(pod("p").done(0).over("Succeeded"), Succeeded)]
#[case::it_failed(pod("p").done(1).over("Failed"), Failed)]
#[case::it_was_evicted_although_main_said_goodbye_with_0(pod("p").done(0).over("Failed"), Failed)]
#[case::it_was_stopped_while_it_waited(pod("p").waiter_ended(1, 2, 143).over("Failed"), GaveBack)]
#[case::it_never_reached_a_node(pod("p").without_node().deleting(), GaveBack)]
#[case::it_was_stopped_when_it_waited_for_the_second_time(
    pod("p").done(137).waiter_ended(20, 21, 143).over("Failed"),
    Failed
)]
#[case::a_later_init_container_failed(
    pod("p").with_init_container("prepare").waiter_passed(1, 2).init_ended("prepare", 1).over("Failed"),
    Failed
)]
fn how_it_went_for_a_pod(#[case] sketch: PodSketch, #[case] outcome: Outcome) {
    let (fate, _) = judge(&pods_hold(), &of(vec![of_pod(&sketch, 0)]));
    let Fate::Ends(ending) = fate else { panic!("it should end: {fate:?}") };
    assert_eq!(ending.outcome, outcome);
}

// ----------------------------------------------------------------------------------------------- run by run

#[rstest]
#[case::a_later_run_gets_the_next_number(pod("p").done(137).waiter_running(20), Some((2, 20)))]
#[case::a_run_of_a_clock_that_went_back_too(pod("p").done(137).waiter_running(-20), Some((2, -20)))]
#[case::told_or_not(pod("p").waiter_running(-20), Some((2, -20)))]
#[case::a_withdrawn_verdict_is_followed_by_a_higher_run(pod("p").withdrawn(1, 1).waiter_running(1), Some((2, 1)))]
#[case::above_all_that_it_was_told(pod("p").withdrawn(6, 1).waiter_running(20), Some((7, 20)))]
#[case::an_earlier_withdrawal_is_not_this_one(pod("p").withdrawn(0, 0).waiter_running(1), None)]
#[case::the_run_that_was_told(pod("p").told_go(1, 1).waiter_running(1), None)]
#[case::nobody_waits_on_a_silent_node(pod("p").done(137).waiter_running(20).on_a_silent_node(), None)]
#[case::nobody_waits_in_a_pod_that_is_being_deleted(pod("p").done(137).waiter_running(20).deleting(), None)]
fn a_grant_is_good_for_one_run(#[case] sketch: PodSketch, #[case] reissued: Option<(i64, i64)>) {
    let after = goes_on(&pods_hold(), &of(vec![of_pod(&sketch, 0)]));
    let (run, started_at) = reissued.unwrap_or((1, 1));
    assert_eq!((after.pods[0].run, &after.pods[0].waiter_started_at), (run, &time(started_at)));
    assert_eq!((after.token, after.granted_at), (pods_hold().token, pods_hold().granted_at));
}

#[test]
fn a_new_grant_remembers_what_ran_before_it() {
    let sketch = pod("p").done(137).waiter_running(20);
    let after = goes_on(&pods_hold(), &of(vec![of_pod(&sketch, 0)]));
    assert_eq!(after.pods[0].ran_before, ["main-1"]);
    // The waiter passes, and the status still shows how the first run ended.
    let stale = sketch.told_go(2, 20).waiter_passed(20, 21);
    assert_eq!(goes_on(&after, &of(vec![of_pod(&stale, 0)])), after);
    let over = stale.ended("main", "main-2", 22, 23, 0);
    assert_eq!(judge(&after, &of(vec![of_pod(&over, 0)])).0, Fate::EndsAfter(vec![of_run("p", 2, 20)]));
}

#[test]
fn a_verdict_of_an_earlier_number_that_is_withdrawn_is_enough() {
    // The second run of the waiter passed on the first grant, which the first run had not used; the second grant was
    // decided on and came too late.
    let held = holder(ParticipantKind::Pod, "p", vec![told("p", 2, 2)]);
    let passed = pod("p").told_go(1, 1).waiter_passed(2, 3).ended("main", "main-1", 4, 9, 0);
    assert_eq!(judge(&held, &of(vec![of_pod(&passed, 0)])).0, Fate::EndsAfter(vec![of_run("p", 2, 2)]));
    let withdrawn = passed.withdrawn(1, 1);
    assert_eq!(judge(&held, &of(vec![of_pod(&withdrawn, 0)])).0, ends(Evidence::P2, Succeeded));
}

// -------------------------------------------------------------------------------------------- the hold of a Job

fn jobs_hold(pods: &[&str]) -> Holder {
    holder(ParticipantKind::Job, "j", pods.iter().map(|name| told(name, 1, 1)).collect())
}

#[rstest]
#[case::between_two_attempts(job("j"), vec![pod("a").done(1).over("Failed")])]
#[case::before_its_first_pod(job("j"), vec![])]
#[case::about_to_fail_while_a_pod_runs(job("j").condition("FailureTarget", ""), vec![pod("a").at_work().deleting()])]
#[case::failed_by_a_status_write_over_a_live_pod(job("j").failed(), vec![pod("a").at_work()])]
#[case::complete_over_a_live_pod(job("j").complete(), vec![pod("a").at_work()])]
#[case::suspended_while_a_pod_runs(job("j").suspended(), vec![pod("a").at_work().deleting()])]
#[case::deleting_while_a_pod_runs(job("j").deleting(), vec![pod("a").done(137).over("Failed"), pod("b").at_work()])]
#[case::one_of_two_successes(job("j").completions(Some(2)), vec![pod("a").done(0)])]
#[case::two_successes_of_one_index(
    job("j").completions(Some(2)).indexed(),
    vec![pod("a").index("0").done(0), pod("b").index("0").done(0)]
)]
#[case::all_successes_but_another_pod_runs(job("j"), vec![pod("a").done(0), pod("b").at_work()])]
#[case::nobody_knows_what_it_needs(job("j").completions(None), vec![pod("a").done(0)])]
fn a_job_keeps_its_hold(#[case] sketch: JobSketch, #[case] pods: Vec<PodSketch>) {
    let held: Vec<_> = pods.iter().map(|pod| pod.facts().name).collect();
    let held = jobs_hold(&held.iter().map(String::as_str).collect::<Vec<_>>());
    let (fate, lookups) = judge(&held, &of(vec![of_job("j", &sketch, &pods, 0)]));
    assert_eq!(stays(&held, fate).token, held.token);
    assert_eq!(lookups, []);
}

#[rstest]
#[case::complete(job("j").complete(), vec![pod("a").done(0).over("Succeeded")], Evidence::P1, Succeeded)]
#[case::failed(job("j").failed(), vec![pod("a").done(1).over("Failed")], Evidence::P1, Failed)]
#[case::deleting_until_the_ledger_lets_its_pods_go(
    job("j").deleting(),
    vec![pod("a").done(137).over("Failed"), pod("b").at_work().withdrawn(1, 1).deleting().on_a_node_that_is_gone()],
    Evidence::A2, Failed
)]
#[case::suspended_and_all_pods_dead(job("j").suspended(), vec![pod("a").done(143).over("Failed")], Evidence::P1, GaveBack)]
#[case::its_one_success_is_proven(job("j"), vec![pod("a").done(0).withdrawn(1, 1)], Evidence::P2, Succeeded)]
#[case::a_failed_attempt_and_a_success(
    job("j"),
    vec![pod("a").done(1).over("Failed"), pod("b").done(0).withdrawn(1, 1)],
    Evidence::P2, Succeeded
)]
#[case::each_index_has_its_success(
    job("j").completions(Some(2)).indexed(),
    vec![pod("a").index("0").done(0).over("Succeeded"), pod("b").index("1").done(0).over("Succeeded")],
    Evidence::P1, Succeeded
)]
fn a_jobs_hold_ends_on_the_weakest_rung_needed(
    #[case] sketch: JobSketch,
    #[case] pods: Vec<PodSketch>,
    #[case] evidence: Evidence,
    #[case] outcome: Outcome,
) {
    let held: Vec<_> = pods.iter().map(|pod| pod.facts().name).collect();
    let held = jobs_hold(&held.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(judge(&held, &of(vec![of_job("j", &sketch, &pods, 0)])).0, ends(evidence, outcome));
}

#[rstest]
#[case(vec![pod("a").done(1).over("Failed"), pod("b").done(0).withdrawn(1, 1)], Evidence::P2)]
#[case(vec![pod("a").done(0).withdrawn(1, 1), pod("b").at_work().withdrawn(1, 1).on_a_node_out_of_service()], Evidence::A1)]
#[case(
    vec![
        pod("a").at_work().withdrawn(1, 1).on_a_node_out_of_service(),
        pod("b").at_work().withdrawn(1, 1).on_a_node_that_is_gone(),
        pod("c").done(0).over("Succeeded"),
    ],
    Evidence::A2
)]
fn the_weakest_rung_that_was_needed_is_the_one_that_counts(
    #[case] pods: Vec<PodSketch>,
    #[case] evidence: Evidence,
) {
    let names = ["a", "b", "c"];
    let held = jobs_hold(&names[..pods.len()]);
    let (fate, _) = judge(&held, &of(vec![of_job("j", &job("j").completions(Some(9)).failed(), &pods, 0)]));
    assert_eq!(fate, ends(evidence, Failed));
}

#[test]
fn a_job_goes_on_where_a_machine_is_gone() {
    let pods = [pod("a").at_work().on_a_node_that_is_gone(), pod("b").waiter_running(20)];
    let after = goes_on(&jobs_hold(&["a"]), &of(vec![of_job("j", &job("j"), &pods, 0)]));
    assert_eq!((names(&after), after.suspect.as_ref()), (vec![("a", 1), ("b", 1)], None));
}

#[test]
fn all_pods_that_live_on_are_withdrawn_before_a_job_leaves() {
    let pods = [pod("a").done(0), pod("b").done(0).withdrawn(1, 1), pod("c").done(0)];
    let sketch = job("j").completions(Some(3));
    let (fate, _) = judge(&jobs_hold(&["a", "b", "c"]), &of(vec![of_job("j", &sketch, &pods, 0)]));
    let expected = ["a", "c"].map(of_run_one);
    assert_eq!(fate, Fate::EndsAfter(expected.to_vec()));
}

#[test]
fn a_retry_comes_into_the_list_and_what_is_terminal_leaves_it() {
    let pods = [pod("a").done(1).over("Failed"), pod("b").waiter_running(20), pod("c")];
    let after = goes_on(&jobs_hold(&["a"]), &of(vec![of_job("j", &job("j"), &pods, 0)]));
    assert_eq!(names(&after), [("b", 1)]);
    assert_eq!((after.token.as_str(), &after.uid), ("5", &uid("j")));
}

#[rstest]
#[case::its_pod_goes_on(pod("a").done(0))]
#[case::its_pod_is_being_deleted(pod("a").done(0).deleting())]
fn a_success_that_is_not_terminal_stays_in_the_list_until_the_others_are_there(#[case] first: PodSketch) {
    let sketch = job("j").completions(Some(2));
    let pods = [first.clone(), pod("b").waiter_running(20)];
    let after = goes_on(&jobs_hold(&["a"]), &of(vec![of_job("j", &sketch, &pods, 0)]));
    assert_eq!(names(&after), [("a", 1), ("b", 1)]);
    let pods = [
        first.withdrawn(1, 1),
        pod("b").withdrawn(1, 20).waiter_passed(20, 21).ended("main", "b-1", 22, 23, 0),
    ];
    let (fate, _) = judge(&after, &of(vec![of_job("j", &sketch, &pods, 0)]));
    assert_eq!(fate, ends(Evidence::P2, Succeeded));
}

#[rstest]
#[case::suspended(job("j").suspended())]
#[case::over(job("j").failed())]
fn no_pod_comes_into_the_list_of_a_job_that_does_not_go_on(#[case] sketch: JobSketch) {
    let pods = [pod("a").at_work(), pod("b").waiter_running(20)];
    let after = goes_on(&jobs_hold(&["a"]), &of(vec![of_job("j", &sketch, &pods, 0)]));
    assert_eq!(names(&after), [("a", 1)]);
}

#[test]
fn no_pod_is_in_the_list_twice() {
    let pods = [pod("a").done(137).waiter_running(20), pod("b").waiter_running(20)];
    let snapshot = of(vec![of_job("j", &job("j"), &pods, 0)]);
    let once = goes_on(&jobs_hold(&["a"]), &snapshot);
    assert_eq!(names(&once), [("a", 2), ("b", 1)]);
    assert_eq!(goes_on(&once, &snapshot), once, "the same snapshot gives the same entry");
}

#[test]
fn a_job_that_is_not_seen_is_asked_for_once_all_its_pods_are_dead() {
    let mut snapshot = of(Vec::new());
    snapshot.absent.insert(uid("a"));
    let (fate, lookups) = judge(&jobs_hold(&["a"]), &snapshot);
    assert_eq!(lookups, [lookup(ParticipantKind::Job, "j")]);
    stays(&jobs_hold(&["a"]), fate);
    snapshot.absent.insert(uid("j"));
    assert_eq!(judge(&jobs_hold(&["a"]), &snapshot), (ends(Evidence::P0, Failed), Vec::new()));
}

#[test]
fn pods_that_outlive_their_job_keep_its_hold_until_they_are_over() {
    let mut snapshot = of(Vec::new());
    snapshot.absent.insert(uid("j"));
    snapshot.strays = vec![pod("a").at_work().facts()];
    assert_eq!(goes_on(&jobs_hold(&["a"]), &snapshot), jobs_hold(&["a"]));
    snapshot.strays = vec![pod("a").done(0).facts()];
    assert_eq!(judge(&jobs_hold(&["a"]), &snapshot).0, withdrawal("a"));
    snapshot.strays = vec![pod("a").done(0).over("Succeeded").facts()];
    assert_eq!(judge(&jobs_hold(&["a"]), &snapshot), (ends(Evidence::P1, Failed), Vec::new()));
}

#[test]
fn who_ran_and_ended_while_it_waited_to_run_again_has_failed() {
    let again = pod("p").done(137).waiter_ended(20, 21, 143).over("Failed");
    assert_eq!(judge(&pods_hold(), &of(vec![of_pod(&again, 0)])).0, ends(Evidence::P1, Failed));
    let never = pod("p").waiter_ended(1, 2, 143).over("Failed");
    assert_eq!(judge(&pods_hold(), &of(vec![of_pod(&never, 0)])).0, ends(Evidence::P1, GaveBack));
}

#[test]
fn another_job_of_the_name_changes_nothing() {
    let again = of_job("j", &job("j").made_again().complete(), &[], 0);
    let mut snapshot = of(vec![again]);
    snapshot.absent.insert(uid("a"));
    let (fate, lookups) = judge(&jobs_hold(&["a"]), &snapshot);
    assert_eq!(stays(&jobs_hold(&["a"]), fate).uid, uid("j"));
    assert_eq!(lookups, [lookup(ParticipantKind::Job, "j")]);
}

/// Whoever was let through, or has run before, has begun: its end is a failure, not a thing that never was.
#[rstest]
#[case::it_was_denied_and_nothing_ran(pod("p").waiter_ended(1, 2, 66).over("Failed"), GaveBack)]
#[case::it_was_let_through_and_nothing_ran(pod("p").waiter_passed(1, 2).over("Failed"), Failed)]
#[case::it_ran_before_its_sandbox_was_lost(
    pod("p").done(1).waiter_ended(50, 51, 143).over("Failed"),
    Failed
)]
fn who_has_begun_has_failed(#[case] sketch: PodSketch, #[case] outcome: Outcome) {
    let held = holder(ParticipantKind::Pod, "p", vec![told("p", 1, 1)]);
    assert_eq!(judge(&held, &of(vec![of_pod(&sketch, 0)])).0, ends(Evidence::P1, outcome));
}

/// Suspended it gives back, and comes again; failed it does not come again.
#[test]
fn a_job_that_failed_while_it_was_suspended_has_failed() {
    let held = holder(ParticipantKind::Job, "j", vec![told("p", 1, 1)]);
    let over = pod("p").done(143).over("Failed");
    let outcome =
        |sketch: JobSketch| judge(&held, &of(vec![of_job("j", &sketch, std::slice::from_ref(&over), 0)])).0;
    assert_eq!(outcome(job("j").suspended()), ends(Evidence::P1, GaveBack));
    assert_eq!(outcome(job("j").failed()), ends(Evidence::P1, Failed));
    assert_eq!(outcome(job("j").failed().suspended()), ends(Evidence::P1, Failed));
}
