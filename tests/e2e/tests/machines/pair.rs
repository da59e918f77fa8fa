//! A holder at work on a machine that will be lost, and somebody who waits behind it on the node that stays.
//!
//! What must stay true: it is the same hold, by holder and token, that is looked at from the first to the last word.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use konductor_api::conditions::{STALLED, reason};
use konductor_api::ledger::{Evidence, Holder};
use konductor_api::mutex::{Mutex, MutexStatus};
use konductor_e2e::machine::{COUNTS_ALOUD, Machine, OUT_OF_SERVICE, stays_put};
use konductor_e2e::namespace::Namespace;
use konductor_e2e::tools::kubectl;
use konductor_e2e::workload::{has_succeeded, is_running, is_waiting, pod, until_pod};
use konductor_e2e::{primitive, wait};

/// Longer than the quarantine of a node that is gone, which the operator and the garbage collector of pods take in turn.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// See the module.
pub(crate) struct Pair<'a> {
    namespace: &'a Namespace,
    machine: &'a Machine,
    mutex: String,
    token: String,
}

impl<'a> Pair<'a> {
    /// Both at their places.
    pub(crate) async fn new(namespace: &'a Namespace, machine: &'a Machine, mutex: &str) -> Result<Self> {
        primitive::mutex(namespace, mutex).await?;
        let mut pair = Self { namespace, machine, mutex: mutex.to_owned(), token: String::new() };
        machine.takes(pod(&pair.holder()).mutex(mutex).runs(COUNTS_ALOUD)).create(namespace).await?;
        until_pod(namespace, &pair.holder(), "running", is_running).await?;
        stays_put(pod(&pair.next()).mutex(mutex)).create(namespace).await?;
        until_pod(namespace, &pair.next(), "waiting", is_waiting).await?;
        primitive::until_waiting(namespace, mutex, 1).await?;
        pair.token = pair.hold().await?.context("nobody holds")?.token;
        Ok(pair)
    }

    /// Name of the pod that holds.
    pub(crate) fn holder(&self) -> String {
        format!("{}-holder", self.mutex)
    }

    /// Name of the pod that waits.
    pub(crate) fn next(&self) -> String {
        format!("{}-next", self.mutex)
    }

    /// Waits until the hold is in doubt, and the Mutex says what ends the doubt.
    pub(crate) async fn until_in_doubt(&self) -> Result<()> {
        let mutex = wait::until(&self.namespace.api(), &self.mutex, "in doubt", |mutex: &Mutex| {
            holders(mutex).iter().any(|holder| holder.suspect.is_some())
        })
        .await?;
        let status = mutex.status.context("a status")?;
        let stalled = status.common.conditions.iter().find(|known| known.type_ == STALLED);
        let stalled = stalled.context("a condition Stalled")?;
        ensure!(stalled.status == "True" && stalled.reason == reason::HOLDER_SUSPECT, "{stalled:?}");
        for words in [&self.holder(), &self.machine.name(), OUT_OF_SERVICE, "delete the Node"] {
            ensure!(stalled.message.contains(words), "{words:?} is not in: {}", stalled.message);
        }
        Ok(())
    }

    /// Waits until all is well again.
    pub(crate) async fn until_beyond_doubt(&self) -> Result<()> {
        wait::until(&self.namespace.api(), &self.mutex, "beyond doubt", |mutex: &Mutex| {
            holders(mutex).iter().all(|holder| holder.suspect.is_none())
        })
        .await?;
        ensure!(self.is_as_it_was().await?, "the doubt ended with the hold");
        Ok(())
    }

    /// Does the same hold go on, and does the next one wait?
    pub(crate) async fn is_as_it_was(&self) -> Result<bool> {
        let token = self.hold().await?.map(|holder| holder.token);
        let next: Pod = self.namespace.api().get(&self.next()).await?;
        Ok(token.as_ref() == Some(&self.token) && is_waiting(&next))
    }

    /// For so long nobody is granted anything.
    pub(crate) async fn stays_as_it_was(&self, time: Duration) -> Result<()> {
        let what = format!("held by {} and awaited by {}", self.holder(), self.next());
        wait::stays(&what, time, async || self.is_as_it_was().await).await
    }

    /// Waits until the machine shows that the holder goes on.
    pub(crate) async fn until_it_counts_on(&self) -> Result<()> {
        let count = async || self.machine.count(self.namespace, &self.holder()).await;
        let before = count().await?;
        wait::until_true("the holder counts on", async || Ok(count().await? > before)).await
    }

    /// The holder is told that it is enough, and ends well.
    pub(crate) async fn ends_well(&self) -> Result<()> {
        let touch = ["exec", &self.holder(), "--", "touch", "/tmp/enough"];
        wait::until_true("it is told that it is enough", async || {
            Ok(kubectl(self.namespace.name(), &touch).await?.success)
        })
        .await?;
        until_pod(self.namespace, &self.holder(), "through", has_succeeded).await.map(drop)
    }

    /// Waits until the next one is through; what proved the end of the hold before?
    pub(crate) async fn evidence(&self) -> Result<Evidence> {
        let pods = self.namespace.api::<Pod>();
        wait::until_within(PATIENCE, &pods, &self.next(), "through", has_succeeded).await?;
        evidence_of(self.namespace, &self.mutex, &self.token).await
    }

    async fn hold(&self) -> Result<Option<Holder>> {
        let mutex: Mutex = self.namespace.api().get(&self.mutex).await?;
        let name = self.holder();
        let holders = holders(&mutex);
        ensure!(holders.len() <= 1, "MutualExclusion: {holders:?}");
        Ok(holders.iter().find(|holder| holder.name == name).cloned())
    }
}

/// Who holds that mutex.
pub(crate) fn holders(mutex: &Mutex) -> &[Holder] {
    mutex.status.as_ref().map(|status| status.ledger.holders.as_slice()).unwrap_or_default()
}

/// What proved the end of the hold with that token.
pub(crate) async fn evidence_of(namespace: &Namespace, mutex: &str, token: &str) -> Result<Evidence> {
    let status: MutexStatus = namespace.api::<Mutex>().get(mutex).await?.status.context("a status")?;
    let release = status.ledger.history.iter().find(|release| release.token == token);
    release.map(|release| release.evidence).with_context(|| {
        format!("no release with token {token} in the history of {mutex}: {:?}", status.ledger.history)
    })
}
