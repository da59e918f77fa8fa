//! The index: which primitives does a changed object concern, and who takes part in a primitive?
//!
//! Pure bookkeeping in memory, fed by the watches. What must stay true: what an object contributed before is taken out
//! before its new version comes in, so that nothing is left of objects that are gone.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use konductor_api::claim::Claim;
use konductor_api::participation::{PodPlan, PrimitiveRef, PrimitiveSet};
use konductor_primitives::facts::JobFacts;
use konductor_primitives::looked::Target;
use konductor_primitives::record::PodRecord;

/// Something to work on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    /// The ledger of a primitive, which need not exist.
    Primitive(String, PrimitiveRef),
    /// The finalizer of a pod.
    Pod(ObjectKey),
}

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Who takes part in one primitive, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    pub(crate) jobs: BTreeSet<String>,
    pub(crate) pods: BTreeSet<String>,
    pub(crate) claims: BTreeSet<String>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Index(RwLock<State>);

#[derive(Default)]
struct State {
    pods: HashMap<ObjectKey, PodEntry>,
    jobs: HashMap<ObjectKey, JobEntry>,
    claims: HashMap<ObjectKey, ClaimEntry>,
    /// What a gate looks at, in which namespace.
    targets: HashMap<Key, BTreeSet<(String, Target)>>,
    members: HashMap<(String, PrimitiveRef), Members>,
    pods_of_job: HashMap<String, BTreeSet<ObjectKey>>,
    pods_on_node: HashMap<String, BTreeSet<ObjectKey>>,
    /// By the pod that they were made in.
    claims_of_pod: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    looked_at: HashMap<(String, Target), BTreeSet<Key>>,
}

/// What a Job contributed.
struct JobEntry {
    set: PrimitiveSet,
    uid: String,
}

/// What a claim contributed.
struct ClaimEntry {
    primitive: PrimitiveRef,
    pod: Option<ObjectKey>,
}

/// What a pod contributed.
struct PodEntry {
    plan: PodPlan,
    job: Option<String>,
    node: Option<String>,
}

// ------------------------------------------------------------------------------------------- reading objects

impl ObjectKey {
    pub(crate) fn of(metadata: &ObjectMeta) -> Self {
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}

/// The Job that controls the pod.
pub(crate) fn job_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| {
        owner.controller == Some(true) && owner.kind == "Job" && owner.api_version == "batch/v1"
    })
}

/// What a stored pod takes part in.
pub(crate) fn plan_of(metadata: &ObjectMeta) -> PodPlan {
    metadata
        .annotations
        .as_ref()
        .map(|annotations| PodPlan::of(annotations, job_of(metadata).is_some()))
        .unwrap_or_default()
}

/// Every primitive that may have the pod in its ledger: also those of a Job that let it go and is gone.
pub(crate) fn named_by(metadata: &ObjectMeta) -> PodPlan {
    metadata.annotations.as_ref().map(|annotations| PodPlan::of(annotations, true)).unwrap_or_default()
}

/// What a stored Job takes part in.
pub(crate) fn set_of(metadata: &ObjectMeta) -> PrimitiveSet {
    metadata.annotations.as_ref().map(PrimitiveSet::of).unwrap_or_default()
}

// -------------------------------------------------------------------------------------------------- changing

impl Index {
    /// A pod as it is now. Says what is concerned.
    pub(crate) fn set_pod(&self, pod: &PodRecord) -> Vec<Key> {
        let mut state = self.write();
        let key = ObjectKey::of(&pod.metadata);
        let mut concerned = state.remove_pod(&key);
        let entry = PodEntry {
            plan: named_by(&pod.metadata),
            job: job_of(&pod.metadata).map(|job| job.uid.clone()),
            node: pod.node.clone(),
        };
        concerned.extend(keys_of(&key.namespace, entry.plan.entries().map(|entry| entry.primitive)));
        concerned.extend(state.claimed_in(&key));
        for primitive in entry.plan.pod.primitives() {
            state.members(&key.namespace, primitive).pods.insert(key.name.clone());
        }
        if let Some(job) = entry.job.clone() {
            state.pods_of_job.entry(job).or_default().insert(key.clone());
        }
        if let Some(node) = entry.node.clone() {
            state.pods_on_node.entry(node).or_default().insert(key.clone());
        }
        state.pods.insert(key, entry);
        dedup(concerned)
    }

    /// A pod that is gone.
    pub(crate) fn remove_pod(&self, key: &ObjectKey) -> Vec<Key> {
        self.write().remove_pod(key)
    }

    /// A Job as it is now.
    pub(crate) fn set_job(&self, job: &Job) -> Vec<Key> {
        let mut state = self.write();
        let key = ObjectKey::of(&job.metadata);
        let mut concerned = state.remove_job(&key);
        let set = set_of(&job.metadata);
        concerned.extend(keys_of(&key.namespace, set.primitives()));
        concerned.extend(state.looking_at(&job_target(&key)));
        // Whether a pod that failed is tried again is for its Job to say, whoever of them takes part.
        if JobFacts::of(job).is_over() {
            let pods = state.pods_of_job.get(job.metadata.uid.as_deref().unwrap_or_default());
            let plans = pods.into_iter().flatten().filter_map(|key| state.pods.get(key));
            concerned.extend(plans.flat_map(|entry| keys_of(&key.namespace, entry.plan.pod.primitives())));
        }
        for primitive in set.primitives() {
            state.members(&key.namespace, primitive).jobs.insert(key.name.clone());
        }
        if !set.is_empty() {
            state.jobs.insert(key, JobEntry { set, uid: job.metadata.uid.clone().unwrap_or_default() });
        }
        dedup(concerned)
    }

    /// A Job that is gone.
    pub(crate) fn remove_job(&self, key: &ObjectKey) -> Vec<Key> {
        let mut state = self.write();
        let mut concerned = state.remove_job(key);
        concerned.extend(state.looking_at(&job_target(key)));
        concerned
    }

    /// A claim as it is now.
    pub(crate) fn set_claim(&self, claim: &Claim) -> Vec<Key> {
        let mut state = self.write();
        let key = ObjectKey::of(&claim.metadata);
        let mut concerned = state.remove_claim(&key);
        let primitive = claim.spec.primitive();
        concerned.extend(keys_of(&key.namespace, [&primitive].into_iter()));
        state.members(&key.namespace, &primitive).claims.insert(key.name.clone());
        let pod = claim.spec.pod.as_ref();
        let pod = pod.map(|pod| ObjectKey { namespace: key.namespace.clone(), name: pod.name.clone() });
        if let Some(pod) = pod.clone() {
            state.claims_of_pod.entry(pod).or_default().insert(key.clone());
        }
        state.claims.insert(key, ClaimEntry { primitive, pod });
        dedup(concerned)
    }

    /// A claim that is gone.
    pub(crate) fn remove_claim(&self, key: &ObjectKey) -> Vec<Key> {
        self.write().remove_claim(key)
    }

    /// What that primitive looks at from here on: what is changed there concerns it.
    pub(crate) fn set_targets(&self, key: &Key, targets: Vec<Target>) {
        let Key::Primitive(namespace, _) = key else { return };
        let mut state = self.write();
        for target in state.targets.remove(key).into_iter().flatten() {
            remove_from(&mut state.looked_at, &target, key);
        }
        let targets: BTreeSet<_> = targets
            .into_iter()
            .map(|target| {
                let at = target.namespace.clone().unwrap_or_else(|| namespace.clone());
                (at, Target { namespace: None, ..target })
            })
            .collect();
        for target in &targets {
            state.looked_at.entry(target.clone()).or_default().insert(key.clone());
        }
        if !targets.is_empty() {
            state.targets.insert(key.clone(), targets);
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn members(&mut self, namespace: &str, primitive: &PrimitiveRef) -> &mut Members {
        self.members.entry((namespace.to_owned(), primitive.clone())).or_default()
    }

    fn remove_member(
        &mut self,
        namespace: &str,
        primitive: &PrimitiveRef,
        take: impl FnOnce(&mut Members) -> bool,
    ) {
        let key = (namespace.to_owned(), primitive.clone());
        if let Some(members) = self.members.get_mut(&key) {
            take(members);
            if *members == Members::default() {
                self.members.remove(&key);
            }
        }
    }

    fn remove_pod(&mut self, key: &ObjectKey) -> Vec<Key> {
        let Some(entry) = self.pods.remove(key) else { return Vec::new() };
        for primitive in entry.plan.pod.primitives() {
            self.remove_member(&key.namespace, primitive, |members| members.pods.remove(&key.name));
        }
        if let Some(job) = &entry.job {
            remove_from(&mut self.pods_of_job, job, key);
        }
        if let Some(node) = &entry.node {
            remove_from(&mut self.pods_on_node, node, key);
        }
        let mut concerned = keys_of(&key.namespace, entry.plan.entries().map(|entry| entry.primitive));
        concerned.extend(self.claimed_in(key));
        concerned
    }

    fn remove_claim(&mut self, key: &ObjectKey) -> Vec<Key> {
        let Some(entry) = self.claims.remove(key) else { return Vec::new() };
        self.remove_member(&key.namespace, &entry.primitive, |members| members.claims.remove(&key.name));
        if let Some(pod) = &entry.pod {
            remove_from(&mut self.claims_of_pod, pod, key);
        }
        keys_of(&key.namespace, [&entry.primitive].into_iter())
    }

    /// What was claimed in that pod.
    fn claimed_in(&self, pod: &ObjectKey) -> Vec<Key> {
        let claims = self.claims_of_pod.get(pod).into_iter().flatten();
        claims
            .filter_map(|key| self.claims.get(key))
            .flat_map(|entry| keys_of(&pod.namespace, [&entry.primitive].into_iter()))
            .collect()
    }

    fn remove_job(&mut self, key: &ObjectKey) -> Vec<Key> {
        let Some(entry) = self.jobs.remove(key) else { return Vec::new() };
        for primitive in entry.set.primitives() {
            self.remove_member(&key.namespace, primitive, |members| members.jobs.remove(&key.name));
        }
        keys_of(&key.namespace, entry.set.primitives())
    }

    fn looking_at(&self, target: &(String, Target)) -> Vec<Key> {
        self.looked_at.get(target).into_iter().flatten().cloned().collect()
    }
}

fn job_target(key: &ObjectKey) -> (String, Target) {
    let target = Target {
        kind: "Job".to_owned(),
        api_version: "batch/v1".to_owned(),
        namespace: None,
        name: key.name.clone(),
    };
    (key.namespace.clone(), target)
}

fn primitive_target(namespace: &str, primitive: &PrimitiveRef) -> (String, Target) {
    let target = Target {
        kind: primitive.kind.api_kind().to_owned(),
        api_version: "konductor.io/v1".to_owned(),
        namespace: None,
        name: primitive.name.clone(),
    };
    (namespace.to_owned(), target)
}

fn remove_from<K: std::hash::Hash + Eq, V: Ord>(map: &mut HashMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = map.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            map.remove(key);
        }
    }
}

fn keys_of<'a>(namespace: &str, primitives: impl Iterator<Item = &'a PrimitiveRef>) -> Vec<Key> {
    primitives.map(|primitive| Key::Primitive(namespace.to_owned(), primitive.clone())).collect()
}

/// What comes out of a table comes in an order of its own: the order of work must not depend on chance.
fn sorted<K: Ord>(keys: impl Iterator<Item = K>) -> Vec<K> {
    let mut keys: Vec<_> = keys.collect();
    keys.sort_unstable();
    keys
}

fn dedup(mut keys: Vec<Key>) -> Vec<Key> {
    keys.sort();
    keys.dedup();
    keys
}

// ---------------------------------------------------------------------------------------------------- asking

impl Index {
    /// Who names that primitive.
    pub(crate) fn members(&self, namespace: &str, primitive: &PrimitiveRef) -> Members {
        self.read().members.get(&(namespace.to_owned(), primitive.clone())).cloned().unwrap_or_default()
    }

    /// The other primitives that come into the plans of those who take part in this one, and of the pods of its Jobs.
    pub(crate) fn beside(&self, namespace: &str, primitive: &PrimitiveRef) -> Vec<Key> {
        let state = self.read();
        let Some(members) = state.members.get(&(namespace.to_owned(), primitive.clone())) else {
            return Vec::new();
        };
        let at = |name: &String| ObjectKey { namespace: namespace.to_owned(), name: name.clone() };
        let mut others = BTreeSet::new();
        for job in members.jobs.iter().filter_map(|name| state.jobs.get(&at(name))) {
            others.extend(job.set.primitives());
            let pods = state.pods_of_job.get(&job.uid).into_iter().flatten();
            let plans = pods.filter_map(|key| state.pods.get(key)).flat_map(|pod| pod.plan.entries());
            others.extend(plans.map(|entry| entry.primitive));
        }
        for pod in members.pods.iter().filter_map(|name| state.pods.get(&at(name))) {
            others.extend(pod.plan.entries().map(|entry| entry.primitive));
        }
        others.remove(primitive);
        keys_of(namespace, others.into_iter())
    }

    /// The pods of a Job, as far as they or it take part.
    pub(crate) fn pods_of_job(&self, uid: &str) -> Vec<ObjectKey> {
        self.read().pods_of_job.get(uid).into_iter().flatten().cloned().collect()
    }

    /// The pods on that node, and everything that they take part in: what it says of them may be all that is missing for a hold to end,
    /// or for a finalizer to be lifted.
    pub(crate) fn concerned_by_node(&self, node: &str) -> Vec<Key> {
        let state = self.read();
        let pods = state.pods_on_node.get(node).into_iter().flatten();
        let keys = pods
            .filter_map(|key| Some((key, state.pods.get(key)?)))
            .flat_map(|(key, entry)| {
                let own = keys_of(&key.namespace, entry.plan.entries().map(|entry| entry.primitive));
                own.into_iter().chain(state.claimed_in(key)).chain([Key::Pod(key.clone())])
            })
            .collect();
        dedup(keys)
    }

    /// Every pod that is known.
    pub(crate) fn all_pods(&self) -> Vec<ObjectKey> {
        sorted(self.read().pods.keys().cloned())
    }

    /// Every Job that takes part.
    pub(crate) fn all_jobs(&self) -> Vec<ObjectKey> {
        sorted(self.read().jobs.keys().cloned())
    }

    /// Every claim that is known.
    pub(crate) fn all_claims(&self) -> Vec<ObjectKey> {
        sorted(self.read().claims.keys().cloned())
    }

    /// Every primitive that looks at something.
    pub(crate) fn who_look(&self) -> Vec<Key> {
        sorted(self.read().targets.keys().cloned())
    }

    /// A primitive, and whatever looks at it.
    pub(crate) fn concerned_by_primitive(&self, key: &Key) -> Vec<Key> {
        let Key::Primitive(namespace, primitive) = key else { return Vec::new() };
        let mut concerned = self.read().looking_at(&primitive_target(namespace, primitive));
        concerned.push(key.clone());
        concerned
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use konductor_api::participation::Kind;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, annotations: &serde_json::Value, node: &str) -> PodRecord {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "ns", "uid": name, "annotations": annotations,
                "ownerReferences": [
                    {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "job-uid", "controller": true},
                ],
            },
            "spec": {"containers": [], "nodeName": node},
        }))
        .unwrap()
    }

    fn job(name: &str, mutex: &str) -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "annotations": {"konductor.io/mutex": mutex}},
        }))
        .unwrap()
    }

    fn key(kind: Kind, name: &str) -> Key {
        Key::Primitive("ns".to_owned(), PrimitiveRef { kind, name: name.to_owned() })
    }

    #[test]
    fn a_pod_concerns_what_its_job_takes_and_what_it_takes_itself() {
        let index = Index::default();
        let annotations = json!({"konductor.io/job-plan": "v1 mutex=db", "konductor.io/gate": "ready"});
        let concerned = index.set_pod(&pod("p", &annotations, "n1"));
        assert_eq!(concerned, [key(Kind::Gate, "ready"), key(Kind::Mutex, "db")]);
        let gate = PrimitiveRef { kind: Kind::Gate, name: "ready".to_owned() };
        let mutex = PrimitiveRef { kind: Kind::Mutex, name: "db".to_owned() };
        assert_eq!(index.members("ns", &gate).pods.len(), 1);
        assert_eq!(index.members("ns", &mutex), Members::default(), "there the Job takes part");
        assert_eq!(index.pods_of_job("job-uid").len(), 1);
        let pod = Key::Pod(ObjectKey { namespace: "ns".to_owned(), name: "p".to_owned() });
        let by_node = index.concerned_by_node("n1");
        assert!(by_node.len() == 3 && by_node.contains(&pod), "{by_node:?}");
    }

    #[test]
    fn the_end_of_a_job_concerns_what_its_pods_take_themselves() {
        let index = Index::default();
        index.set_pod(&pod("p", &json!({"konductor.io/waitgroup": "all"}), "n1"));
        let job = |conditions: &serde_json::Value| -> Job {
            let metadata = json!({"name": "j", "namespace": "ns", "uid": "job-uid"});
            serde_json::from_value(json!({"metadata": metadata, "status": {"conditions": conditions}}))
                .unwrap()
        };
        assert!(index.set_job(&job(&json!([]))).is_empty());
        let over = job(&json!([{"type": "Failed", "status": "True"}]));
        assert_eq!(index.set_job(&over), [key(Kind::WaitGroup, "all")]);
    }

    #[test]
    fn a_pod_that_its_job_let_go_still_concerns_what_the_job_took() {
        let index = Index::default();
        let mut orphan = pod("p", &json!({"konductor.io/job-plan": "v1 mutex=db"}), "n1");
        orphan.metadata.owner_references = None;
        assert_eq!(index.set_pod(&orphan), [key(Kind::Mutex, "db")]);
        assert!(plan_of(&orphan.metadata).is_empty(), "it is told nothing by it");
    }

    #[test]
    fn nothing_is_left_of_what_is_gone() {
        let index = Index::default();
        index.set_pod(&pod("p", &json!({"konductor.io/gate": "a"}), "n1"));
        let concerned = index.set_pod(&pod("p", &json!({"konductor.io/gate": "b"}), "n2"));
        assert_eq!(concerned, [key(Kind::Gate, "a"), key(Kind::Gate, "b")]);
        assert!(index.concerned_by_node("n1").is_empty());
        index.set_job(&job("j", "db"));
        assert_eq!(index.remove_job(&ObjectKey::of(&job("j", "db").metadata)), [key(Kind::Mutex, "db")]);
        index.remove_pod(&ObjectKey { namespace: "ns".to_owned(), name: "p".to_owned() });
        let state = index.read();
        assert!(state.members.is_empty() && state.pods_on_node.is_empty() && state.pods_of_job.is_empty());
    }

    #[test]
    fn what_is_looked_at_concerns_the_gates_that_name_it_also_when_it_is_gone() {
        let index = Index::default();
        let gate: konductor_api::gate::Gate = serde_json::from_value(json!({
            "apiVersion": "konductor.io/v1", "kind": "Gate",
            "metadata": {"name": "g", "namespace": "ns"},
            "spec": {"conditions": [
                {"type": "Job", "name": "etl"},
                {"type": "Mutex", "name": "db", "namespace": "other", "state": "Unlocked"},
            ]},
        }))
        .unwrap();
        let targets = gate.spec.conditions.iter().filter_map(Target::of).collect();
        index.set_targets(&key(Kind::Gate, "g"), targets);
        assert_eq!(index.set_job(&job("etl", "db")), [key(Kind::Gate, "g"), key(Kind::Mutex, "db")]);
        let etl = ObjectKey { namespace: "ns".to_owned(), name: "etl".to_owned() };
        assert!(index.remove_job(&etl).contains(&key(Kind::Gate, "g")));
        assert_eq!(index.concerned_by_primitive(&key(Kind::Mutex, "db")), [key(Kind::Mutex, "db")]);
        let db = PrimitiveRef { kind: Kind::Mutex, name: "db".to_owned() };
        let there = Key::Primitive("other".to_owned(), db);
        assert_eq!(index.concerned_by_primitive(&there), [key(Kind::Gate, "g"), there.clone()]);
        index.set_targets(&key(Kind::Gate, "g"), Vec::new());
        assert!(index.remove_job(&etl).is_empty() && index.who_look().is_empty());
    }
}
