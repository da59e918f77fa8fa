//! What is read off Jobs and pods, who waits and who could start.

use konductor_primitives::facts::{JobFacts, Needs};
use rstest::rstest;

use super::support::{JobSketch, PodSketch, at, job, of_job, of_pod, pod};

#[rstest]
#[case::one(job("j"), Needs::Pods(1))]
#[case::three(job("j").completions(Some(3)), Needs::Pods(3))]
#[case::three_indexes(job("j").completions(Some(3)).indexed(), Needs::Indexes(3))]
#[case::a_work_queue(job("j").completions(None), Needs::Unknown)]
#[case::none_at_all(job("j").completions(Some(0)), Needs::Unknown)]
#[case::a_success_policy_decides(job("j").completions(Some(3)).indexed().with_success_policy(), Needs::Unknown)]
fn a_job_needs(#[case] sketch: JobSketch, #[case] needs: Needs) {
    assert_eq!(sketch.facts().needs, needs);
}

#[rstest]
#[case::nothing_said(job("j"), false)]
#[case::complete(job("j").complete(), true)]
#[case::failed(job("j").failed(), true)]
#[case::about_to_fail(job("j").condition("FailureTarget", ""), false)]
#[case::about_to_complete(job("j").condition("SuccessCriteriaMet", ""), false)]
fn only_the_final_conditions_end_a_job(#[case] sketch: JobSketch, #[case] over: bool) {
    assert_eq!(sketch.facts().is_over(), over);
}

#[test]
fn a_condition_that_is_false_says_nothing() {
    let mut object = k8s_openapi::api::batch::v1::Job::default();
    object.status.get_or_insert_default().conditions =
        Some(vec![k8s_openapi::api::batch::v1::JobCondition {
            type_: "Complete".to_owned(),
            status: "False".to_owned(),
            ..Default::default()
        }]);
    assert!(!JobFacts::of(&object).is_over());
}

#[rstest]
#[case::its_waiter_runs(pod("p").waiter_running(4), true, true)]
#[case::it_has_not_started(pod("p"), true, false)]
#[case::it_has_no_node(pod("p").without_node(), true, false)]
#[case::its_node_is_silent(pod("p").waiter_running(4).on_a_silent_node(), true, false)]
#[case::it_is_being_deleted(pod("p").waiter_running(4).deleting(), false, false)]
#[case::it_has_passed(pod("p").waiter_passed(4, 5), false, false)]
#[case::it_is_over(pod("p").waiter_ended(4, 5, 143).over("Failed"), false, false)]
#[case::its_waiter_failed_and_comes_again(pod("p").policy("OnFailure").waiter_ended(4, 5, 143), true, false)]
#[case::its_init_containers_run_again(pod("p").done(0).waiter_running(20), true, true)]
fn a_pod_waits_and_could_start(#[case] sketch: PodSketch, #[case] waits: bool, #[case] starts: bool) {
    let participant = of_pod(&sketch, 0);
    assert_eq!((participant.waits(), participant.can_start()), (waits, starts));
}

#[rstest]
#[case::it_has_no_pod_yet(job("j"), vec![], true, false)]
#[case::a_pod_waits(job("j"), vec![pod("p").waiter_running(4)], true, true)]
#[case::one_of_two_waits(job("j"), vec![pod("p"), pod("q").waiter_running(4)], true, true)]
#[case::suspended(job("j").suspended(), vec![pod("p").waiter_running(4)], false, false)]
#[case::deleting(job("j").deleting(), vec![pod("p").waiter_running(4)], false, false)]
#[case::complete(job("j").complete(), vec![pod("p").waiter_running(4)], false, false)]
#[case::about_to_fail(job("j").condition("FailureTarget", ""), vec![pod("p").waiter_running(4)], false, false)]
#[case::between_its_last_success_and_its_condition(job("j"), vec![pod("p").done(0)], false, false)]
#[case::its_success_is_proven(
    job("j"),
    vec![pod("p").done(0).over("Succeeded"), pod("q").waiter_running(4)],
    false,
    false
)]
#[case::the_first_attempt_failed(
    job("j"),
    vec![pod("p").done(1).over("Failed"), pod("q").waiter_running(4)],
    true,
    true
)]
#[case::the_first_attempt_was_evicted_although_main_said_goodbye_with_0(
    job("j"),
    vec![pod("p").done(0).over("Failed"), pod("q").waiter_running(4)],
    true,
    true
)]
fn a_job_waits_and_could_start(
    #[case] sketch: JobSketch,
    #[case] pods: Vec<PodSketch>,
    #[case] waits: bool,
    #[case] starts: bool,
) {
    let participant = of_job("j", &sketch, &pods, 0);
    assert_eq!((participant.waits(), participant.can_start()), (waits, starts));
}

#[test]
fn who_lacks_what_comes_before_does_not_wait_here() {
    let mut participant = of_pod(&pod("p").waiter_running(4), 0);
    participant.reached = false;
    assert!(!participant.waits() && !participant.can_start());
}

#[test]
fn each_index_counts_once() {
    let twice = [
        pod("a").index("0").done(0).over("Succeeded"),
        pod("b").index("0").done(0).over("Succeeded"),
        pod("c").index("1").done(1).over("Failed"),
    ];
    let sketch = job("j").completions(Some(2)).indexed();
    assert!(!of_job("j", &sketch, &twice, 0).has_its_successes(|_| None));
    let both = [twice[0].clone(), pod("d").index("1").done(0).over("Succeeded")];
    assert!(of_job("j", &sketch, &both, 0).has_its_successes(|_| None));
    assert!(of_job("j", &job("j").completions(Some(2)), &twice, 0).has_its_successes(|_| None));
}

#[test]
fn a_pod_can_be_told_as_the_run_that_waits() {
    assert_eq!(pod("p").waiter_running(4).facts().can_be_told(), Some(at(4)));
    assert_eq!(pod("p").waiter_ended(4, 5, 1).over("Failed").facts().can_be_told(), None);
}

#[test]
fn the_last_run_is_the_one_that_the_grant_names_and_what_is_no_grant_names_none() {
    assert_eq!(pod("p").told_go(7, 4).facts().last_run(), 7);
    assert_eq!(pod("p").withdrawn(8, 4).facts().last_run(), 8);
    assert_eq!(pod("p").annotation("konductor.io/grant", "open sesame").facts().last_run(), 0);
    assert!(pod("p").told_go(7, 4).facts().finalizer);
}

#[rstest]
#[case::it_waits(pod("p").waiter_running(4), true)]
#[case::it_was_told_and_has_not_passed_yet(pod("p").waiter_running(4).told_go(1, 4), false)]
#[case::it_has_passed(pod("p").waiter_passed(4, 5), false)]
#[case::its_verdict_was_taken_back(pod("p").waiter_running(4).withdrawn(1, 4), true)]
fn who_was_let_through_does_not_give_up(#[case] sketch: PodSketch, #[case] gives_up: bool) {
    let mut who = of_pod(&sketch, 0);
    who.options.timeout = Some("10s".parse().unwrap());
    assert_eq!((who.gave_up(at(9)), who.gave_up(at(10))), (false, gives_up));
}
