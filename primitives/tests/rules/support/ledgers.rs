//! Primitives, what stands in their ledgers, and who takes part.

use std::collections::{BTreeMap, BTreeSet};

use konductor_api::gate::{Gate, GateCondition, GateConditionType, GateSpec, GateState};
use konductor_api::ledger::{Holder, Ledger, ParticipantKind, ToldPod};
use konductor_api::members::MemberKey;
use konductor_api::mutex::{Mutex, MutexSpec, MutexStatus};
use konductor_api::options::Options;
use konductor_api::participation::{Kind, PrimitiveRef, Role};
use konductor_primitives::looked::{Looked, Target};
use konductor_primitives::queue::QueueKey;
use konductor_primitives::snapshot::{OfJob, Participant, Snapshot};

use super::{JobSketch, PodSketch, at, time, uid};

pub(crate) fn name_of(kind: Kind, name: &str) -> PrimitiveRef {
    PrimitiveRef { kind, name: name.to_owned() }
}

pub(crate) fn name_of_mutex(name: &str) -> PrimitiveRef {
    name_of(Kind::Mutex, name)
}

pub(crate) fn name_of_gate(name: &str) -> PrimitiveRef {
    name_of(Kind::Gate, name)
}

/// A mutex at revision 7.
pub(crate) fn mutex(holders: Vec<Holder>) -> Mutex {
    let mut mutex = Mutex::new("db", MutexSpec::default());
    mutex.metadata.resource_version = Some("7".to_owned());
    mutex.metadata.generation = Some(1);
    let mut status = MutexStatus { ledger: held_by(holders), ..MutexStatus::default() };
    status.common.observed_generation = Some(1);
    mutex.status = Some(status);
    mutex
}

/// A ledger with those holders, whose highest token is the last one given.
pub(crate) fn held_by(holders: Vec<Holder>) -> Ledger {
    let last_token = holders.iter().map(|holder| holder.token.clone()).max();
    Ledger { holders, last_token, history: Vec::new() }
}

/// That state of that Job.
pub(crate) fn on_job(name: &str, state: Option<GateState>) -> GateCondition {
    GateCondition { type_: GateConditionType::Job, name: name.to_owned(), state, ..GateCondition::default() }
}

/// A gate on those Jobs.
pub(crate) fn gate(conditions: &[(&str, GateState)]) -> Gate {
    let conditions = conditions.iter().map(|(name, state)| on_job(name, Some(*state))).collect();
    gate_on(conditions)
}

/// A gate on whatever it is.
pub(crate) fn gate_on(conditions: Vec<GateCondition>) -> Gate {
    let mut gate = Gate::new("ready", GateSpec { conditions, latch: true, ..GateSpec::default() });
    gate.metadata.resource_version = Some("7".to_owned());
    gate.metadata.generation = Some(1);
    gate.metadata.creation_timestamp = Some(time(0));
    gate
}

/// What a gate sees of those Jobs.
pub(crate) fn jobs_seen(jobs: &[(&str, JobSketch)]) -> BTreeMap<Target, Looked> {
    let seen = |(name, job): &(&str, JobSketch)| {
        (Target::of(&on_job(name, None)).unwrap(), Looked::Job(job.facts()))
    };
    jobs.iter().map(seen).collect()
}

/// A hold of token 5.
pub(crate) fn holder(kind: ParticipantKind, name: &str, pods: Vec<ToldPod>) -> Holder {
    Holder {
        kind,
        name: name.to_owned(),
        uid: uid(name),
        token: "5".to_owned(),
        granted_at: time(1),
        mode: None,
        permits: None,
        pods,
        holder: None,
        pod: None,
        reserved: false,
        suspect: None,
    }
}

/// That pod was told, as the run of its waiter that started then.
pub(crate) fn told(name: &str, run: i64, waiter_started_at: i64) -> ToldPod {
    ToldPod {
        name: name.to_owned(),
        uid: uid(name),
        run,
        waiter_started_at: time(waiter_started_at),
        ran_before: Vec::new(),
    }
}

/// The pod takes part itself; its place in the queue is that second.
pub(crate) fn of_pod(sketch: &PodSketch, place: i64) -> Participant {
    let facts = sketch.facts();
    Participant {
        kind: ParticipantKind::Pod,
        name: facts.name.clone(),
        uid: facts.uid.clone(),
        key: QueueKey::new(0, at(place), None, &facts.uid),
        role: Role::Hold,
        member: facts.member(),
        options: Options::default(),
        reached: true,
        job: None,
        claim: None,
        of_job: None,
        pods: vec![facts],
    }
}

/// The Job takes part, with these pods.
pub(crate) fn of_job(name: &str, sketch: &JobSketch, pods: &[PodSketch], place: i64) -> Participant {
    let job = sketch.facts();
    Participant {
        kind: ParticipantKind::Job,
        name: name.to_owned(),
        uid: job.uid.clone(),
        key: QueueKey::new(0, at(place), None, &job.uid),
        role: Role::Hold,
        member: MemberKey::Job(name.to_owned()),
        options: Options::default(),
        reached: true,
        pods: pods.iter().map(PodSketch::facts).collect(),
        job: Some(job),
        claim: None,
        of_job: None,
    }
}

/// Of policy Never, succeeded, by the kubelet's last word.
pub(crate) fn succeeded(name: &str) -> Participant {
    of_pod(&super::pod(name).done(0).over("Succeeded"), 0)
}

/// The same, failed.
pub(crate) fn failed(name: &str) -> Participant {
    of_pod(&super::pod(name).done(1).over("Failed"), 0)
}

/// It was let through and works.
pub(crate) fn works(name: &str) -> Participant {
    of_pod(&super::pod(name).told_go(1, 2).waiter_passed(2, 3).runs("main", "main-1", 4), 0)
}

/// A pod whose waiter has run since second 2.
pub(crate) fn waits(name: &str, place: i64) -> Participant {
    of_pod(&pod_that_waits(name), place)
}

fn pod_that_waits(name: &str) -> PodSketch {
    super::pod(name).waiter_running(2)
}

/// What else is to be said of somebody who takes part.
pub(crate) trait Says {
    fn role(self, role: Role) -> Self;
    fn priority(self, priority: i32) -> Self;
    /// It waits no longer than that.
    fn timeout(self, timeout: &str) -> Self;
    /// It is the pod of a Job, which is over, or not, or has not been seen.
    fn of_a_job(self, name: &str, over: Option<bool>) -> Self;
}

impl Says for Participant {
    fn role(self, role: Role) -> Self {
        Self { role, ..self }
    }

    fn priority(self, priority: i32) -> Self {
        Self { key: QueueKey::new(priority, self.key.since(), None, &self.uid), ..self }
    }

    fn timeout(mut self, timeout: &str) -> Self {
        self.options.timeout = Some(timeout.parse().unwrap());
        self
    }

    fn of_a_job(self, name: &str, over: Option<bool>) -> Self {
        Self { of_job: Some(OfJob { name: name.to_owned(), uid: uid(name), over }), ..self }
    }
}

/// What a step is decided on, at second 50; all pods were just read.
pub(crate) fn snapshot<P>(primitive: P, participants: Vec<Participant>) -> Snapshot<P> {
    Snapshot {
        fresh: participants.iter().flat_map(|who| &who.pods).map(|pod| pod.uid.clone()).collect(),
        primitive,
        participants,
        objects: BTreeMap::new(),
        owners: BTreeMap::new(),
        strays: Vec::new(),
        outlived: BTreeSet::new(),
        absent: BTreeSet::new(),
        now: at(50),
    }
}
