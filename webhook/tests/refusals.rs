//! What is refused, with the place and the reason; and what is next to it and is not.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "clippy.toml permits unwrap in tests, but not in their helpers; a case reads best with its values inline"
)]

mod support;

use rstest::rstest;
use serde_json::{Value, json};
use support::{admitted, between_two_passes, patched, refusal, waiter};

fn pod(annotations: Value) -> Value {
    json!({"metadata": {"name": "p", "annotations": annotations}, "spec": {"containers": [{"name": "main"}]}})
}

fn pod_of_job(annotations: Value) -> Value {
    let mut pod = pod(annotations);
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true}]);
    pod
}

fn job(annotations: Value, template: Value) -> Value {
    json!({"metadata": {"name": "j", "annotations": annotations},
           "spec": {"template": {"metadata": {"annotations": template},
                                 "spec": {"containers": [{"name": "main"}]}}}})
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let mut target = &mut object;
    for step in parent.split('/').skip(1) {
        target = match step.parse::<usize>() {
            Ok(index) => &mut target[index],
            Err(_) => &mut target[step],
        };
    }
    target[key.replace("~1", "/")] = value;
    object
}

#[rstest]
#[case::unknown_key(pod(json!({"konductor.io/mutx": "a"})), "metadata.annotations[konductor.io/mutx]", "did you mean")]
#[case::bad_name(pod(json!({"konductor.io/mutex": "A"})), "metadata.annotations[konductor.io/mutex]", "no name of an object")]
#[case::forged_grant(pod(json!({"konductor.io/grant": "v1"})), "metadata.annotations[konductor.io/grant]", "only Konductor")]
#[case::forged_token(
    pod(json!({"konductor.io/mutex": "a", "konductor.io/token-1": "9"})),
    "metadata.annotations[konductor.io/token-1]",
    "only Konductor"
)]
#[case::forged_plan(pod(json!({"konductor.io/job-plan": "v1 mutex=a"})), "metadata.annotations[konductor.io/job-plan]", "only Konductor")]
#[case::plan_under_an_owner_that_does_not_control(
    with(pod_of_job(json!({"konductor.io/job-plan": "v1 mutex=a"})), "/metadata/ownerReferences/0/controller", json!(false)),
    "metadata.annotations[konductor.io/job-plan]",
    "only Konductor"
)]
#[case::plan_under_another_kind(
    with(pod_of_job(json!({"konductor.io/job-plan": "v1 mutex=a"})), "/metadata/ownerReferences/0/kind", json!("ReplicaSet")),
    "metadata.annotations[konductor.io/job-plan]",
    "only Konductor"
)]
#[case::plan_of_a_job_of_another_group(
    with(pod_of_job(json!({"konductor.io/job-plan": "v1 mutex=a"})), "/metadata/ownerReferences/0/apiVersion", json!("batch.volcano.sh/v1alpha1")),
    "metadata.annotations[konductor.io/job-plan]",
    "only Konductor"
)]
#[case::unreadable_plan(pod_of_job(json!({"konductor.io/job-plan": "v9 mutex=a"})), "metadata.annotations[konductor.io/job-plan]", "cannot read it")]
#[case::empty_plan(pod_of_job(json!({"konductor.io/job-plan": "v1"})), "metadata.annotations[konductor.io/job-plan]", "cannot read it")]
#[case::opted_out_of_the_jobs_plan(
    pod_of_job(json!({"konductor.io/job-plan": "v1 mutex=a", "konductor.io/inject": "false"})),
    "metadata.annotations[konductor.io/inject]",
    "without waiting"
)]
#[case::taken_by_the_job_already(
    pod_of_job(json!({"konductor.io/job-plan": "v1 mutex=a", "konductor.io/mutex": "a"})),
    "metadata.annotations[konductor.io/mutex]",
    "wait for their own Job"
)]
#[case::finalizer(
    with(pod(json!({"konductor.io/mutex": "a"})), "/metadata/finalizers", json!(["x/y", "konductor.io/hold"])),
    "metadata.finalizers[1]",
    "konductor.io/hold"
)]
#[case::windows_on_a_node_already(
    with(with(pod(json!({"konductor.io/gate": "a"})), "/spec/os", json!({"name": "windows"})), "/spec/nodeName", json!("n")),
    "spec.nodeName",
    "Windows"
)]
#[case::look_alike(
    with(pod(json!({"konductor.io/gate": "a"})), "/spec/initContainers", json!([{"name": "konductor-wait", "image": "busybox"}])),
    "spec.initContainers[0]",
    "differs from it in command"
)]
#[case::taken_variable(
    with(pod(json!({"konductor.io/mutex": "a"})), "/spec/containers/0/env", json!([{"name": "KONDUCTOR_TOKEN", "value": "7"}])),
    "spec.containers[0].env[0]",
    "KONDUCTOR_TOKEN"
)]
#[case::two_names_of_one_variable(pod(json!({"konductor.io/mutex": "a-b,a.b"})), "metadata.annotations[konductor.io/mutex]", "KONDUCTOR_TOKEN_MUTEX_A_B")]
#[case::annotations_of_another_type(with(pod(json!({})), "/metadata/annotations", json!([1])), "metadata.annotations", "it must be a map")]
#[case::labels_of_another_type(with(pod(json!({"konductor.io/gate": "a"})), "/metadata/labels", json!("x")), "metadata.labels", "it must be a map")]
fn a_pod_is_refused(#[case] pod: Value, #[case] path: &str, #[case] reason: &str) {
    let text = refusal("pods", &pod);
    assert!(text.starts_with(&format!("{path}: ")), "{text}");
    assert!(text.contains(reason) && text.contains("; example: "), "{text}");
}

#[rstest]
#[case::forged_plan(
    job(json!({}), json!({"konductor.io/job-plan": "v1 mutex=a"})),
    "spec.template.metadata.annotations[konductor.io/job-plan]",
    "only Konductor"
)]
#[case::another_plan_than_ours(
    job(json!({"konductor.io/mutex": "a"}), json!({"konductor.io/job-plan": "v1 mutex=b"})),
    "spec.template.metadata.annotations[konductor.io/job-plan]",
    "only Konductor"
)]
#[case::plan_on_the_job(job(json!({"konductor.io/job-plan": "v1 mutex=a"}), json!({})), "metadata.annotations[konductor.io/job-plan]", "only Konductor")]
#[case::grant_on_the_job(job(json!({"konductor.io/grant": "v1"}), json!({})), "metadata.annotations[konductor.io/grant]", "only Konductor")]
#[case::token_in_the_template(
    job(json!({}), json!({"konductor.io/token-2": "1"})),
    "spec.template.metadata.annotations[konductor.io/token-2]",
    "only Konductor"
)]
#[case::bad_name_in_the_template(
    job(json!({}), json!({"konductor.io/mutex": "A"})),
    "spec.template.metadata.annotations[konductor.io/mutex]",
    "no name of an object"
)]
#[case::order_between_kinds(
    job(json!({"konductor.io/mutex": "a"}), json!({"konductor.io/gate": "z"})),
    "spec.template.metadata.annotations[konductor.io/gate]",
    "the Job takes mutex/a before its pods take gate/z"
)]
#[case::order_between_names(
    job(json!({"konductor.io/mutex": "b"}), json!({"konductor.io/mutex": "a"})),
    "spec.template.metadata.annotations[konductor.io/mutex]",
    "mutex/a comes first"
)]
#[case::the_same_on_both(
    job(json!({"konductor.io/mutex": "a"}), json!({"konductor.io/mutex": "a"})),
    "spec.template.metadata.annotations[konductor.io/mutex]",
    "stands on the Job already"
)]
#[case::a_member_on_both(
    job(json!({"konductor.io/waitgroup": "a"}), json!({"konductor.io/waitgroup-wait": "a"})),
    "spec.template.metadata.annotations[konductor.io/waitgroup-wait]",
    "which is a member itself"
)]
#[case::the_pods_semaphore_before_the_jobs_mutex(
    job(json!({"konductor.io/mutex": "a"}), json!({"konductor.io/semaphore": "b=2"})),
    "spec.template.metadata.annotations[konductor.io/semaphore]",
    "semaphore/b comes first"
)]
#[case::once_on_pods_that_never_end(
    with(job(json!({}), json!({"konductor.io/once": "a"})), "/spec/template/spec/restartPolicy", json!("Always")),
    "2 problems: (1) spec.template.metadata.annotations[konductor.io/once]",
    "is started again whenever it ends"
)]
#[case::the_pods_would_be_skipped(
    job(json!({}), json!({"konductor.io/mutex": "a", "konductor.io/on-busy": "skip"})),
    "spec.template.metadata.annotations[konductor.io/on-busy]",
    "a pod cannot be completed without having run"
)]
#[case::no_more_permits_than_there_can_be(
    job(json!({"konductor.io/semaphore": "a=0"}), json!({})),
    "metadata.annotations[konductor.io/semaphore]",
    "is no number of permits"
)]
#[case::a_time_without_anything_to_wait_for(
    job(json!({"konductor.io/timeout": "5m"}), json!({"konductor.io/mutex": "a"})),
    "metadata.annotations[konductor.io/timeout]",
    "belongs on the object that names the primitive"
)]
#[case::pods_opted_out(
    job(json!({"konductor.io/mutex": "a"}), json!({"konductor.io/inject": "false"})),
    "spec.template.metadata.annotations[konductor.io/inject]",
    "metadata.annotations[konductor.io/mutex]"
)]
#[case::job_opted_out(
    job(json!({"konductor.io/inject": "false"}), json!({"konductor.io/mutex": "a"})),
    "metadata.annotations[konductor.io/inject]",
    "spec.template.metadata.annotations[konductor.io/mutex]"
)]
#[case::finalizer_in_the_template(
    with(job(json!({"konductor.io/gate": "a"}), json!({})), "/spec/template/metadata/finalizers", json!(["konductor.io/hold"])),
    "spec.template.metadata.finalizers[0]",
    "konductor.io/hold"
)]
#[case::windows_that_is_to_run_once_in_each_pod(
    with(job(json!({}), json!({"konductor.io/once": "a"})), "/spec/template/spec/os", json!({"name": "windows"})),
    "spec.template.metadata.annotations[konductor.io/once]",
    "Windows"
)]
#[case::what_its_pods_would_be_refused_for(
    with(job(json!({"konductor.io/mutex": "a"}), json!({})), "/spec/template/spec/containers/0/env", json!([{"name": "KONDUCTOR_TOKEN_MUTEX_A"}])),
    "spec.template.spec.containers[0].env[0]",
    "KONDUCTOR_TOKEN_MUTEX_A"
)]
fn a_job_is_refused(#[case] job: Value, #[case] path: &str, #[case] reason: &str) {
    let text = refusal("jobs", &job);
    assert!(text.starts_with(&format!("{path}: ")), "{text}");
    assert!(text.contains(reason) && text.contains("; example: "), "{text}");
}

#[test]
fn every_problem_is_told() {
    let bad =
        job(json!({"konductor.io/mutex": "A"}), json!({"konductor.io/gate": "B", "konductor.io/grant": "x"}));
    let text = refusal("jobs", &bad);
    assert!(text.starts_with("3 problems: (1) metadata.annotations[konductor.io/mutex]"), "{text}");
    assert!(text.contains("(3) spec.template.metadata.annotations[konductor.io/grant]"), "{text}");
}

#[rstest]
#[case::not_ours("pods", pod(json!({"example.com/mutex": "a"})))]
#[case::a_stamp_alone("pods", pod(json!({"konductor.io/queued": "2030-06-01T12:00:00.000000Z"})))]
#[case::a_windows_pod_of_somebody_else("pods", with(pod(json!({})), "/spec/os", json!({"name": "windows"})))]
#[case::a_mirror_pod("pods", pod(json!({"konductor.io/gate": "a", "kubernetes.io/config.mirror": "x"})))]
#[case::a_job_of_nobody("jobs", job(json!({}), json!({})))]
#[case::nothing_at_all("pods", json!({}))]
fn what_does_not_take_part_is_not_touched(#[case] resource: &str, #[case] object: Value) {
    assert_eq!(admitted(resource, &object).answer.verdict.as_str(), "unchanged");
}

#[rstest]
#[case("pods", pod(json!({"konductor.io/inject": "false"})))]
#[case("jobs", job(json!({"konductor.io/inject": "false"}), json!({})))]
#[case("jobs", job(json!({}), json!({"konductor.io/inject": "false"})))]
fn an_owner_may_say_no(#[case] resource: &str, #[case] object: Value) {
    assert_eq!(admitted(resource, &object).answer.verdict.as_str(), "opted-out");
}

#[test]
fn our_pod_is_accepted_again_and_a_forged_one_is_not() {
    let mut ours = patched("pods", &pod(json!({"konductor.io/mutex": "a"})));
    between_two_passes(&mut ours);
    assert_eq!(admitted("pods", &ours).answer.verdict.as_str(), "unchanged");
    assert!(
        !waiter(&ours)["volumeMounts"].to_string().contains("kube-api-access"),
        "the API token stays out"
    );

    let index = ours["spec"]["initContainers"].as_array().unwrap().len() - 1;
    let forged = with(ours.clone(), &format!("/spec/initContainers/{index}/command"), json!(["true"]));
    assert!(refusal("pods", &forged).contains("differs from it in command"));
    let memory =
        ours["spec"]["volumes"].as_array().unwrap().iter().position(|v| v["name"] == "konductor-state");
    let forged =
        with(ours, &format!("/spec/volumes/{}/emptyDir", memory.unwrap()), json!({"medium": "Memory"}));
    assert!(refusal("pods", &forged).contains("the name konductor-state is reserved"));
}

#[test]
fn a_copy_of_our_job_is_accepted_with_a_new_stamp() {
    let ours = patched("jobs", &job(json!({"konductor.io/mutex": "a"}), json!({"konductor.io/mutex": "b"})));
    let old = with(
        ours.clone(),
        "/metadata/annotations/konductor.io~1queued",
        json!("2029-06-01T12:00:00.000000Z"),
    );
    assert_eq!(patched("jobs", &old), ours);
}
