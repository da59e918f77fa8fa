//! Primitives, what stands in their ledgers, and who takes part.

use std::collections::{BTreeMap, BTreeSet};

use konductor_api::conditions::STALLED;
use konductor_api::gate::{Gate, GateCondition, GateConditionType, GateSpec, JobState};
use konductor_api::ledger::{Holder, ParticipantKind, ToldPod};
use konductor_api::mutex::{Mutex, MutexSpec, MutexStatus};
use konductor_api::participation::{Kind, PrimitiveRef};
use konductor_primitives::queue::QueueKey;
use konductor_primitives::snapshot::{Participant, Snapshot};

use super::{JobSketch, PodSketch, at, time, uid};

pub(crate) fn name_of_mutex(name: &str) -> PrimitiveRef {
    PrimitiveRef { kind: Kind::Mutex, name: name.to_owned() }
}

pub(crate) fn name_of_gate(name: &str) -> PrimitiveRef {
    PrimitiveRef { kind: Kind::Gate, name: name.to_owned() }
}

/// A mutex at revision 7.
pub(crate) fn mutex(holders: Vec<Holder>) -> Mutex {
    let mut mutex = Mutex::new("db", MutexSpec::default());
    mutex.metadata.resource_version = Some("7".to_owned());
    mutex.metadata.generation = Some(1);
    let last_token = holders.iter().map(|holder| holder.token.clone()).max();
    mutex.status =
        Some(MutexStatus { observed_generation: Some(1), holders, last_token, ..MutexStatus::default() });
    mutex
}

/// A gate on those Jobs.
pub(crate) fn gate(conditions: &[(&str, JobState)]) -> Gate {
    let conditions = conditions
        .iter()
        .map(|(name, state)| GateCondition {
            type_: GateConditionType::Job,
            name: (*name).to_owned(),
            state: *state,
        })
        .collect();
    let mut gate = Gate::new("ready", GateSpec { conditions });
    gate.metadata.resource_version = Some("7".to_owned());
    gate.metadata.generation = Some(1);
    gate
}

/// A hold of token 5.
pub(crate) fn holder(kind: ParticipantKind, name: &str, pods: Vec<ToldPod>) -> Holder {
    Holder {
        kind,
        name: name.to_owned(),
        uid: uid(name),
        token: "5".to_owned(),
        granted_at: time(1),
        pods,
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
        reached: true,
        job: None,
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
        reached: true,
        pods: pods.iter().map(PodSketch::facts).collect(),
        job: Some(job),
    }
}

/// What a step is decided on, at second 50.
pub(crate) fn snapshot<P>(primitive: P, participants: Vec<Participant>) -> Snapshot<P> {
    Snapshot {
        primitive,
        participants,
        objects: BTreeMap::new(),
        strays: Vec::new(),
        absent: BTreeSet::new(),
        now: at(50),
    }
}

/// Does `Stalled` say that nobody needs to act?
pub(crate) fn is_ready(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> bool {
    conditions.iter().any(|condition| condition.type_ == STALLED && condition.status == "False")
}
