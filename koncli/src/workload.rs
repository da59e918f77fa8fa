//! Workloads: which objects make pods or Jobs, and where in them that stands.
//!
//! Pure, over the object as JSON. What must stay true: what the webhook looks at is a workload here, and nothing else.

use jiff::Timestamp;
use konductor_api::grammar::Problem;
use konductor_webhook::names::{Around, Unknown};
use konductor_webhook::plan::{self, Plan};
use konductor_webhook::review::Resource;
use konductor_webhook::waiter::Settings;
use serde_json::Value;

/// An object that makes pods.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// As the webhook knows it.
    pub(crate) resource: Resource,
    /// Where in it the pod or the Job stands that is made of it.
    pub(crate) at: &'static [&'static str],
}

impl Workload {
    /// That object, if it is one.
    pub(crate) fn of(object: &Value) -> Option<Self> {
        const TEMPLATE: &[&str] = &["spec", "template"];
        let (resource, at): (_, &[_]) = match (object["apiVersion"].as_str()?, object["kind"].as_str()?) {
            ("v1", "Pod") => (Resource::Pods, &[]),
            ("batch/v1", "Job") => (Resource::Jobs, &[]),
            ("batch/v1", "CronJob") => (Resource::CronJobs, &["spec", "jobTemplate"]),
            ("apps/v1", "Deployment") => (Resource::Deployments, TEMPLATE),
            ("apps/v1", "StatefulSet") => (Resource::StatefulSets, TEMPLATE),
            ("apps/v1", "DaemonSet") => (Resource::DaemonSets, TEMPLATE),
            ("apps/v1", "ReplicaSet") => (Resource::ReplicaSets, TEMPLATE),
            _ => return None,
        };
        Some(Self { resource, at })
    }

    /// The same place as a JSON pointer.
    pub(crate) fn pointer(self) -> String {
        self.at.iter().flat_map(|field| ["/", field]).collect()
    }

    /// What the webhook makes of what stands there.
    pub(crate) fn plan(
        self,
        part: &Value,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Plan, Vec<Problem>> {
        let around = Around { settings, names: &Unknown, namespace: "", now };
        match self.resource {
            Resource::Jobs | Resource::CronJobs => plan::job(part, &around),
            _ => plan::pod(part, &around),
        }
    }
}
