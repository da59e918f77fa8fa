//! A namespace of one's own for each test.
//!
//! Makes it, runs the test in it, prints what lies in it if the test fails, and deletes it. `KONDUCTOR_E2E_KEEP=1`
//! keeps the namespace of a failed test. The deletion is not waited for, except by the test that is about it.

use std::fmt::Debug;
use std::panic::AssertUnwindSafe;

use anyhow::{Result, anyhow};
use futures::FutureExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace as KubeNamespace;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{cluster, dump, wait};

/// What Pod Security lets into a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Only what the strictest profile allows.
    Restricted,
    /// Everything.
    Privileged,
}

/// A namespace that belongs to one test.
#[derive(Clone)]
pub struct Namespace {
    client: Client,
    name: String,
}

/// A kind of object that lives in a namespace.
pub trait Object:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + 'static
{
}

impl<K> Object for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + 'static
{
}

/// Runs a test in its own namespace, which enforces the `restricted` profile.
pub async fn in_namespace(purpose: &str, test: impl AsyncFnOnce(&Namespace) -> Result<()>) {
    run(purpose, Security::Restricted, test).await;
}

/// The same in a privileged namespace, for tests that look at the node.
pub async fn in_privileged_namespace(purpose: &str, test: impl AsyncFnOnce(&Namespace) -> Result<()>) {
    run(purpose, Security::Privileged, test).await;
}

#[expect(clippy::panic, reason = "a test that fails has to")]
async fn run(purpose: &str, security: Security, test: impl AsyncFnOnce(&Namespace) -> Result<()>) {
    let namespace = match Namespace::make(purpose, security).await {
        Ok(namespace) => namespace,
        Err(error) => panic!("{error:?}"),
    };
    let outcome = AssertUnwindSafe(Box::pin(test(&namespace))).catch_unwind().await;
    let failed = !matches!(outcome, Ok(Ok(())));
    if failed {
        dump::print(&namespace).await;
    }
    if !failed || std::env::var_os("KONDUCTOR_E2E_KEEP").is_none() {
        let _ = namespace.delete().await;
    }
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{error:?}"),
        Err(panicked) => std::panic::resume_unwind(panicked),
    }
}

impl Namespace {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The objects of one kind in it.
    pub fn api<K: Object>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Creates an object that is written as JSON.
    pub async fn create<K: Object>(&self, object: serde_json::Value) -> Result<K> {
        let object: K = serde_json::from_value(object)?;
        Ok(self.api().create(&PostParams::default(), &object).await?)
    }

    /// Creates an object that must be refused, and returns the words it was refused with.
    pub async fn refuses<K: Object>(&self, object: serde_json::Value) -> Result<String> {
        let object: K = serde_json::from_value(object)?;
        let shown = serde_json::to_string(&object.meta().annotations)?;
        refusal(self.api().create(&PostParams::default(), &object).await)
            .ok_or_else(|| anyhow!("{} with annotations {shown} was accepted", K::kind(&())))
    }

    /// Deletes it; see [`Namespace::until_gone`].
    pub async fn delete(&self) -> Result<()> {
        let api: Api<KubeNamespace> = Api::all(self.client.clone());
        api.delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Waits until it is gone with everything in it.
    pub async fn until_gone(&self) -> Result<()> {
        wait::until_gone(&Api::<KubeNamespace>::all(self.client.clone()), &self.name).await
    }

    async fn create_labelled(client: &Client, purpose: &str, security: Security) -> Result<String> {
        let level = match security {
            Security::Restricted => "restricted",
            Security::Privileged => "privileged",
        };
        let namespace = serde_json::from_value(json!({
            "metadata": {
                "generateName": format!("e2e-{purpose}-"),
                "labels": {"pod-security.kubernetes.io/enforce": level},
            },
        }))?;
        let api: Api<KubeNamespace> = Api::all(client.clone());
        let made = api.create(&PostParams::default(), &namespace).await?;
        made.metadata.name.ok_or_else(|| anyhow!("the API server made a namespace without a name"))
    }

    async fn make(purpose: &str, security: Security) -> Result<Self> {
        let client = cluster::connect().await?;
        let name = Self::create_labelled(&client, purpose, security).await?;
        let namespace = Self { client, name };
        // Pods are refused until their account is there.
        let accounts = namespace.api::<k8s_openapi::api::core::v1::ServiceAccount>();
        wait::until(&accounts, "default", "there", |_| true).await?;
        Ok(namespace)
    }
}

/// The API server's words, if it refused.
pub fn refusal<T>(answer: kube::Result<T>) -> Option<String> {
    match answer {
        Err(kube::Error::Api(status)) => Some(status.message.clone()),
        Ok(_) | Err(_) => None,
    }
}
