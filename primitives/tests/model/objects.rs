//! Pods as the API server would show them, built from the small values of a world.
//!
//! What must stay true: what is built here looks like what a kubelet, the pod garbage collector and an API server write.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, Pod, PodCondition, PodSchedulingGate, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use konductor_api::annotations::{FINALIZER, GRANT, SCHEDULING_GATE, WAITER_CONTAINER};
use konductor_primitives::step::Withdrawal;
use konductor_waiter::grant::{Grant, NEVER, Verdict};

use crate::locks::world::{Main, Place, Status, Stored, Told, Waiter, Word, start};

/// So many seconds after the world begins.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_900_000_000 + seconds)
}

pub(crate) fn time(seconds: i64) -> Time {
    Time(at(seconds))
}

/// The inverse of [`at`].
pub(crate) fn seconds(at: i64) -> u16 {
    u16::try_from(at - 1_900_000_000).unwrap()
}

/// Name and UID of a pod, or of whatever else there are several of.
pub(crate) fn name(index: usize) -> String {
    format!("p{index}")
}

pub(crate) fn uid(index: usize) -> String {
    format!("uid-{index}")
}

/// The inverse of [`uid`] and [`name`].
pub(crate) fn index(text: &str) -> usize {
    text.chars().last().and_then(|digit| digit.to_digit(10)).unwrap() as usize
}

/// What does not change about a pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fixed {
    pub(crate) annotations: Vec<(&'static str, String)>,
    /// Its restart policy is `OnFailure`, not `Never`.
    pub(crate) restarts: bool,
    /// The Job that controls it.
    pub(crate) job: Option<usize>,
}

/// That pod.
pub(crate) fn pod(index: usize, fixed: &Fixed, stored: &Stored) -> Pod {
    let mut annotations: std::collections::BTreeMap<_, _> =
        fixed.annotations.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    if let Some(told) = stored.told {
        annotations.insert(GRANT.to_owned(), grant(index, told).to_string());
    }
    let owner = fixed.job.map(|job| OwnerReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: name(job),
        uid: uid(job),
        controller: Some(true),
        ..OwnerReference::default()
    });
    let named = |name: &str| Container { name: name.to_owned(), ..Container::default() };
    Pod {
        metadata: ObjectMeta {
            name: Some(name(index)),
            uid: Some(uid(index)),
            creation_timestamp: Some(time(i64::try_from(index).unwrap())),
            resource_version: Some("1".to_owned()),
            deletion_timestamp: stored.deleting.then(|| time(1)),
            finalizers: stored.finalizer.then(|| vec![FINALIZER.to_owned()]),
            annotations: Some(annotations),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: (stored.place == Place::Placed).then(|| format!("node-{index}")),
            scheduling_gates: (stored.place == Place::Gated)
                .then(|| vec![PodSchedulingGate { name: SCHEDULING_GATE.to_owned() }]),
            restart_policy: Some(if fixed.restarts { "OnFailure" } else { "Never" }.to_owned()),
            init_containers: Some(vec![named(WAITER_CONTAINER)]),
            containers: vec![named("main")],
            ..PodSpec::default()
        }),
        status: Some(status(stored)),
    }
}

/// The text that a pod is told.
pub(crate) fn grant(index: usize, told: Told) -> Grant {
    Grant {
        pod_uid: uid(index),
        run: u64::from(told.run),
        waiter_started_at: at(i64::from(told.start)).as_second(),
        verdict: match told.word {
            Word::Go => Verdict::Go,
            Word::Skip => Verdict::Skip { reason: "done".to_owned() },
            Word::Deny => Verdict::Deny { code: NEVER, reason: "never".to_owned() },
            Word::Released => Verdict::Released,
        },
    }
}

/// What is written where a withdrawal finds that nothing was told.
pub(crate) fn withdrawn(withdrawal: &Withdrawal) -> (usize, Told) {
    let told = Told {
        run: u8::try_from(withdrawal.run).unwrap(),
        start: seconds(withdrawal.waiter_started_at),
        word: Word::Released,
    };
    (index(&withdrawal.uid), told)
}

/// The inverse.
pub(crate) fn told(grant: &Grant) -> Told {
    Told {
        run: u8::try_from(grant.run).unwrap(),
        start: seconds(grant.waiter_started_at),
        word: match grant.verdict {
            Verdict::Go => Word::Go,
            Verdict::Skip { .. } => Word::Skip,
            Verdict::Deny { .. } => Word::Deny,
            Verdict::Released => Word::Released,
        },
    }
}

fn status(stored: &Stored) -> PodStatus {
    let Status { run, waiter, main, id, under, back, over } = stored.status;
    let started = i64::from(start(run.max(1), back));
    let waiter = match waiter {
        Waiter::Due => waiting(),
        Waiter::Running => running(started),
        Waiter::Passed => ended("waiter", started, started + 3, 0),
        Waiter::Failed => ended("waiter", started, started + 3, 143),
    };
    let began = i64::from(start(under.max(1), back)) + 4;
    let id = format!("main-{id}");
    let main = match main {
        Main::None => waiting(),
        Main::Running => running(began),
        Main::Succeeded => ended(&id, began, began + 2, 0),
        Main::Failed => ended(&id, began, began + 2, 137),
        Main::Lost => ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".to_owned()),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        },
    };
    let main_id = (main.waiting.is_none()).then_some(id);
    let phase = match over {
        Some(true) => "Succeeded",
        Some(false) => "Failed",
        None if stored.collected => "Failed",
        None if run == 0 => "Pending",
        None => "Running",
    };
    let last_word = over.map(|success| PodCondition {
        type_: "ContainersReady".to_owned(),
        status: "False".to_owned(),
        reason: Some(if success { "PodCompleted" } else { "PodFailed" }.to_owned()),
        ..PodCondition::default()
    });
    let no_room = (stored.place == Place::Unschedulable).then(|| PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("Unschedulable".to_owned()),
        ..PodCondition::default()
    });
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(last_word.into_iter().chain(no_room).collect()),
        init_container_statuses: Some(vec![shown(WAITER_CONTAINER, None, waiter)]),
        container_statuses: Some(vec![shown("main", main_id, main)]),
        ..PodStatus::default()
    }
}

fn shown(name: &str, id: Option<String>, state: ContainerState) -> ContainerStatus {
    ContainerStatus {
        name: name.to_owned(),
        container_id: id,
        state: Some(state),
        ..ContainerStatus::default()
    }
}

fn waiting() -> ContainerState {
    let reason = Some("PodInitializing".to_owned());
    ContainerState { waiting: Some(ContainerStateWaiting { reason, message: None }), ..Default::default() }
}

fn running(since: i64) -> ContainerState {
    let running = ContainerStateRunning { started_at: Some(time(since)) };
    ContainerState { running: Some(running), ..ContainerState::default() }
}

fn ended(id: &str, started: i64, finished: i64, exit_code: i32) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(id.to_owned()),
            exit_code,
            started_at: Some(time(started)),
            finished_at: Some(time(finished)),
            reason: Some(if exit_code == 0 { "Completed" } else { "Error" }.to_owned()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}
