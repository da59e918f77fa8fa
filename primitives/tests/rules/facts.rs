//! What is read off a pod besides its end.

use konductor_api::annotations::JOB_PLAN;
use konductor_primitives::facts::{NodeState, PodFacts};
use rstest::rstest;
use serde_json::json;

use super::support::pod;

/// Who lets a pod through whose marker it cannot read, or which no Job stands behind, lets it through unasked.
#[rstest]
#[case::of_a_job("batch/v1", "Job", true, "v1 mutex=db", true)]
#[case::of_another_api("example.com/v1", "Job", true, "v1 mutex=db", false)]
#[case::of_something_else("batch/v1", "CronJob", true, "v1 mutex=db", false)]
#[case::of_a_job_that_does_not_control_it("batch/v1", "Job", false, "v1 mutex=db", false)]
#[case::of_a_later_version("batch/v1", "Job", true, "v2 mutex=db", false)]
fn a_marker_is_understood(
    #[case] api_version: &str,
    #[case] kind: &str,
    #[case] controller: bool,
    #[case] marker: &str,
    #[case] understood: bool,
) {
    let mut object = pod("p").annotation(JOB_PLAN, marker).object().clone();
    let owner = json!({
        "apiVersion": api_version, "kind": kind, "name": "j", "uid": "u", "controller": controller,
    });
    object.metadata.owner_references = Some(vec![serde_json::from_value(owner).unwrap()]);
    assert_eq!(PodFacts::of(&object, NodeState::Alive).understood, understood);
}
