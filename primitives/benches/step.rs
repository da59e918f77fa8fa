//! How long one step takes where it is largest: `cargo bench -p konductor-primitives`.
//!
//! Pure like the rules: no cluster, no I/O but the table at the end. Each case is stepped again and again on the same
//! snapshot; the median counts, because a machine that does something else now and then only makes single steps slower.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark has a clock and prints"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use konductor_api::barrier::{Barrier, BarrierPhase, BarrierSpec};
use konductor_api::ledger::ParticipantKind;
use konductor_api::members::MemberKey;
use konductor_api::options::Options;
use konductor_api::participation::Role;
use konductor_api::semaphore::{Semaphore, SemaphoreSpec};
use konductor_primitives::facts::PodFacts;
use konductor_primitives::queue::QueueKey;
use konductor_primitives::snapshot::{Participant, Snapshot};
use konductor_primitives::{barrier, semaphore};
use serde_json::json;

const ROUNDS: usize = 201;
const PERMITS: i64 = 1_000;
const WAITERS: usize = 10_000;

fn now() -> Timestamp {
    "2030-06-01T12:00:00Z".parse().unwrap()
}

/// A pod whose waiter runs.
fn waiting(number: usize) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("import-{number:05}"),
            "uid": format!("{number:08x}-0000-4000-8000-000000000000"),
            "creationTimestamp": "2030-06-01T11:00:00Z",
            "resourceVersion": "1",
            "annotations": {
                "konductor.io/semaphore": "limit",
                "konductor.io/queued": format!("2030-06-01T11:00:00.{number:06}Z"),
            },
        },
        "spec": {
            "nodeName": "node-a",
            "restartPolicy": "Never",
            "initContainers": [{"name": "konductor-wait"}],
            "containers": [{"name": "main"}],
        },
        "status": {
            "phase": "Pending",
            "initContainerStatuses": [{
                "name": "konductor-wait", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "containerID": "c", "state": {"running": {"startedAt": "2030-06-01T11:00:01Z"}},
            }],
            "containerStatuses": [{
                "name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "PodInitializing"}},
            }],
        },
    }))
    .unwrap()
}

fn participant(number: usize, role: Role, member: Option<MemberKey>) -> Participant {
    let facts = PodFacts::of(&waiting(number), true);
    Participant {
        kind: ParticipantKind::Pod,
        name: facts.name.clone(),
        uid: facts.uid.clone(),
        key: QueueKey::of(&facts.object().metadata, 0),
        role,
        member: member.unwrap_or_else(|| facts.member()),
        options: Options::default(),
        reached: true,
        job: None,
        claim: None,
        of_job: None,
        pods: vec![facts],
    }
}

fn snapshot<P>(primitive: P, participants: Vec<Participant>) -> Snapshot<P> {
    Snapshot {
        primitive,
        participants,
        objects: BTreeMap::new(),
        owners: BTreeMap::new(),
        strays: Vec::new(),
        outlived: BTreeSet::new(),
        fresh: BTreeSet::new(),
        absent: BTreeSet::new(),
        now: now(),
    }
}

fn median(mut step: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            step();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}

fn say(what: &str, took: Duration, goal: &str) {
    println!("{what:<78} {:>8.3} ms   {goal}", took.as_secs_f64() * 1e3);
}

fn main() {
    let held = usize::try_from(PERMITS).unwrap();
    let everybody = || (0..held + WAITERS).map(|number| participant(number, Role::Take(1), None)).collect();
    let mut limit = Semaphore::new("limit", SemaphoreSpec { permits: PERMITS, ttl: None });
    limit.metadata.resource_version = Some("7".to_owned());
    let mut all = snapshot(limit, everybody());

    let first = median(|| drop(black_box(semaphore::step(&all))));
    all.primitive.status = Some(semaphore::step(&all).status);
    assert_eq!(all.primitive.status.as_ref().map(|status| status.in_use), Some(PERMITS));
    let full = median(|| drop(black_box(semaphore::step(&all))));
    say("Semaphore, 1,000 permits held, 10,000 wait: a step that changes nothing", full, "goal 1 ms");
    say("Semaphore, 1,000 permits free, 11,000 wait: a step that grants all of them", first, "");

    let index = |number: usize| MemberKey::Index("job/train".to_owned(), u32::try_from(number).unwrap());
    let spec = BarrierSpec {
        expected: 10_000,
        quorum: None,
        timeout: None,
        cyclic: false,
        arrivals: konductor_api::barrier::ArrivalPolicy::Sticky,
    };
    let mut meeting = snapshot(
        Barrier::new("meeting", spec),
        (0..9_999).map(|number| participant(number, Role::Meet, Some(index(number)))).collect(),
    );
    meeting.primitive.status = Some(barrier::step(&meeting).status);
    meeting.participants.push(participant(9_999, Role::Meet, Some(index(9_999))));
    let trip = median(|| drop(black_box(barrier::step(&meeting))));
    assert_eq!(barrier::step(&meeting).status.phase, Some(BarrierPhase::Open));
    say("Barrier, the last of 10,000 arrives: the step that opens it", trip, "");
}
