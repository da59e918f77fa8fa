//! Nodes: which of them are alive, and for which does somebody vouch that they are off?
//!
//! A node is alive while it is Ready and its kubelet's lease in `kube-node-lease` goes on changing. Times of other
//! machines are never compared with ours: what counts is when *we* saw the lease change, on our own monotonic clock.
//! What must stay true: silence decides only who may be told to start, no hold ends by it; a node counts as gone only
//! when the API server itself said so twice, a quarantine apart, and nothing was seen of it between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use konductor_primitives::facts::NodeState;
use kube::{Api, Client};
use tokio::time::Instant;

use crate::client::call;

/// As long as the node controller waits (node-monitor-grace-period): the kubelet renews every 10 s.
const SILENCE: Duration = Duration::from_secs(40);
/// As long as the pod garbage collector waits before it believes that a node is gone.
const QUARANTINE: Duration = Duration::from_secs(40);
/// By which an administrator says that the machine is off.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// See the module.
#[derive(Default)]
pub(crate) struct Nodes(Mutex<BTreeMap<String, Known>>);

#[derive(Default)]
struct Known {
    ready: bool,
    out_of_service: bool,
    renewed: Option<(Timestamp, Instant)>,
    absence: Absence,
    /// What was told last by [`Nodes::changed`].
    told: Option<NodeState>,
}

/// How far we know that a node is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Absence {
    /// It is there, or nobody has asked.
    #[default]
    None,
    /// The watch does not show it.
    Suspected,
    /// The API server said so, then.
    Said(Instant),
    /// It said so again, a quarantine later.
    Confirmed,
}

impl Known {
    fn state(&self, now: Instant) -> NodeState {
        // Clusters without node leases are judged by Ready alone.
        let heard_from = self.renewed.is_none_or(|(_, seen)| now.duration_since(seen) < SILENCE);
        match (self.ready, self.absence) {
            (_, Absence::Confirmed) => NodeState::Gone,
            (true, _) if heard_from => NodeState::Alive,
            (false, _) if self.out_of_service => NodeState::OutOfService,
            _ => NodeState::Silent,
        }
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn is_tainted(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.into_iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

/// Does an administrator say that it is off, and is it not Ready?
pub(crate) fn is_out_of_service(node: &Node) -> bool {
    is_tainted(node) && !is_ready(node)
}

impl Nodes {
    /// A node as it is now.
    pub(crate) fn set_node(&self, node: &Node) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let mut nodes = self.known();
        let known = nodes.entry(name).or_default();
        known.ready = is_ready(node);
        known.out_of_service = is_tainted(node);
        known.absence = Absence::None;
    }

    /// A node object that is gone, as far as the watch tells.
    pub(crate) fn remove_node(&self, name: &str) {
        if let Some(known) = self.known().get_mut(name) {
            known.ready = false;
            known.out_of_service = false;
            if known.absence == Absence::None {
                known.absence = Absence::Suspected;
            }
        }
    }

    /// A node's lease as it is now.
    pub(crate) fn set_lease(&self, lease: &Lease) {
        let Some(renewed) = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()) else { return };
        let name = lease.metadata.name.clone().unwrap_or_default();
        let mut nodes = self.known();
        let known = nodes.entry(name).or_default();
        if known.renewed.is_none_or(|(at, _)| at != renewed.0) {
            known.renewed = Some((renewed.0, Instant::now()));
        }
    }

    /// What is known of that node. One that was never seen is looked for.
    pub(crate) fn state(&self, name: &str) -> NodeState {
        let mut nodes = self.known();
        let known = nodes
            .entry(name.to_owned())
            .or_insert_with(|| Known { absence: Absence::Suspected, ..Known::default() });
        known.state(Instant::now())
    }

    /// The nodes of which other things are known than when this was asked last.
    pub(crate) fn changed(&self) -> BTreeSet<String> {
        let now = Instant::now();
        self.known()
            .iter_mut()
            .filter_map(|(name, known)| {
                let state = known.state(now);
                (known.told.replace(state) != Some(state)).then(|| name.clone())
            })
            .collect()
    }

    /// Asks the API server about the nodes that the watch does not show, where it is time to. A failure is no answer.
    pub(crate) async fn look_for_missing(&self, client: &Client) {
        for name in self.to_look_for() {
            let api: Api<Node> = Api::all(client.clone());
            match call(api.get_metadata_opt(&name)).await {
                Ok(found) => self.looked(&name, found.is_some()),
                Err(error) => tracing::debug!(node = name, %error, "whether it is gone could not be asked"),
            }
        }
    }

    fn to_look_for(&self) -> Vec<String> {
        let now = Instant::now();
        let is_time = |absence: Absence| match absence {
            Absence::Suspected => true,
            Absence::Said(at) => now.duration_since(at) >= QUARANTINE,
            Absence::None | Absence::Confirmed => false,
        };
        let nodes = self.known();
        nodes.iter().filter(|(_, known)| is_time(known.absence)).map(|(name, _)| name.clone()).collect()
    }

    fn looked(&self, name: &str, there: bool) {
        let mut nodes = self.known();
        let Some(known) = nodes.get_mut(name) else { return };
        known.absence = match known.absence {
            Absence::None => Absence::None,
            _ if there => Absence::None,
            Absence::Suspected => Absence::Said(Instant::now()),
            Absence::Said(_) | Absence::Confirmed => Absence::Confirmed,
        };
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(ready: &str, taint: Option<&str>) -> Node {
        let taints: Vec<_> = taint.iter().map(|key| json!({"key": key, "effect": "NoExecute"})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": "n"},
            "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    fn lease(second: u8) -> Lease {
        serde_json::from_value(json!({
            "metadata": {"name": "n"},
            "spec": {"renewTime": format!("2001-01-01T00:00:{second:02}.000000Z")},
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_alive_while_it_is_ready_and_its_lease_changes_whatever_its_clock_says() {
        let nodes = Nodes::default();
        assert_eq!(nodes.state("n"), NodeState::Silent);
        nodes.set_node(&node("True", None));
        nodes.set_lease(&lease(1));
        assert_eq!(nodes.state("n"), NodeState::Alive);
        assert_eq!(nodes.changed().len(), 1);
        tokio::time::advance(Duration::from_secs(39)).await;
        nodes.set_lease(&lease(1));
        assert_eq!(nodes.state("n"), NodeState::Alive);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(nodes.state("n"), NodeState::Silent, "the same lease again is no sign of life");
        assert_eq!(nodes.changed().len(), 1);
        assert!(nodes.changed().is_empty());
        nodes.set_lease(&lease(2));
        assert_eq!(nodes.state("n"), NodeState::Alive);
        nodes.set_node(&node("Unknown", None));
        assert_eq!(nodes.state("n"), NodeState::Silent);
        nodes.set_node(&node("True", None));
        nodes.remove_node("n");
        assert_eq!(nodes.state("n"), NodeState::Silent);
    }

    #[tokio::test]
    async fn a_taint_says_that_it_is_off_only_while_it_is_not_ready() {
        let nodes = Nodes::default();
        nodes.set_node(&node("True", Some(OUT_OF_SERVICE)));
        assert_eq!(nodes.state("n"), NodeState::Alive);
        nodes.set_node(&node("Unknown", Some(OUT_OF_SERVICE)));
        assert_eq!(nodes.state("n"), NodeState::OutOfService);
        nodes.set_node(&node("Unknown", Some("node.kubernetes.io/unreachable")));
        assert_eq!(nodes.state("n"), NodeState::Silent);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_gone_when_that_was_said_twice_a_quarantine_apart() {
        let nodes = Nodes::default();
        nodes.set_node(&node("True", None));
        nodes.remove_node("n");
        assert_eq!(nodes.to_look_for(), ["n"]);
        nodes.looked("n", false);
        assert!(nodes.to_look_for().is_empty());
        tokio::time::advance(QUARANTINE).await;
        assert_eq!(nodes.state("n"), NodeState::Silent);
        nodes.looked("n", false);
        assert_eq!(nodes.state("n"), NodeState::Gone);
        nodes.set_node(&node("True", None));
        assert_eq!(nodes.state("n"), NodeState::Alive, "it came back");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_within_the_quarantine_was_never_gone() {
        let nodes = Nodes::default();
        assert_eq!(nodes.state("n"), NodeState::Silent, "a pod names a node that was never seen");
        nodes.looked("n", false);
        nodes.set_node(&node("Unknown", None));
        tokio::time::advance(QUARANTINE).await;
        assert!(nodes.to_look_for().is_empty());
        nodes.remove_node("n");
        nodes.looked("n", false);
        assert_eq!(nodes.state("n"), NodeState::Silent, "the quarantine begins anew");
    }
}
