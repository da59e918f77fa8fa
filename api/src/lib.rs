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

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;

/// The API group of all kinds.
pub const GROUP: &str = "konductor.io";
/// Its version.
pub const VERSION: &str = "v1";

/// The definitions of all kinds, as the chart installs them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![gate::Gate::crd(), with_optional_spec(mutex::Mutex::crd())]
}

/// Nothing has to be said of a lock but its name: a missing spec becomes an empty one.
fn with_optional_spec(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut definition.spec.versions {
        let schema = version.schema.as_mut().and_then(|validation| validation.open_api_v3_schema.as_mut());
        let properties = schema.and_then(|schema| schema.properties.as_mut());
        if let Some(spec) = properties.and_then(|properties| properties.get_mut("spec")) {
            spec.default = Some(JSON(serde_json::json!({})));
        }
    }
    definition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutex_needs_no_spec_and_a_gate_does() {
        let default = |definition: &CustomResourceDefinition| {
            let schema = definition.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
            schema.properties.unwrap()["spec"].default.clone()
        };
        let defaults: Vec<_> = crds().iter().map(default).collect();
        assert_eq!(defaults, [None, Some(JSON(serde_json::json!({})))]);
    }
}
