//! A pod, as the API server would show it.

use k8s_openapi::api::core::v1::{
    Container, ContainerRestartRule, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, EphemeralContainer, Pod, PodCondition, PodOS, PodSchedulingGate,
    PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use konductor_api::annotations::{FINALIZER, GRANT, WAITER_CONTAINER};
use konductor_primitives::facts::{NodeState, PodFacts};
use konductor_primitives::record::PodRecord;
use konductor_waiter::grant::{Grant, Verdict};

use super::{at, time, uid};

/// A pod in the making.
#[derive(Clone, Debug)]
pub(crate) struct PodSketch {
    pod: Pod,
    node_state: NodeState,
}

/// A pod of policy Never with our waiter and one container, `main`, on a node that is alive; nothing has started.
pub(crate) fn pod(name: &str) -> PodSketch {
    let mut sketch = PodSketch { pod: Pod::default(), node_state: NodeState::Alive };
    sketch.pod.metadata.name = Some(name.to_owned());
    sketch.pod.metadata.uid = Some(uid(name));
    sketch.pod.metadata.creation_timestamp = Some(time(0));
    sketch.pod.metadata.resource_version = Some("1".to_owned());
    let spec = sketch.pod.spec.get_or_insert_default();
    spec.restart_policy = Some("Never".to_owned());
    spec.node_name = Some("node-a".to_owned());
    spec.containers = vec![named("main")];
    spec.init_containers = Some(vec![named(WAITER_CONTAINER)]);
    let status = sketch.status();
    status.phase = Some("Pending".to_owned());
    status.init_container_statuses = Some(vec![unstarted(WAITER_CONTAINER)]);
    status.container_statuses = Some(vec![unstarted("main")]);
    sketch
}

fn named(name: &str) -> Container {
    Container { name: name.to_owned(), ..Container::default() }
}

fn unstarted(name: &str) -> ContainerStatus {
    status(name, None, ContainerState { waiting: Some(waiting("PodInitializing")), ..Default::default() })
}

fn waiting(reason: &str) -> ContainerStateWaiting {
    ContainerStateWaiting { reason: Some(reason.to_owned()), message: None }
}

fn status(name: &str, id: Option<&str>, state: ContainerState) -> ContainerStatus {
    ContainerStatus {
        name: name.to_owned(),
        container_id: id.map(str::to_owned),
        state: Some(state),
        ..ContainerStatus::default()
    }
}

fn ended(id: Option<&str>, started: i64, finished: i64, exit_code: i32) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: id.map(str::to_owned),
            exit_code,
            started_at: Some(time(started)),
            finished_at: Some(time(finished)),
            reason: Some(if exit_code == 0 { "Completed" } else { "Error" }.to_owned()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

fn running(since: i64) -> ContainerState {
    ContainerState {
        running: Some(ContainerStateRunning { started_at: Some(time(since)) }),
        ..ContainerState::default()
    }
}

// --------------------------------------------------------------------------------------- its spec and metadata

impl PodSketch {
    pub(crate) fn policy(mut self, policy: &str) -> Self {
        self.pod.spec.as_mut().unwrap().restart_policy = Some(policy.to_owned());
        self
    }

    pub(crate) fn without_node(mut self) -> Self {
        self.pod.spec.as_mut().unwrap().node_name = None;
        self
    }

    /// With those scheduling gates, and no others.
    pub(crate) fn gates(mut self, names: &[&str]) -> Self {
        let gates = names.iter().map(|name| PodSchedulingGate { name: (*name).to_owned() }).collect();
        self.pod.spec.as_mut().unwrap().scheduling_gates = Some(gates);
        self
    }

    pub(crate) fn on_a_silent_node(mut self) -> Self {
        self.node_state = NodeState::Silent;
        self
    }

    /// An administrator says that the machine is off.
    pub(crate) fn on_a_node_out_of_service(mut self) -> Self {
        self.node_state = NodeState::OutOfService;
        self
    }

    /// Somebody removed the node.
    pub(crate) fn on_a_node_that_is_gone(mut self) -> Self {
        self.node_state = NodeState::Gone;
        self
    }

    /// For Windows, and so without our waiter.
    pub(crate) fn for_windows(mut self) -> Self {
        self.pod.spec.as_mut().unwrap().os = Some(PodOS { name: "windows".to_owned() });
        self.without_waiter()
    }

    pub(crate) fn selecting(mut self, key: &str, value: &str) -> Self {
        let selector = self.pod.spec.as_mut().unwrap().node_selector.get_or_insert_default();
        selector.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn without_waiter(mut self) -> Self {
        self.pod.spec.as_mut().unwrap().init_containers = None;
        self.status().init_container_statuses = None;
        self
    }

    /// One more container; it has not started.
    pub(crate) fn with_container(mut self, name: &str) -> Self {
        self.pod.spec.as_mut().unwrap().containers.push(named(name));
        self.set(unstarted(name))
    }

    /// One more init container; it has not started.
    pub(crate) fn with_init_container(mut self, name: &str) -> Self {
        self.pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap().push(named(name));
        self.set_init(unstarted(name))
    }

    /// A container for debugging that runs.
    pub(crate) fn with_debugger(mut self) -> Self {
        let spec = self.pod.spec.as_mut().unwrap();
        spec.ephemeral_containers =
            Some(vec![EphemeralContainer { name: "debugger".to_owned(), ..Default::default() }]);
        self.status().ephemeral_container_statuses =
            Some(vec![status("debugger", Some("debugger-1"), running(5))]);
        self
    }

    pub(crate) fn debugger_ended(mut self) -> Self {
        self.status().ephemeral_container_statuses =
            Some(vec![status("debugger", Some("debugger-1"), ended(Some("debugger-1"), 5, 9, 0))]);
        self
    }

    fn container(&mut self, name: &str) -> &mut Container {
        let spec = self.pod.spec.as_mut().unwrap();
        spec.containers
            .iter_mut()
            .chain(spec.init_containers.iter_mut().flatten())
            .find(|container| container.name == name)
            .unwrap()
    }

    /// The container's own restart policy.
    pub(crate) fn container_policy(mut self, name: &str, policy: &str) -> Self {
        self.container(name).restart_policy = Some(policy.to_owned());
        self
    }

    /// A restart rule of that container.
    pub(crate) fn rule(mut self, name: &str, action: &str) -> Self {
        let rule = ContainerRestartRule { action: action.to_owned(), exit_codes: None };
        self.container(name).restart_policy_rules = Some(vec![rule]);
        self
    }

    pub(crate) fn deleting(mut self) -> Self {
        self.pod.metadata.deletion_timestamp = Some(time(100));
        self
    }

    pub(crate) fn index(self, index: &str) -> Self {
        self.annotation("batch.kubernetes.io/job-completion-index", index)
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.pod.metadata.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// Another object of the same name.
    pub(crate) fn made_again(mut self) -> Self {
        self.pod.metadata.uid = self.pod.metadata.uid.map(|uid| format!("{uid}-again"));
        self
    }

    /// That Job controls it.
    pub(crate) fn of_job(self, name: &str) -> Self {
        self.owned_by("batch/v1", "Job", name)
    }

    pub(crate) fn of_stateful_set(self, name: &str) -> Self {
        self.owned_by("apps/v1", "StatefulSet", name)
    }

    fn owned_by(mut self, api_version: &str, kind: &str, name: &str) -> Self {
        self.pod.metadata.owner_references = Some(vec![OwnerReference {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            uid: uid(name),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        self
    }

    /// The operator's patch: grant and finalizer.
    pub(crate) fn told(self, run: u64, waiter_started_at: i64, verdict: Verdict) -> Self {
        let grant = Grant {
            pod_uid: self.pod.metadata.uid.clone().unwrap(),
            run,
            waiter_started_at: at(waiter_started_at).as_second(),
            verdict,
        };
        self.annotation(GRANT, &grant.to_string()).with_finalizer()
    }

    pub(crate) fn told_go(self, run: u64, waiter_started_at: i64) -> Self {
        self.told(run, waiter_started_at, Verdict::Go)
    }

    pub(crate) fn withdrawn(self, run: u64, waiter_started_at: i64) -> Self {
        self.told(run, waiter_started_at, Verdict::Released)
    }
}

// ------------------------------------------------------------------------------ what an API server does with it

impl PodSketch {
    pub(crate) fn created(mut self, seconds: i64) -> Self {
        self.pod.metadata.creation_timestamp = Some(time(seconds));
        self
    }

    pub(crate) fn version(mut self, revision: u64) -> Self {
        self.pod.metadata.resource_version = Some(revision.to_string());
        self
    }

    pub(crate) fn on_node(mut self, node: &str) -> Self {
        self.pod.spec.as_mut().unwrap().node_name = Some(node.to_owned());
        self
    }

    pub(crate) fn with_finalizer(mut self) -> Self {
        self.pod.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        self
    }

    pub(crate) fn without_finalizer(mut self) -> Self {
        self.pod.metadata.finalizers = None;
        self
    }

    /// Its Job was deleted and let go of it.
    pub(crate) fn orphaned(mut self) -> Self {
        self.pod.metadata.owner_references = None;
        self
    }

    /// As before its kubelet said anything.
    pub(crate) fn reset(mut self) -> Self {
        let spec = self.pod.spec.clone().unwrap();
        let unstarted = |containers: &[Container]| {
            Some(containers.iter().map(|container| unstarted(&container.name)).collect())
        };
        *self.status() = PodStatus {
            phase: Some("Pending".to_owned()),
            init_container_statuses: unstarted(spec.init_containers.as_deref().unwrap_or_default()),
            container_statuses: unstarted(&spec.containers),
            ..PodStatus::default()
        };
        self
    }
}

// -------------------------------------------------------------------------------------------------- its status

impl PodSketch {
    fn status(&mut self) -> &mut PodStatus {
        self.pod.status.get_or_insert_default()
    }

    fn set_init(mut self, fresh: ContainerStatus) -> Self {
        replace(self.status().init_container_statuses.get_or_insert_default(), fresh);
        self
    }

    fn set(mut self, fresh: ContainerStatus) -> Self {
        replace(self.status().container_statuses.get_or_insert_default(), fresh);
        self
    }

    pub(crate) fn waiter_running(self, since: i64) -> Self {
        self.set_init(status(WAITER_CONTAINER, Some("waiter"), running(since)))
    }

    pub(crate) fn waiter_passed(self, started: i64, finished: i64) -> Self {
        self.waiter_ended(started, finished, 0)
    }

    pub(crate) fn waiter_ended(self, started: i64, finished: i64, code: i32) -> Self {
        let state = ended(Some("waiter"), started, finished, code);
        self.set_init(status(WAITER_CONTAINER, Some("waiter"), state))
    }

    pub(crate) fn init_ended(self, name: &str, code: i32) -> Self {
        self.set_init(status(name, Some("init-1"), ended(Some("init-1"), 5, 6, code)))
    }

    pub(crate) fn init_runs(self, name: &str, since: i64) -> Self {
        self.set_init(status(name, Some("init-1"), running(since)))
    }

    /// That container runs; `id` is its run's.
    pub(crate) fn runs(self, name: &str, id: &str, since: i64) -> Self {
        self.set(status(name, Some(id), running(since))).phase("Running")
    }

    /// That container has ended.
    pub(crate) fn ended(self, name: &str, id: &str, started: i64, finished: i64, code: i32) -> Self {
        self.set(status(name, Some(id), ended(Some(id), started, finished, code)))
    }

    /// The kubelet found nothing where a container should be.
    pub(crate) fn not_found(self, name: &str, reason: &str) -> Self {
        let mut state = ended(None, 0, 0, 137);
        let lost = state.terminated.as_mut().unwrap();
        (lost.started_at, lost.finished_at, lost.reason) = (None, None, Some(reason.to_owned()));
        self.set(status(name, Some("lost-1"), state))
    }

    /// An end that the kubelet concluded from something missing, with times.
    pub(crate) fn concluded(self, name: &str, id: &str, reason: &str) -> Self {
        let mut state = ended(Some(id), 10, 20, 0);
        state.terminated.as_mut().unwrap().reason = Some(reason.to_owned());
        self.set(status(name, Some(id), state))
    }

    /// Between two runs, the last one remembered.
    pub(crate) fn backs_off(self, name: &str, id: &str) -> Self {
        let state = ContainerState { waiting: Some(waiting("CrashLoopBackOff")), ..Default::default() };
        let mut backing_off = status(name, Some(id), state);
        backing_off.last_state = Some(ended(Some(id), 10, 20, 1));
        self.set(backing_off)
    }

    pub(crate) fn phase(mut self, phase: &str) -> Self {
        self.status().phase = Some(phase.to_owned());
        self
    }

    pub(crate) fn condition(mut self, type_: &str, value: &str, reason: &str) -> Self {
        let conditions = self.status().conditions.get_or_insert_default();
        conditions.retain(|known| known.type_ != type_);
        conditions.push(PodCondition {
            type_: type_.to_owned(),
            status: value.to_owned(),
            reason: Some(reason.to_owned()),
            ..PodCondition::default()
        });
        self
    }

    /// That condition has been so since then.
    pub(crate) fn condition_since(mut self, type_: &str, seconds: i64) -> Self {
        for known in self.status().conditions.iter_mut().flatten().filter(|known| known.type_ == type_) {
            known.last_transition_time = Some(time(seconds));
        }
        self
    }

    /// The kubelet's last word: the phase, and its mark.
    pub(crate) fn over(self, phase: &str) -> Self {
        let reason = if phase == "Succeeded" { "PodCompleted" } else { "PodFailed" };
        self.phase(phase).condition("ContainersReady", "False", reason)
    }

    pub(crate) fn without_statuses(mut self) -> Self {
        let status = self.status();
        (status.container_statuses, status.init_container_statuses) = (None, None);
        self
    }

    /// `main` runs behind a waiter that was told at second 1 and passed at second 2.
    pub(crate) fn at_work(self) -> Self {
        self.told_go(1, 1).waiter_passed(1, 2).runs("main", "main-1", 3)
    }

    /// The same, ended with that code; the pod itself goes on.
    pub(crate) fn done(self, code: i32) -> Self {
        self.at_work().ended("main", "main-1", 3, 9, code)
    }
}

fn replace(statuses: &mut Vec<ContainerStatus>, fresh: ContainerStatus) {
    match statuses.iter_mut().find(|known| known.name == fresh.name) {
        Some(known) => *known = fresh,
        None => statuses.push(fresh),
    }
}

// -------------------------------------------------------------------------------------------------- the result

impl PodSketch {
    pub(crate) const fn object(&self) -> &Pod {
        &self.pod
    }

    /// What is kept of it.
    pub(crate) fn record(&self) -> PodRecord {
        PodRecord::from(self.pod.clone())
    }

    pub(crate) fn revision(&self) -> Option<&str> {
        self.pod.metadata.resource_version.as_deref()
    }

    pub(crate) fn is_gated(&self) -> bool {
        self.pod.spec.as_ref().unwrap().scheduling_gates.iter().flatten().next().is_some()
    }

    pub(crate) fn has_no_room(&self) -> bool {
        let mut conditions = self.pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.any(|condition| condition.reason.as_deref() == Some("Unschedulable"))
    }

    /// The scheduler found a node.
    pub(crate) fn placed(mut self) -> Self {
        self.status().conditions.get_or_insert_default().retain(|known| known.type_ != "PodScheduled");
        self
    }

    pub(crate) fn is_deleting(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    pub(crate) fn has_finalizer(&self) -> bool {
        self.pod.metadata.finalizers.is_some()
    }

    pub(crate) fn has_phase(&self, phases: &[&str]) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase.is_some_and(|phase| phases.contains(&phase))
    }

    pub(crate) fn facts(&self) -> PodFacts {
        PodFacts::of(&self.pod, self.node_state)
    }
}
