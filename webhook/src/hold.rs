//! Hold: where a pod waits, as it asks and as its spec allows.
//!
//! Pure. The waiter is injected in every mode and alone lets the containers start; what is decided here is only what is
//! used until then. What must stay true: a mode that the API server would refuse is never chosen, so that no pod fails
//! for it; what is chosen instead is said.

use konductor_api::annotations::{HOLD, SCHEDULING_GATE};
use konductor_api::grammar::Problem;
use konductor_api::options::{Hold, Options};
use konductor_api::participation::PodPlan;
use serde_json::{Value, json};

use crate::object::{list, name, text};
use crate::waiter::Settings;

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
    if plan.hold != Hold::SchedulingGate || !settings.scheduling_gates {
        return Gate::None;
    }
    if text(spec, &["nodeName"]).is_some_and(|node| !node.is_empty()) {
        return Gate::Impossible;
    }
    let there = list(spec, &["schedulingGates"]).iter().any(|gate| name(gate) == SCHEDULING_GATE);
    if there { Gate::There } else { Gate::Missing }
}

/// Our scheduling gate, as it stands in a spec.
pub fn scheduling_gate() -> Value {
    json!({"name": SCHEDULING_GATE})
}

/// A mode that this installation does not have. `path` is where the annotations stand.
pub fn refused(options: &Options, settings: &Settings, path: &str) -> Option<Problem> {
    (options.hold == Hold::SchedulingGate && !settings.scheduling_gates).then(|| Problem {
        path: format!("{path}[{HOLD}]"),
        reason: "in this installation Konductor has no right to lift scheduling gates, so the pod would wait for ever \
                 (chart value controller.holds.schedulingGate)"
            .to_owned(),
        example: format!("{HOLD}: init-container"),
    })
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
        let problem = refused(&options, &settings(false), "metadata.annotations").unwrap();
        assert_eq!(problem.path, "metadata.annotations[konductor.io/hold]");
        assert_eq!(refused(&options, &settings(true), "p"), None);
        assert_eq!(refused(&Options::default(), &settings(false), "p"), None);
    }

    #[test]
    fn warnings_are_as_short_as_a_terminal_shows_them() {
        let longest = warning(Gate::Impossible, "spec.template.spec").unwrap();
        assert!(longest.len() <= 120, "{} bytes: {longest}", longest.len());
    }
}
