//! Which primitives exist: for a warning, and for nothing else.
//!
//! May touch: watches of metadata, all namespaces; no spec or status is read, so no version of a type can break it.
//! What must stay true: what is not known is never called missing, and no admission waits for this.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use futures::StreamExt;
use konductor_api::barrier::Barrier;
use konductor_api::gate::Gate;
use konductor_api::lease::Lease;
use konductor_api::mutex::Mutex;
use konductor_api::once::Once;
use konductor_api::participation::{Kind, PrimitiveRef};
use konductor_api::rwmutex::RWMutex;
use konductor_api::semaphore::Semaphore;
use konductor_api::waitgroup::WaitGroup;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// Tells what does not exist.
pub trait Names: Send + Sync {
    /// Is it known that there is no such primitive?
    fn is_missing(&self, namespace: &str, primitive: &PrimitiveRef) -> bool;
}

/// The names of all primitives, kept by watches.
#[derive(Debug, Default)]
pub struct KnownNames {
    gates: Known,
    waitgroups: Known,
    barriers: Known,
    semaphores: Known,
    rwmutexes: Known,
    mutexes: Known,
    leases: Known,
    onces: Known,
}

/// The names of one kind, as `namespace/name`.
#[derive(Debug, Default)]
struct Known {
    complete: AtomicBool,
    names: RwLock<HashSet<String>>,
}

// --------------------------------------------------------------------------------------------------- answering

impl Names for KnownNames {
    fn is_missing(&self, namespace: &str, primitive: &PrimitiveRef) -> bool {
        let known = self.of(primitive.kind);
        known.is_complete() && !known.has(&key(namespace, &primitive.name))
    }
}

impl KnownNames {
    const fn of(&self, kind: Kind) -> &Known {
        match kind {
            Kind::Gate => &self.gates,
            Kind::WaitGroup => &self.waitgroups,
            Kind::Barrier => &self.barriers,
            Kind::Semaphore => &self.semaphores,
            Kind::RWMutex => &self.rwmutexes,
            Kind::Mutex => &self.mutexes,
            Kind::Lease => &self.leases,
            Kind::Once => &self.onces,
        }
    }

    /// Has everything been listed once?
    pub fn is_complete(&self) -> bool {
        Kind::ALL.into_iter().all(|kind| self.of(kind).is_complete())
    }

    /// Watches for ever. A failure is logged and tried again.
    pub async fn keep(&self, client: Client) -> Infallible {
        let never = tokio::join!(
            self.gates.keep::<Gate>(client.clone()),
            self.waitgroups.keep::<WaitGroup>(client.clone()),
            self.barriers.keep::<Barrier>(client.clone()),
            self.semaphores.keep::<Semaphore>(client.clone()),
            self.rwmutexes.keep::<RWMutex>(client.clone()),
            self.mutexes.keep::<Mutex>(client.clone()),
            self.leases.keep::<Lease>(client.clone()),
            self.onces.keep::<Once>(client),
        );
        never.0
    }
}

impl Known {
    fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    fn has(&self, key: &str) -> bool {
        self.names.read().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    async fn keep<K>(&self, client: Client) -> Infallible
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        loop {
            let all = Api::<PartialObjectMeta<K>>::all(client.clone());
            let mut events = pin!(watcher(all, watcher::Config::default()).default_backoff());
            let mut listed = HashSet::new();
            let mut told = false;
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        told = false;
                        self.apply(event, &mut listed);
                    }
                    // Once per outage.
                    Err(error) if !told => {
                        told = true;
                        tracing::warn!(resource = %K::plural(&()), "names cannot be watched, no warnings about missing ones: {error}");
                    }
                    Err(error) => {
                        tracing::debug!(resource = %K::plural(&()), "names cannot be watched: {error}");
                    }
                }
            }
        }
    }

    /// `listed` collects the names of a listing that is under way; until it is done, the old names count.
    fn apply<K>(&self, event: watcher::Event<PartialObjectMeta<K>>, listed: &mut HashSet<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        let key_of = |object: &PartialObjectMeta<K>| {
            key(object.metadata.namespace.as_deref().unwrap_or_default(), &object.name_any())
        };
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            watcher::Event::Init => listed.clear(),
            watcher::Event::InitApply(object) => {
                listed.insert(key_of(&object));
            }
            watcher::Event::InitDone => {
                *names = std::mem::take(listed);
                self.complete.store(true, Ordering::Release);
            }
            watcher::Event::Apply(object) => {
                names.insert(key_of(&object));
            }
            watcher::Event::Delete(object) => {
                names.remove(&key_of(&object));
            }
        }
    }
}

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectMeta, PartialObjectMetaExt};
    use watcher::Event;

    use super::*;

    fn gate(name: &str) -> PartialObjectMeta<Gate> {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("shop".to_owned()),
            ..ObjectMeta::default()
        };
        metadata.into_response_partial::<Gate>()
    }

    fn missing(names: &KnownNames, namespace: &str, name: &str) -> bool {
        names.is_missing(namespace, &PrimitiveRef { kind: Kind::Gate, name: name.to_owned() })
    }

    #[test]
    fn nothing_is_missing_before_the_first_listing_is_complete() {
        let (names, mut listed) = (KnownNames::default(), HashSet::new());
        names.gates.apply::<Gate>(Event::Init, &mut listed);
        names.gates.apply(Event::InitApply(gate("a")), &mut listed);
        assert!(!missing(&names, "shop", "b") && !names.is_complete());
        names.gates.apply::<Gate>(Event::InitDone, &mut listed);
        assert!(missing(&names, "shop", "b") && !missing(&names, "shop", "a"));
        assert!(missing(&names, "other", "a"), "names count in their namespace");
        assert!(!names.is_complete(), "the mutexes are still unknown");
    }

    #[test]
    fn changes_are_followed_and_a_new_listing_takes_the_place_of_the_old_one() {
        let (names, mut listed) = (KnownNames::default(), HashSet::new());
        names.gates.apply::<Gate>(Event::InitDone, &mut listed);
        names.gates.apply(Event::Apply(gate("a")), &mut listed);
        assert!(!missing(&names, "shop", "a"));
        names.gates.apply(Event::Delete(gate("a")), &mut listed);
        assert!(missing(&names, "shop", "a"));
        names.gates.apply(Event::Apply(gate("a")), &mut listed);
        names.gates.apply::<Gate>(Event::Init, &mut listed);
        assert!(!missing(&names, "shop", "a"), "the old names count while the new ones come in");
        names.gates.apply::<Gate>(Event::InitDone, &mut listed);
        assert!(missing(&names, "shop", "a"));
    }
}
