//! The change as RFC 6902 operations on raw JSON.
//!
//! Pure. What must stay true: only what is named is touched (unknown fields survive, no list is replaced), a missing
//! parent is created once, and what is right already makes no operation.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Value, json};

use konductor_api::annotations::{
    JOB_PLAN, PARTICIPANT_LABEL, PARTICIPANT_VALUE, QUEUED, SUSPENDED, SUSPENDED_VALUE,
};

use crate::claim::Fill;
use crate::containers::{Edit, Injection};
use crate::hold::{Gate, Suspension, scheduling_gate};
use crate::plan::Becomes;
use crate::section;

/// The object is built in a way that no Kubernetes object is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} must be {expected}")]
pub struct PatchError {
    /// Where.
    pub path: String,
    /// What should be there.
    pub expected: &'static str,
}

/// A working copy of the object and the operations that made it from the original.
struct Editor {
    document: Value,
    operations: Vec<PatchOperation>,
}

/// One step of a path.
#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

use Step::{Field, Index};

/// What turns the object into what it should become.
pub fn patch(object: &Value, becomes: &Becomes) -> Result<Patch, PatchError> {
    let mut editor = Editor { document: object.clone(), operations: Vec::new() };
    match becomes {
        Becomes::Unchanged | Becomes::OptedOut => {}
        Becomes::Pod { injection, gate, queued } => {
            editor.label(&[])?;
            editor.set(&[Field("metadata"), Field("annotations")], QUEUED, queued.as_str())?;
            editor.inject(injection)?;
            if *gate == Gate::Missing {
                editor.insert(&[Field("spec"), Field("schedulingGates")], None, &scheduling_gate())?;
            }
        }
        Becomes::Job { marker, suspension, queued } => {
            // The API server gives a Job without labels those of its template, job-name among them, and ours with
            // them. One of our own on it would keep them away.
            if crate::object::at(object, &["metadata", "labels"]).is_some_and(|labels| *labels != json!({})) {
                editor.label(&[])?;
            }
            editor.set(&[Field("metadata"), Field("annotations")], QUEUED, queued.as_str())?;
            if *suspension == Suspension::Missing {
                editor.set(&[Field("metadata"), Field("annotations")], SUSPENDED, SUSPENDED_VALUE)?;
                editor.set(&[Field("spec")], "suspend", true)?;
            }
            editor.label(&TEMPLATE)?;
            editor.set(
                &[&TEMPLATE[..], &[Field("metadata"), Field("annotations")]].concat(),
                JOB_PLAN,
                marker.as_str(),
            )?;
        }
        Becomes::JobOfParticipants => editor.label(&TEMPLATE)?,
    }
    Ok(Patch(editor.operations))
}

/// What fills in a claim.
pub(crate) fn claim(object: &Value, fill: &Fill) -> Result<Patch, PatchError> {
    let mut editor = Editor { document: object.clone(), operations: Vec::new() };
    editor.set(&[Field("metadata"), Field("annotations")], QUEUED, fill.queued.as_str())?;
    if let Some(owner) = &fill.owner {
        editor.insert(&[Field("metadata"), Field("ownerReferences")], None, owner)?;
    }
    if let Some(requester) = &fill.requester {
        editor.set(&[Field("spec")], "requester", requester.as_str())?;
    }
    if let Some(pod) = &fill.pod {
        editor.set(&[Field("spec")], "pod", pod.clone())?;
    }
    Ok(Patch(editor.operations))
}

const TEMPLATE: [Step<'static>; 2] = [Field("spec"), Field("template")];

// ---------------------------------------------------------------------------------------------------- editing

impl Editor {
    fn label(&mut self, owner: &[Step<'_>]) -> Result<(), PatchError> {
        let labels = [owner, &[Field("metadata"), Field("labels")]].concat();
        self.set(&labels, PARTICIPANT_LABEL, PARTICIPANT_VALUE)
    }

    fn inject(&mut self, injection: &Injection) -> Result<(), PatchError> {
        for volume in &injection.volumes {
            self.insert(&[Field("spec"), Field("volumes")], None, volume)?;
        }
        if let Some(secret) = &injection.pull_secret {
            self.insert(&[Field("spec"), Field("imagePullSecrets")], None, secret)?;
        }
        // Where they stand now: the waiter comes before one of them.
        let (inits, apps): (Vec<_>, Vec<_>) =
            injection.edits.iter().partition(|edit| edit.field == section::Field::Init);
        inits.into_iter().try_for_each(|edit| self.edit(edit))?;
        for (place, container) in injection.waiter.iter().chain(&injection.sidecar) {
            self.insert(&[Field("spec"), Field("initContainers")], Some(*place), container)?;
        }
        apps.into_iter().try_for_each(|edit| self.edit(edit))
    }

    fn edit(&mut self, edit: &Edit) -> Result<(), PatchError> {
        let container = [Field("spec"), Field(edit.field.as_str()), Index(edit.place)];
        let list = |field| [&container[..], &[Field(field)]].concat();
        for (place, word) in edit.wrap.words.iter().enumerate() {
            self.insert(&list("command"), Some(place), word)?;
        }
        if let Some(mount) = &edit.wrap.mount {
            self.insert(&list("volumeMounts"), None, mount)?;
        }
        edit.variables.iter().try_for_each(|variable| self.insert(&list("env"), None, variable))
    }

    /// Sets a field of the map at that path.
    fn set(&mut self, map: &[Step<'_>], key: &str, value: impl Into<Value>) -> Result<(), PatchError> {
        let value = value.into();
        let target = self
            .find(map, &json!({}))?
            .as_object_mut()
            .ok_or_else(|| PatchError { path: people(map), expected: "a map" })?;
        if target.get(key) == Some(&value) {
            return Ok(());
        }
        target.insert(key.to_owned(), value.clone());
        self.add([map, &[Field(key)]].concat().as_slice(), None, value);
        Ok(())
    }

    /// Inserts into the list at that path, or appends to it.
    fn insert(&mut self, list: &[Step<'_>], place: Option<usize>, value: &Value) -> Result<(), PatchError> {
        let target = self
            .find(list, &json!([]))?
            .as_array_mut()
            .ok_or_else(|| PatchError { path: people(list), expected: "a list" })?;
        let place = place.filter(|place| *place <= target.len());
        target.insert(place.unwrap_or(target.len()), value.clone());
        let token = place.map_or_else(|| "-".to_owned(), |place| place.to_string());
        self.add(list, Some(&token), value.clone());
        Ok(())
    }

    /// What is at that path. If nothing is, `empty` is put there, and maps on the way to it.
    fn find(&mut self, path: &[Step<'_>], empty: &Value) -> Result<&mut Value, PatchError> {
        for length in 1..=path.len() {
            let (parent, step) = (&path[..length - 1], path[length - 1]);
            let made = if length == path.len() { empty.clone() } else { json!({}) };
            let wrong = |expected| PatchError { path: people(&path[..length]), expected };
            let target = resolve(&mut self.document, parent).ok_or_else(|| wrong("there"))?;
            match step {
                Field(key) => {
                    let map = target
                        .as_object_mut()
                        .ok_or_else(|| PatchError { path: people(parent), expected: "a map" })?;
                    if map.get(key).is_none_or(Value::is_null) {
                        map.insert(key.to_owned(), made.clone());
                        self.add(&path[..length], None, made);
                    }
                }
                Index(index) => {
                    target.get(index).ok_or_else(|| wrong("there"))?;
                }
            }
        }
        resolve(&mut self.document, path).ok_or_else(|| PatchError { path: people(path), expected: "there" })
    }

    fn add(&mut self, path: &[Step<'_>], last: Option<&str>, value: Value) {
        let steps = path.iter().map(|step| match step {
            Field(key) => (*key).to_owned(),
            Index(index) => index.to_string(),
        });
        let path = PointerBuf::from_tokens(steps.chain(last.map(ToOwned::to_owned)));
        self.operations.push(PatchOperation::Add(AddOperation { path, value }));
    }
}

fn resolve<'a>(document: &'a mut Value, path: &[Step<'_>]) -> Option<&'a mut Value> {
    path.iter().try_fold(document, |value, step| match step {
        Field(key) => value.get_mut(*key),
        Index(index) => value.get_mut(*index),
    })
}

fn people(path: &[Step<'_>]) -> String {
    let steps = path.iter().map(|step| match step {
        Field(key) => format!(".{key}"),
        Index(index) => format!("[{index}]"),
    });
    let text: String = steps.collect();
    if text.is_empty() { "the object".to_owned() } else { text.trim_start_matches('.').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::once::Wrap;

    fn job(marker: &str) -> Becomes {
        Becomes::Job { marker: marker.to_owned(), suspension: Suspension::None, queued: "now".to_owned() }
    }

    fn operations(object: &Value, becomes: &Becomes) -> Vec<(String, Value)> {
        let patch = patch(object, becomes).unwrap();
        let mut patched = object.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        assert!(super::patch(&patched, becomes).unwrap().is_empty(), "a second pass has nothing to do");
        patch
            .0
            .iter()
            .map(|operation| match operation {
                PatchOperation::Add(add) => (add.path.to_string(), add.value.clone()),
                other => unreachable!("only additions are made: {other}"),
            })
            .collect()
    }

    #[test]
    fn a_missing_parent_is_created_once_and_slashes_are_escaped() {
        let made = operations(&json!({"metadata": {"annotations": null}}), &job("v1 mutex=db"));
        let paths: Vec<_> = made.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/metadata/annotations",
                "/metadata/annotations/konductor.io~1queued",
                "/spec",
                "/spec/template",
                "/spec/template/metadata",
                "/spec/template/metadata/labels",
                "/spec/template/metadata/labels/konductor.io~1participant",
                "/spec/template/metadata/annotations",
                "/spec/template/metadata/annotations/konductor.io~1job-plan",
            ]
        );
    }

    #[test]
    fn a_job_without_labels_is_left_to_get_those_of_its_template() {
        for labels in [json!(null), json!({})] {
            let made = operations(&json!({"metadata": {"labels": labels}}), &job("v1 mutex=db"));
            assert!(made.iter().all(|(path, _)| !path.starts_with("/metadata/labels")), "{made:?}");
            assert!(made.iter().any(|(path, _)| path.ends_with("labels/konductor.io~1participant")));
        }
        let made = operations(&json!({"metadata": {"labels": {"app": "etl"}}}), &job("v1 mutex=db"));
        assert_eq!(made[0].0, "/metadata/labels/konductor.io~1participant");
    }

    #[test]
    fn another_value_is_replaced_and_the_right_one_is_left() {
        let labels = json!({"konductor.io/participant": "no"});
        let object = json!({"metadata": {"labels": labels, "annotations": {"konductor.io/queued": "now"}},
            "spec": {"template": {"metadata": {"labels": {"konductor.io/participant": "true"},
                                               "annotations": {"konductor.io/job-plan": "v1 mutex=db"}}}}});
        let made = operations(&object, &job("v1 mutex=db"));
        assert_eq!(made, [("/metadata/labels/konductor.io~1participant".to_owned(), json!("true"))]);
    }

    #[test]
    fn lists_are_added_to_and_never_replaced() {
        let edit =
            |field| Edit { field, place: 1, variables: vec![json!({"name": "T"})], wrap: Wrap::default() };
        let injection = Injection {
            waiter: Some((1, json!({"name": "waiter"}))),
            sidecar: Some((2, json!({"name": "sidecar"}))),
            volumes: vec![json!({"name": "a"}), json!({"name": "b"})],
            pull_secret: Some(json!({"name": "registry"})),
            edits: vec![edit(section::Field::Apps), edit(section::Field::Init)],
        };
        let object = json!({"metadata": {"labels": {"konductor.io/participant": "true"},
                                         "annotations": {"konductor.io/queued": "now"}},
                            "spec": {"initContainers": [{"name": "x"}, {"name": "y"}], "containers": [{}, {}]}});
        let made = patch(&object, &Becomes::Pod { injection, gate: Gate::Missing, queued: "now".to_owned() })
            .unwrap();
        let paths: Vec<_> = made.iter().map(|operation| operation.path().to_string()).collect();
        assert_eq!(
            paths,
            [
                "/spec/volumes",
                "/spec/volumes/-",
                "/spec/volumes/-",
                "/spec/imagePullSecrets",
                "/spec/imagePullSecrets/-",
                "/spec/initContainers/1/env",
                "/spec/initContainers/1/env/-",
                "/spec/initContainers/1",
                "/spec/initContainers/2",
                "/spec/containers/1/env",
                "/spec/containers/1/env/-",
                "/spec/schedulingGates",
                "/spec/schedulingGates/-",
            ]
        );
    }

    #[test]
    fn an_object_that_is_none_is_refused_with_the_place() {
        let wrong = |object: Value| patch(&object, &job("v1 mutex=db")).unwrap_err().to_string();
        assert_eq!(wrong(json!({"metadata": "x"})), "metadata must be a map");
        assert_eq!(wrong(json!({"metadata": {"labels": []}})), "metadata.labels must be a map");
        assert_eq!(wrong(json!([])), "the object must be a map");
        let spec = json!({"spec": {"template": {"metadata": {"annotations": 3}}}});
        assert_eq!(wrong(spec), "spec.template.metadata.annotations must be a map");
    }
}
