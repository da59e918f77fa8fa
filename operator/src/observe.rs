//! Observe: the snapshot for one primitive, from caches and from what this reconcile has read or written itself.
//!
//! Reads only; the API server is asked only by [`look`]. What must stay true: an object that this reconcile got from
//! the API server goes before the cached one, and only the API server says that something is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use konductor_api::annotations::QUEUED;
use konductor_api::gate::GatePhase;
use konductor_api::ledger::ParticipantKind;
use konductor_api::participation::{Kind, PodPlan, PrimitiveRef};
use konductor_primitives::queue::QueueKey;
use konductor_primitives::snapshot::{JobFacts, Participant, PodFacts};
use konductor_primitives::step::Lookup;
use kube::{Api, Resource};

use crate::caches::Caches;
use crate::client::{CallError, call};
use crate::index::{self, ObjectKey};
use crate::reconcile::Context;
use crate::rules::Rule;

/// What this reconcile has got from the API server itself, by UID.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) pods: BTreeMap<String, Arc<Pod>>,
    pub(crate) jobs: BTreeMap<String, Arc<Job>>,
    pub(crate) absent: BTreeSet<String>,
}

/// Everybody who takes part in that primitive.
pub(crate) fn participants(
    caches: &Caches,
    namespace: &str,
    primitive: &PrimitiveRef,
    known: &Known,
) -> Vec<Participant> {
    let members = caches.index.members(namespace, primitive);
    let at = |name: &String| ObjectKey { namespace: namespace.to_owned(), name: name.clone() };
    let mut jobs: BTreeMap<String, Arc<Job>> =
        by_uid(members.jobs.iter().filter_map(|name| caches.job(&at(name))));
    let mut pods: BTreeMap<String, Arc<Pod>> =
        by_uid(members.pods.iter().filter_map(|name| caches.pod(&at(name))));
    // Lookups found them before the watch did.
    for (uid, job) in &known.jobs {
        if index::set_of(&job.metadata).contains(primitive) {
            jobs.insert(uid.clone(), Arc::clone(job));
        }
    }
    for (uid, pod) in &known.pods {
        if index::plan_of(&pod.metadata).pod.contains(primitive) {
            pods.insert(uid.clone(), Arc::clone(pod));
        }
    }
    let of_jobs = jobs.iter().filter(|(uid, _)| !known.absent.contains(*uid)).map(|(uid, job)| {
        let set = index::set_of(&job.metadata);
        let plan = PodPlan { job: set, ..PodPlan::default() };
        Participant {
            kind: ParticipantKind::Job,
            name: job.metadata.name.clone().unwrap_or_default(),
            uid: uid.clone(),
            key: queue_key(&job.metadata),
            reached: reached(caches, namespace, &plan, true, primitive, Some(uid), ""),
            job: Some(JobFacts::of(job)),
            pods: pods_of_job(caches, uid, known),
        }
    });
    let of_pods = pods.iter().filter(|(uid, _)| !known.absent.contains(*uid)).map(|(uid, pod)| {
        let plan = index::plan_of(&pod.metadata);
        let job = index::job_of(&pod.metadata).map(|job| job.uid.as_str());
        Participant {
            kind: ParticipantKind::Pod,
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: uid.clone(),
            key: queue_key(&pod.metadata),
            reached: reached(caches, namespace, &plan, false, primitive, job, uid),
            job: None,
            pods: vec![facts(caches, pod)],
        }
    });
    of_jobs.chain(of_pods).collect()
}

fn by_uid<K: Resource>(objects: impl Iterator<Item = Arc<K>>) -> BTreeMap<String, Arc<K>> {
    objects.map(|object| (object.meta().uid.clone().unwrap_or_default(), object)).collect()
}

fn pods_of_job(caches: &Caches, job_uid: &str, known: &Known) -> Vec<PodFacts> {
    let watched = caches.index.pods_of_job(job_uid).into_iter().filter_map(|key| caches.pod(&key));
    let mut pods = by_uid(watched.filter(|pod| is_of_job(pod, job_uid)));
    for (uid, pod) in &known.pods {
        if is_of_job(pod, job_uid) {
            pods.insert(uid.clone(), Arc::clone(pod));
        }
    }
    pods.iter().filter(|(uid, _)| !known.absent.contains(*uid)).map(|(_, pod)| facts(caches, pod)).collect()
}

fn is_of_job(pod: &Pod, job_uid: &str) -> bool {
    index::job_of(&pod.metadata).is_some_and(|job| job.uid == job_uid)
}

/// The facts of one pod, with what is known of its node.
pub(crate) fn facts(caches: &Caches, pod: &Pod) -> PodFacts {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    PodFacts::of(pod, node.is_some_and(|node| caches.nodes.is_alive(node)))
}

/// The Jobs that a gate's conditions name, as far as they are known.
pub(crate) fn objects(caches: &Caches, namespace: &str, names: &[String]) -> BTreeMap<String, JobFacts> {
    names
        .iter()
        .filter_map(|name| {
            let job = caches.job(&ObjectKey { namespace: namespace.to_owned(), name: name.clone() })?;
            Some((name.clone(), JobFacts::of(&job)))
        })
        .collect()
}

fn queue_key(metadata: &ObjectMeta) -> QueueKey {
    let created = metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let stamp = metadata.annotations.as_ref().and_then(|annotations| annotations.get(QUEUED));
    // Priorities come with their annotation in a later version.
    QueueKey::new(0, created, stamp.map(String::as_str), metadata.uid.as_deref().unwrap_or_default())
}

/// Is everything that the plan takes before this primitive satisfied, as far as the caches know? Late if they lag; a
/// `go` is checked against the API server itself.
fn reached(
    caches: &Caches,
    namespace: &str,
    plan: &PodPlan,
    by_job: bool,
    primitive: &PrimitiveRef,
    job_uid: Option<&str>,
    pod_uid: &str,
) -> bool {
    plan.entries().take_while(|entry| (entry.by_job, entry.primitive) != (by_job, primitive)).all(|entry| {
        let uid = if entry.by_job { job_uid.unwrap_or_default() } else { pod_uid };
        let name = &entry.primitive.name;
        match entry.primitive.kind {
            Kind::Gate => caches.gates.get(namespace, name).is_some_and(|gate| {
                gate.status.as_ref().and_then(|status| status.phase) == Some(GatePhase::Open)
            }),
            Kind::Mutex => caches
                .mutexes
                .get(namespace, name)
                .is_some_and(|mutex| mutex.holders().iter().any(|holder| holder.uid == uid)),
        }
    })
}

/// Asks the API server itself for what the caches miss.
pub(crate) async fn look(
    context: &Context,
    namespace: &str,
    lookups: &[Lookup],
    known: &mut Known,
) -> Result<(), CallError> {
    for lookup in lookups {
        match lookup.kind {
            ParticipantKind::Pod => {
                let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
                let found = call(api.get_opt(&lookup.name)).await?;
                note(found, &lookup.uid, &mut known.pods, &mut known.absent);
            }
            ParticipantKind::Job => {
                let api: Api<Job> = Api::namespaced(context.client.clone(), namespace);
                let found = call(api.get_opt(&lookup.name)).await?;
                note(found, &lookup.uid, &mut known.jobs, &mut known.absent);
            }
        }
    }
    Ok(())
}

fn note<K: Resource>(
    found: Option<K>,
    uid: &str,
    known: &mut BTreeMap<String, Arc<K>>,
    absent: &mut BTreeSet<String>,
) {
    if let Some(object) = found.filter(|object| object.meta().uid.as_deref() == Some(uid)) {
        known.insert(uid.to_owned(), Arc::new(object));
    } else {
        known.remove(uid);
        absent.insert(uid.to_owned());
    }
}
