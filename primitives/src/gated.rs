//! Gated: what keeps a pod from taking a node, read off one version of it.
//!
//! Pure. A scheduling gate that is ours is no lock: whoever removes it makes a pod take a node and wait there, before the
//! waiter that every pod has; but for a Windows pod, which has none. What must stay true: a pod is a candidate at our gate only if nothing else keeps it from
//! being placed, so that nobody holds anything for a pod that others keep away.

use k8s_openapi::api::core::v1::PodSpec;
use konductor_api::annotations::{SCHEDULING_GATE, WAITER_CONTAINER};

use crate::record::PodRecord;

const WINDOWS: &str = "windows";
const OS_LABEL: &str = "kubernetes.io/os";

/// Whose scheduling gates a pod has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gated {
    /// Nobody's.
    #[default]
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
    pub fn of(spec: &PodSpec) -> Self {
        let gates = spec.scheduling_gates.iter().flatten();
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
pub(crate) fn is_held_by_gate_alone(pod: &PodRecord) -> bool {
    pod.for_windows && !pod.init_containers.iter().any(|container| container.name == WAITER_CONTAINER)
}

/// Does it say so itself, by its name or by the nodes that it selects?
pub(crate) fn is_for_windows(spec: &PodSpec) -> bool {
    let by_name = spec.os.as_ref().is_some_and(|os| os.name == WINDOWS);
    by_name || spec.node_selector.iter().flatten().any(|(key, value)| key == OS_LABEL && value == WINDOWS)
}
