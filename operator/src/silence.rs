//! Silence: for how long each granted claim has not been renewed, as far as this process has seen.
//!
//! On a clock of its own: monotonic, and standing still while the API server cannot be asked, because nobody can renew then. It
//! ticks only when two reads in a row came back, so it is late by up to a period and never early. It begins anew for every
//! claim when the process does: whoever takes over from a dead operator knows nothing of what that one saw. What must stay
//! true: it says less than the truth, never more.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use konductor_api::claim::{Claim, ClaimPhase};
use kube::{Api, Client};
use tokio::time::Instant;

use crate::caches::Caches;
use crate::client::call;
use crate::index::ObjectKey;

/// How often the API server is asked, while there is a claim that may be lost.
const PERIOD: Duration = Duration::from_millis(500);
/// Two reads further apart than that do not say that it could be read in between.
const TOGETHER: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Default)]
pub(crate) struct Silence(Mutex<State>);

#[derive(Default)]
struct State {
    /// For how long the API server could be read, all in all.
    clock: Duration,
    last_read: Option<Instant>,
    claims: HashMap<String, Heard>,
}

/// A claim was heard of.
struct Heard {
    key: ObjectKey,
    renewed: Option<MicroTime>,
    at: Duration,
}

impl Silence {
    /// For how long that claim has been silent. One that was not granted is not counted, and forgotten.
    pub(crate) fn of(&self, claim: &Claim) -> SignedDuration {
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        let granted = claim.status.as_ref().and_then(|status| status.phase) == Some(ClaimPhase::Granted);
        let mut state = self.state();
        if !granted {
            state.claims.remove(uid);
            return SignedDuration::ZERO;
        }
        let clock = state.clock;
        let heard = state.claims.entry(uid.to_owned()).or_insert_with(|| Heard {
            key: ObjectKey::of(&claim.metadata),
            renewed: claim.spec.renew_time.clone(),
            at: clock,
        });
        if heard.renewed != claim.spec.renew_time {
            heard.renewed.clone_from(&claim.spec.renew_time);
            heard.at = clock;
        }
        SignedDuration::try_from(clock.saturating_sub(heard.at)).unwrap_or(SignedDuration::MAX)
    }

    /// Lets the clock tick for ever, and forgets the claims that are gone.
    pub(crate) async fn keep(&self, client: &Client, caches: &Caches) {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            self.state().claims.retain(|uid, heard| {
                caches.claim(&heard.key).is_some_and(|claim| claim.metadata.uid.as_ref() == Some(uid))
            });
            let Some(key) = self.state().claims.values().map(|heard| heard.key.clone()).next() else {
                self.state().last_read = None;
                continue;
            };
            let began = Instant::now();
            let api: Api<Claim> = Api::namespaced(client.clone(), &key.namespace);
            self.read(began, call(api.get_opt(&key.name)).await.is_ok());
        }
    }

    /// A read that began then came back, or did not.
    fn read(&self, began: Instant, answered: bool) {
        let mut state = self.state();
        if !answered {
            state.last_read = None;
            return;
        }
        let between = state.last_read.and_then(|last| began.checked_duration_since(last));
        if let Some(between) = between.filter(|between| *between <= TOGETHER) {
            state.clock += between;
        }
        state.last_read = Some(began);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(phase: &str, renewed: &str) -> Claim {
        serde_json::from_value(json!({
            "apiVersion": "konductor.io/v1", "kind": "Claim",
            "metadata": {"name": "c", "namespace": "ns", "uid": "u"},
            "spec": {"primitive": {"kind": "Mutex", "name": "db"}, "holder": "h", "renewTime": renewed},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn only_time_in_which_the_api_server_answered_counts() {
        let (silence, start) = (Silence::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let granted = claim("Granted", "2030-01-01T00:00:00.000000Z");
        let seconds = |claim: &Claim| silence.of(claim).as_secs();
        assert_eq!(seconds(&granted), 0, "it begins when it is first seen");
        for second in 0..=5 {
            silence.read(at(second), true);
        }
        assert_eq!(seconds(&granted), 5);
        silence.read(at(6), false);
        for second in 60..=62 {
            silence.read(at(second), true);
        }
        assert_eq!(seconds(&granted), 7, "nobody could renew in between");
        silence.read(at(70), true);
        assert_eq!(seconds(&granted), 7, "and who was not asked may not have answered");
        let renewed = claim("Granted", "2030-01-01T00:00:01.000000Z");
        assert_eq!(seconds(&renewed), 0);
        silence.read(at(71), true);
        assert_eq!(seconds(&renewed), 1);
        assert_eq!(seconds(&claim("Waiting", "2030-01-01T00:00:01.000000Z")), 0);
        assert_eq!(seconds(&renewed), 0, "it was forgotten");
    }
}
