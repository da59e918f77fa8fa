//! What the status of a pod proves, and what it does not.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated};
use konductor_api::ledger::{Evidence, ToldPod};
use konductor_primitives::evidence::{WaiterRun, critical_ids, end, waiter_run};
use konductor_primitives::record::PodRecord;
use rstest::rstest;

use super::support::{PodSketch, at, pod, told};

fn grade(sketch: &PodSketch, told: Option<&ToldPod>) -> Option<Evidence> {
    end(&sketch.record(), told).map(|end| end.evidence)
}

// ------------------------------------------------------------------------------------------------- the waiter

#[rstest]
#[case::has_not_started(pod("p"), WaiterRun::None)]
#[case::is_not_there(pod("p").without_waiter(), WaiterRun::None)]
#[case::waits(pod("p").waiter_running(4), WaiterRun::Running(at(4)))]
#[case::let_it_through(
    pod("p").waiter_passed(4, 6),
    WaiterRun::Passed { started_at: at(4), finished_at: at(6) }
)]
#[case::was_denied(pod("p").waiter_ended(4, 6, 65), WaiterRun::Failed)]
#[case::was_stopped(pod("p").waiter_ended(4, 6, 143), WaiterRun::Failed)]
fn the_waiter(#[case] sketch: PodSketch, #[case] expected: WaiterRun) {
    assert_eq!(waiter_run(&sketch.record()), expected);
}

#[test]
fn an_exit_without_times_lets_nobody_conclude_that_it_passed() {
    let mut object = pod("p").waiter_passed(4, 6).object().clone();
    let statuses = object.status.as_mut().unwrap().init_container_statuses.as_mut().unwrap();
    statuses[0].state.as_mut().unwrap().terminated.as_mut().unwrap().finished_at = None;
    assert_eq!(waiter_run(&PodRecord::from(object.clone())), WaiterRun::Failed);
}

/// The kubelet calls a pod failed whose main shows as waiting: only where main has no trace of a run did none happen.
#[rstest]
#[case::it_never_was(None, None, true)]
#[case::an_empty_record_is_none(Some(""), Some(ContainerState::default()), true)]
#[case::it_has_an_id(Some("main-1"), None, false)]
#[case::it_remembers_a_run(None, Some(ContainerState { terminated: Some(ContainerStateTerminated::default()), ..Default::default() }), false)]
fn a_container_that_waits_has_ended_only_if_it_never_was(
    #[case] id: Option<&str>,
    #[case] last: Option<ContainerState>,
    #[case] over: bool,
) {
    let mut object = pod("p").waiter_ended(1, 2, 143).over("Failed").object().clone();
    let main = &mut object.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0];
    (main.container_id, main.last_state) = (id.map(str::to_owned), last);
    assert_eq!(end(&PodRecord::from(object.clone()), None).is_some(), over);
}

#[test]
fn all_runs_of_critical_containers_that_the_status_knows_are_listed_once() {
    let sketch = pod("p").with_container("web").backs_off("main", "main-1").runs("web", "web-2", 30);
    assert_eq!(critical_ids(&sketch.record()), ["main-1", "web-2"]);
    assert_eq!(critical_ids(&pod("p").waiter_running(1).record()), Vec::<String>::new());
}

// ---------------------------------------------------------------------------------------------------- P0 and P1

#[rstest]
#[case::deleting_and_never_bound(pod("p").without_node().deleting(), Some(Evidence::P0))]
#[case::never_bound_alone(pod("p").without_node(), None)]
#[case::deleting_alone(pod("p").deleting(), None)]
#[case::deleting_while_main_runs(pod("p").at_work().deleting(), None)]
fn a_pod_that_never_reached_a_node(#[case] sketch: PodSketch, #[case] expected: Option<Evidence>) {
    assert_eq!(grade(&sketch, None), expected);
    assert_eq!(grade(&sketch, Some(&told("p", 1, 1))), expected);
}

/// Deleted between the end of its waiter and the start of main, as kubelets of 1.36 and 1.30 leave it.
#[rstest]
#[case::torn_down(Some(2), "False", pod("p").waiter_passed(1, 2).deleting().phase("Failed"), true)]
#[case::the_sandbox_is_there(Some(2), "True", pod("p").waiter_passed(1, 2).deleting().phase("Failed"), false)]
#[case::the_deletion_was_not_seen(Some(1), "False", pod("p").waiter_passed(1, 2).deleting().phase("Failed"), false)]
#[case::an_older_kubelet(None, "False", pod("p").waiter_passed(1, 2).deleting().phase("Failed"), true)]
#[case::an_older_kubelet_and_somebody_else(
    None,
    "False",
    pod("p").waiter_passed(1, 2).deleting().phase("Failed").condition("DisruptionTarget", "True", "DeletionByPodGC"),
    false
)]
#[case::an_older_kubelet_and_the_sandbox_is_there(
    None, "True", pod("p").waiter_passed(1, 2).deleting().phase("Failed"), false
)]
#[case::it_is_not_being_deleted(Some(2), "False", pod("p").waiter_passed(1, 2).phase("Failed"), false)]
#[case::it_is_not_terminal(Some(2), "False", pod("p").waiter_passed(1, 2).deleting(), false)]
#[case::main_runs_on(Some(2), "False", pod("p").at_work().deleting().phase("Failed"), false)]
fn a_pod_that_was_deleted_before_main_started(
    #[case] observed: Option<i64>,
    #[case] sandbox: &str,
    #[case] sketch: PodSketch,
    #[case] proven: bool,
) {
    let sketch = sketch.condition("ContainersReady", "False", "ContainersNotReady").condition(
        "PodReadyToStartContainers",
        sandbox,
        "",
    );
    let mut object = sketch.object().clone();
    object.metadata.generation = Some(2);
    for condition in object.status.as_mut().unwrap().conditions.as_mut().unwrap() {
        condition.observed_generation = observed;
    }
    let grade =
        end(&PodRecord::from(object.clone()), Some(&told("p", 1, 1))).map(|end| (end.evidence, end.success));
    assert_eq!(grade, proven.then_some((Evidence::P1, false)));
}

#[rstest]
#[case::succeeded(pod("p").done(0).over("Succeeded"), true)]
#[case::failed(pod("p").done(1).over("Failed"), true)]
#[case::failed_while_it_waited(pod("p").waiter_ended(1, 2, 143).over("Failed"), true)]
#[case::failed_in_a_later_init_container(
    pod("p").with_init_container("prepare").waiter_passed(1, 2).init_ended("prepare", 1).over("Failed"),
    true
)]
#[case::containers_not_found_any_more(
    pod("p").waiter_passed(1, 2).not_found("main", "ContainerStatusUnknown").over("Failed"),
    true
)]
#[case::debugger_ended(pod("p").done(0).with_debugger().debugger_ended().over("Succeeded"), true)]
#[case::without_our_waiter(pod("p").without_waiter().ended("main", "main-1", 3, 9, 0).over("Succeeded"), true)]
#[case::the_garbage_collector_said_so(pod("p").at_work().phase("Failed"), false)]
#[case::the_garbage_collector_over_ended_containers(pod("p").done(1).phase("Failed"), false)]
#[case::the_mark_of_the_other_phase(
    pod("p").done(0).phase("Failed").condition("ContainersReady", "False", "PodCompleted"),
    false
)]
#[case::the_mark_on_another_condition(
    pod("p").done(1).phase("Failed").condition("Ready", "False", "PodFailed"),
    false
)]
#[case::the_mark_without_the_phase(
    pod("p").done(1).condition("ContainersReady", "False", "PodFailed"),
    false
)]
#[case::a_container_still_runs(pod("p").with_container("web").done(1).runs("web", "w", 3).over("Failed"), false)]
#[case::a_debugger_still_runs(pod("p").done(1).with_debugger().over("Failed"), false)]
#[case::an_empty_list(pod("p").without_statuses().over("Failed"), false)]
#[case::between_two_runs(pod("p").waiter_passed(1, 2).backs_off("main", "main-1").over("Failed"), false)]
#[case::not_found_while_it_goes_on(
    pod("p").waiter_passed(1, 2).not_found("main", "ContainerStatusUnknown").phase("Running"),
    false
)]
fn the_kubelets_last_word(#[case] sketch: PodSketch, #[case] proven: bool) {
    assert_eq!(grade(&sketch, None), proven.then_some(Evidence::P1));
}

#[test]
fn a_list_that_misses_one_container_proves_nothing() {
    let whole =
        pod("p").with_container("web").done(1).ended("web", "w", 3, 9, 1).over("Failed").object().clone();
    assert!(end(&PodRecord::from(whole.clone()), None).is_some());
    for (init, place) in [(true, 0), (false, 0), (false, 1)] {
        let mut part = whole.clone();
        let status = part.status.as_mut().unwrap();
        let list = if init { &mut status.init_container_statuses } else { &mut status.container_statuses };
        list.as_mut().unwrap().remove(place);
        assert_eq!(end(&PodRecord::from(part.clone()), None), None, "init: {init}, place {place}");
    }
}

#[rstest]
#[case::every_container_with_0(pod("p").done(0).over("Succeeded"), true)]
#[case::one_container_with_1(pod("p").with_container("w").done(0).ended("w", "w", 3, 9, 1).over("Failed"), false)]
#[case::it_never_ran(pod("p").waiter_ended(1, 2, 143).over("Failed"), false)]
#[case::evicted_although_main_said_goodbye_with_0(pod("p").done(0).over("Failed"), false)]
fn an_end_is_a_success_only_if_the_kubelet_calls_it_one(#[case] sketch: PodSketch, #[case] success: bool) {
    assert_eq!(end(&sketch.record(), None).map(|end| end.success), Some(success));
}

// ---------------------------------------------------------------------------------------------------------- P2

#[rstest]
#[case::never_and_0(pod("p").done(0), true)]
#[case::never_and_1(pod("p").done(1), true)]
#[case::never_while_it_is_being_deleted(pod("p").done(137).deleting(), true)]
#[case::on_failure_and_0(pod("p").policy("OnFailure").done(0), true)]
#[case::on_failure_and_1_may_start_again(pod("p").policy("OnFailure").done(1), false)]
#[case::always_may_start_again(pod("p").policy("Always").done(0), false)]
#[case::always_may_start_again_even_deleting(pod("p").policy("Always").done(0).deleting(), false)]
#[case::main_runs(pod("p").at_work(), false)]
#[case::main_backs_off(pod("p").at_work().backs_off("main", "main-1"), false)]
#[case::one_of_two_runs(pod("p").with_container("w").done(0).runs("w", "w", 3), false)]
#[case::one_of_two_has_not_started(pod("p").with_container("w").done(0), false)]
#[case::both_are_over(pod("p").with_container("w").done(0).ended("w", "w", 3, 9, 0), true)]
#[case::its_own_policy_stops_it(pod("p").policy("Always").container_policy("main", "Never").done(1), true)]
#[case::its_own_policy_restarts_it(pod("p").container_policy("main", "Always").done(0), false)]
#[case::a_rule_may_restart_it(pod("p").rule("main", "Restart").done(1), false)]
#[case::a_rule_may_restart_all(pod("p").with_container("w").rule("w", "RestartAllContainers").done(0).ended("w", "w", 3, 9, 0), false)]
#[case::a_rule_of_an_init_container_may_restart_all(
    pod("p").with_init_container("side").rule("side", "RestartAllContainers").done(0),
    false
)]
#[case::all_are_restarting(pod("p").done(0).condition("AllContainersRestarting", "True", "x"), false)]
#[case::all_were_restarting(pod("p").done(0).condition("AllContainersRestarting", "False", "x"), true)]
#[case::a_sidecar_goes_on(pod("p").with_init_container("side").done(0), true)]
#[case::the_garbage_collectors_phase_changes_nothing(pod("p").done(1).phase("Failed"), true)]
#[case::concluded_by_the_kubelet(pod("p").at_work().concluded("main", "main-1", "ContainerStatusUnknown"), false)]
#[case::lost_with_its_sandbox(pod("p").at_work().concluded("main", "main-1", "Unknown"), false)]
#[case::not_found(pod("p").at_work().not_found("main", "ContainerStatusUnknown"), false)]
#[case::the_waiter_waits_again(pod("p").done(0).waiter_running(20), false)]
#[case::another_run_of_the_waiter_passed(pod("p").done(0).waiter_passed(0, 2), false)]
#[case::the_waiter_was_skipped(pod("p").without_waiter().ended("main", "main-1", 3, 9, 0), false)]
#[case::main_started_before_the_waiter_passed(
    pod("p").told_go(1, 1).waiter_passed(1, 5).ended("main", "main-1", 4, 9, 0),
    false
)]
#[case::main_started_in_the_second_in_which_the_waiter_passed(
    pod("p").told_go(1, 1).waiter_passed(1, 5).ended("main", "main-1", 5, 9, 0),
    true
)]
fn the_critical_containers_are_over(#[case] sketch: PodSketch, #[case] proven: bool) {
    assert_eq!(grade(&sketch, Some(&told("p", 1, 1))), proven.then_some(Evidence::P2));
    assert_eq!(grade(&sketch, None), None, "P2 needs a grant to refer to");
}

#[test]
fn a_container_that_was_there_before_the_grant_proves_nothing_about_it() {
    let mut told = told("p", 2, 1);
    told.ran_before = vec!["main-1".to_owned()];
    assert_eq!(grade(&pod("p").done(0), Some(&told)), None);
    told.ran_before = vec!["main-0".to_owned()];
    assert_eq!(grade(&pod("p").done(0), Some(&told)), Some(Evidence::P2));
}

#[test]
fn an_end_without_a_container_id_is_of_no_known_run() {
    let mut object = pod("p").done(0).object().clone();
    let statuses = object.status.as_mut().unwrap().container_statuses.as_mut().unwrap();
    statuses[0].container_id = None;
    statuses[0].state.as_mut().unwrap().terminated.as_mut().unwrap().container_id = None;
    assert_eq!(end(&PodRecord::from(object.clone()), Some(&told("p", 1, 1))), None);
}

#[test]
fn the_strongest_rung_is_named_first() {
    let sketch = pod("p").done(0).over("Succeeded");
    assert_eq!(grade(&sketch, Some(&told("p", 1, 1))), Some(Evidence::P1));
}

#[rstest]
#[case::empty(k8s_openapi::api::core::v1::Pod::default())]
#[case::without_status({ let mut object = pod("p").object().clone(); object.status = None; object })]
#[case::without_spec({ let mut object = pod("p").done(0).over("Succeeded").object().clone(); object.spec = None; object })]
fn what_is_incomplete_proves_nothing(#[case] object: k8s_openapi::api::core::v1::Pod) {
    assert_eq!(end(&PodRecord::from(object.clone()), Some(&told("p", 1, 1))), None);
}
