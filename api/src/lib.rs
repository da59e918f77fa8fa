//! The Kubernetes API of Konductor: kinds, annotations, conditions.
//!
//! Everything that two parts must agree on stands here once: the custom resources (a file each, [`gate`] to [`once`], and [`claim`])
//! and what their statuses share ([`ledger`], [`members`], [`conditions`]); the [`annotations`], the [`grammar`] of
//! those that users write and what follows from them ([`participation`], [`options`]); Go's [`duration`]s. Pure: no I/O, no clock. What must stay true:
//! a stored object that the API server accepted can be read here, and the generated definitions (`cargo xtask
//! generate`) follow from these types alone.

pub mod annotations;
pub mod barrier;
pub mod claim;
pub mod conditions;
pub mod duration;
pub mod gate;
pub mod grammar;
pub mod job_plan;
pub mod lease;
pub mod ledger;
pub mod members;
pub mod mutex;
pub mod once;
pub mod options;
pub mod participation;
pub mod rwmutex;
pub mod section;
pub mod semaphore;
pub mod values;
pub mod waitgroup;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

/// The API group of all kinds.
pub const GROUP: &str = "konductor.io";
/// Its version.
pub const VERSION: &str = "v1";

/// The definitions of all kinds, as the chart installs them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        without_defaults_in_lists(with_optional_spec(gate::Gate::crd())),
        with_optional_spec(waitgroup::WaitGroup::crd()),
        barrier::Barrier::crd(),
        semaphore::Semaphore::crd(),
        with_optional_spec(rwmutex::RWMutex::crd()),
        with_optional_spec(mutex::Mutex::crd()),
        with_optional_spec(lease::Lease::crd()),
        with_optional_spec(once::Once::crd()),
        claim::Claim::crd(),
    ]
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

/// What the API server fills in within a list makes the list another one than the manifest has, so that `kubectl apply`
/// and GitOps tools find it changed each time they look.
fn without_defaults_in_lists(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    fn strip(schema: &mut JSONSchemaProps, in_list: bool) {
        if in_list {
            schema.default = None;
        }
        for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
            strip(property, in_list);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
            strip(items, true);
        }
    }
    for version in &mut definition.spec.versions {
        let schema = version.schema.as_mut().and_then(|validation| validation.open_api_v3_schema.as_mut());
        if let Some(spec) = schema.and_then(|schema| schema.properties.as_mut()?.get_mut("spec")) {
            strip(spec, false);
        }
    }
    definition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_need_say_nothing_but_their_name_need_no_spec() {
        let default = |definition: &CustomResourceDefinition| {
            let schema = definition.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
            schema.properties.unwrap()["spec"].default.clone()
        };
        let without: Vec<_> = crds()
            .iter()
            .filter(|crd| default(crd).is_none())
            .map(|crd| crd.spec.names.kind.clone())
            .collect();
        assert_eq!(without, ["Barrier", "Semaphore", "Claim"]);
    }
}
