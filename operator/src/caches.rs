//! The caches: what the watches have shown so far, and what we wrote ourselves since.
//!
//! Reads only. Each watch fills a store, tells the index, and puts what is concerned into the queue. What must stay
//! true: a cache may be behind, so nothing is concluded from what is *not* in it; of a primitive, and of a pod that the
//! watch still shows, the latest version is taken that anybody here has seen, the watch or a write of ours.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use konductor_api::annotations::{FINALIZER, PARTICIPANT_LABEL};
use konductor_api::barrier::Barrier;
use konductor_api::claim::Claim;
use konductor_api::gate::Gate;
use konductor_api::lease;
use konductor_api::once::Once;
use konductor_api::participation::PrimitiveRef;
use konductor_api::rwmutex::RWMutex;
use konductor_api::semaphore::Semaphore;
use konductor_api::waitgroup::WaitGroup;
use konductor_primitives::record::PodRecord;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::{Store, Writer};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::backoff::Salt;
use crate::index::{Index, Key, ObjectKey};
use crate::nodes::Nodes;
use crate::queue::Queue;
use crate::rules::Rule;
use crate::silence::Silence;
use crate::watches::Watches;

/// The namespace of the kubelets' leases.
pub(crate) const NODE_LEASES: &str = "kube-node-lease";
/// How often the liveness of nodes is looked at: silence makes no event.
const LIVENESS_PERIOD: Duration = Duration::from_secs(2);
/// Everything is looked at again this often, whatever the watches say.
const RESYNC_PERIOD: Duration = Duration::from_secs(300);

/// See the module.
pub(crate) struct Caches {
    pub(crate) gates: Shelf<Gate>,
    pub(crate) waitgroups: Shelf<WaitGroup>,
    pub(crate) barriers: Shelf<Barrier>,
    pub(crate) semaphores: Shelf<Semaphore>,
    pub(crate) rwmutexes: Shelf<RWMutex>,
    pub(crate) mutexes: Shelf<konductor_api::mutex::Mutex>,
    pub(crate) leases: Shelf<lease::Lease>,
    pub(crate) onces: Shelf<Once>,
    pub(crate) claims: Shelf<Claim>,
    pub(crate) pods: Shelf<PodRecord>,
    pub(crate) jobs: Store<Job>,
    pub(crate) nodes: Nodes,
    pub(crate) silence: Silence,
    pub(crate) index: Index,
    pub(crate) watches: Watches,
    salt: Salt,
}

/// Objects of one kind: as watched, or as we wrote them if that is newer.
pub(crate) struct Shelf<P: Resource<DynamicType = ()> + 'static> {
    watched: Store<P>,
    written: Mutex<HashMap<ObjectKey, Arc<P>>>,
}

/// The ends of the stores that the watches write to.
pub(crate) struct Writers {
    gates: Writer<Gate>,
    waitgroups: Writer<WaitGroup>,
    barriers: Writer<Barrier>,
    semaphores: Writer<Semaphore>,
    rwmutexes: Writer<RWMutex>,
    mutexes: Writer<konductor_api::mutex::Mutex>,
    leases: Writer<lease::Lease>,
    onces: Writer<Once>,
    claims: Writer<Claim>,
    pods: Writer<PodRecord>,
    jobs: Writer<Job>,
}

/// What a watch has to tell about one kind.
enum Change<'a, K> {
    Applied(&'a K),
    Deleted(&'a K),
    /// A list has been read: whatever is not in the store any more is gone.
    Listed,
}

// ----------------------------------------------------------------------------------------------------- shelf

impl<P: Resource<DynamicType = ()> + Clone + 'static> Shelf<P> {
    fn new() -> (Self, Writer<P>) {
        let (watched, writer) = reflector::store();
        (Self { watched, written: Mutex::new(HashMap::new()) }, writer)
    }

    /// The latest version that was seen; `None` may mean that it has not been seen yet.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<P>> {
        let watched = self.watched.get(&ObjectRef::new(name).within(namespace));
        let key = ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() };
        let mut written = self.written();
        let ours = written.get(&key).cloned();
        match (watched, ours) {
            (Some(watched), Some(ours)) => {
                if revision(ours.as_ref()) > revision(watched.as_ref()) {
                    return Some(ours);
                }
                written.remove(&key);
                Some(watched)
            }
            (watched, ours) => watched.or(ours),
        }
    }

    /// The latest version of what the watch still shows. Of a pod a write of ours says only how it looks, never that it
    /// is there: what vanished while a list was read must not live on in what we wrote.
    fn refined(&self, key: &ObjectKey) -> Option<Arc<P>> {
        let found = self.get(&key.namespace, &key.name)?;
        if self.watched.get(&ObjectRef::new(&key.name).within(&key.namespace)).is_none() {
            self.forget(key);
            return None;
        }
        Some(found)
    }

    /// Remembers what the API server returned for a read or a write of ours: who decides next must not decide on the version
    /// before it.
    pub(crate) fn put(&self, object: &Arc<P>) {
        self.written().insert(ObjectKey::of(object.meta()), Arc::clone(object));
    }

    /// It is gone, says the API server.
    pub(crate) fn forget(&self, key: &ObjectKey) {
        self.written().remove(key);
    }

    fn written(&self) -> MutexGuard<'_, HashMap<ObjectKey, Arc<P>>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Revisions are compared only to choose the fresher of two reads; writes carry them as they came.
fn revision<P: Resource>(object: &P) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

impl Caches {
    pub(crate) fn new(client: &Client, queue: &Arc<Queue<Key>>, salt: Salt) -> (Self, Writers) {
        let (gates, gates_writer) = Shelf::new();
        let (waitgroups, waitgroups_writer) = Shelf::new();
        let (barriers, barriers_writer) = Shelf::new();
        let (semaphores, semaphores_writer) = Shelf::new();
        let (rwmutexes, rwmutexes_writer) = Shelf::new();
        let (mutexes, mutexes_writer) = Shelf::new();
        let (leases, leases_writer) = Shelf::new();
        let (onces, onces_writer) = Shelf::new();
        let (claims, claims_writer) = Shelf::new();
        let (pods, pods_writer) = Shelf::new();
        let (jobs, jobs_writer) = reflector::store();
        let caches = Self {
            gates,
            waitgroups,
            barriers,
            semaphores,
            rwmutexes,
            mutexes,
            leases,
            onces,
            claims,
            pods,
            jobs,
            nodes: Nodes::default(),
            silence: Silence::default(),
            index: Index::default(),
            watches: Watches::new(client.clone(), Arc::clone(queue), salt),
            salt,
        };
        let writers = Writers {
            gates: gates_writer,
            waitgroups: waitgroups_writer,
            barriers: barriers_writer,
            semaphores: semaphores_writer,
            rwmutexes: rwmutexes_writer,
            mutexes: mutexes_writer,
            leases: leases_writer,
            onces: onces_writer,
            claims: claims_writer,
            pods: pods_writer,
            jobs: jobs_writer,
        };
        (caches, writers)
    }

    pub(crate) fn pod(&self, key: &ObjectKey) -> Option<Arc<PodRecord>> {
        self.pods.refined(key)
    }

    pub(crate) fn claim(&self, key: &ObjectKey) -> Option<Arc<Claim>> {
        self.claims.refined(key)
    }

    pub(crate) fn job(&self, key: &ObjectKey) -> Option<Arc<Job>> {
        self.jobs.get(&ObjectRef::new(&key.name).within(&key.namespace))
    }

    /// Waits until every watch has shown what is there.
    pub(crate) async fn synced(&self) -> anyhow::Result<()> {
        self.pods.watched.wait_until_ready().await?;
        self.claims.watched.wait_until_ready().await?;
        self.jobs.wait_until_ready().await?;
        self.gates.watched.wait_until_ready().await?;
        self.waitgroups.watched.wait_until_ready().await?;
        self.barriers.watched.wait_until_ready().await?;
        self.semaphores.watched.wait_until_ready().await?;
        self.rwmutexes.watched.wait_until_ready().await?;
        self.mutexes.watched.wait_until_ready().await?;
        self.leases.watched.wait_until_ready().await?;
        self.onces.watched.wait_until_ready().await?;
        Ok(())
    }
}

// --------------------------------------------------------------------------------------------------- watching

/// Fills the caches until one of the watches ends, which none does by itself.
pub(crate) async fn fill(
    caches: Arc<Caches>,
    writers: Writers,
    queue: Arc<Queue<Key>>,
    client: Client,
) -> anyhow::Error {
    let everything = watcher::Config::default();
    let participants = watcher::Config::default().labels(PARTICIPANT_LABEL);
    let add = |keys: Vec<Key>| keys.into_iter().for_each(|key| queue.add(key));
    let (index, nodes, salt) = (&caches.index, &caches.nodes, caches.salt);

    let (here, there) = (&*caches, &client);
    let primitives = async {
        tokio::join!(
            follow_primitive(here, queue.as_ref(), there, writers.gates),
            follow_primitive(here, queue.as_ref(), there, writers.waitgroups),
            follow_primitive(here, queue.as_ref(), there, writers.barriers),
            follow_primitive(here, queue.as_ref(), there, writers.semaphores),
            follow_primitive(here, queue.as_ref(), there, writers.rwmutexes),
            follow_primitive(here, queue.as_ref(), there, writers.mutexes),
            follow_primitive(here, queue.as_ref(), there, writers.leases),
            follow_primitive(here, queue.as_ref(), there, writers.onces),
        );
    };
    let pods =
        follow(salt, Api::all(client.clone()), participants, writers.pods, as_it_is, |change| match change {
            Change::Applied(pod) => {
                add(index.set_pod(pod));
                if pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER) {
                    add(vec![Key::Pod(ObjectKey::of(&pod.metadata))]);
                }
            }
            Change::Deleted(pod) => {
                caches.pods.forget(&ObjectKey::of(&pod.metadata));
                add(index.remove_pod(&ObjectKey::of(&pod.metadata)));
            }
            Change::Listed => {
                for key in index.all_pods() {
                    if caches.pod(&key).is_none() {
                        add(index.remove_pod(&key));
                    }
                }
            }
        });
    let jobs = follow(salt, Api::all(client.clone()), everything.clone(), writers.jobs, slim_job, |change| {
        match change {
            Change::Applied(job) => add(index.set_job(job)),
            Change::Deleted(job) => add(index.remove_job(&ObjectKey::of(&job.metadata))),
            Change::Listed => {
                for key in index.all_jobs() {
                    if caches.job(&key).is_none() {
                        add(index.remove_job(&key));
                    }
                }
            }
        }
    });
    let everybody = everything.clone();
    let claims =
        follow(salt, Api::all(client.clone()), everybody, writers.claims, forget_managers, |change| {
            match change {
                Change::Applied(claim) => add(index.set_claim(claim)),
                Change::Deleted(claim) => {
                    caches.claims.forget(&ObjectKey::of(&claim.metadata));
                    add(index.remove_claim(&ObjectKey::of(&claim.metadata)));
                }
                Change::Listed => {
                    for key in index.all_claims() {
                        if caches.claim(&key).is_none() {
                            add(index.remove_claim(&key));
                        }
                    }
                }
            }
        });
    let tell_of_nodes = || {
        for node in nodes.changed() {
            add(index.concerned_by_node(&node));
        }
    };
    let nodes_watch = observe(salt, Api::<Node>::all(client.clone()), |change| match change {
        Change::Applied(node) => {
            nodes.set_node(node);
            tell_of_nodes();
        }
        Change::Deleted(node) => {
            nodes.remove_node(node.metadata.name.as_deref().unwrap_or_default());
            tell_of_nodes();
        }
        Change::Listed => {}
    });
    let node_leases = observe(salt, Api::<Lease>::namespaced(client.clone(), NODE_LEASES), |change| {
        if let Change::Applied(lease) = change {
            nodes.set_lease(lease);
            caches.silence.hear_of_node(lease);
            tell_of_nodes();
        }
    });
    let by_time = async {
        let mut liveness = tokio::time::interval(LIVENESS_PERIOD);
        let mut resync = tokio::time::interval(RESYNC_PERIOD);
        loop {
            tokio::select! {
                biased;
                _ = liveness.tick() => {
                    nodes.look_for_missing(&client).await;
                    tell_of_nodes();
                }
                _ = resync.tick() => add(caches.all_primitives()),
            }
        }
    };
    tokio::select! {
        biased;
        () = primitives => anyhow::anyhow!("the watches of primitives ended"),
        () = pods => anyhow::anyhow!("the watch of pods ended"),
        () = claims => anyhow::anyhow!("the watch of claims ended"),
        () = jobs => anyhow::anyhow!("the watch of Jobs ended"),
        () = nodes_watch => anyhow::anyhow!("the watch of nodes ended"),
        () = node_leases => anyhow::anyhow!("the watch of node leases ended"),
        () = by_time => anyhow::anyhow!("the clock ended"),
    }
}

impl Caches {
    /// Every primitive that the watches have shown.
    pub(crate) fn all_primitives(&self) -> Vec<Key> {
        fn keys<P: Rule>(shelf: &Shelf<P>) -> impl Iterator<Item = Key> {
            shelf.watched.state().into_iter().map(|object| key_of(object.as_ref()))
        }
        let mut all: Vec<_> = keys(&self.gates)
            .chain(keys(&self.waitgroups))
            .chain(keys(&self.barriers))
            .chain(keys(&self.semaphores))
            .chain(keys(&self.rwmutexes))
            .chain(keys(&self.mutexes))
            .chain(keys(&self.leases))
            .chain(keys(&self.onces))
            .collect();
        all.sort_unstable();
        all
    }
}

/// The watch of one kind of primitive: it concerns itself, and the gates that look at it.
async fn follow_primitive<P: Rule>(caches: &Caches, queue: &Queue<Key>, client: &Client, writer: Writer<P>) {
    let shelf = P::shelf(caches);
    let add = |keys: Vec<Key>| keys.into_iter().for_each(|key| queue.add(key));
    let all = watcher::Config::default();
    follow(caches.salt, Api::all(client.clone()), all, writer, forget_managers, |change| match change {
        Change::Applied(object) => {
            caches.index.set_targets(&key_of(object), object.targets());
            add(caches.index.concerned_by_primitive(&key_of(object)));
        }
        Change::Deleted(object) => {
            shelf.forget(&ObjectKey::of(object.meta()));
            caches.index.set_targets(&key_of(object), Vec::new());
            add(caches.index.concerned_by_primitive(&key_of(object)));
        }
        // Of others, what vanished unseen is found out by the first read or write of it.
        Change::Listed => {
            for key in caches.index.who_look() {
                let Key::Primitive(namespace, primitive) = &key else { continue };
                let watched = || shelf.watched.get(&ObjectRef::new(&primitive.name).within(namespace));
                if primitive.kind == P::KIND && watched().is_none() {
                    caches.index.set_targets(&key, Vec::new());
                    shelf.forget(&ObjectKey { namespace: namespace.clone(), name: primitive.name.clone() });
                    add(vec![key]);
                }
            }
        }
    })
    .await;
}

/// A watch that fills a store. The store is changed before anybody is told.
async fn follow<K>(
    salt: Salt,
    api: Api<K>,
    config: watcher::Config,
    writer: Writer<K>,
    slim: impl FnMut(&mut K),
    mut tell: impl FnMut(Change<'_, K>),
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let store = writer.as_reader();
    let stream = watcher::watcher(api, config)
        .backoff(salt.waits(K::plural(&()).as_ref()))
        .modify(slim)
        .reflect(writer);
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Apply(object)) => tell(Change::Applied(&object)),
            Ok(Event::Delete(object)) => tell(Change::Deleted(&object)),
            // While a list is read the store still shows the last one.
            Ok(Event::Init | Event::InitApply(_)) => {}
            Ok(Event::InitDone) => {
                let mut all = store.state();
                all.sort_by_cached_key(|object| ObjectKey::of(object.meta()));
                for object in all {
                    tell(Change::Applied(&object));
                }
                tell(Change::Listed);
            }
            Err(error) => interrupted::<K>(&error),
        }
    }
}

/// A watch without a store.
async fn observe<K>(salt: Salt, api: Api<K>, mut tell: impl FnMut(Change<'_, K>))
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let stream =
        watcher::watcher(api, watcher::Config::default()).backoff(salt.waits(K::plural(&()).as_ref()));
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => tell(Change::Applied(&object)),
            Ok(Event::Delete(object)) => tell(Change::Deleted(&object)),
            Ok(Event::Init) => {}
            Ok(Event::InitDone) => tell(Change::Listed),
            Err(error) => interrupted::<K>(&error),
        }
    }
}

fn interrupted<K: Resource<DynamicType = ()>>(error: &watcher::Error) {
    tracing::warn!(kind = %K::kind(&()), %error, "watch interrupted; it goes on");
}

fn key_of<P: Rule>(object: &P) -> Key {
    let key = ObjectKey::of(object.meta());
    Key::Primitive(key.namespace, PrimitiveRef { kind: P::KIND, name: key.name })
}

// -------------------------------------------------------------------------------- what need not be remembered

fn forget_managers<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// A record has what is looked at, and nothing else.
const fn as_it_is(_: &mut PodRecord) {}

fn slim_job(job: &mut Job) {
    forget_managers(job);
    if let Some(spec) = &mut job.spec {
        spec.template.spec = None;
    }
}
