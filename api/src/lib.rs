//! The Kubernetes API of Konductor: kinds, annotations, conditions.
//!
//! Everything that two parts must agree on stands here once: the custom resources ([`gate`], [`mutex`]) and what their
//! statuses share ([`ledger`], [`conditions`]); the [`annotations`] users write and what follows from them
//! ([`participation`]); Go's [`duration`]s. Pure: no I/O, no clock. What must stay true: a stored object that the API
//! server accepted can be read here, and the generated definitions (`cargo xtask generate`) follow from these types
//! alone.

pub mod annotations;
pub mod conditions;
pub mod duration;
pub mod gate;
pub mod ledger;
pub mod mutex;
pub mod participation;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of all kinds.
pub const GROUP: &str = "konductor.io";
/// Its version.
pub const VERSION: &str = "v1";

/// The definitions of all kinds, as the chart installs them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![gate::Gate::crd(), mutex::Mutex::crd()]
}
