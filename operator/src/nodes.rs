//! Nodes: which of them are alive?
//!
//! A node is alive while it is Ready and its kubelet's lease in `kube-node-lease` goes on changing. Times of other
//! machines are never compared with ours: what counts is when *we* saw the lease change, on our own monotonic clock.
//! What must stay true: this decides only who may be told to start; no hold ends because a node is silent.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;

/// As long as the node controller waits (node-monitor-grace-period): the kubelet renews every 10 s.
const SILENCE: Duration = Duration::from_secs(40);

/// See the module.
#[derive(Default)]
pub(crate) struct Nodes(Mutex<HashMap<String, Known>>);

#[derive(Default)]
struct Known {
    ready: bool,
    renewed: Option<(Timestamp, Instant)>,
    /// What was told last by [`Nodes::changed`].
    told_alive: bool,
}

impl Known {
    fn alive(&self, now: Instant) -> bool {
        // Clusters without node leases are judged by Ready alone.
        self.ready && self.renewed.is_none_or(|(_, seen)| now.duration_since(seen) < SILENCE)
    }
}

impl Nodes {
    /// A node as it is now.
    pub(crate) fn set_node(&self, node: &Node) {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ready =
            conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let name = node.metadata.name.clone().unwrap_or_default();
        self.known().entry(name).or_default().ready = ready;
    }

    /// A node object that is gone.
    pub(crate) fn remove_node(&self, name: &str) {
        if let Some(known) = self.known().get_mut(name) {
            known.ready = false;
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

    /// Is that node alive?
    pub(crate) fn is_alive(&self, name: &str) -> bool {
        self.known().get(name).is_some_and(|known| known.alive(Instant::now()))
    }

    /// The nodes that came to life, or fell silent, since this was asked last.
    pub(crate) fn changed(&self) -> BTreeSet<String> {
        let now = Instant::now();
        self.known()
            .iter_mut()
            .filter_map(|(name, known)| {
                let alive = known.alive(now);
                (std::mem::replace(&mut known.told_alive, alive) != alive).then(|| name.clone())
            })
            .collect()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(ready: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n"},
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
        assert!(!nodes.is_alive("n"));
        nodes.set_node(&node("True"));
        nodes.set_lease(&lease(1));
        assert!(nodes.is_alive("n"));
        assert_eq!(nodes.changed().len(), 1);
        tokio::time::advance(Duration::from_secs(39)).await;
        nodes.set_lease(&lease(1));
        assert!(nodes.is_alive("n"));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!nodes.is_alive("n"), "the same lease again is no sign of life");
        assert_eq!(nodes.changed().len(), 1);
        assert!(nodes.changed().is_empty());
        nodes.set_lease(&lease(2));
        assert!(nodes.is_alive("n"));
        nodes.set_node(&node("Unknown"));
        assert!(!nodes.is_alive("n"));
        nodes.set_node(&node("True"));
        nodes.remove_node("n");
        assert!(!nodes.is_alive("n"));
    }
}
