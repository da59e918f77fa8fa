//! Observe: the snapshot for one primitive, from caches and from what this reconcile has read or written itself.
//!
//! Reads only; the API server is asked only by [`look`]. What must stay true: an object that this reconcile got from
//! the API server goes before the cached one, and only the API server says that something is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use konductor_api::claim::Claim;
use konductor_api::ledger::ParticipantKind;
use konductor_api::options::Options;
use konductor_api::participation::{PrimitiveRef, PrimitiveSet, Role};
use konductor_primitives::claim::Defaults;
use konductor_primitives::facts::{JobFacts, NodeState, PodFacts};
use konductor_primitives::queue::QueueKey;
use konductor_primitives::record::PodRecord;
use konductor_primitives::snapshot::{OfJob, Participant};
use konductor_primitives::step::Lookup;
use konductor_primitives::verdict::{self, Who};
use kube::api::ListParams;
use kube::{Api, Resource};

use crate::caches::{Caches, NODE_LEASES};
use crate::claims;
use crate::client::{CallError, call};
use crate::index::{self, ObjectKey};
use crate::nodes;
use crate::reconcile::Context;
use crate::rules::Read;

/// Label of a Job's pods, which outlives the reference to it.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// What this reconcile has got from the API server itself, by UID.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) pods: BTreeMap<String, Arc<PodRecord>>,
    pub(crate) jobs: BTreeMap<String, Arc<Job>>,
    pub(crate) claims: BTreeMap<String, Arc<Claim>>,
    /// By name: nodes of pods that were asked for, where somebody vouches that they are off.
    pub(crate) nodes: BTreeMap<String, NodeState>,
    /// By name: Jobs that were asked for without a UID.
    pub(crate) owners: BTreeMap<String, JobFacts>,
    /// UIDs of the pods whose silence counts.
    pub(crate) counted: BTreeSet<String>,
    /// By name: Jobs that were asked for without a UID, and pods that live on without them.
    pub(crate) outlived: BTreeSet<String>,
    /// See [`Lookup::key`].
    pub(crate) absent: BTreeSet<String>,
}

/// Everybody who takes part in that primitive; who says nothing of it has what the primitive says.
pub(crate) fn participants(
    context: &Context,
    namespace: &str,
    primitive: &PrimitiveRef,
    known: &Known,
    defaults: Defaults,
) -> Vec<Participant> {
    let (caches, now) = (&*context.caches, context.clock.now());
    let members = caches.index.members(namespace, primitive);
    let at = |name: &String| ObjectKey { namespace: namespace.to_owned(), name: name.clone() };
    let mut jobs: BTreeMap<String, Arc<Job>> =
        by_uid(members.jobs.iter().filter_map(|name| caches.job(&at(name))));
    let mut pods: BTreeMap<String, Arc<PodRecord>> =
        by_uid(members.pods.iter().filter_map(|name| caches.pod(&at(name))));
    // Lookups found them before the watch did.
    jobs.extend(known.jobs.iter().map(|(uid, job)| (uid.clone(), Arc::clone(job))));
    pods.extend(known.pods.iter().map(|(uid, pod)| (uid.clone(), Arc::clone(pod))));
    let key = |metadata: &ObjectMeta, options: &Options| {
        QueueKey::of(metadata, options.priority.unwrap_or(defaults.priority))
    };
    let of_jobs = jobs.iter().filter(|(uid, _)| !known.absent.contains(*uid)).filter_map(|(uid, job)| {
        let set = index::set_of(&job.metadata);
        let role = set.role(primitive)?;
        let who = Who::job(job);
        Some(Participant {
            kind: ParticipantKind::Job,
            name: job.metadata.name.clone().unwrap_or_default(),
            uid: uid.clone(),
            key: key(&job.metadata, &who.options),
            role,
            reached: reached(caches, namespace, &set, primitive, &who, now),
            member: who.member,
            options: who.options,
            job: Some(JobFacts::of(job)),
            claim: None,
            of_job: None,
            pods: pods_of_job(caches, uid, known),
        })
    });
    let of_pods = pods.iter().filter(|(uid, _)| !known.absent.contains(*uid)).filter_map(|(uid, pod)| {
        let plan = index::plan_of(&pod.metadata);
        let role = plan.pod.role(primitive)?;
        let facts = known.facts(caches, pod);
        let who = Who::pod(&facts, &plan);
        let after_job = plan.job.is_empty()
            || job_who(caches, namespace, &pod.metadata).is_some_and(|job| {
                plan.job
                    .entries()
                    .iter()
                    .all(|part| has(caches, namespace, &part.primitive, part.role, &job, now))
            });
        Some(Participant {
            kind: ParticipantKind::Pod,
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: uid.clone(),
            key: key(&pod.metadata, &who.options),
            role,
            reached: after_job && reached(caches, namespace, &plan.pod, primitive, &who, now),
            member: who.member,
            options: who.options,
            job: None,
            claim: None,
            of_job: of_job(caches, namespace, &pod.metadata),
            pods: vec![facts],
        })
    });
    let mut claims: BTreeMap<String, Arc<Claim>> =
        by_uid(members.claims.iter().filter_map(|name| caches.claim(&at(name))));
    claims.extend(known.claims.iter().map(|(uid, claim)| (uid.clone(), Arc::clone(claim))));
    let of_claims = claims
        .iter()
        .filter(|(uid, claim)| !known.absent.contains(*uid) && claim.spec.primitive() == *primitive)
        .filter_map(|(_, claim)| claims::participant(context, claim, defaults, known));
    of_jobs.chain(of_pods).chain(of_claims).collect()
}

/// The Job that controls the pod, as somebody who takes part.
pub(crate) fn job_who(caches: &Caches, namespace: &str, pod: &ObjectMeta) -> Option<Who> {
    let (owner, job) = owner(caches, namespace, pod)?;
    Some(job.map_or_else(|| Who::unseen_job(&owner.name, &owner.uid), |job| Who::job(&job)))
}

fn of_job(caches: &Caches, namespace: &str, pod: &ObjectMeta) -> Option<OfJob> {
    let (owner, job) = owner(caches, namespace, pod)?;
    Some(OfJob {
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        over: job.map(|job| JobFacts::of(&job).is_over()),
    })
}

/// The Job that controls the pod, by name, and as it was seen, if it was.
fn owner<'a>(
    caches: &Caches,
    namespace: &str,
    pod: &'a ObjectMeta,
) -> Option<(&'a OwnerReference, Option<Arc<Job>>)> {
    let owner = index::job_of(pod)?;
    let key = ObjectKey { namespace: namespace.to_owned(), name: owner.name.clone() };
    let job = caches.job(&key).filter(|job| job.metadata.uid.as_deref() == Some(&owner.uid));
    Some((owner, job))
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
    pods.iter()
        .filter(|(uid, _)| !known.absent.contains(*uid))
        .map(|(_, pod)| known.facts(caches, pod))
        .collect()
}

fn is_of_job(pod: &PodRecord, job_uid: &str) -> bool {
    index::job_of(&pod.metadata).is_some_and(|job| job.uid == job_uid)
}

/// The facts of one pod, with what the caches know of its node.
pub(crate) fn facts(caches: &Caches, pod: &Arc<PodRecord>) -> PodFacts {
    PodFacts::shared(pod, node_of(pod).map_or(NodeState::Silent, |node| caches.nodes.state(node)))
}

fn node_of(pod: &PodRecord) -> Option<&str> {
    pod.node.as_deref()
}

impl Known {
    /// The same, with what this reconcile has read of its node itself.
    pub(crate) fn facts(&self, caches: &Caches, pod: &Arc<PodRecord>) -> PodFacts {
        let facts = match node_of(pod).and_then(|node| self.nodes.get(node)) {
            Some(state) => PodFacts::shared(pod, *state),
            None => facts(caches, pod),
        };
        if self.counted.contains(&facts.uid) {
            let silent_for = caches.silence.of_pod(&facts);
            return facts.silent_for(silent_for);
        }
        facts
    }

    /// What was read before the primitive was read again proves nothing about what is decided on now.
    pub(crate) fn forget_what_may_change(&mut self) {
        let (absent, outlived) = (std::mem::take(&mut self.absent), std::mem::take(&mut self.outlived));
        // A Job that is gone may be so only in part: one goes with the other.
        *self = Self { outlived, absent, ..Self::default() };
    }
}

/// Is everything that the set takes before this primitive satisfied, as far as the caches know? Late if they lag; a
/// `go` is checked against the API server itself.
fn reached(
    caches: &Caches,
    namespace: &str,
    set: &PrimitiveSet,
    primitive: &PrimitiveRef,
    who: &Who,
    now: Timestamp,
) -> bool {
    let before = set.entries().iter().take_while(|part| part.primitive != *primitive);
    before.into_iter().all(|part| has(caches, namespace, &part.primitive, part.role, who, now))
}

fn has(
    caches: &Caches,
    namespace: &str,
    primitive: &PrimitiveRef,
    role: Role,
    who: &Who,
    now: Timestamp,
) -> bool {
    let read = Read::cached(caches, namespace, primitive);
    verdict::has_reached(read.committed(), primitive, role, who, now)
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
                let api: Api<PodRecord> = Api::namespaced(context.client.clone(), namespace);
                let found = call(api.get_opt(&lookup.name)).await?;
                look_at_node(context, found.as_ref(), known).await?;
                note(found, lookup, &mut known.pods, &mut known.absent);
            }
            ParticipantKind::Claim => {
                let api: Api<Claim> = Api::namespaced(context.client.clone(), namespace);
                let found = call(api.get_opt(&lookup.name)).await?;
                note(found, lookup, &mut known.claims, &mut known.absent);
            }
            ParticipantKind::Job => {
                let api: Api<Job> = Api::namespaced(context.client.clone(), namespace);
                let found = call(api.get_opt(&lookup.name)).await?;
                if let Some(job) = found.as_ref().filter(|_| lookup.uid.is_empty()) {
                    known.owners.insert(lookup.name.clone(), JobFacts::of(job));
                }
                if lookup.uid.is_empty()
                    && is_outlived(context, namespace, &lookup.name, found.as_ref()).await?
                {
                    known.outlived.insert(lookup.name.clone());
                }
                note(found, lookup, &mut known.jobs, &mut known.absent);
            }
        }
    }
    Ok(())
}

/// Do pods that were told on behalf of a Job of that name live on without it? They do under `--cascade=orphan`, and for as long as
/// they take to end under any other.
async fn is_outlived(
    context: &Context,
    namespace: &str,
    name: &str,
    present: Option<&Job>,
) -> Result<bool, CallError> {
    let api: Api<PodRecord> = Api::namespaced(context.client.clone(), namespace);
    let of_name = ListParams::default().labels(&format!("{JOB_NAME}={name}"));
    let pods = call(api.list(&of_name)).await?.items.into_iter().map(Arc::new);
    let uid = present.and_then(|job| job.metadata.uid.as_deref());
    Ok(pods.map(|pod| facts(&context.caches, &pod)).any(|pod| {
        let owner = index::job_of(&pod.object().metadata).map(|job| job.uid.as_str());
        pod.finalizer && !pod.is_dead() && owner.is_none_or(|owner| Some(owner) != uid)
    }))
}

/// Whether somebody still vouches that the machine of this pod is off, and whether its kubelet was heard of. That a node came back
/// may not have been seen yet.
async fn look_at_node(
    context: &Context,
    pod: Option<&PodRecord>,
    known: &mut Known,
) -> Result<(), CallError> {
    let (Some(pod), Some(name)) = (pod, pod.and_then(node_of)) else { return Ok(()) };
    if pod.metadata.uid.as_ref().is_some_and(|uid| known.counted.contains(uid)) {
        let api: Api<Lease> = Api::namespaced(context.client.clone(), NODE_LEASES);
        if let Some(lease) = call(api.get_opt(name)).await? {
            context.caches.silence.hear_of_node(&lease);
        }
    }
    let state = context.caches.nodes.state(name);
    if matches!(state, NodeState::Alive | NodeState::Silent) {
        return Ok(());
    }
    let api: Api<Node> = Api::all(context.client.clone());
    let state = match call(api.get_opt(name)).await? {
        None => state,
        Some(node) if nodes::is_out_of_service(&node) => NodeState::OutOfService,
        Some(_) => NodeState::Silent,
    };
    known.nodes.insert(name.to_owned(), state);
    Ok(())
}

fn note<K: Resource>(
    found: Option<K>,
    lookup: &Lookup,
    known: &mut BTreeMap<String, Arc<K>>,
    absent: &mut BTreeSet<String>,
) {
    let is_it = |object: &K| lookup.uid.is_empty() || object.meta().uid.as_deref() == Some(&lookup.uid);
    if let Some(object) = found.filter(is_it) {
        known.insert(object.meta().uid.clone().unwrap_or_default(), Arc::new(object));
    } else {
        known.remove(&lookup.uid);
        absent.insert(lookup.key());
    }
}
