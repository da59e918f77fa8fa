//! Which primitives exist, and which of them have a ttl: for a warning, for the sidecar, and for nothing else.
//!
//! May touch: watches in all namespaces, of metadata where that is enough. Of a spec it is only read whether there is a
//! ttl, so no version of a type can break it. What must stay true: what is not known is never called missing and has no
//! ttl, and no admission waits for this.

use std::borrow::Cow;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use futures::StreamExt;
use jiff::Timestamp;
use konductor_api::barrier::Barrier;
use konductor_api::gate::Gate;
use konductor_api::lease::Lease;
use konductor_api::mutex::Mutex;
use konductor_api::once::Once;
use konductor_api::participation::{Kind, PrimitiveRef};
use konductor_api::rwmutex::RWMutex;
use konductor_api::semaphore::Semaphore;
use konductor_api::waitgroup::WaitGroup;
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::waiter::Settings;

/// Tells what does not exist, and what has a ttl.
pub trait Names: Send + Sync {
    /// Is it known that there is no such primitive?
    fn is_missing(&self, namespace: &str, primitive: &PrimitiveRef) -> bool;

    /// Is it known that it has a ttl? Of a Lease it need not be: that always has one, or may get one.
    fn has_ttl(&self, _namespace: &str, _primitive: &PrimitiveRef) -> bool {
        false
    }
}

/// Knows nothing, so nothing is missing.
#[derive(Clone, Copy, Debug)]
pub struct Unknown;

impl Names for Unknown {
    fn is_missing(&self, _: &str, _: &PrimitiveRef) -> bool {
        false
    }
}

/// What counts for an object and does not stand in it.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// What the installation says.
    pub settings: &'a Settings,
    /// What exists.
    pub names: &'a dyn Names,
    /// Where the object is.
    pub namespace: &'a str,
    /// The wall clock.
    pub now: Timestamp,
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

/// The names of one kind, as `namespace/name`, and whether there is a ttl.
#[derive(Debug, Default)]
struct Known {
    complete: AtomicBool,
    names: RwLock<Listed>,
}

type Listed = HashMap<String, bool>;

/// An object, as much of it as is looked at.
trait Seen: Resource<DynamicType = ()> {
    fn has_ttl(&self) -> bool;
}

/// A primitive of that kind, of which the ttl is looked at.
#[derive(Deserialize)]
#[serde(bound = "")]
struct WithTtl<K> {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Option<TtlSpec>,
    #[serde(skip)]
    kind: PhantomData<fn() -> K>,
}

/// Whatever stands there: what cannot be read as a duration has been refused.
#[derive(Clone, Debug, Deserialize)]
struct TtlSpec {
    #[serde(default)]
    ttl: Option<IgnoredAny>,
}

// --------------------------------------------------------------------------------------------------- answering

impl Names for KnownNames {
    fn is_missing(&self, namespace: &str, primitive: &PrimitiveRef) -> bool {
        let known = self.of(primitive.kind);
        known.is_complete() && known.get(&key(namespace, &primitive.name)).is_none()
    }

    fn has_ttl(&self, namespace: &str, primitive: &PrimitiveRef) -> bool {
        self.of(primitive.kind).get(&key(namespace, &primitive.name)) == Some(true)
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
            self.gates.keep::<PartialObjectMeta<Gate>>(client.clone()),
            self.waitgroups.keep::<PartialObjectMeta<WaitGroup>>(client.clone()),
            self.barriers.keep::<PartialObjectMeta<Barrier>>(client.clone()),
            self.semaphores.keep::<WithTtl<Semaphore>>(client.clone()),
            self.rwmutexes.keep::<WithTtl<RWMutex>>(client.clone()),
            self.mutexes.keep::<WithTtl<Mutex>>(client.clone()),
            self.leases.keep::<PartialObjectMeta<Lease>>(client.clone()),
            self.onces.keep::<PartialObjectMeta<Once>>(client),
        );
        never.0
    }
}

impl Known {
    fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Whether it has a ttl, if it exists.
    fn get(&self, key: &str) -> Option<bool> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    async fn keep<K>(&self, client: Client) -> Infallible
    where
        K: Seen + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        loop {
            let all = Api::<K>::all(client.clone());
            let mut events = pin!(watcher(all, watcher::Config::default()).default_backoff());
            let mut listed = Listed::new();
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
    fn apply<K: Seen>(&self, event: watcher::Event<K>, listed: &mut Listed) {
        let key_of =
            |object: &K| key(object.meta().namespace.as_deref().unwrap_or_default(), &object.name_any());
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            watcher::Event::Init => listed.clear(),
            watcher::Event::InitApply(object) => {
                listed.insert(key_of(&object), object.has_ttl());
            }
            watcher::Event::InitDone => {
                *names = std::mem::take(listed);
                self.complete.store(true, Ordering::Release);
            }
            watcher::Event::Apply(object) => {
                names.insert(key_of(&object), object.has_ttl());
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

// ----------------------------------------------------------------------------------------------------- looking

impl<K: Resource<DynamicType = ()>> Seen for PartialObjectMeta<K> {
    fn has_ttl(&self) -> bool {
        false
    }
}

impl<K: Resource<DynamicType = ()>> Seen for WithTtl<K> {
    fn has_ttl(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.ttl.is_some())
    }
}

// Not derived: that would ask the same of the kind, which is a name here and nothing more.
impl<K> Clone for WithTtl<K> {
    fn clone(&self) -> Self {
        Self { metadata: self.metadata.clone(), spec: self.spec.clone(), kind: PhantomData }
    }
}

impl<K> Debug for WithTtl<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WithTtl")
            .field("name", &self.metadata.name)
            .field("spec", &self.spec)
            .finish()
    }
}

impl<K: Resource<DynamicType = ()>> Resource for WithTtl<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use kube::core::PartialObjectMetaExt;
    use serde_json::json;
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
        let (names, mut listed) = (KnownNames::default(), Listed::new());
        names.gates.apply::<PartialObjectMeta<Gate>>(Event::Init, &mut listed);
        names.gates.apply(Event::InitApply(gate("a")), &mut listed);
        assert!(!missing(&names, "shop", "b") && !names.is_complete());
        names.gates.apply::<PartialObjectMeta<Gate>>(Event::InitDone, &mut listed);
        assert!(missing(&names, "shop", "b") && !missing(&names, "shop", "a"));
        assert!(missing(&names, "other", "a"), "names count in their namespace");
        assert!(!names.is_complete(), "the mutexes are still unknown");
    }

    #[test]
    fn changes_are_followed_and_a_new_listing_takes_the_place_of_the_old_one() {
        let (names, mut listed) = (KnownNames::default(), Listed::new());
        names.gates.apply::<PartialObjectMeta<Gate>>(Event::InitDone, &mut listed);
        names.gates.apply(Event::Apply(gate("a")), &mut listed);
        assert!(!missing(&names, "shop", "a"));
        names.gates.apply(Event::Delete(gate("a")), &mut listed);
        assert!(missing(&names, "shop", "a"));
        names.gates.apply(Event::Apply(gate("a")), &mut listed);
        names.gates.apply::<PartialObjectMeta<Gate>>(Event::Init, &mut listed);
        assert!(!missing(&names, "shop", "a"), "the old names count while the new ones come in");
        names.gates.apply::<PartialObjectMeta<Gate>>(Event::InitDone, &mut listed);
        assert!(missing(&names, "shop", "a"));
    }

    #[test]
    fn a_ttl_is_known_while_it_is_there_and_whatever_else_stands_in_the_object() {
        let (names, mut listed) = (KnownNames::default(), Listed::new());
        let mutex = |spec: serde_json::Value| -> WithTtl<Mutex> {
            serde_json::from_value(json!({
                "apiVersion": "konductor.io/v1", "kind": "Mutex", "metadata": {"name": "db", "namespace": "shop"},
                "spec": spec, "status": {"holders": 3},
            }))
            .unwrap()
        };
        let has =
            |kind, namespace: &str| names.has_ttl(namespace, &PrimitiveRef { kind, name: "db".to_owned() });
        assert!(!has(Kind::Mutex, "shop"), "nothing is known yet");
        for (spec, expected) in [
            (json!({"ttl": "30m"}), true),
            (json!({}), false),
            (json!({"ttl": "1h", "later": {"x": 1}}), true),
            (json!({"ttl": null}), false),
            (json!(null), false),
        ] {
            names.mutexes.apply(Event::Apply(mutex(spec.clone())), &mut listed);
            assert_eq!(has(Kind::Mutex, "shop"), expected, "{spec}");
        }
        names.mutexes.apply(Event::Apply(mutex(json!({"ttl": "30m"}))), &mut listed);
        assert!(!has(Kind::Mutex, "other") && !has(Kind::Semaphore, "shop"));
        names.mutexes.apply(Event::Delete(mutex(json!({"ttl": "30m"}))), &mut listed);
        assert!(!has(Kind::Mutex, "shop"));
    }
}
