//! The report: the status of a pod as its kubelet writes it.
//!
//! Pure. What must stay true: it looks as a kubelet of 1.36 writes it, as far as evidence looks at it; conditions of others
//! stay.

use jiff::{SignedDuration, Timestamp};
use konductor_api::annotations::{HOLD_CONTAINER, WAITER_CONTAINER};
use serde_json::{Value, json};

use crate::kubelet::{Body, Container, Ended, Run};

/// The times of one machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) epoch: Timestamp,
    /// How far it is off.
    pub(crate) skew: SignedDuration,
}

impl Clock {
    pub(crate) fn at(self, age: std::time::Duration) -> Timestamp {
        self.epoch + age + self.skew
    }

    fn text(self, age: std::time::Duration) -> String {
        second(self.at(age).as_second())
    }
}

fn second(second: i64) -> String {
    format!("{:.0}", Timestamp::from_second(second).unwrap_or_default())
}

/// The status of that pod, over what is there.
pub(crate) fn write(body: &Body, clock: Clock, pod: &mut Value) {
    // What is final stays so, whoever said it.
    let known = pod["status"]["phase"].as_str().filter(|phase| matches!(*phase, "Succeeded" | "Failed"));
    let phase = match body.terminal {
        _ if known.is_some() => known.unwrap_or_default(),
        Some(true) => "Succeeded",
        Some(false) => "Failed",
        None if body.apps.iter().any(|app| !app.runs.is_empty()) => "Running",
        None => "Pending",
    }
    .to_owned();
    let waiter = body.waiter.last();
    let waiter_state = match waiter {
        None => json!({"waiting": {"reason": "PodInitializing"}}),
        Some((started, Run { ended: None, .. })) => json!({"running": {"startedAt": second(*started)}}),
        Some((started, Run { ended: Some(ended), id, .. })) => {
            terminated(ended, id, &second(*started), &second(clock.at(ended.at).as_second().max(*started)))
        }
    };
    // Here it renews nothing: it comes with the waiter and goes with the pod.
    let sidecar_state = match (waiter, body.terminal) {
        (None, None) => json!({"waiting": {"reason": "PodInitializing"}}),
        (Some((started, _)), None) => json!({"running": {"startedAt": second(*started)}}),
        (_, Some(_)) => json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
    };
    let waiter_id = waiter.map(|(_, run)| run.id.clone());
    let mut inits = vec![status(WAITER_CONTAINER, waiter_id.as_deref(), &waiter_state, body.waiter.len())];
    inits.extend(body.sidecar.then(|| status(HOLD_CONTAINER, None, &sidecar_state, body.waiter.len())));
    inits.extend(body.init.iter().map(|init| container(init, clock)));
    let apps: Vec<_> = body.apps.iter().map(|app| container(app, clock)).collect();
    pod["status"]["initContainerStatuses"] = json!(inits);
    pod["status"]["containerStatuses"] = json!(apps);
    pod["status"]["phase"] = json!(phase);
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let mut conditions: Vec<_> =
        conditions.into_iter().filter(|condition| condition["type"] != "ContainersReady").collect();
    if body.terminal.is_some() {
        let reason = if phase == "Succeeded" { "PodCompleted" } else { "PodFailed" };
        conditions.push(json!({"type": "ContainersReady", "status": "False", "reason": reason}));
    }
    pod["status"]["conditions"] = json!(conditions);
}

fn container(container: &Container, clock: Clock) -> Value {
    let run = container.runs.last();
    let state = match run {
        None => json!({"waiting": {"reason": "PodInitializing"}}),
        Some(Run { started, ended: None, .. }) => json!({"running": {"startedAt": clock.text(*started)}}),
        Some(Run { started, ended: Some(ended), id, .. }) => {
            terminated(ended, id, &clock.text(*started), &clock.text(ended.at))
        }
    };
    let mut status = status(&container.name, run.map(|run| run.id.as_str()), &state, container.runs.len());
    if let [.., Run { started, ended: Some(ended), id, .. }, _] = container.runs.as_slice() {
        status["lastState"] = terminated(ended, id, &clock.text(*started), &clock.text(ended.at));
    }
    status
}

fn terminated(ended: &Ended, id: &str, started: &str, finished: &str) -> Value {
    let reason = match (ended.seen, ended.code) {
        (false, _) => "Unknown",
        (true, 0) => "Completed",
        (true, _) => "Error",
    };
    json!({"terminated": {
        "exitCode": ended.code, "reason": reason, "startedAt": started, "finishedAt": finished, "containerID": id,
    }})
}

fn status(name: &str, id: Option<&str>, state: &Value, runs: usize) -> Value {
    let mut status = json!({
        "name": name, "state": state, "ready": false, "restartCount": runs.saturating_sub(1), "image": "", "imageID": "",
    });
    if let Some(id) = id {
        status["containerID"] = json!(id);
    }
    status
}
