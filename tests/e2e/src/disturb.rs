//! Taking parts of Konductor away, and putting them back.
//!
//! For the tests of `tests/disturb_shared/` only. They run one after another, and never beside others: `cargo xtask test` runs
//! them in their own process with one thread, and the lock here holds if somebody forgets that. What must stay true:
//! whatever becomes of a test, the release stands afterwards as it stood before.

use std::panic::AssertUnwindSafe;

use anyhow::Result;
use futures::FutureExt;
use kube::Client;

use crate::namespace::{self, Namespace};
use crate::product::{self, Component};

static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The release as it stood.
#[derive(Clone, Debug)]
struct Standing {
    values: String,
    replicas: Vec<(Component, i32)>,
}

/// Runs a test that disturbs, in its own namespace.
pub async fn disturbing(purpose: &str, test: impl AsyncFnOnce(&Namespace) -> Result<()>) {
    let _alone = ALONE.lock().await;
    namespace::in_privileged_namespace(purpose, async |namespace| {
        let client = namespace.client();
        let before = Standing::look(client).await?;
        let outcome = AssertUnwindSafe(Box::pin(test(namespace))).catch_unwind().await;
        let restored = before.restore(namespace).await;
        match outcome {
            Ok(outcome) => outcome.and(restored),
            Err(panicked) => std::panic::resume_unwind(panicked),
        }
    })
    .await;
}

impl Standing {
    async fn look(client: &Client) -> Result<Self> {
        let mut replicas = Vec::new();
        for component in Component::ALL {
            let deployment = product::deployments(client).get(component.deployment()).await?;
            replicas.push((component, deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1)));
        }
        Ok(Self { values: product::values().await?, replicas })
    }

    async fn restore(&self, namespace: &Namespace) -> Result<()> {
        let client = namespace.client();
        let whole = product::webhook_configurations(client).get_opt(product::RELEASE).await?.is_some()
            && product::deployments(client).get_opt(Component::Operator.deployment()).await?.is_some();
        if !whole {
            product::install(&self.values).await?;
        }
        for (component, replicas) in &self.replicas {
            product::scale(client, *component, *replicas).await?;
        }
        product::until_admitting(namespace).await
    }
}
