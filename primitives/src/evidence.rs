//! Evidence: what the status of one pod proves.
//!
//! Pure, over one object version. The kubelet is a witness on the node: it asks the runtime. Everybody else who writes
//! a pod's status infers. So each rung asks who says so, and about which run. What must stay true: `None` is the
//! answer whenever something is unclear; a rung, once reached for a run, is never lost.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated};
use konductor_api::annotations::WAITER_CONTAINER;
use konductor_api::ledger::{Evidence, ToldPod};

use crate::critical::Critical;
use crate::record::{ContainerRecord, PodRecord, StatusRecord};

/// The run of the pod's waiter that the status shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaiterRun {
    /// It has not started, or is between two runs.
    None,
    /// It waits, since then.
    Running(Timestamp),
    /// It has let the pod through.
    Passed {
        /// Start of that run.
        started_at: Timestamp,
        /// Its end: nothing behind it started earlier.
        finished_at: Timestamp,
    },
    /// It ended otherwise.
    Failed,
}

/// A pod's end, proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The rung.
    pub evidence: Evidence,
    /// Did all critical containers exit with 0, and does nobody call the pod failed all the same? Who is evicted may say
    /// goodbye with 0: the Job counts it as failed and tries again.
    pub success: bool,
}

/// What the kubelet calls containers whose end it did not see itself.
const UNSEEN: [&str; 2] = ["ContainerStatusUnknown", "Unknown"];

// ----------------------------------------------------------------------------------------------- the waiter

/// What our init container is doing.
pub fn waiter_run(pod: &PodRecord) -> WaiterRun {
    let waiter = pod.init_statuses.iter().find(|status| status.name == WAITER_CONTAINER);
    let state = waiter.and_then(|status| status.state.as_ref());
    match state {
        Some(ContainerState { running: Some(running), .. }) => {
            running.started_at.as_ref().map_or(WaiterRun::None, |at| WaiterRun::Running(at.0))
        }
        Some(ContainerState { terminated: Some(ended), .. }) if ended.exit_code == 0 => {
            // Without times nothing can be ordered by it: not passed as far as anybody can prove.
            match (&ended.started_at, &ended.finished_at) {
                (Some(started), Some(finished)) => {
                    WaiterRun::Passed { started_at: started.0, finished_at: finished.0 }
                }
                _ => WaiterRun::Failed,
            }
        }
        Some(ContainerState { terminated: Some(_), .. }) => WaiterRun::Failed,
        _ => WaiterRun::None,
    }
}

/// IDs of all containers that the status knows and the critical ones are among, past ones included: what is in here now
/// cannot be the run that a grant given now admits.
pub fn critical_ids(pod: &PodRecord) -> Vec<String> {
    let past = |status: &StatusRecord| [status.container_id.clone(), status.last_container_id.clone()];
    let statuses = match Critical::of(pod) {
        Critical::Init(container) => {
            pod.init_statuses.iter().filter(|status| status.name == container.name).collect()
        }
        Critical::Apps(_) | Critical::Unknown => pod.statuses.iter().collect::<Vec<_>>(),
    };
    let mut ids: Vec<_> = statuses.into_iter().flat_map(past).flatten().collect();
    ids.sort();
    ids.dedup();
    ids
}

// -------------------------------------------------------------------------------------------------- the end

/// Is the end of this pod proven, for the run that `told` admitted? Without `told` only P0 and P1 can be said. That an
/// object is gone is not for its status to say.
pub fn end(pod: &PodRecord, told: Option<&ToldPod>) -> Option<End> {
    if never_bound(pod) {
        return Some(End { evidence: Evidence::P0, success: false });
    }
    if kubelets_last_word(pod) {
        return Some(End { evidence: Evidence::P1, success: all_succeeded(pod) });
    }
    told.filter(|told| critical_are_over(pod, told))
        .map(|_| End { evidence: Evidence::P2, success: all_succeeded(pod) })
}

/// P0: the binding call refuses a pod that is being deleted, so it can never reach a node.
fn never_bound(pod: &PodRecord) -> bool {
    pod.metadata.deletion_timestamp.is_some() && pod.node.is_none()
}

/// P1: kubelets hold a terminal phase back until every container is stopped for good. But they are not the only ones
/// who write it: the pod garbage collector sets Failed without looking. The kubelet's mark is the reason of
/// `ContainersReady`; and a list that misses a container proves nothing about it.
fn kubelets_last_word(pod: &PodRecord) -> bool {
    let expected = match pod.phase.as_deref() {
        Some("Succeeded") => "PodCompleted",
        Some("Failed") => "PodFailed",
        _ => return false,
    };
    let by_kubelet = torn_down(pod)
        || pod.condition("ContainersReady").is_some_and(|condition| {
            condition.status == "False" && condition.reason.as_deref() == Some(expected)
        });
    let over = |container: &ContainerRecord, statuses: &[StatusRecord]| {
        statuses.iter().any(|status| status.name == container.name && is_over_or_never_was(status))
    };
    // A container that was attached for debugging shares nothing with the critical section but the sandbox; it has
    // ended when the kubelet says so, like all others.
    let ephemeral_over = pod.ephemeral_statuses.iter().all(is_over_or_never_was);
    by_kubelet
        && ephemeral_over
        && !pod.containers.is_empty()
        && pod.init_containers.iter().all(|container| over(container, &pod.init_statuses))
        && pod.containers.iter().all(|container| over(container, &pod.statuses))
}

/// The kubelet has seen the deletion and has no sandbox any more, and a kubelet starts nothing in a pod that is being
/// deleted. A pod that is deleted between the end of its waiter and the start of its app ends so, without the mark of
/// `ContainersReady`. Kubelets before 1.34 do not say what they have seen; but they, too, write a terminal phase only when
/// nothing runs any more, and everybody else who writes one for a pod that has a node says so by `DisruptionTarget`.
fn torn_down(pod: &PodRecord) -> bool {
    let without_sandbox =
        pod.condition("PodReadyToStartContainers").filter(|condition| condition.status == "False");
    let disrupted = || pod.is_true("DisruptionTarget");
    pod.metadata.deletion_timestamp.is_some()
        && without_sandbox.is_some_and(|condition| match condition.observed_generation {
            Some(seen) => pod.metadata.generation.is_some_and(|current| seen >= current),
            None => !disrupted(),
        })
}

/// A pod that fails in its init phase shows its app containers as waiting for ever.
fn is_over_or_never_was(status: &StatusRecord) -> bool {
    let never = status.container_id.is_none() && !status.ran_before;
    match &status.state {
        Some(ContainerState { terminated: Some(_), running: None, .. }) => true,
        None | Some(ContainerState { waiting: Some(_), running: None, .. }) => never,
        Some(_) => false,
    }
}

/// P2: every critical container has ended, none may start again, and what ended is the run that this grant admitted. An
/// init container has ended when it has succeeded: one that failed is started again, or the pod fails.
fn critical_are_over(pod: &PodRecord, told: &ToldPod) -> bool {
    let WaiterRun::Passed { started_at, finished_at: passed_at } = waiter_run(pod) else { return false };
    if started_at != told.waiter_started_at.0 {
        return false;
    }
    if pod.is_true("AllContainersRestarting") || may_restart_everything(pod) {
        return false;
    }
    let over = |container: &ContainerRecord, statuses: &[StatusRecord], stays_down: &dyn Fn(i32) -> bool| {
        statuses.iter().filter(|status| status.name == container.name).any(|status| {
            let ended = ended_for_good(container, status);
            ended.is_some_and(|ended| {
                stays_down(ended.exit_code) && is_of_this_run(status, ended, passed_at, &told.ran_before)
            })
        })
    };
    match Critical::of(pod) {
        Critical::Unknown => false,
        Critical::Init(container) => over(container, &pod.init_statuses, &|code| code == 0),
        Critical::Apps(containers) => containers
            .iter()
            .all(|container| over(container, &pod.statuses, &|code| stays_down(pod, container, code))),
    }
}

/// Does an app container that ended with that code stay as it is?
fn stays_down(pod: &PodRecord, container: &ContainerRecord, exit_code: i32) -> bool {
    match container.restart_policy.as_deref().or(pod.restart_policy.as_deref()) {
        Some("Never") => true,
        Some("OnFailure") => exit_code == 0,
        _ => false,
    }
}

/// How a container ended that no rule of its own could start again.
fn ended_for_good<'a>(
    container: &ContainerRecord,
    status: &'a StatusRecord,
) -> Option<&'a ContainerStateTerminated> {
    let Some(ContainerState { terminated: Some(ended), running: None, .. }) = &status.state else {
        return None;
    };
    // Which exit codes a rule would answer with a restart is not worked out: such a pod is released by P1.
    (!container.has_rules && was_seen(ended)).then_some(ended)
}

/// The runtime told of this end; the kubelet did not conclude it from something missing.
fn was_seen(ended: &ContainerStateTerminated) -> bool {
    ended.finished_at.is_some() && !ended.reason.as_deref().is_some_and(|reason| UNSEEN.contains(&reason))
}

/// After a lost sandbox the status still shows the end of the old run while the new one starts.
fn is_of_this_run(
    status: &StatusRecord,
    ended: &ContainerStateTerminated,
    passed_at: Timestamp,
    ran_before: &[String],
) -> bool {
    let id = ended.container_id.as_ref().or(status.container_id.as_ref()).filter(|id| !id.is_empty());
    id.is_some_and(|id| !ran_before.contains(id))
        && ended.started_at.as_ref().is_some_and(|started| started.0 >= passed_at)
}

/// A rule on any container that starts the whole pod again: it would start containers that have succeeded, too.
fn may_restart_everything(pod: &PodRecord) -> bool {
    pod.init_containers.iter().chain(&pod.containers).any(|container| container.restarts_everything)
}

fn all_succeeded(pod: &PodRecord) -> bool {
    let failed = pod.phase.as_deref() == Some("Failed");
    let succeeded = |container: &ContainerRecord, statuses: &[StatusRecord]| {
        statuses.iter().any(|status| {
            let ended = status.state.as_ref().and_then(|state| state.terminated.as_ref());
            status.name == container.name && ended.is_some_and(|ended| ended.exit_code == 0)
        })
    };
    match Critical::of(pod) {
        Critical::Unknown => false,
        // What comes after it may fail, and the kubelet goes on to it only after a success.
        Critical::Init(container) => {
            succeeded(container, &pod.init_statuses) && (!failed || an_app_has_started(pod))
        }
        Critical::Apps(containers) => {
            !failed && containers.iter().all(|container| succeeded(container, &pod.statuses))
        }
    }
}

fn an_app_has_started(pod: &PodRecord) -> bool {
    pod.statuses.iter().any(|status| status.container_id.is_some())
}
