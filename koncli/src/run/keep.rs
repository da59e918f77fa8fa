//! Keep: one claim is renewed until it is stopped, and watched for its loss.
//!
//! May touch: that claim. What must stay true: the deadline counts from when a renewal was *sent* that came back as granted, so
//! whoever may take the hold away starts counting later; it is counted on the clock that goes on while the machine sleeps; and
//! nothing but an answer moves it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::select_all;
use konductor_api::claim::Claim;
use konductor_api::duration::GoDuration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::claims::desk::{Changes, Desk, is_passing};
use crate::claims::wanted::{Standing, Wanted, standing};

/// Nanoseconds on the clock that goes on while the machine sleeps.
pub fn boot_time() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

/// How it stands with one hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Has the API server said so since it was granted?
    pub confirmed: bool,
    /// Until when it cannot be lost, as [`boot_time`]; `None`: for as long as we run.
    pub until: Option<i64>,
    /// Why it is lost.
    pub lost: Option<String>,
}

/// See the module.
pub struct Keeper {
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Starts with what was granted.
    pub fn start(desk: Arc<Desk>, wanted: &Wanted, claim: &Claim) -> Self {
        let (told, state) = watch::channel(State::default());
        // What was made in a pod ends with the pod, and needs no renewal.
        let ttl = wanted.ttl.filter(|_| claim.spec.pod.is_none());
        let (what, name) = (wanted.what(), claim.metadata.name.clone().unwrap_or_default());
        let changes = desk.changes(claim);
        let task = tokio::spawn(async move {
            let why = tokio::select! {
                why = renew(&desk, &name, ttl, &told) => why,
                why = lost(changes) => why,
            };
            told.send_modify(|state| state.lost = Some(format!("the hold on {what} is lost: {why}")));
        });
        Self { state, task }
    }

    /// How it stands, and each time that it changes.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Waits until the API server has said, after the grant, that it is held; or why it is not.
    pub async fn confirmed(&self) -> Result<(), String> {
        let mut state = self.state.clone();
        match state.wait_for(|state| state.confirmed || state.lost.is_some()).await {
            Ok(state) => state.lost.clone().map_or(Ok(()), Err),
            Err(_) => Err("the hold is not kept any more".to_owned()),
        }
    }

    /// Renews no more.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The first of those that is lost, and why; never, if none is.
pub async fn first_lost<'a>(keepers: impl Iterator<Item = &'a Keeper>) -> String {
    let all: Vec<_> = keepers
        .map(|keeper| {
            let mut state = keeper.state();
            Box::pin(async move {
                match state.wait_for(|state| state.lost.is_some()).await {
                    Ok(state) => state.lost.clone().unwrap_or_default(),
                    Err(_) => std::future::pending().await,
                }
            })
        })
        .collect();
    if all.is_empty() {
        return std::future::pending().await;
    }
    select_all(all).await.0
}

/// Renews for ever; says why it cannot go on.
async fn renew(desk: &Desk, name: &str, ttl: Option<GoDuration>, told: &watch::Sender<State>) -> String {
    let Some(ttl) = ttl.map(GoDuration::as_nanoseconds) else {
        told.send_modify(|state| state.confirmed = true);
        return std::future::pending().await;
    };
    let third = Duration::from_nanos(u64::try_from(ttl / 3).unwrap_or(1));
    loop {
        let sent = boot_time();
        let answer = tokio::time::timeout(third, desk.renew(name)).await;
        match answer {
            Ok(Ok(claim)) => match standing(&claim) {
                Standing::Has(_) => told.send_modify(|state| {
                    state.confirmed = true;
                    state.until = Some(sent.saturating_add(ttl / 3 * 2));
                }),
                other => return why(other),
            },
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
                return "the claim was deleted".to_owned();
            }
            Ok(Err(error)) if !is_passing(&error) => return error.to_string(),
            // Asked again soon; the deadline stays where it is.
            Ok(Err(_)) | Err(_) => {
                tokio::time::sleep((third / 5).min(Duration::from_secs(1))).await;
                continue;
            }
        }
        let passed = Duration::from_nanos(u64::try_from(boot_time() - sent).unwrap_or(0));
        tokio::time::sleep(third.saturating_sub(passed)).await;
    }
}

/// Watches until it is lost; says why.
async fn lost(mut changes: Changes) -> String {
    loop {
        match changes.next().await {
            Ok(Some(claim)) => match standing(&claim) {
                Standing::Has(_) => {}
                other => return why(other),
            },
            Ok(None) => return "the claim was deleted".to_owned(),
            // Who may renew and not watch is told by the renewals.
            Err(_) => return std::future::pending().await,
        }
    }
}

fn why(standing: Standing) -> String {
    match standing {
        Standing::Lost(message) | Standing::Denied(message, _) | Standing::DoneAlready(message) => message,
        Standing::Over => "it was given back".to_owned(),
        Standing::Unseen | Standing::Waits(..) | Standing::Has(_) => "it is not granted any more".to_owned(),
    }
}
