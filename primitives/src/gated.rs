//! Gated: what keeps a pod from taking a node, read off one version of it.
//!
//! Pure. A scheduling gate that is ours is no lock: whoever removes it makes a pod take a node and wait there, before the
//! waiter that every pod has; but for a Windows pod, which has none. What must stay true: a pod is a candidate at our gate only if nothing else keeps it from
//! being placed, so that nobody holds anything for a pod that others keep away.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use konductor_api::annotations::{SCHEDULING_GATE, WAITER_CONTAINER};

const WINDOWS: &str = "windows";
const OS_LABEL: &str = "kubernetes.io/os";

/// Whose scheduling gates a pod has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gated {
    /// Nobody's.
    No,
    /// Ours, and no other.
    ByUs,
    /// Ours, and others.
    ByUsAndOthers,
    /// Others only.
    ByOthers,
}

impl Gated {
    /// Reads it off a pod.
    pub fn of(pod: &Pod) -> Self {
        let gates = pod.spec.iter().flat_map(|spec| spec.scheduling_gates.iter().flatten());
        let (ours, others): (Vec<_>, Vec<_>) = gates.partition(|gate| gate.name == SCHEDULING_GATE);
        match (ours.is_empty(), others.is_empty()) {
            (true, true) => Self::No,
            (false, true) => Self::ByUs,
            (false, false) => Self::ByUsAndOthers,
            (true, false) => Self::ByOthers,
        }
    }

    /// Is one of them ours?
    pub const fn by_us(self) -> bool {
        matches!(self, Self::ByUs | Self::ByUsAndOthers)
    }

    /// Is one of them somebody else's?
    pub const fn by_others(self) -> bool {
        matches!(self, Self::ByOthers | Self::ByUsAndOthers)
    }
}

/// Is it a Windows pod without our waiter? Which system it is for decides where it can run, so that nobody says it of a pod
/// that starts elsewhere; and a pod that has a waiter is held by that.
pub(crate) fn is_held_by_gate_alone(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let by_name = spec.os.as_ref().is_some_and(|os| os.name == WINDOWS);
    let by_selector =
        spec.node_selector.iter().flatten().any(|(key, value)| key == OS_LABEL && value == WINDOWS);
    let has_waiter =
        spec.init_containers.iter().flatten().any(|container| container.name == WAITER_CONTAINER);
    (by_name || by_selector) && !has_waiter
}

/// Since when the scheduler says that it finds no node for this pod, as far as it says; `None` if it does not say so. A
/// gate that was lifted before leaves the time as it was, for the condition was False already: whoever asks how long a
/// reservation has been in vain must know when it was made, too.
pub(crate) fn unschedulable_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let unschedulable = conditions.into_iter().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    Some(unschedulable.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0))
}
