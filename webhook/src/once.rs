//! Once on pods: the containers of the critical section are wrapped, so that who comes second does nothing.
//!
//! Pure, on raw JSON. A container cannot be skipped from outside: its command becomes
//! `/konductor-once/konductor-wait once -- COMMAND`, a program that the waiter leaves in a small volume in memory with the
//! decision; see `konductor-waiter`. What must stay true: only a command that stands in the spec is wrapped, for what an
//! image runs by itself is not known here; no word of it is changed; nobody but the waiter may write the volume.

use konductor_api::annotations::{CONTAINERS, ONCE};
use konductor_api::grammar::Problem;
use konductor_api::participation::{Kind, PodPlan};
use serde_json::{Value, json};

use crate::containers::Paths;
use crate::object::{at, list, name, text};
use crate::section::{Field, Found};

/// The volume.
pub const VOLUME: &str = "konductor-once";
/// Where it is mounted.
pub const DIRECTORY: &str = "/konductor-once";
/// What stands before the command.
pub const WRAPPER: [&str; 3] = ["/konductor-once/konductor-wait", "once", "--"];

/// Does the pod itself do something once?
pub fn is_asked(plan: &PodPlan) -> bool {
    plan.pod.primitives().any(|primitive| primitive.kind == Kind::Once)
}

/// The volume. In memory, so that a reboot wipes what was decided before; the limit is some times what is in it.
pub fn volume() -> Value {
    json!({"name": VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}})
}

/// How the waiter mounts it.
pub fn mount() -> Value {
    json!({"name": VOLUME, "mountPath": DIRECTORY})
}

/// How a wrapped container mounts it.
fn mount_to_read() -> Value {
    json!({"name": VOLUME, "mountPath": DIRECTORY, "readOnly": true})
}

/// What one container lacks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wrap {
    /// Words before its command.
    pub words: Vec<Value>,
    /// The volume.
    pub mount: Option<Value>,
}

impl Wrap {
    /// Is nothing missing?
    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && self.mount.is_none()
    }
}

/// What this container lacks, or why it cannot be wrapped. `path` is its own.
pub(crate) fn wrap(container: &Value, path: &str) -> Result<Wrap, Problem> {
    let command = list(container, &["command"]);
    let wrapped = is_wrapped(command);
    if command.len() <= if wrapped { WRAPPER.len() } else { 0 } {
        return Err(Problem {
            path: format!("{path}.command"),
            reason: format!(
                "{ONCE} wraps the command of this container, and it has none: what its image runs by itself is not known \
                 here"
            ),
            example: format!(
                "command: [./migrate.sh], as the image's ENTRYPOINT has it; or name the containers that do it: \
                 {CONTAINERS}: migrate"
            ),
        });
    }
    let found = list(container, &["volumeMounts"]).iter().any(is_ours);
    Ok(Wrap {
        words: if wrapped { Vec::new() } else { WRAPPER.map(Value::from).to_vec() },
        mount: (!found).then(mount_to_read),
    })
}

/// Is that command wrapped already?
pub fn is_wrapped(command: &[Value]) -> bool {
    WRAPPER.iter().enumerate().all(|(place, word)| command.get(place).and_then(Value::as_str) == Some(word))
}

/// Is this mount the one of a wrapped container?
pub(crate) fn is_ours(mount: &Value) -> bool {
    let plain = ["subPath", "subPathExpr"]
        .into_iter()
        .all(|field| text(mount, &[field]).unwrap_or_default().is_empty());
    name(mount) == VOLUME
        && text(mount, &["mountPath"]) == Some(DIRECTORY)
        && at(mount, &["readOnly"]) == Some(&Value::Bool(true))
        && plain
}

/// Why what these containers do is never done: they are started again whenever they end.
pub(crate) fn never_ends(spec: &Value, section: &Found, paths: Paths<'_>) -> Option<Problem> {
    if section.field == Field::Init {
        return None;
    }
    let of_the_pod = text(spec, &["restartPolicy"]).unwrap_or("Always");
    let containers = list(spec, &[section.field.as_str()]);
    let endless = section
        .places
        .iter()
        .filter_map(|place| containers.get(*place))
        .find(|container| text(container, &["restartPolicy"]).unwrap_or(of_the_pod) == "Always")?;
    Some(Problem {
        path: format!("{}[{ONCE}]", paths.annotations),
        reason: format!(
            "container {:?} is started again whenever it ends (restartPolicy: Always), so it is never done",
            name(endless)
        ),
        example: format!("do it in an init container, and name that: {CONTAINERS}: migrate"),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_command_gets_three_words_before_it_and_keeps_its_own() {
        let container = json!({"name": "a", "command": ["./migrate.sh", ""], "args": ["--all"]});
        let missing = wrap(&container, "p").unwrap();
        assert_eq!(missing.words, ["/konductor-once/konductor-wait", "once", "--"]);
        assert_eq!(missing.mount, Some(json!({"name": VOLUME, "mountPath": DIRECTORY, "readOnly": true})));
    }

    #[test]
    fn what_is_wrapped_is_not_wrapped_again() {
        let container = json!({
            "name": "a", "command": [WRAPPER[0], WRAPPER[1], WRAPPER[2], "./migrate.sh"],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}, mount_to_read()],
        });
        assert!(wrap(&container, "p").unwrap().is_empty());
    }

    #[rstest]
    #[case(json!({"name": "a"}))]
    #[case(json!({"name": "a", "command": null, "args": ["x"]}))]
    #[case(json!({"name": "a", "command": []}))]
    #[case(json!({"name": "a", "command": ["/konductor-once/konductor-wait", "once", "--"]}))]
    fn without_a_command_of_its_own_it_is_refused(#[case] container: Value) {
        let problem = wrap(&container, "spec.containers[0]").unwrap_err().to_string();
        assert!(problem.starts_with("spec.containers[0].command: "), "{problem}");
    }

    #[rstest]
    #[case::a_deployment(json!({}), true)]
    #[case::said_in_full(json!({"restartPolicy": "Always"}), true)]
    #[case::a_job(json!({"restartPolicy": "OnFailure"}), false)]
    #[case::a_job_that_never_starts_again(json!({"restartPolicy": "Never"}), false)]
    fn an_app_container_that_never_ends_is_refused(#[case] mut spec: Value, #[case] refused: bool) {
        spec["containers"] = json!([{"name": "main"}]);
        let section = |field| Found { field, places: vec![0] };
        let paths = Paths { spec: "spec", annotations: "metadata.annotations" };
        assert_eq!(never_ends(&spec, &section(Field::Apps), paths).is_some(), refused);
        assert_eq!(never_ends(&spec, &section(Field::Init), paths), None);
        spec["containers"][0]["restartPolicy"] = json!("Never");
        assert_eq!(never_ends(&spec, &section(Field::Apps), paths), None);
    }
}
