//! The cluster: the store, what really runs on the nodes, and who looks over everybody's shoulder.
//!
//! Everything in it happens at once and in one order. What must stay true: every change passes [`Cluster::digest`], which
//! rings the bells of the watches and lets the history check it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::check;
use crate::history::History;
use crate::kubelet::Body;
use crate::node::Machine;
use crate::store::{Actor, Key, Refused, Resource, Store};

/// See the module.
pub(crate) struct Cluster {
    pub(crate) store: Store,
    /// By UID: what runs, or ran, in each pod that reached a node.
    pub(crate) bodies: BTreeMap<String, Body>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) history: History,
    epoch: Timestamp,
    since: Instant,
    bells: BTreeMap<Resource, watch::Sender<u64>>,
}

/// The cluster, as several hold it.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Cluster>>);

impl Shared {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self(Arc::new(Mutex::new(cluster)))
    }

    /// Never held while anybody waits.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Cluster> {
        let mut cluster = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cluster.store.now = cluster.now();
        cluster
    }
}

impl Cluster {
    pub(crate) fn new(epoch: Timestamp, machines: Vec<Machine>, history: History) -> Self {
        Self {
            store: Store::new(epoch),
            bodies: BTreeMap::new(),
            machines,
            history,
            epoch,
            since: Instant::now(),
            bells: BTreeMap::new(),
        }
    }

    /// How far the story has come.
    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// The time of the API server.
    pub(crate) fn now(&self) -> Timestamp {
        self.epoch + self.age()
    }

    pub(crate) fn create(
        &mut self,
        actor: Actor,
        key: &Key,
        value: Value,
    ) -> Result<Arc<crate::store::Version>, Refused> {
        let from = self.store.revision();
        let outcome = self.store.create(actor, key, value);
        self.digest(from);
        outcome
    }

    pub(crate) fn update(
        &mut self,
        actor: Actor,
        key: &Key,
        change: impl FnOnce(&mut Value) -> Result<(), Refused>,
    ) -> Result<Arc<crate::store::Version>, Refused> {
        let from = self.store.revision();
        let outcome = self.store.update(actor, key, change);
        self.digest(from);
        outcome
    }

    /// Kubelets, controllers and people are not refused anything that they do here.
    pub(crate) fn change(&mut self, key: &Key, change: impl FnOnce(&mut Value)) -> bool {
        let changed = |value: &mut Value| {
            change(value);
            Ok(())
        };
        self.update(Actor::World, key, changed).is_ok()
    }

    pub(crate) fn delete(&mut self, actor: Actor, key: &Key, grace: u64) -> Result<(), Refused> {
        let from = self.store.revision();
        let outcome = self.store.delete(actor, key, grace);
        self.digest(from);
        outcome
    }

    fn digest(&mut self, from: u64) {
        let changes: Vec<_> = self.store.since(from).to_vec();
        for change in changes {
            self.history.tell(self.since.elapsed(), &change);
            check::change(self, &change);
            if let Some(bell) = self.bells.get(&change.key.resource) {
                bell.send_replace(change.revision);
            }
        }
    }

    /// Rings when something of that kind has changed.
    pub(crate) fn bell(&mut self, resource: Resource) -> watch::Receiver<u64> {
        self.bells.entry(resource).or_insert_with(|| watch::channel(0).0).subscribe()
    }
}
