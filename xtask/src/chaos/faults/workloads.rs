//! Faults of the workloads: pods that hold or wait, and their Jobs, are taken away or hurt.
//!
//! May touch: the namespace of chaos, and containers of its pods. What must stay true: what is taken away is told before, so
//! that nobody waits for it.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Done, Fault, Until};
use crate::chaos::journal;
use crate::chaos::random::Random;
use crate::chaos::scene::{Scene, output};
use crate::chaos::seen::list;
use crate::chaos::work::{Form, NAMESPACE, collection};

/// Does it to one of them; `None` if there is none.
pub(super) fn inject(fault: Fault, scene: &Scene, random: &mut Random) -> Result<Option<Done>> {
    let waits = matches!(fault, Fault::WaiterDeleted | Fault::WaiterSandboxLost);
    let pods: Vec<_> = scene
        .pods()?
        .into_iter()
        .filter(|pod| if waits { is_waiting(pod) } else { is_running(pod) })
        .filter(|pod| fault != Fault::JobDeleted || owner(pod).is_some())
        .collect();
    let Some(pod) = random.choose(&pods) else { return Ok(None) };
    let name = text(&pod["metadata"]["name"])?;
    let node = text(&pod["spec"]["nodeName"])?;
    let uid = text(&pod["metadata"]["uid"])?;
    let work = owner(pod).unwrap_or(name);
    let object = scene.works().all.get(work).and_then(|work| work.objects.first().cloned());
    let object = object.with_context(|| format!("{name} is nobody's"))?;
    let tokens: Vec<_> = scene
        .journals()?
        .get(&object)
        .map(|lines| journal::holds(lines))
        .unwrap_or_default()
        .iter()
        .map(|hold| hold.token)
        .collect();
    let path = format!("{}/{name}", collection(Form::Pod));
    let bare = owner(pod).is_none();
    let takes_away = || {
        if bare {
            scene.takes_away(name);
        }
    };
    match fault {
        Fault::HolderDeleted | Fault::WaiterDeleted => {
            takes_away();
            scene.proxy.delete(&path)?;
        }
        Fault::HolderForced => {
            takes_away();
            scene.proxy.delete(&format!("{path}?gracePeriodSeconds=0"))?;
        }
        Fault::HolderEvicted => {
            takes_away();
            let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": {"name": name, "namespace": NAMESPACE}});
            scene.proxy.create(&format!("{path}/eviction"), &eviction)?;
        }
        Fault::HolderKilled => {
            let main = list(&pod["status"]["containerStatuses"]).next().context("a container")?;
            scene.signal(node, text(&main["containerID"])?, "KILL")?;
        }
        Fault::HolderSandboxLost | Fault::WaiterSandboxLost => {
            scene.signal(node, &sandbox(scene, node, uid)?, "KILL")?;
        }
        _ => {
            scene.takes_away(work);
            scene.proxy.delete(&format!("{}/{work}?propagationPolicy=Background", collection(Form::Job)))?;
        }
    }
    let until = match fault {
        Fault::WaiterDeleted => Until::Gone { pod: name.to_owned() },
        _ => Until::NextHold { object, tokens },
    };
    Ok(Some(Done { what: name.to_owned(), until }))
}

/// The container that holds a pod's namespaces.
fn sandbox(scene: &Scene, node: &str, uid: &str) -> Result<String> {
    let mut ctr = scene.command_on(node, "ctr")?;
    ctr.args(["-n", "k8s.io", "containers", "ls", "-q"]);
    ctr.arg(format!("labels.\"io.kubernetes.pod.uid\"=={uid},labels.\"io.cri-containerd.kind\"==sandbox"));
    let found = output(&mut ctr)?;
    found.lines().next().map(str::to_owned).with_context(|| format!("pod {uid} has no sandbox"))
}

fn owner(pod: &Value) -> Option<&str> {
    list(&pod["metadata"]["ownerReferences"]).find(|owner| owner["kind"] == "Job")?["name"].as_str()
}

fn is_running(pod: &Value) -> bool {
    stays(pod) && list(&pod["status"]["containerStatuses"]).any(runs)
}

fn is_waiting(pod: &Value) -> bool {
    stays(pod)
        && list(&pod["status"]["initContainerStatuses"])
            .any(|status| status["name"] == "konductor-wait" && runs(status))
}

fn stays(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
}

fn runs(status: &Value) -> bool {
    !status["state"]["running"].is_null()
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().context("a field that every pod has")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_and_who_waits_is_told_by_what_runs() {
        let running = json!({"name": "konductor-wait", "state": {"running": {}}});
        let ended = json!({"name": "konductor-wait", "state": {"terminated": {}}});
        let waits = json!({"metadata": {}, "status": {"initContainerStatuses": [running]}});
        let holds = json!({"metadata": {}, "status": {"initContainerStatuses": [ended],
            "containerStatuses": [{"name": "main", "state": {"running": {}}}]}});
        assert!(is_waiting(&waits) && !is_running(&waits));
        assert!(is_running(&holds) && !is_waiting(&holds));
        let mut leaving = holds;
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(!is_running(&leaving));
    }
}
