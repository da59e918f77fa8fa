//! The two kinds of webhook configuration: what differs between them for whoever keeps their `caBundle`.
//!
//! Types only.

use std::fmt::Debug;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::Resource;
use serde::de::DeserializeOwned;

/// A webhook configuration of either kind.
pub trait Configuration:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// What it means that there is none.
    const WITHOUT_IT: &'static str;

    /// Its entries: their names, and whom they call.
    fn entries(&self) -> Vec<(&str, &WebhookClientConfig)>;
}

impl Configuration for MutatingWebhookConfiguration {
    const WITHOUT_IT: &'static str =
        "annotated workloads are refused by policy until the chart has created it";

    fn entries(&self) -> Vec<(&str, &WebhookClientConfig)> {
        self.webhooks.iter().flatten().map(|entry| (entry.name.as_str(), &entry.client_config)).collect()
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    const WITHOUT_IT: &'static str =
        "templates are not checked until the chart has created it; their pods and Jobs are";

    fn entries(&self) -> Vec<(&str, &WebhookClientConfig)> {
        self.webhooks.iter().flatten().map(|entry| (entry.name.as_str(), &entry.client_config)).collect()
    }
}
