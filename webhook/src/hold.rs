//! Hold: where a pod waits, as it asks and as its spec allows.
//!
//! Pure. The waiter is injected in every mode and alone lets the containers start; what is decided here is only what is
//! used until then. What must stay true: a mode that the API server would refuse is never chosen, so that no pod fails
//! for it; what is chosen instead is said.

use konductor_api::annotations::{HOLD, SCHEDULING_GATE, SUSPENDED};
use konductor_api::grammar::Problem;
use konductor_api::options::{Hold, Options};
use konductor_api::participation::PodPlan;
use serde_json::{Value, json};

use crate::object::{at, list, name, text};
use crate::waiter::Settings;
use crate::windows;

/// What a pod's spec gets to wait where it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It waits in its init container.
    None,
    /// It lacks our scheduling gate.
    Missing,
    /// It has it already.
    There,
    /// A pod that names its node is placed already, and may have no scheduling gate.
    Impossible,
}

/// What that spec gets.
pub fn gate(spec: &Value, plan: &PodPlan, settings: &Settings) -> Gate {
    // The chart's switch may have been turned since the Job was created: its pods must not wait for nobody.
    let asked = plan.hold == Hold::SchedulingGate || windows::is_for(spec);
    if !asked || !settings.scheduling_gates {
        return Gate::None;
    }
    if text(spec, &["nodeName"]).is_some_and(|node| !node.is_empty()) {
        return Gate::Impossible;
    }
    let there = list(spec, &["schedulingGates"]).iter().any(|gate| name(gate) == SCHEDULING_GATE);
    if there { Gate::There } else { Gate::Missing }
}

/// Whether a Job is suspended until it is its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suspension {
    /// It is not asked for, or it has been decided on before.
    None,
    /// It is asked for.
    Missing,
    /// It is so already.
    There,
    /// It is asked for, and cannot be: why, in a few words.
    Impossible(&'static str),
}

/// What that Job gets. `marked`: has its template been given our marker before?
pub fn suspension(job: &Value, options: &Options, marked: bool) -> Suspension {
    if options.hold != Hold::Suspend {
        return Suspension::None;
    }
    let suspended = at(job, &["spec", "suspend"]) == Some(&Value::Bool(true));
    if suspended && at(job, &["metadata", "annotations", SUSPENDED]).is_some() {
        return Suspension::There;
    }
    if marked {
        return Suspension::None;
    }
    match taken_by(job) {
        Some(why) => Suspension::Impossible(why),
        None if suspended => {
            Suspension::Impossible("spec.suspend is true already, so somebody else resumes it")
        }
        None => Suspension::Missing,
    }
}

/// Who else suspends and resumes that Job: `suspend` is one field without an owner.
fn taken_by(job: &Value) -> Option<&'static str> {
    let manager = text(job, &["spec", "managedBy"]);
    if manager.is_some_and(|manager| manager != "kubernetes.io/job-controller") {
        return Some("spec.managedBy gives it to another controller");
    }
    let labelled = |key| text(job, &["metadata", "labels", key]).is_some();
    if labelled("kueue.x-k8s.io/queue-name") {
        return Some("Kueue resumes the Jobs of its queues");
    }
    let of_jobset = list(job, &["metadata", "ownerReferences"])
        .iter()
        .any(|owner| text(owner, &["apiVersion"]).is_some_and(|group| group.starts_with("jobset.x-k8s.io/")));
    (of_jobset || labelled("jobset.sigs.k8s.io/jobset-name")).then_some("a JobSet resumes its Jobs itself")
}

/// Where the pods of a Job wait that asked for this mode.
pub fn of_pods(asked: Hold, suspension: &Suspension, settings: &Settings) -> Hold {
    match (asked, suspension) {
        (Hold::Suspend, Suspension::Impossible(_)) if settings.scheduling_gates => Hold::SchedulingGate,
        (Hold::Suspend, _) => Hold::InitContainer,
        (other, _) => other,
    }
}

/// What should be said to whoever asks for a suspension that is not possible.
pub fn not_suspended(suspension: &Suspension, settings: &Settings) -> Option<String> {
    let Suspension::Impossible(why) = suspension else { return None };
    let instead = if settings.scheduling_gates { "at a scheduling gate" } else { "on nodes" };
    Some(format!("{HOLD}: {why}; its pods wait {instead}"))
}

/// Our scheduling gate, as it stands in a spec.
pub fn scheduling_gate() -> Value {
    json!({"name": SCHEDULING_GATE})
}

/// A mode that this installation does not have, or that a pod cannot have. `path` is where the annotations stand, and
/// `of_a_job` whether they are those of a Job.
pub fn refused(options: &Options, of_a_job: bool, settings: &Settings, path: &str) -> Option<Problem> {
    let (reason, instead) = match options.hold {
        Hold::SchedulingGate if !settings.scheduling_gates => (
            "in this installation Konductor has no right to lift scheduling gates, so the pod would wait for ever \
             (chart value controller.holds.schedulingGate)",
            Hold::InitContainer,
        ),
        Hold::Suspend if !of_a_job => (
            "only a Job can be suspended: it belongs beside the Job's own annotations, and a pod that shall take no \
             node while it waits has a scheduling gate",
            Hold::SchedulingGate,
        ),
        Hold::Suspend if !settings.suspends => (
            "in this installation Konductor has no right to resume Jobs, so the Job would wait for ever (chart value \
             controller.holds.suspend)",
            Hold::InitContainer,
        ),
        _ => return None,
    };
    let example = format!("{HOLD}: {}", instead.word());
    Some(Problem { path: format!("{path}[{HOLD}]"), reason: reason.to_owned(), example })
}

/// What should be said to whoever asks for what is not possible. `path` is where the spec stands.
pub fn warning(gate: Gate, path: &str) -> Option<String> {
    (gate == Gate::Impossible).then(|| {
        format!(
            "{HOLD}: {path}.nodeName rules out a scheduling gate; it waits on its node, in the init container"
        )
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn settings(scheduling_gates: bool) -> Settings {
        Settings { scheduling_gates, ..Settings::usual() }
    }

    #[rstest]
    #[case::nothing_there(json!({}), Gate::Missing)]
    #[case::null(json!({"schedulingGates": null, "nodeName": ""}), Gate::Missing)]
    #[case::that_of_somebody_else(json!({"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}), Gate::Missing)]
    #[case::ours(json!({"schedulingGates": [{"name": "a.b/c"}, {"name": "konductor.io/hold"}]}), Gate::There)]
    #[case::a_node(json!({"nodeName": "node-a"}), Gate::Impossible)]
    fn a_gate_is_added_where_there_is_none_of_ours(#[case] spec: Value, #[case] expected: Gate) {
        let plan = PodPlan { hold: Hold::SchedulingGate, ..PodPlan::default() };
        assert_eq!(gate(&spec, &plan, &settings(true)), expected);
        assert_eq!(gate(&spec, &plan, &settings(false)), Gate::None);
        assert_eq!(gate(&spec, &PodPlan::default(), &settings(true)), Gate::None);
    }

    #[test]
    fn the_mode_is_refused_where_nobody_would_lift_the_gate() {
        let options = Options { hold: Hold::SchedulingGate, ..Options::default() };
        let problem = refused(&options, false, &settings(false), "metadata.annotations").unwrap();
        assert_eq!(problem.path, "metadata.annotations[konductor.io/hold]");
        assert_eq!(refused(&options, false, &settings(true), "p"), None);
        assert_eq!(refused(&Options::default(), false, &settings(false), "p"), None);
    }

    #[test]
    fn a_suspension_is_for_jobs_and_needs_somebody_who_resumes() {
        let options = Options { hold: Hold::Suspend, ..Options::default() };
        let without = Settings { suspends: false, ..Settings::usual() };
        let says = |of_a_job, settings: &Settings| {
            refused(&options, of_a_job, settings, "p").map(|problem| problem.reason)
        };
        assert_eq!(says(true, &Settings::usual()), None);
        assert!(says(true, &without).unwrap().contains("no right to resume"));
        assert!(says(false, &without).unwrap().contains("only a Job can be suspended"));
    }

    #[rstest]
    #[case::nobody_elses(json!({}), Suspension::Missing)]
    #[case::said_not_to_be(json!({"spec": {"suspend": false}}), Suspension::Missing)]
    #[case::of_the_usual_manager(json!({"spec": {"managedBy": "kubernetes.io/job-controller"}}), Suspension::Missing)]
    #[case::of_a_cronjob(json!({"metadata": {"ownerReferences": [{"apiVersion": "batch/v1"}]}}), Suspension::Missing)]
    #[case::forged_without_the_field(
        json!({"metadata": {"annotations": {"konductor.io/suspended": "x"}}}), Suspension::Missing
    )]
    #[case::so_already(
        json!({"metadata": {"annotations": {"konductor.io/suspended": "x"}}, "spec": {"suspend": true}}),
        Suspension::There
    )]
    #[case::by_somebody(
        json!({"spec": {"suspend": true}}),
        Suspension::Impossible("spec.suspend is true already, so somebody else resumes it")
    )]
    #[case::of_kueue(
        json!({"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "q"}}, "spec": {"suspend": true}}),
        Suspension::Impossible("Kueue resumes the Jobs of its queues")
    )]
    #[case::of_a_jobset(
        json!({"metadata": {"ownerReferences": [{"apiVersion": "jobset.x-k8s.io/v1alpha2"}]}}),
        Suspension::Impossible("a JobSet resumes its Jobs itself")
    )]
    #[case::of_multikueue(
        json!({"spec": {"managedBy": "kueue.x-k8s.io/multikueue"}}),
        Suspension::Impossible("spec.managedBy gives it to another controller")
    )]
    fn a_job_is_suspended_where_nobody_else_resumes_it(#[case] job: Value, #[case] expected: Suspension) {
        let options = Options { hold: Hold::Suspend, ..Options::default() };
        let found = suspension(&job, &options, false);
        assert_eq!(found, expected);
        assert_eq!(suspension(&job, &Options::default(), false), Suspension::None);
        let again = suspension(&job, &options, true);
        assert_eq!(again == Suspension::There, expected == Suspension::There);
        assert!(matches!(again, Suspension::There | Suspension::None), "it is decided on once: {again:?}");
        let impossible = matches!(found, Suspension::Impossible(_));
        for (gates, instead) in [(true, Hold::SchedulingGate), (false, Hold::InitContainer)] {
            let expected = if impossible { instead } else { Hold::InitContainer };
            assert_eq!(of_pods(Hold::Suspend, &found, &settings(gates)), expected);
            let warning = not_suspended(&found, &settings(gates));
            assert_eq!(warning.is_some(), impossible);
            assert!(warning.is_none_or(|warning| warning.len() <= 120));
        }
    }

    #[test]
    fn warnings_are_as_short_as_a_terminal_shows_them() {
        let longest = warning(Gate::Impossible, "spec.template.spec").unwrap();
        assert!(longest.len() <= 120, "{} bytes: {longest}", longest.len());
    }
}
