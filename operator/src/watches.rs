//! Watches of what gates name and nobody else here looks at: pods, deployments, any object, and namespaces for their
//! consent.
//!
//! One watch for each object that is named, from the moment a gate names it until none does; nothing is polled. What must
//! stay true: what was seen is the last thing the API server said; an object that may not be read is told apart from one
//! that is not there, with the right that is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use konductor_api::annotations::ALLOW_GATES_FROM;
use konductor_primitives::looked::ObjectFacts;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::discovery::Scope;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::task::JoinHandle;

use crate::backoff::Salt;
use crate::index::Key;
use crate::queue::Queue;

/// Before a kind that is not there is looked for again.
const NO_KIND: Duration = Duration::from_secs(30);

/// An object, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Watched {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    /// Empty for objects of the cluster.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What was seen of it last.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// There was no answer yet.
    Unknown,
    Nothing,
    Object(ObjectFacts),
    /// A namespace, and which namespaces' gates it lets look at its objects.
    Namespace(Option<String>),
    /// Why it cannot be looked at.
    Refused(String),
}

/// See the module.
pub(crate) struct Watches {
    client: Client,
    queue: Arc<Queue<Key>>,
    watched: Arc<Mutex<BTreeMap<Watched, Entry>>>,
    salt: Salt,
}

struct Entry {
    seen: Seen,
    interested: BTreeSet<Key>,
    task: JoinHandle<()>,
}

impl Watches {
    pub(crate) fn new(client: Client, queue: Arc<Queue<Key>>, salt: Salt) -> Self {
        Self { client, queue, watched: Arc::default(), salt }
    }

    /// What that gate looks at from here on.
    pub(crate) fn want(&self, gate: &Key, wanted: &BTreeSet<Watched>) {
        let mut all = self.watched();
        all.retain(|watched, entry| {
            if !wanted.contains(watched) {
                entry.interested.remove(gate);
            }
            !entry.interested.is_empty()
        });
        for watched in wanted {
            let entry = all.entry(watched.clone()).or_insert_with(|| Entry {
                seen: Seen::Unknown,
                interested: BTreeSet::new(),
                task: tokio::spawn(keep(
                    self.client.clone(),
                    watched.clone(),
                    Arc::clone(&self.watched),
                    Arc::clone(&self.queue),
                    self.salt,
                )),
            });
            entry.interested.insert(gate.clone());
        }
    }

    /// What was seen of it last.
    pub(crate) fn seen(&self, watched: &Watched) -> Seen {
        self.watched().get(watched).map_or(Seen::Unknown, |entry| entry.seen.clone())
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<Watched, Entry>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watches {
    /// They know each other, so nobody else would end them.
    fn drop(&mut self) {
        self.watched().clear();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches one object for ever.
async fn keep(
    client: Client,
    watched: Watched,
    all: Arc<Mutex<BTreeMap<Watched, Entry>>>,
    queue: Arc<Queue<Key>>,
    salt: Salt,
) {
    let tell = |seen: Seen| {
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = all.get_mut(&watched) {
            entry.seen = seen;
            entry.interested.iter().cloned().for_each(|gate| queue.add(gate));
        }
    };
    let (resource, scope) = loop {
        match resource(&client, &watched).await {
            Ok(found) => break found,
            Err(error) => {
                tracing::debug!(kind = watched.kind, %error, "a kind that a gate names was not found");
                tell(Seen::Refused(format!(
                    "the cluster has no kind {} of {} (yet)",
                    watched.kind, watched.api_version
                )));
                tokio::time::sleep(NO_KIND).await;
            }
        }
    };
    let api: Api<DynamicObject> = if scope == Scope::Cluster {
        Api::all_with(client, &resource)
    } else {
        Api::namespaced_with(client, &watched.namespace, &resource)
    };
    let mut events =
        std::pin::pin!(watcher::watch_object(api, &watched.name).backoff(salt.waits(&watched.name)));
    while let Some(event) = events.next().await {
        match event {
            Ok(None) => tell(Seen::Nothing),
            Ok(Some(object)) => tell(read(&watched, &object)),
            Err(error) if is_forbidden(&error) => tell(Seen::Refused(format!(
                "the operator may not watch {}.{}: create a ClusterRole that allows get, list and watch on them, with \
                 the label konductor.io/aggregate-to-operator: \"true\"",
                resource.plural, resource.group
            ))),
            Err(error) => {
                tracing::warn!(kind = watched.kind, %error, "a watch for a gate was interrupted; it goes on");
            }
        }
    }
}

async fn resource(client: &Client, watched: &Watched) -> Result<(ApiResource, Scope), kube::Error> {
    let (group, version) = watched.api_version.split_once('/').unwrap_or(("", watched.api_version.as_str()));
    let kind = GroupVersionKind::gvk(group, version, &watched.kind);
    // What every cluster has need not be asked for.
    if matches!(
        (group, watched.kind.as_str()),
        ("", "Pod" | "Namespace") | ("apps", "Deployment" | "StatefulSet")
    ) {
        let scope = if watched.namespace.is_empty() { Scope::Cluster } else { Scope::Namespaced };
        return Ok((ApiResource::from_gvk(&kind), scope));
    }
    kube::discovery::pinned_kind(client, &kind).await.map(|(resource, about)| (resource, about.scope))
}

fn read(watched: &Watched, object: &DynamicObject) -> Seen {
    if watched.kind == "Namespace" {
        let annotations = object.metadata.annotations.as_ref();
        return Seen::Namespace(annotations.and_then(|all| all.get(ALLOW_GATES_FROM)).cloned());
    }
    match serde_json::to_value(object) {
        Ok(value) => Seen::Object(ObjectFacts::of(&value)),
        Err(error) => Seen::Refused(format!("it cannot be read: {error}")),
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))
    | watcher::Error::WatchFailed(kube::Error::Api(status))
    | watcher::Error::WatchError(status)) = error
    else {
        return false;
    };
    status.code == 403
}
