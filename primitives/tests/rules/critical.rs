//! What is held is held for the critical section, and what else the pod does proves nothing.

use konductor_api::annotations::{CONTAINERS, JOB_PLAN, MUTEX};
use konductor_api::ledger::{Evidence, ParticipantKind, ToldPod};
use konductor_primitives::evidence::{critical_ids, end};
use konductor_primitives::mutex::step;
use rstest::rstest;

use super::support::{
    PodSketch, commit_as as commit, holder, mutex, of_pod, pod, snapshot, told, uid, waits,
};

/// A pod of a Deployment whose init container `migrate` takes the mutex.
fn migrates() -> PodSketch {
    pod("p")
        .policy("Always")
        .with_init_container("migrate")
        .annotation(MUTEX, "db")
        .annotation(CONTAINERS, "migrate")
}

/// It has been let through.
fn let_through() -> PodSketch {
    migrates().told_go(1, 1).waiter_passed(1, 2)
}

/// Two containers, of which `main` is the critical one.
fn with_a_proxy() -> PodSketch {
    pod("p").with_container("proxy").annotation(MUTEX, "db").annotation(CONTAINERS, "main")
}

fn proven(sketch: &PodSketch, told: Option<&ToldPod>) -> Option<(Evidence, bool)> {
    end(&sketch.record(), told).map(|end| (end.evidence, end.success))
}

#[rstest]
#[case::it_succeeded(let_through().init_ended("migrate", 0), true)]
#[case::the_app_runs_behind_it(let_through().init_ended("migrate", 0).runs("main", "main-1", 9), true)]
#[case::it_failed_and_is_tried_again(let_through().init_ended("migrate", 1), false)]
#[case::it_runs(let_through().init_runs("migrate", 5), false)]
#[case::it_has_not_started(let_through(), false)]
#[case::the_waiter_runs_again(let_through().init_ended("migrate", 0).waiter_running(50), false)]
#[case::another_container_is_meant(let_through().annotation(CONTAINERS, "seed").init_ended("migrate", 0), false)]
#[case::it_is_a_sidecar(let_through().container_policy("migrate", "Always").init_ended("migrate", 0), false)]
#[case::a_rule_may_start_it_again(let_through().rule("migrate", "Restart").init_ended("migrate", 0), false)]
#[case::a_rule_may_start_everything_again(
    let_through().rule("main", "RestartAllContainers").init_ended("migrate", 0),
    false
)]
#[case::everything_starts_again(
    let_through().init_ended("migrate", 0).condition("AllContainersRestarting", "True", ""),
    false
)]
fn an_init_container_is_over_when_it_has_succeeded(#[case] sketch: PodSketch, #[case] over: bool) {
    assert_eq!(proven(&sketch, Some(&told("p", 1, 1))), over.then_some((Evidence::P2, true)));
    assert_eq!(proven(&sketch, None), None, "which run it was is for the ledger to say");
}

/// After a lost sandbox the status shows the end of the old run until the new one starts.
#[test]
fn the_end_of_an_earlier_run_is_not_that_of_this_one() {
    let again = migrates().told_go(2, 50).waiter_passed(50, 51).init_ended("migrate", 0);
    assert_eq!(proven(&again, Some(&told("p", 2, 50))), None, "it started before the waiter let it through");
    let known = ToldPod { ran_before: vec!["init-1".to_owned()], ..told("p", 1, 1) };
    assert_eq!(proven(&let_through().init_ended("migrate", 0), Some(&known)), None, "it ran before");
    assert_eq!(critical_ids(&let_through().init_ended("migrate", 0).record()), ["init-1"]);
    assert_eq!(critical_ids(&let_through().runs("main", "main-1", 9).record()), Vec::<String>::new());
}

/// The kubelet goes on behind an init container only after its success; who is evicted in it may say goodbye with 0.
#[rstest]
#[case::the_app_failed_later(let_through().init_ended("migrate", 0).ended("main", "main-1", 7, 9, 1), true)]
#[case::nothing_came_after_it(let_through().init_ended("migrate", 0), false)]
#[case::it_failed(let_through().init_ended("migrate", 1), false)]
fn what_fails_behind_the_critical_section_is_no_failure_of_it(
    #[case] sketch: PodSketch,
    #[case] success: bool,
) {
    assert_eq!(proven(&sketch.over("Failed"), None), Some((Evidence::P1, success)));
}

#[rstest]
#[case::the_proxy_runs_on(with_a_proxy().at_work().runs("proxy", "p-1", 3).ended("main", "main-1", 3, 9, 0), Some(true))]
#[case::main_failed(with_a_proxy().at_work().runs("proxy", "p-1", 3).ended("main", "main-1", 3, 9, 1), Some(false))]
#[case::only_the_proxy_has_ended(with_a_proxy().at_work().ended("proxy", "p-1", 3, 9, 0), None)]
#[case::both_are_meant(
    with_a_proxy().annotation(CONTAINERS, "main,proxy").at_work().runs("proxy", "p-1", 3).ended("main", "main-1", 3, 9, 0),
    None
)]
#[case::one_is_not_there(
    with_a_proxy().annotation(CONTAINERS, "main,mian").at_work().ended("main", "main-1", 3, 9, 0),
    None
)]
#[case::nothing_is_said(
    pod("p").with_container("proxy").at_work().runs("proxy", "p-1", 3).ended("main", "main-1", 3, 9, 0),
    None
)]
#[case::its_job_says_so(
    pod("p").with_container("proxy").of_job("j").annotation(JOB_PLAN, "v1 mutex=db containers=main").at_work()
        .runs("proxy", "p-1", 3).ended("main", "main-1", 3, 9, 0),
    Some(true)
)]
#[case::its_job_says_nothing(
    with_a_proxy().of_job("j").annotation(JOB_PLAN, "v1 mutex=db").at_work().runs("proxy", "p-1", 3)
        .ended("main", "main-1", 3, 9, 0),
    None
)]
#[case::what_its_job_says_cannot_be_read(
    pod("p").of_job("j").annotation(JOB_PLAN, "v9").at_work().ended("main", "main-1", 3, 9, 0),
    None
)]
fn only_the_app_containers_that_are_named_count(#[case] sketch: PodSketch, #[case] ended: Option<bool>) {
    let expected = ended.map(|success| (Evidence::P2, success));
    assert_eq!(proven(&sketch, Some(&told("p", 1, 1))), expected);
}

#[test]
fn success_is_that_of_the_critical_section() {
    let over = |code| with_a_proxy().done(code).ended("proxy", "p-1", 3, 9, 1 - code).over("Succeeded");
    assert_eq!(proven(&over(0), None), Some((Evidence::P1, true)));
    assert_eq!(proven(&over(1), None), Some((Evidence::P1, false)));
    let lost = with_a_proxy().done(0).ended("proxy", "p-1", 3, 9, 1).over("Failed");
    assert_eq!(proven(&lost, None), Some((Evidence::P1, false)), "its Job tries the whole pod again");
}

/// The whole way of a replica: told, done, withdrawn, the next one told, and again after its sandbox was lost.
#[test]
fn the_next_replica_goes_while_this_one_serves() {
    let held = mutex(vec![holder(ParticipantKind::Pod, "p", vec![told("p", 1, 1)])]);
    let serves = || let_through().init_ended("migrate", 0).runs("main", "main-1", 9);
    let mut all = snapshot(held, vec![of_pod(&serves(), 0), waits("next", 1)]);
    let first = step(&all);
    assert_eq!(first.status.ledger.holders[0].name, "p", "the verdict is withdrawn first");
    assert_eq!(first.withdrawals.len(), 1);

    all.participants[0] = of_pod(&serves().withdrawn(1, 1), 0);
    let status = commit(&mut all, 8);
    assert_eq!(status.ledger.holders[0].name, "next");
    assert_eq!(status.ledger.history[0].evidence, Evidence::P2);

    // Its init containers run again: it queues again, behind who holds now.
    all.participants[0] = of_pod(&serves().withdrawn(1, 1).waiter_running(60), 0);
    assert_eq!(commit(&mut all, 9).ledger.holders.len(), 1);
    all.participants[1] = of_pod(&pod("next").done(0).over("Succeeded"), 1);
    let again = commit(&mut all, 10);
    assert_eq!(
        (again.ledger.holders[0].uid.as_str(), again.ledger.holders[0].pods[0].run),
        (uid("p").as_str(), 2)
    );
}
