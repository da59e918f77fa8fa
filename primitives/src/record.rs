//! The record of a pod: what the rules look at of one version of it, and nothing else.
//!
//! Pure. A pod as the API has it takes 26 kB in memory, of which 3 are looked at; there may be ten thousand. It is read like the
//! pod itself, as a resource of its own, so that whoever watches pods never has more than this of most of them. What must
//! stay true: what is left out decides nothing; what is there is there as it was said.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStatus, Pod, PodCondition, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use konductor_api::annotations::PREFIX;
use konductor_api::conditions::GRANTED;
use serde::Deserialize;

use crate::gated::{self, Gated};

/// The index of a pod under an Indexed Job.
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The conditions that are looked at.
const CONDITIONS: [&str; 6] = [
    "AllContainersRestarting",
    "ContainersReady",
    "DisruptionTarget",
    GRANTED,
    "PodReadyToStartContainers",
    "PodScheduled",
];

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Pod")]
pub struct PodRecord {
    /// Without labels, managers and annotations of others.
    pub metadata: ObjectMeta,
    /// The node it is bound to.
    pub node: Option<String>,
    /// Of the pod.
    pub restart_policy: Option<String>,
    /// What keeps it from taking a node.
    pub gated: Gated,
    /// Does it say that it runs on Windows?
    pub for_windows: bool,
    /// Of the spec.
    pub init_containers: Vec<ContainerRecord>,
    /// Of the spec.
    pub containers: Vec<ContainerRecord>,
    /// Of the status.
    pub phase: Option<String>,
    /// Those that somebody looks at.
    pub conditions: Vec<PodCondition>,
    /// Of init containers.
    pub init_statuses: Vec<StatusRecord>,
    /// Of app containers.
    pub statuses: Vec<StatusRecord>,
    /// Of containers that were attached for debugging.
    pub ephemeral_statuses: Vec<StatusRecord>,
}

/// A container of the spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerRecord {
    /// Name.
    pub name: String,
    /// Its own, if it has one.
    pub restart_policy: Option<String>,
    /// Is there any rule of its own about restarts?
    pub has_rules: bool,
    /// May one of them start the whole pod again?
    pub restarts_everything: bool,
}

/// How a container stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusRecord {
    /// Name.
    pub name: String,
    /// Of the present run.
    pub container_id: Option<String>,
    /// Now.
    pub state: Option<ContainerState>,
    /// Was there a run before?
    pub ran_before: bool,
    /// Its container, if that is known.
    pub last_container_id: Option<String>,
}

impl From<Pod> for PodRecord {
    fn from(pod: Pod) -> Self {
        let Pod { metadata, spec, status } = pod;
        let spec = spec.unwrap_or_default();
        let status = status.unwrap_or_default();
        let PodStatus {
            phase,
            conditions,
            init_container_statuses,
            container_statuses,
            ephemeral_container_statuses,
            ..
        } = status;
        let conditions = conditions.into_iter().flatten();
        Self {
            metadata: slim(metadata),
            gated: Gated::of(&spec),
            for_windows: gated::is_for_windows(&spec),
            conditions: kept(conditions.filter(|condition| CONDITIONS.contains(&condition.type_.as_str()))),
            init_statuses: kept(init_container_statuses.into_iter().flatten().map(StatusRecord::from)),
            statuses: kept(container_statuses.into_iter().flatten().map(StatusRecord::from)),
            ephemeral_statuses: kept(
                ephemeral_container_statuses.into_iter().flatten().map(StatusRecord::from),
            ),
            phase,
            ..Self::of_spec(spec)
        }
    }
}

impl PodRecord {
    fn of_spec(spec: PodSpec) -> Self {
        Self {
            node: spec.node_name.filter(|node| !node.is_empty()),
            restart_policy: spec.restart_policy,
            init_containers: kept(spec.init_containers.into_iter().flatten().map(ContainerRecord::from)),
            containers: kept(spec.containers.into_iter().map(ContainerRecord::from)),
            ..Self::default()
        }
    }

    /// The condition of that type.
    pub fn condition(&self, type_: &str) -> Option<&PodCondition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Is that condition True?
    pub(crate) fn is_true(&self, type_: &str) -> bool {
        self.condition(type_).is_some_and(|condition| condition.status == "True")
    }

    /// Since when the scheduler says that it finds no node for this pod, as far as it says; `None` if it does not say so. A
    /// gate that was lifted before leaves the time as it was, for the condition was False already: whoever asks how long a
    /// reservation has been in vain must know when it was made, too.
    pub(crate) fn unschedulable_since(&self) -> Option<Timestamp> {
        let scheduled = self.condition("PodScheduled").filter(|condition| condition.status == "False")?;
        (scheduled.reason.as_deref() == Some("Unschedulable"))
            .then(|| scheduled.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0))
    }
}

impl From<Container> for ContainerRecord {
    fn from(container: Container) -> Self {
        let rules = container.restart_policy_rules.unwrap_or_default();
        Self {
            name: container.name,
            restart_policy: container.restart_policy,
            has_rules: !rules.is_empty(),
            restarts_everything: rules.iter().any(|rule| rule.action == "RestartAllContainers"),
        }
    }
}

impl From<ContainerStatus> for StatusRecord {
    fn from(status: ContainerStatus) -> Self {
        let last = status.last_state.filter(|last| *last != ContainerState::default());
        Self {
            name: status.name,
            container_id: status.container_id.filter(|id| !id.is_empty()),
            state: status.state.map(without_messages),
            ran_before: last.is_some(),
            last_container_id: last
                .and_then(|last| last.terminated?.container_id)
                .filter(|id| !id.is_empty()),
        }
    }
}

/// They may be 4 kB long.
fn without_messages(mut state: ContainerState) -> ContainerState {
    if let Some(terminated) = &mut state.terminated {
        terminated.message = None;
    }
    if let Some(waiting) = &mut state.waiting {
        waiting.message = None;
    }
    state
}

fn slim(metadata: ObjectMeta) -> ObjectMeta {
    let mut annotations = metadata.annotations;
    if let Some(all) = &mut annotations {
        all.retain(|key, _| key.starts_with(PREFIX) || key == COMPLETION_INDEX);
    }
    ObjectMeta { annotations, labels: None, managed_fields: None, generate_name: None, ..metadata }
}

/// A list that has no room to spare.
fn kept<T>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.shrink_to_fit();
    items
}

impl k8s_openapi::Resource for PodRecord {
    const API_VERSION: &'static str = Pod::API_VERSION;
    const GROUP: &'static str = Pod::GROUP;
    const KIND: &'static str = Pod::KIND;
    const VERSION: &'static str = Pod::VERSION;
    const URL_PATH_SEGMENT: &'static str = Pod::URL_PATH_SEGMENT;
    type Scope = <Pod as k8s_openapi::Resource>::Scope;
}

impl k8s_openapi::Metadata for PodRecord {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
