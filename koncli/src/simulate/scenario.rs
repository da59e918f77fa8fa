//! The scenario: manifests as they would be applied, and a document that says when each comes and what it does.
//!
//! ```yaml
//! scenario:
//!   until: 1h                       # the story ends then at the latest
//!   workloads:
//!     etl: {runs: 10m}              # a Job or Pod: comes at 0s, runs that long, and succeeds
//!     train: {at: 1m, runs: 20m, exit: 1}
//!   open:
//!     approval: 30m                 # a Gate that a person opens then
//! ```
//!
//! Pure.

use std::collections::BTreeMap;

use konductor_api::duration::GoDuration;
use serde::Deserialize;
use serde_json::Value;

use crate::manifests::Manifest;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scenario {
    /// What is said besides manifests.
    pub says: Says,
    /// Manifests.
    pub objects: Vec<Value>,
}

/// What is said besides manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Says {
    /// When the story ends at the latest; a day, if nothing is said.
    pub until: Option<GoDuration>,
    /// By name: what Jobs and Pods do.
    pub workloads: BTreeMap<String, Does>,
    /// By name: when gates are opened by hand.
    pub open: BTreeMap<String, GoDuration>,
}

/// What a workload does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Does {
    /// When it is created.
    pub at: GoDuration,
    /// How long each of its pods runs.
    pub runs: GoDuration,
    /// What they end with.
    pub exit: i32,
}

impl Default for Does {
    fn default() -> Self {
        Self { at: GoDuration::from_seconds(0), runs: GoDuration::from_seconds(60), exit: 0 }
    }
}

impl Scenario {
    /// Of those documents; what is wrong with them is said in a sentence.
    pub fn of(manifests: &[Manifest]) -> Result<Self, String> {
        let mut scenario = Self::default();
        for manifest in manifests {
            match manifest.object.get("scenario") {
                None => scenario.objects.push(manifest.object.clone()),
                Some(says) => {
                    let says: Says = serde_json::from_value(says.clone()).map_err(|error| {
                        format!(
                            "{}: scenario: {error}; it may have until, workloads and open",
                            manifest.origin
                        )
                    })?;
                    scenario.says.until = says.until.or(scenario.says.until);
                    scenario.says.workloads.extend(says.workloads);
                    scenario.says.open.extend(says.open);
                }
            }
        }
        let named = |name: &str, kinds: &[&str]| {
            scenario.objects.iter().any(|object| {
                object["metadata"]["name"] == name
                    && object["kind"].as_str().is_some_and(|kind| kinds.contains(&kind))
            })
        };
        let workload = scenario.says.workloads.keys().find(|name| !named(name, &["Job", "Pod"]));
        let gate = scenario.says.open.keys().find(|name| !named(name, &["Gate"]));
        match (workload, gate) {
            (Some(name), _) => {
                Err(format!("scenario.workloads.{name}: there is no Job or Pod of that name in the files"))
            }
            (None, Some(name)) => {
                Err(format!("scenario.open.{name}: there is no Gate of that name in the files"))
            }
            (None, None) => Ok(scenario),
        }
    }
}
