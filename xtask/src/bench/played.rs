//! A node whose kubelet this process plays, so that two cores carry thousands of pods: nothing runs there, and the API
//! server, the webhook and the operator have as much to do as if it did.
//!
//! May touch: one Node, and pods that name it. What must stay true: no real pod is ever placed there; while the
//! [`PlayedNode`] lives the node counts as alive, and afterwards it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};

use super::manifests::NAMESPACE;
use crate::proxy::Proxy;

const NAME: &str = "konductor-bench";
const NODE: &str = "/api/v1/nodes/konductor-bench";
/// A node that says nothing for 40 s counts as silent.
const BEAT: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(100);
/// Calls at once: more only wait for each other on the API server.
const HANDS: usize = 16;

/// See the module.
pub(super) struct PlayedNode {
    proxy: Arc<Proxy>,
    over: Arc<AtomicBool>,
    heart: Option<JoinHandle<()>>,
}

impl PlayedNode {
    /// A node that is alive from here on.
    pub(super) fn start(proxy: &Arc<Proxy>) -> Result<Self> {
        proxy.remove(NODE)?;
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME},
            "spec": {"taints": [{"key": "konductor.io/bench", "effect": "NoExecute"}]},
        });
        proxy.create("/api/v1/nodes", &node)?;
        beat(proxy)?;
        let over = Arc::new(AtomicBool::new(false));
        let heart = {
            let (proxy, over) = (Arc::clone(proxy), Arc::clone(&over));
            spawn(move || {
                let mut last = Instant::now();
                while !over.load(Ordering::Relaxed) {
                    if last.elapsed() >= BEAT && beat(&proxy).is_ok() {
                        last = Instant::now();
                    }
                    sleep(STEP);
                }
            })
        };
        Ok(Self { proxy: Arc::clone(proxy), over, heart: Some(heart) })
    }

    /// Creates a pod there, through admission, and its waiter runs.
    pub(super) fn place(&self, name: &str, annotation: (&str, &str)) -> Result<()> {
        self.proxy.create(&pods(), &pod(name, annotation))?;
        self.starts_waiting(name)
    }

    /// Creates a pod there whose waiter does not run yet.
    pub(super) fn bind(&self, name: &str, annotation: (&str, &str)) -> Result<()> {
        self.proxy.create(&pods(), &pod(name, annotation)).map(drop)
    }

    /// The waiter of that pod runs.
    pub(super) fn starts_waiting(&self, name: &str) -> Result<()> {
        let (now, waiting) = (now(), json!({"waiting": {"reason": "PodInitializing"}}));
        let status = json!({
            "phase": "Pending",
            "initContainerStatuses": [container("konductor-wait", &json!({"running": {"startedAt": now}}))],
            "containerStatuses": [container("main", &waiting)],
        });
        self.proxy.merge(&status_of(name), &json!({"status": status})).map(drop)
    }

    /// It ran, and is over: the kubelet's last word, as a pod shows it some seconds after its main has ended.
    pub(super) fn ends(&self, pod: &Value) -> Result<()> {
        let name = pod["metadata"]["name"].as_str().context("a pod has a name")?;
        let started = &pod["status"]["initContainerStatuses"][0]["state"]["running"]["startedAt"];
        let now = now();
        let ended = |from: &Value| json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": from, "finishedAt": now}});
        let status = json!({
            "phase": "Succeeded",
            "conditions": [
                {"type": "ContainersReady", "status": "False", "reason": "PodCompleted", "lastTransitionTime": now},
            ],
            "initContainerStatuses": [container("konductor-wait", &ended(started))],
            "containerStatuses": [container("main", &ended(&json!(now)))],
        });
        self.proxy.merge(&status_of(name), &json!({"status": status})).map(drop)
    }

    /// Removes its pods; those that were told keep a finalizer until the operator has seen them end.
    pub(super) fn clear(&self) -> Result<()> {
        self.proxy.delete(&format!("{}?gracePeriodSeconds=0", pods()))
    }
}

impl Drop for PlayedNode {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(heart) = self.heart.take() {
            let _ = heart.join();
        }
        let _ = self.proxy.delete(NODE);
    }
}

/// Does it to everybody, several at once.
pub(super) fn each<T: Sync>(all: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                        work(one)?;
                    }
                    Ok(())
                })
            })
            .collect();
        hands.into_iter().try_for_each(|hand| hand.join().map_err(|_| anyhow!("a thread panicked"))?)
    })
}

/// Where the pods are.
pub(super) fn pods() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

/// Was it told to start?
pub(super) fn is_told(pod: &Value) -> bool {
    pod["metadata"]["annotations"]["konductor.io/grant"].as_str().is_some_and(|grant| grant.ends_with(" go"))
}

fn beat(proxy: &Proxy) -> Result<()> {
    let ready = json!([{
        "type": "Ready", "status": "True", "reason": "Played", "lastHeartbeatTime": now(),
        "lastTransitionTime": "2020-01-01T00:00:00Z",
    }]);
    proxy.merge(&format!("{NODE}/status"), &json!({"status": {"conditions": ready}})).map(drop)
}

fn pod(name: &str, (key, value): (&str, &str)) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "annotations": {key: value}},
        "spec": {
            "nodeName": NAME,
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "image": "busybox:1.36"}],
        },
    })
}

fn container(name: &str, state: &Value) -> Value {
    let mut status = json!({
        "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    });
    if state.get("waiting").is_none() {
        status["containerID"] = json!(format!("played://{name}"));
    }
    status
}

fn status_of(name: &str) -> String {
    format!("{}/{name}/status", pods())
}

/// The time, as the API has it: to the second.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn everybody_is_worked_on_once_and_an_error_is_told() {
        let all: Vec<_> = (0..1000).collect();
        let seen = Mutex::new(Vec::new());
        each(&all, |number| {
            seen.lock().unwrap().push(*number);
            Ok(())
        })
        .unwrap();
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, all);
        assert!(each(&all, |number| if *number == 7 { Err(anyhow!("seven")) } else { Ok(()) }).is_err());
    }

    #[test]
    fn a_grant_tells() {
        let pod = |grant: &str| json!({"metadata": {"annotations": {"konductor.io/grant": grant}}});
        assert!(is_told(&pod("v1 u 1 5 go")) && !is_told(&pod("v1 u 1 5 released")) && !is_told(&json!({})));
    }
}
