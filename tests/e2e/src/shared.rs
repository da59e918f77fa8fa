//! A directory that all pods of a test share, to find out from inside whether two of them ran at once.
//!
//! A counter is read, held for a moment and written back: who overlaps loses an update, however short the overlap was.
//! A heartbeat tells whether a container that should be dead still runs. The directory lies in the node's `/run`, so
//! only privileged namespaces can have it, and all its pods go to one node.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::namespace::Namespace;
use crate::workload::{Workload, has_succeeded, main, pod, until_pod};

const ROOT: &str = "/run/konductor-e2e";

/// Reads the counter, holds it for a second and writes it back raised by one; the termination log has the new value.
pub const COUNTS: &str = "\
    n=$(cat /shared/counter 2>/dev/null || echo 0); sleep 1; n=$((n + 1)); echo $n > /shared/counter; \
    printf %s $n > /dev/termination-log";

/// Beats until it is killed; SIGTERM is nothing to it.
pub const BEATS: &str = "\
    trap '' TERM; n=0; while true; do n=$((n + 1)); echo $n > /shared/heart; sleep 0.1; done";

/// Fails if a heart beats during its first second.
pub const LISTENS: &str = "\
    before=$(cat /shared/heart); sleep 1; after=$(cat /shared/heart); \
    if [ \"$before\" != \"$after\" ]; then echo 'another one still runs' > /dev/termination-log; exit 1; fi";

/// The directory of one test.
#[derive(Clone, Debug)]
pub struct Shared {
    directory: String,
    node: String,
}

impl Shared {
    /// Chooses the node; the directory is made when the first pod starts.
    pub async fn new(namespace: &Namespace) -> Result<Self> {
        let nodes = Api::<Node>::all(namespace.client().clone()).list(&ListParams::default()).await?;
        let node = nodes.into_iter().find(takes_pods).context("no node takes pods")?;
        let label = node.labels().get("kubernetes.io/hostname").context("the node has no hostname label")?;
        Ok(Self { directory: namespace.name().to_owned(), node: label.clone() })
    }

    /// Gives the directory to a workload, as `/shared`.
    pub fn with<K>(&self, workload: Workload<K>) -> Workload<K> {
        self.mounted(workload, &format!("{ROOT}/{}", self.directory))
    }

    /// The counter's value at the end; the directory is gone then.
    pub async fn sweep(&self, namespace: &Namespace) -> Result<u32> {
        let script = format!(
            "cat /shared/{0}/counter 2>/dev/null > /dev/termination-log; rm -r /shared/{0}",
            self.directory
        );
        self.mounted(pod("sweeper").runs(&script), ROOT).create(namespace).await?;
        let swept = until_pod(namespace, "sweeper", "through", has_succeeded).await?;
        let message = termination_message(&swept);
        Ok(if message.trim().is_empty() { 0 } else { message.trim().parse()? })
    }

    fn mounted<K>(&self, workload: Workload<K>, path: &str) -> Workload<K> {
        let volume = json!({"name": "shared", "hostPath": {"path": path, "type": "DirectoryOrCreate"}});
        workload
            .pod("volumes", json!([volume]))
            .pod("nodeSelector", json!({"kubernetes.io/hostname": self.node}))
            .pod("securityContext", json!({"runAsUser": 0}))
            .container("volumeMounts", json!([{"name": "shared", "mountPath": "/shared"}]))
            .container("securityContext", Value::Null)
    }
}

/// What the app container wrote to its termination log.
pub fn termination_message(pod: &Pod) -> String {
    let state = main(pod).and_then(|status| status.state.as_ref());
    state.and_then(|state| state.terminated.as_ref()?.message.clone()).unwrap_or_default()
}

fn takes_pods(node: &Node) -> bool {
    let spec = node.spec.as_ref();
    let shut = spec.is_some_and(|spec| {
        spec.unschedulable == Some(true) || spec.taints.as_ref().is_some_and(|taints| !taints.is_empty())
    });
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .is_some_and(|all| all.iter().any(|known| known.type_ == "Ready" && known.status == "True"));
    ready && !shut
}
