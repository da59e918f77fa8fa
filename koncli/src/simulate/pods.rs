//! Jobs and pods, as their controllers and a kubelet keep them that make no mistakes and take a second for everything.
//!
//! Pure. What must stay true: a pod looks like what the webhook admits and a kubelet writes, so that its facts are read off it as in
//! a cluster.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use konductor_api::annotations::{FINALIZER, GRANT, WAITER_CONTAINER};
use konductor_primitives::facts::{NodeState, PodFacts};
use serde_json::{Value, json};

use super::scenario::Does;
use crate::told::list;

/// What a kubelet needs to see a change, and to make one.
pub(super) const BEAT: SignedDuration = SignedDuration::from_secs(1);

/// A Job in the simulation.
pub(super) struct SimJob {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) object: Value,
    pub(super) does: Does,
    pub(super) made: usize,
    pub(super) over: bool,
}

/// Where a pod stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its images are there, and nothing runs.
    Made,
    /// Our waiter runs since then.
    Waits(Timestamp),
    /// Its containers run; since when the waiter ran.
    Runs(Timestamp, Timestamp),
    /// It has ended; with that code.
    Ended(Timestamp, Timestamp, i32),
    /// It was told no.
    Refused,
}

/// A pod in the simulation.
pub(super) struct SimPod {
    pub(super) name: String,
    pub(super) object: Value,
    /// The place of its Job.
    pub(super) job: Option<usize>,
    pub(super) does: Does,
    pub(super) stage: Stage,
    version: u64,
}

impl SimJob {
    fn number(&self, field: &str) -> usize {
        let number = self.object["spec"][field].as_u64();
        number.and_then(|number| usize::try_from(number).ok()).unwrap_or(1)
    }

    /// How many have to succeed.
    pub(super) fn completions(&self) -> usize {
        self.number("completions")
    }

    /// How many run at a time.
    pub(super) fn parallelism(&self) -> usize {
        self.number("parallelism")
    }

    pub(super) fn read(&self) -> Option<Job> {
        serde_json::from_value(self.object.clone()).ok()
    }

    /// It ends with that condition.
    pub(super) fn end(&mut self, type_: &str, message: &str) {
        self.over = true;
        self.object["status"]["conditions"] = json!([{"type": type_, "status": "True", "message": message}]);
    }

    /// Its next pod, as its controller would make it; the webhook has seen the Job.
    pub(super) fn pod(&mut self, now: Timestamp) -> Value {
        let number = self.made;
        self.made += 1;
        let mut metadata = self.object["spec"]["template"]["metadata"].clone();
        if !metadata.is_object() {
            metadata = json!({});
        }
        metadata["name"] = json!(format!("{}-{number}", self.name));
        metadata["creationTimestamp"] = json!(now);
        metadata["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": self.name, "uid": self.uid, "controller": true}]);
        if self.object["spec"]["completionMode"] == "Indexed" {
            metadata["annotations"]["batch.kubernetes.io/job-completion-index"] =
                json!((number % self.completions()).to_string());
        }
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": self.object["spec"]["template"]["spec"]})
    }
}

impl SimPod {
    pub(super) fn new(object: Value, job: Option<usize>, does: Does) -> Self {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut pod = Self { name: name.clone(), object, job, does, stage: Stage::Made, version: 1 };
        pod.object["metadata"]["uid"] = json!(format!("pod/{name}"));
        pod.object["spec"]["nodeName"] = json!("node");
        pod.show();
        pod
    }

    /// Does anything of ours hold it?
    pub(super) fn is_held(&self) -> bool {
        list(&self.object, "/spec/initContainers").any(|container| container["name"] == WAITER_CONTAINER)
    }

    pub(super) fn facts(&self) -> Option<PodFacts> {
        let pod: Pod = serde_json::from_value(self.object.clone()).ok()?;
        Some(PodFacts::of(&pod, NodeState::Alive))
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Ended(..) | Stage::Refused)
    }

    pub(super) fn turn(&mut self, stage: Stage) {
        self.stage = stage;
        self.show();
    }

    /// What the operator writes on it.
    pub(super) fn tell(&mut self, grant: &str, holds: bool) {
        self.object["metadata"]["annotations"][GRANT] = json!(grant);
        if holds {
            self.object["metadata"]["finalizers"] = json!([FINALIZER]);
        }
        self.show();
    }

    /// The status as the kubelet writes it.
    fn show(&mut self) {
        self.version += 1;
        self.object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let (phase, waiter) = match self.stage {
            Stage::Made => ("Pending", json!({"waiting": {"reason": "PodInitializing"}})),
            Stage::Waits(since) => ("Pending", json!({"running": {"startedAt": since}})),
            Stage::Runs(waited, _) => (
                "Running",
                json!({"terminated": {"exitCode": 0, "startedAt": waited, "finishedAt": waited, "containerID": "sim://waiter"}}),
            ),
            Stage::Ended(waited, _, code) => (
                if code == 0 { "Succeeded" } else { "Failed" },
                json!({"terminated": {"exitCode": 0, "startedAt": waited, "finishedAt": waited, "containerID": "sim://waiter"}}),
            ),
            Stage::Refused => {
                ("Failed", json!({"terminated": {"exitCode": 65, "containerID": "sim://waiter"}}))
            }
        };
        let main = match self.stage {
            Stage::Made | Stage::Waits(_) | Stage::Refused => {
                json!({"waiting": {"reason": "PodInitializing"}})
            }
            Stage::Runs(_, since) => json!({"running": {"startedAt": since}}),
            Stage::Ended(_, at, code) => {
                json!({"terminated": {"exitCode": code, "finishedAt": at, "containerID": "sim://main"}})
            }
        };
        let status = |container: &Value, state: &Value| {
            let id = state
                .pointer("/terminated/containerID")
                .cloned()
                .or_else(|| state.get("running").map(|_| json!("sim://main")));
            json!({"name": container["name"], "state": state, "ready": false, "restartCount": 0, "image": "", "imageID": "", "containerID": id})
        };
        let past = json!({"terminated": {"exitCode": 0, "containerID": "sim://init"}});
        let inits: Vec<_> = list(&self.object, "/spec/initContainers")
            .map(|container| {
                status(container, if container["name"] == WAITER_CONTAINER { &waiter } else { &past })
            })
            .collect();
        let mains: Vec<_> =
            list(&self.object, "/spec/containers").map(|container| status(container, &main)).collect();
        let reason = if phase == "Succeeded" { "PodCompleted" } else { "PodFailed" };
        let over = matches!(phase, "Succeeded" | "Failed");
        let conditions = if over {
            json!([{"type": "ContainersReady", "status": "False", "reason": reason}])
        } else {
            json!([])
        };
        self.object["status"] = json!({
            "phase": phase, "initContainerStatuses": inits, "containerStatuses": mains, "conditions": conditions,
        });
    }
}
