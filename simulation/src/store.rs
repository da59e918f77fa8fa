//! The store: objects, revisions, and every change in its order; what etcd and the registry of an API server do.
//!
//! Memory only. What must stay true: revisions rise by one with every change and with nothing else; a write that changes
//! nothing is none; an object that is being deleted goes when its grace is over and its last finalizer is off, and takes
//! no new ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

/// What kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resource {
    Pod,
    Job,
    Node,
    NodeLease,
    Claim,
    Gate,
    WaitGroup,
    Barrier,
    Semaphore,
    RWMutex,
    Mutex,
    Lease,
    Once,
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) resource: Resource,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Actor {
    Operator(usize),
    /// Kubelets, controllers, people.
    World,
}

/// A version of an object, and its text.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) value: Value,
    pub(crate) text: String,
}

/// One change.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) actor: Actor,
    pub(crate) before: Option<Arc<Version>>,
    /// `None`: it is gone.
    pub(crate) after: Option<Arc<Version>>,
}

/// Why a write was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NotFound,
    AlreadyExists,
    Conflict(String),
    Invalid(String),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Store {
    revision: u64,
    objects: BTreeMap<Key, Arc<Version>>,
    log: Vec<Change>,
    /// Watches from before that are too old.
    compacted: u64,
    made: u64,
    pub(crate) now: Timestamp,
}

// ----------------------------------------------------------------------------------------------------- resources

const ALL: [(Resource, &str, &str, &str); 13] = [
    (Resource::Pod, "", "pods", "Pod"),
    (Resource::Job, "batch", "jobs", "Job"),
    (Resource::Node, "", "nodes", "Node"),
    (Resource::NodeLease, "coordination.k8s.io", "leases", "Lease"),
    (Resource::Claim, "konductor.io", "claims", "Claim"),
    (Resource::Gate, "konductor.io", "gates", "Gate"),
    (Resource::WaitGroup, "konductor.io", "waitgroups", "WaitGroup"),
    (Resource::Barrier, "konductor.io", "barriers", "Barrier"),
    (Resource::Semaphore, "konductor.io", "semaphores", "Semaphore"),
    (Resource::RWMutex, "konductor.io", "rwmutexes", "RWMutex"),
    (Resource::Mutex, "konductor.io", "mutexes", "Mutex"),
    (Resource::Lease, "konductor.io", "leases", "Lease"),
    (Resource::Once, "konductor.io", "onces", "Once"),
];

impl Resource {
    pub(crate) fn of_path(group: &str, plural: &str) -> Option<Self> {
        ALL.iter()
            .find(|(_, known, word, _)| *known == group && *word == plural)
            .map(|(resource, ..)| *resource)
    }

    fn names(self) -> (&'static str, &'static str) {
        ALL.iter()
            .find(|(resource, ..)| *resource == self)
            .map_or(("", ""), |(_, group, _, kind)| (group, kind))
    }

    pub(crate) fn kind(self) -> &'static str {
        self.names().1
    }

    pub(crate) fn api_version(self) -> String {
        let group = self.names().0;
        if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") }
    }

    /// One of ours that has a ledger or the like.
    pub(crate) const fn is_primitive(self) -> bool {
        !matches!(self, Self::Pod | Self::Job | Self::Node | Self::NodeLease | Self::Claim)
    }
}

impl Key {
    pub(crate) fn new(resource: Resource, name: &str) -> Self {
        let namespace = match resource {
            Resource::Node => "",
            Resource::NodeLease => "kube-node-lease",
            _ => "ns",
        };
        Self { resource, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let prefix = if self.resource == Resource::NodeLease { "Node" } else { "" };
        write!(formatter, "{prefix}{}/{}", self.resource.kind(), self.name)
    }
}

// ------------------------------------------------------------------------------------------------------- reading

impl Store {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { revision: 1000, objects: BTreeMap::new(), log: Vec::new(), compacted: 0, made: 0, now }
    }

    pub(crate) const fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) const fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Version>> {
        self.objects.get(key)
    }

    pub(crate) fn value(&self, resource: Resource, name: &str) -> Option<&Value> {
        self.objects.get(&Key::new(resource, name)).map(|version| &version.value)
    }

    pub(crate) fn list(&self, resource: Resource) -> impl Iterator<Item = (&Key, &Arc<Version>)> {
        let from = Key { resource, namespace: String::new(), name: String::new() };
        self.objects.range(from..).take_while(move |(key, _)| key.resource == resource)
    }

    /// What changed after that revision.
    pub(crate) fn since(&self, revision: u64) -> &[Change] {
        let from = self.log.partition_point(|change| change.revision <= revision);
        self.log.get(from..).unwrap_or_default()
    }

    /// Watches that begin before now begin too early.
    pub(crate) const fn compact(&mut self) {
        self.compacted = self.revision;
    }
}

// ------------------------------------------------------------------------------------------------------- writing

impl Store {
    pub(crate) fn create(
        &mut self,
        actor: Actor,
        key: &Key,
        mut value: Value,
    ) -> Result<Arc<Version>, Refused> {
        if self.objects.contains_key(key) {
            return Err(Refused::AlreadyExists);
        }
        self.made += 1;
        value["apiVersion"] = json!(key.resource.api_version());
        value["kind"] = json!(key.resource.kind());
        value["metadata"]["name"] = json!(key.name);
        if !key.namespace.is_empty() {
            value["metadata"]["namespace"] = json!(key.namespace);
        }
        value["metadata"]["uid"] =
            json!(format!("{}-{}-{}", key.resource.kind().to_lowercase(), key.name, self.made));
        value["metadata"]["creationTimestamp"] = json!(format!("{:.0}", self.now));
        value["metadata"]["generation"] = json!(1);
        Ok(self.put(actor, key, value))
    }

    /// Changes an object, on the terms of an API server. `change` gets a copy.
    pub(crate) fn update(
        &mut self,
        actor: Actor,
        key: &Key,
        change: impl FnOnce(&mut Value) -> Result<(), Refused>,
    ) -> Result<Arc<Version>, Refused> {
        let before = Arc::clone(self.objects.get(key).ok_or(Refused::NotFound)?);
        let mut value = before.value.clone();
        change(&mut value)?;
        let (was, now) = (&before.value["metadata"], &value["metadata"]);
        if was["uid"] != now["uid"] {
            return Err(Refused::Invalid("metadata.uid: field is immutable".to_owned()));
        }
        let deleting = !was["deletionTimestamp"].is_null();
        let known = was["finalizers"].as_array();
        let fresh = now["finalizers"].as_array().into_iter().flatten();
        if deleting && fresh.into_iter().any(|word| !known.is_some_and(|known| known.contains(word))) {
            return Err(Refused::Invalid(
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted"
                    .to_owned(),
            ));
        }
        // Whatever the writer said of it, these are the server's.
        value["metadata"]["resourceVersion"] = before.value["metadata"]["resourceVersion"].clone();
        if value == before.value {
            return Ok(before);
        }
        if value["spec"] != before.value["spec"] {
            let generation = before.value["metadata"]["generation"].as_u64().unwrap_or(0);
            value["metadata"]["generation"] = json!(generation + 1);
        }
        Ok(self.put(actor, key, value))
    }

    /// Deletes an object: with a grace it is only asked to end.
    pub(crate) fn delete(&mut self, actor: Actor, key: &Key, grace: u64) -> Result<(), Refused> {
        let before = Arc::clone(self.objects.get(key).ok_or(Refused::NotFound)?);
        let mut value = before.value.clone();
        let metadata = &mut value["metadata"];
        if metadata["deletionTimestamp"].is_null() {
            metadata["deletionTimestamp"] = json!(format!("{:.0}", self.now));
        }
        let known = metadata["deletionGracePeriodSeconds"].as_u64().unwrap_or(u64::MAX);
        metadata["deletionGracePeriodSeconds"] = json!(known.min(grace));
        if value != before.value {
            let generation = before.value["metadata"]["generation"].as_u64().unwrap_or(0);
            value["metadata"]["generation"] = json!(generation + 1);
            self.put(actor, key, value);
        }
        Ok(())
    }

    fn put(&mut self, actor: Actor, key: &Key, mut value: Value) -> Arc<Version> {
        self.revision += 1;
        value["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let metadata = &value["metadata"];
        let over = metadata["deletionGracePeriodSeconds"] == 0
            && metadata["finalizers"].as_array().is_none_or(Vec::is_empty);
        let version = Arc::new(Version { text: value.to_string(), value });
        let before = self.objects.get(key).cloned();
        if over {
            self.objects.remove(key);
        } else {
            self.objects.insert(key.clone(), Arc::clone(&version));
        }
        // What goes says how it went: the last version is that of the deletion.
        let (before, after) = if over {
            (before.map(|_| Arc::clone(&version)), None)
        } else {
            (before, Some(Arc::clone(&version)))
        };
        self.log.push(Change { revision: self.revision, key: key.clone(), actor, before, after });
        version
    }
}
